//! Apps, API keys and permissions: who may do what, decided inside execution.
//!
//! The catalog is a small replicated table: every node applies the same catalog operations in log order and
//! so holds the same apps and keys. Secrets never enter this crate: a key's text is made outside, and only its
//! hash is logged.

mod catalog;
mod change;
mod permission;

pub use catalog::{
    ApiKey, App, AuthError, Catalog, CatalogError, CatalogOp, Grant, KeyHash, hash, key_prefix,
};
pub use change::{CHANGES_BYTES_MAX, CHANGES_MAX, ChangesRefused};
pub use permission::{
    ACCESS_BYTES_MAX, Access, AccessHash, PermissionError, Permissions, SharedPermissions,
};
