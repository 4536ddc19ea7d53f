//! Tests of whole connections: bytes in, events and bytes out.

mod bad_input;
mod bounds;
mod http;
mod pair;
mod property;
mod strangers;
mod websocket;
