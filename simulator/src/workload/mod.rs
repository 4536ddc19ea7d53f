//! What clients and devices do.

pub(crate) mod client;
pub(crate) mod device;
pub(crate) mod documents;
pub(crate) mod hostile;
pub(crate) mod statement;
