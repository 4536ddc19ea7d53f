//! HTTP/1.1, WebSocket, TLS and peer framing as sans-IO machines: bytes in, bytes out.
//!
//! A machine never sees a socket, a clock or a thread. A driver hands it what the kernel read and the moment,
//! carries away what it wants sent, and says what the kernel took; a simulator does the same with virtual
//! bytes. Three machines share one set of calls, [`Machine`]:
//!
//! - [`ServerConnection`]: HTTP/1.1 and 1.0 requests, and WebSockets that grow out of them;
//! - [`ClientConnection`]: the other end of both;
//! - [`FramedConnection`]: length-prefixed peer frames on a bare stream.
//!
//! Whether a session sits on a WebSocket or on a framed stream, it receives [`Event::Message`] and answers with
//! [`Machine::send_message`]. Everything a peer can make grow has a bound in [`Config`].
//!
//! ```
//! use std::sync::Arc;
//! use bigpeer_connection::{Config, Event, Response, ServerConnection};
//! use bigpeer_core::time::Instant;
//!
//! let now = Instant { ns: 0 };
//! let mut connection = ServerConnection::new(Arc::new(Config::default()), None, now).unwrap();
//!
//! connection.handle_bytes(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", now);
//! while let Some(event) = connection.poll_event() {
//!     if let Event::Request { id, request } = event {
//!         assert_eq!(request.path(), "/health/live");
//!         connection.respond(id, Response::json(200, "{}"));
//!     }
//! }
//! let mut out = Vec::new();
//! let sent = connection.poll_transmit(&mut out, 64 * 1024);
//! assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"));
//! connection.handle_sent(sent, now); // once the kernel has taken them
//! assert!(!connection.is_closed());
//! ```

#![forbid(unsafe_code)]

mod buffer;
mod client;
mod config;
mod error;
mod event;
mod framed;
mod http;
mod machine;
mod server;
mod tls;
mod websocket;
mod wire;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use client::{ClientConnection, ClientRequest, WebSocketRequest};
pub use config::{Config, Timer};
pub use error::{CloseReason, HttpError, SendError, WebSocketError};
pub use event::{Event, RequestId};
pub use framed::FramedConnection;
pub use http::date::DateCell;
pub use http::head::{Method, Version};
pub use http::request::Request;
pub use http::response::{Response, ResponseHead};
pub use machine::Machine;
pub use server::ServerConnection;
pub use tls::{ClientTls, TlsError};
