//! Drivers: the only code of the server that touches the kernel.
//!
//! A driver runs one [`thread::ShardThread`] on each of its threads and moves bytes between sockets and the
//! shard. Mailboxes, the disk and the end are the same for all drivers and live in [`thread`]; listening is in
//! [`listen`].

#[cfg(target_os = "linux")]
mod either;
pub mod epoll;
#[cfg(target_os = "linux")]
pub mod glommio;
pub mod listen;
mod mailboxes;
mod os;
pub mod probe;
pub mod thread;
#[cfg(target_os = "linux")]
pub mod tokio_uring;

pub use mailboxes::{Control, ControlSender, Mailboxes, connect};
pub use os::{
    EventFd, ask_for_short_slices, block_stop_signals, keep_others_out, pin_thread,
    wait_for_stop_signal, write_last,
};
