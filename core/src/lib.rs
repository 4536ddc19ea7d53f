//! The bigpeer engine: documents, transaction log, store, queries and sync as pure state machines.
//!
//! No I/O, clock, thread, `async` or `unsafe` in here, and no randomness but a seed handed in: a driver passes
//! events in and carries commands out, and so does the simulator. `ARCHITECTURE.md` beside this crate has the
//! whole picture. A module may know those listed before it, never those after.

#![forbid(unsafe_code)]

pub mod time;

pub mod ident;

pub mod rng;

pub mod plant;

pub mod map;

pub mod seam;

pub mod disk;

pub mod disk_sim;

pub mod value;

pub mod codec;

pub mod document;

pub mod log;

pub mod store;

pub mod dql;

pub mod auth;

pub mod sync;

pub mod node;
