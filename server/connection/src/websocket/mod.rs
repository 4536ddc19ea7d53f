//! WebSockets (RFC 6455), both sides, without extensions.

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod machine;
