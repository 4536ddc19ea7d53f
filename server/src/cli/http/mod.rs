//! HTTP as the commands need it: requests in a row over one connection, answers in the same order.

mod roots;
mod tcp;
mod url;

use bytes::Bytes;

use crate::cli::error::CliError;

pub(crate) use bigpeer_connection::Method;
pub(crate) use tcp::TcpTransport;
pub(crate) use url::Url;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: Method,
    /// Path and query, as they go over the wire.
    pub(crate) target: String,
    /// The bearer token.
    pub(crate) token: String,
    /// The body, JSON; empty for none.
    pub(crate) body: Bytes,
}

/// Takes the parts of an answer's body, each with the answer's status.
pub(crate) type BodySink<'a> = dyn FnMut(u16, &[u8]) -> Result<(), CliError> + 'a;

/// One connection to a server. Several requests may be under way.
pub(crate) trait Transport {
    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If the connection cannot take it.
    fn send(&mut self, request: Request) -> Result<(), CliError>;

    /// Waits for the answer to the oldest request without one, hands its body to `sink`, and returns its status.
    ///
    /// # Errors
    ///
    /// If the connection ends first, or `sink` fails.
    fn receive(&mut self, sink: &mut BodySink<'_>) -> Result<u16, CliError>;

    /// Sends a request and waits for the whole answer, of which at most `bytes_max` bytes are taken.
    ///
    /// # Errors
    ///
    /// If the connection ends first, or the answer is longer.
    fn request(&mut self, request: Request, bytes_max: usize) -> Result<Answer, CliError> {
        self.send(request)?;
        let mut body = Vec::new();
        let status = self.receive(&mut |_, bytes| {
            if body.len() + bytes.len() > bytes_max {
                let message = format!("the answer is longer than {bytes_max} bytes");
                return Err(CliError::Failed(message));
            }
            body.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Answer { status, body })
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}
