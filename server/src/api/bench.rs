//! The empty handler: takes what `store/execute` takes and answers at once, without a look at the body.
//!
//! What a statement costs is told apart from what HTTP costs by asking both, in one run. Served only when the server
//! was started with `--bench-empty-handler`. Beside it, for a server started with `--test-panic`, a handler that panics.

use bigpeer_connection::{Method, Request, Response};

/// The answer, in the shape and of about the length of the answer to an INSERT of one document.
pub const ANSWER: &str = r#"{"transactionId":1000000,"queryType":"mutatingSelect","items":[],"mutatedDocumentIds":["d0000000000"],"totalWarningsCount":0,"warnings":[]}"#;

/// Answers `POST /{app}/api/v5/bench/empty`; any other request is not for here.
#[must_use]
pub fn answer(request: &Request) -> Option<Response> {
    is_post(request, EMPTY_END).then(|| Response::json(200, ANSWER))
}

/// Panics at `POST /{app}/api/v5/test/panic`: what becomes of a shard that does, tests see from outside.
///
/// # Panics
///
/// At that path.
pub fn panic_if_asked(request: &Request) {
    assert!(!is_post(request, PANIC_END), "a test asked for it");
}

fn is_post(request: &Request, path_end: &str) -> bool {
    request.method() == Method::Post && request.path().ends_with(path_end)
}

const EMPTY_END: &str = "/api/v5/bench/empty";

const PANIC_END: &str = "/api/v5/test/panic";
