//! The empty handler: takes what `store/execute` takes and answers at once, without a look at the body.
//!
//! What a statement costs is told apart from what HTTP costs by asking both, in one run. Served only when the server
//! was started with `--bench-empty-handler`.

use bigpeer_connection::{Method, Request, Response};

/// The answer, in the shape and of about the length of the answer to an INSERT of one document.
pub const ANSWER: &str = r#"{"transactionId":1000000,"queryType":"mutatingSelect","items":[],"mutatedDocumentIds":["d0000000000"],"totalWarningsCount":0,"warnings":[]}"#;

/// Answers `POST /{app}/api/v5/bench/empty`; any other request is not for here.
#[must_use]
pub fn answer(request: &Request) -> Option<Response> {
    let is_ours = request.method() == Method::Post && request.path().ends_with(PATH_END);
    is_ours.then(|| Response::json(200, ANSWER))
}

const PATH_END: &str = "/api/v5/bench/empty";
