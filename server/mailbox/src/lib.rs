//! Mailboxes between shard threads: a bounded ring for one producer and one consumer, and a parker
//! that lets producers wake a consumer only when it sleeps.
//!
//! This crate owns the memory ordering between threads and nothing else. What a message means, how
//! a full mailbox is answered, and what "sleep" is (a read of an eventfd through epoll or io_uring)
//! belong to the shard and its driver. It is a leaf so that it compiles under `--cfg loom`, where
//! every interleaving of its atomics is explored:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p bigpeer-mailbox --release
//! ```
//!
//! A consumer has one [`Receiver`] per producer and a single [`Parker`]. Its turn is: drain every
//! mailbox, run, hand out messages, then
//!
//! 1. [`Parker::prepare_park`];
//! 2. look into every mailbox once more;
//! 3. sleep only if all were empty;
//! 4. [`Parker::finish_park`], whatever happened.
//!
//! A producer sends any number of messages and then calls [`Unparker::unpark`] once. The order of
//! the consumer's steps 1 and 2, against the producer's "send, then unpark", is what makes it
//! impossible for a message to arrive unnoticed.
//!
//! ```
//! # #[cfg(not(loom))] {
//! let consumer = std::thread::current();
//! let (mut parker, unparker) = bigpeer_mailbox::parker(move || consumer.unpark());
//! let (mut sender, mut receiver) = bigpeer_mailbox::ring(64);
//!
//! std::thread::spawn(move || {
//!     sender.try_send("hello").expect("an empty ring has room");
//!     unparker.unpark();
//! });
//! let message = loop {
//!     if let Some(message) = receiver.pop() {
//!         break message;
//!     }
//!     parker.prepare_park();
//!     if receiver.is_empty() {
//!         std::thread::park();
//!     }
//!     parker.finish_park();
//! };
//! assert_eq!(message, "hello");
//! # }
//! ```

mod parker;
mod ring;
mod sync;

pub use parker::{Parker, Unparker, parker};
pub use ring::{Drain, Full, Receiver, Sender, ring};
