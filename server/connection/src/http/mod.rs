//! HTTP/1.1 heads and bodies as functions of bytes.

pub(crate) mod body;
pub(crate) mod date;
pub(crate) mod head;
mod host;
pub(crate) mod request;
pub(crate) mod response;
