//! A data directory on a real file system: how it is made to last, how one process at a time holds it, and how it is
//! told from a directory of somebody else.
//!
//! The server and the device library open their directories with these functions. What stands in the files is theirs;
//! [`mod@format`] is the part of it that both share.

pub mod contents;
pub mod files;
pub mod format;
pub mod lock;
pub mod volume;

#[cfg(test)]
mod testing;
