//! Why a request is refused and why a connection ends.

use crate::config::Timer;

/// Why a request (or, for a client, a response) was refused. Always the peer's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The bytes are not HTTP/1.1, or are HTTP in a shape that two parsers may read differently.
    #[error("malformed HTTP: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The head holds bytes that are not UTF-8.
    #[error("malformed HTTP: the head is not UTF-8")]
    HeadNotUtf8,
    /// The request line is longer than a whole head may be.
    #[error("the request line is longer than {limit_bytes} bytes")]
    TargetTooLong {
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The head is longer than allowed.
    #[error("the head is longer than {limit_bytes} bytes")]
    HeadTooLarge {
        /// What is allowed.
        limit_bytes: usize,
    },
    /// There are more header fields than allowed.
    #[error("there are more than {limit} header fields")]
    TooManyHeaders {
        /// What is allowed.
        limit: usize,
    },
    /// The body is, or says that it is, longer than allowed. Nothing was allocated for the claim.
    #[error("a body of {bytes} bytes or more is over the limit of {limit_bytes} bytes")]
    BodyTooLarge {
        /// What was claimed, or had to be held.
        bytes: u64,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    UnsupportedVersion,
    /// A transfer coding other than `chunked`.
    #[error("the only transfer coding taken is chunked")]
    UnsupportedTransferCoding,
    /// A compressed body.
    #[error("a body with a content encoding is not taken here: send it as it is")]
    UnsupportedContentEncoding,
    /// An expectation other than `100-continue`.
    #[error("the only expectation met is 100-continue")]
    UnsupportedExpectation,
    /// A WebSocket version other than 13.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    UnsupportedWebSocketVersion,
    /// The head did not arrive in time.
    #[error("the head did not arrive in time")]
    HeadTimeout,
    /// The body grew too slowly, or took too long as a whole.
    #[error(
        "the body did not arrive in time: send at least {window_bytes_min} bytes every {window_seconds} s, and all of \
         it within {seconds_max} s"
    )]
    BodyTimeout {
        /// How often its growth is looked at.
        window_seconds: u64,
        /// How much must have come meanwhile.
        window_bytes_min: usize,
        /// The time for all of it.
        seconds_max: u64,
    },
    /// The caller had to give up unfinished input, and this was the slowest.
    #[error(
        "too many unfinished requests are held here, and this one came slowest: send it again, and faster"
    )]
    Shed,
}

impl HttpError {
    /// The status that answers it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::HeadNotUtf8 => 400,
            Self::HeadTimeout | Self::BodyTimeout { .. } => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::TargetTooLong { .. } => 414,
            Self::UnsupportedContentEncoding => 415,
            Self::UnsupportedExpectation => 417,
            Self::UnsupportedWebSocketVersion => 426,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => 431,
            Self::UnsupportedTransferCoding => 501,
            Self::Shed => 503,
            Self::UnsupportedVersion => 505,
        }
    }
}

/// Why a WebSocket was failed. Always the peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// A reserved bit is set although no extension was agreed.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode {opcode}")]
    UnknownOpcode {
        /// The opcode found.
        opcode: u8,
    },
    /// A frame from a client without a mask, or one from a server with a mask.
    #[error("a frame masked against its direction")]
    WrongMasking,
    /// A length in more bytes than it needs, or beyond 63 bits.
    #[error("a length not in its shortest form")]
    LengthNotMinimal,
    /// A control frame that is fragmented or longer than 125 bytes.
    #[error("a control frame that is fragmented or too long")]
    BadControlFrame,
    /// A continuation of nothing, or a new message inside an unfinished one.
    #[error("a fragment out of order")]
    FragmentOutOfOrder,
    /// A close frame whose code may not be sent, or of one byte.
    #[error("a malformed close frame")]
    BadClose,
    /// A close reason that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A text message: only binary ones mean something here.
    #[error("a text message")]
    TextMessage,
    /// A message longer than allowed. Nothing was allocated for the claim.
    #[error("a message of {bytes} bytes or more is over the limit of {limit_bytes} bytes")]
    MessageTooLarge {
        /// What was claimed, with what had come before in the same message.
        bytes: u64,
        /// What is allowed.
        limit_bytes: usize,
    },
}

impl WebSocketError {
    /// The close code that answers it.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::TextMessage => 1003,
            Self::NotUtf8 => 1007,
            Self::MessageTooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The last answer was given and one side had asked for no more, or we were asked to close.
    #[error("closed in good order")]
    Finished,
    /// The peer closed its side.
    #[error("closed by the peer")]
    PeerClosed,
    /// The peer closed its side in the middle of something.
    #[error("closed by the peer in the middle of a message")]
    Truncated,
    /// The socket failed, as the driver reports.
    #[error("the socket failed")]
    Reset,
    /// A deadline passed.
    #[error("deadline passed: {0:?}")]
    Timeout(Timer),
    /// The caller refused a request at its head, with this status.
    #[error("refused with status {0} before its body")]
    Refused(u16),
    /// The caller had to give up unfinished input, and this was the slowest.
    #[error("given up: too much unfinished input")]
    Shed,
    /// A request was refused, or a response could not be read.
    #[error("{0}")]
    Http(HttpError),
    /// The WebSocket broke its protocol.
    #[error("WebSocket: {0}")]
    WebSocket(WebSocketError),
    /// The WebSocket ended by a closing handshake with this code.
    #[error("WebSocket closed with code {0}")]
    WebSocketClosed(u16),
    /// The server answered the opening handshake of a WebSocket with something that is not ours.
    #[error("the server's WebSocket handshake is wrong: {what}")]
    BadHandshake {
        /// What is wrong.
        what: &'static str,
    },
    /// A peer frame claims more than we take. Nothing was allocated for it.
    #[error("a frame of {claimed_bytes} bytes is over the limit of {limit_bytes} bytes")]
    FrameTooLarge {
        /// What was claimed.
        claimed_bytes: u32,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(Box<rustls::Error>),
    /// A streamed answer was given up by the caller.
    #[error("an answer was given up in its middle")]
    Aborted,
    /// The caller went on reading against `wants_read` until the bound was reached.
    #[error("more input than may be kept")]
    InputOverrun,
}

/// Why something was not queued for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection, the request or the message stream has ended, or is not yet open.
    #[error("there is nobody to send to")]
    Closed,
    /// The output is at its bound: wait for `Event::OutputDrained`.
    #[error("too much output waits already")]
    NoCredit,
    /// The message is longer than peers accept.
    #[error("a message of {bytes} bytes is over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The length of the message.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
}
