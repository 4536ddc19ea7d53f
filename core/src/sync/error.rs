//! Why a session ends: the remote broke the protocol, somebody said goodbye, or nothing came in time.

/// What the remote did that the protocol does not allow. It closes the session; no data is lost by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The frame is longer than we accept.
    #[error("frame of {found_bytes} bytes, at most {limit_bytes} are allowed")]
    FrameTooLarge {
        /// The frame's length.
        found_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The bytes of a field are missing, cut short or of another type.
    #[error("{frame}: field `{field}` is missing or malformed")]
    Malformed {
        /// The frame's name.
        frame: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field holds more than it may.
    #[error("{frame}: `{field}` holds {found}, at most {limit} are allowed")]
    TooMany {
        /// The frame's name.
        frame: &'static str,
        /// The field's name.
        field: &'static str,
        /// What was found: bytes or entries.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A frame kind with the critical bit that this build does not know.
    #[error("unknown critical frame kind {kind:#04x}")]
    UnknownFrame {
        /// The kind byte.
        kind: u8,
    },
    /// A known kind in a layout that this build does not read.
    #[error("{frame}: layout {found} is not supported")]
    UnsupportedLayout {
        /// The frame's name.
        frame: &'static str,
        /// The layout byte.
        found: u8,
    },
    /// The protocol ranges do not overlap.
    #[error("no common protocol version: ours {ours:?}, theirs {theirs:?}")]
    NoCommonVersion {
        /// Our lowest and highest version.
        ours: (u16, u16),
        /// The remote's lowest and highest version.
        theirs: (u16, u16),
    },
    /// The remote counts digests or encodes ids in another way.
    #[error("the remote's `{field}` is version {found}, ours is {ours}")]
    VersionMismatch {
        /// Which encoding.
        field: &'static str,
        /// The remote's version.
        found: u64,
        /// Our version.
        ours: u64,
    },
    /// The remote belongs to another app.
    #[error("the remote belongs to another app")]
    WrongApp,
    /// The Hello names another peer than the one that was authenticated.
    #[error("the Hello names another peer than the one that was authenticated")]
    WrongPeer,
    /// A frame that may not come in this state.
    #[error("{frame} may not come {state}")]
    OutOfOrder {
        /// The frame's name.
        frame: &'static str,
        /// The state, as a phrase.
        state: &'static str,
    },
    /// An update began before the former one was acknowledged.
    #[error("an update began while another is in flight")]
    UpdateOverlap,
    /// A chunk, end or answer names another update than the one in flight.
    #[error("{frame} names update {found}, which is not in flight")]
    UnknownUpdate {
        /// The frame's name.
        frame: &'static str,
        /// The update it names.
        found: u64,
    },
    /// Chunks come in order, without gaps.
    #[error("chunk {found} came, {expected} was due")]
    ChunkOutOfOrder {
        /// The sequence number due.
        expected: u32,
        /// The one that came.
        found: u32,
    },
    /// More bytes came than the update announced, or than we accept.
    #[error("an update of {found_bytes} bytes, at most {limit_bytes} are allowed")]
    UpdateTooLarge {
        /// Bytes announced or received.
        found_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The payload is not what its sender hashed.
    #[error("the payload of update {update} does not match its hash")]
    HashMismatch {
        /// The update.
        update: u64,
    },
    /// A position in a log that is not the remote's.
    #[error("an update is positioned in a log that is not its sender's")]
    ForeignPosition,
    /// The remote offers or probes beyond the window it was given.
    #[error("{frame} beyond the window of {limit}")]
    WindowOverrun {
        /// The frame's name.
        frame: &'static str,
        /// How many may be outstanding.
        limit: u64,
    },
}

/// What a goodbye says to the other side; one number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByeReason {
    /// The application is done.
    Normal,
    /// A newer connection of the same peer took over.
    Replaced,
    /// The receiver of this goodbye broke the protocol.
    Protocol,
    /// Nothing came in time.
    Timeout,
    /// The process stops.
    Shutdown,
    /// What this peer may read or write changed: connect again.
    PermissionChanged,
    /// The sender cannot serve at present: its disk is full or failed.
    Unavailable,
    /// Start afresh: the sender gave up on an item that never settles.
    Reset,
    /// A reason this build does not know.
    Other(u64),
}

impl ByeReason {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Replaced => 1,
            Self::Protocol => 2,
            Self::Timeout => 3,
            Self::Shutdown => 4,
            Self::PermissionChanged => 5,
            Self::Unavailable => 6,
            Self::Reset => 7,
            Self::Other(code) => code,
        }
    }

    /// The reason behind a number.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        match code {
            0 => Self::Normal,
            1 => Self::Replaced,
            2 => Self::Protocol,
            3 => Self::Timeout,
            4 => Self::Shutdown,
            5 => Self::PermissionChanged,
            6 => Self::Unavailable,
            7 => Self::Reset,
            code => Self::Other(code),
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side said goodbye.
    #[error("closed here: {0:?}")]
    Local(ByeReason),
    /// The remote said goodbye.
    #[error("closed by the remote: {reason:?} {text}")]
    Remote {
        /// Its reason.
        reason: ByeReason,
        /// Its words, for the log.
        text: String,
    },
    /// The remote broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// No Hello came in time.
    #[error("no Hello within {0} s")]
    HelloTimeout(u64),
    /// Nothing at all came for too long.
    #[error("nothing heard for {0} s")]
    Dead(u64),
    /// The remote is alive but does not answer what it owes.
    #[error("the remote owes an answer for {0} s")]
    Stalled(u64),
    /// An item was sent again and again and never settled.
    #[error("an update did not settle after {0} follow-ups")]
    NeverSettles(u8),
    /// The host could not carry out a command.
    #[error("the host failed: {0}")]
    HostFailed(String),
    /// The driver does not drain what the session has to send.
    #[error("{0} outputs wait and nobody takes them")]
    OutputsFull(usize),
}

impl CloseReason {
    /// What the other side is told.
    #[must_use]
    pub fn bye(&self) -> ByeReason {
        match self {
            Self::Local(reason) => *reason,
            Self::Remote { .. } => ByeReason::Normal,
            Self::Protocol(_) | Self::OutputsFull(_) => ByeReason::Protocol,
            Self::HelloTimeout(_) | Self::Dead(_) | Self::Stalled(_) => ByeReason::Timeout,
            Self::NeverSettles(_) => ByeReason::Reset,
            Self::HostFailed(_) => ByeReason::Unavailable,
        }
    }
}
