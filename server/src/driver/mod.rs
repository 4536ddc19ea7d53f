//! Drivers: the only code of the server that touches the kernel.

pub mod probe;
