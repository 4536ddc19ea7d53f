//! What a connection tells its caller.

use bytes::Bytes;

use crate::error::CloseReason;
use crate::http::request::Request;
use crate::http::response::ResponseHead;

/// A request within its connection; rises by one from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something that happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// Server: a whole request. Answer it with `respond` or `respond_start`.
    Request {
        /// Names it in the answer.
        id: RequestId,
        /// What was asked.
        request: Request,
    },
    /// Server, if [`asks_first`](crate::Config::asks_first): the head of a request whose body has not come with it. Take
    /// the body with `accept_body`, and a [`Request`](Self::Request) follows; or refuse it with `refuse_body`. Nothing
    /// more is read before.
    RequestHead {
        /// What is asked, without its body.
        request: Request,
    },
    /// Server: a client asks to turn this connection into a WebSocket. Take it with `accept_websocket`, or refuse it with
    /// `respond`. All earlier requests have been answered.
    WebSocketUpgrade {
        /// Names it in the answer.
        id: RequestId,
        /// What was asked.
        request: Request,
    },
    /// Client: a response begins. 1xx responses are not reported.
    ResponseHead {
        /// The request that is answered.
        id: RequestId,
        /// Status and header fields.
        head: ResponseHead,
    },
    /// Client: more of a response's body. Never empty.
    ResponseBody {
        /// The request that is answered.
        id: RequestId,
        /// The next bytes.
        bytes: Bytes,
    },
    /// Client: a response is complete.
    ResponseEnd {
        /// The request that is answered.
        id: RequestId,
    },
    /// Client: the WebSocket is open.
    WebSocketOpen {
        /// The subprotocol the server chose.
        protocol: Option<String>,
    },
    /// A whole message from the WebSocket, or a whole peer frame.
    Message(Bytes),
    /// No message follows: the peer closed the WebSocket, or broke its protocol. [`Closed`](Self::Closed) follows.
    WebSocketClosed {
        /// The close code of RFC 6455, 1005 for none and 1006 for an end without a closing handshake.
        code: u16,
    },
    /// The output fell to half its bound, or a streamed answer came to its turn: there is credit.
    OutputDrained,
    /// The last event. The driver closes the socket once `is_closed` says so, which is the same moment.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

impl Event {
    /// What it holds of the peer's making, for the bound on undelivered events.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Request { request, .. }
            | Self::RequestHead { request }
            | Self::WebSocketUpgrade { request, .. } => request.held_bytes(),
            Self::ResponseBody { bytes, .. } | Self::Message(bytes) => bytes.len(),
            _ => 0,
        }
    }
}
