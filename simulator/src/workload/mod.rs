//! What clients and devices do.

pub(crate) mod client;
pub(crate) mod device;
pub(crate) mod documents;
pub(crate) mod statement;

/// A key that may do everything.
pub(crate) const KEY: &str = "abcdefghij-everything";

/// A key that may write only some collections.
pub(crate) const RESTRICTED_KEY: &str = "restricted-some";

/// A key that may write one collection and read nothing.
pub(crate) const BLIND_KEY: &str = "blind-----writes-cars";
