//! The answers of `/health/live` and `/health/ready`.

use std::time::Duration;

use bigpeer_connection::Response;
use bigpeer_core::time::{Instant, WallMs};
use bigpeer_core::value::{Object, Value, json};

use super::timestamp;
use crate::shared::{Reason, Shared, State};

/// A process whose log failed this long ago is reported dead, so that whoever watches it starts it again.
const FAILED_MAX: Duration = Duration::from_mins(1);

/// Says that the process lives: 503 once its log has failed for a minute.
#[must_use]
pub fn live(shared: &Shared, now: Instant) -> Response {
    match shared.failed_at() {
        Some(at) if now.since(at) >= FAILED_MAX => answer(503, "failed", shared.state().1),
        _ => answer(200, "live", None),
    }
}

/// Says what requests can expect: 200 while reads are answered as usual, else 503.
#[must_use]
pub fn ready(shared: &Shared, wall: WallMs) -> Response {
    let (state, reason) = shared.state();
    let is_answering = matches!(state, State::Ready | State::ReadOnly);
    let ahead = shared.clock_ahead_ms(wall).filter(|_| is_answering);
    let ahead = ahead.map(|ahead_ms| clock_is_ahead(ahead_ms, wall));
    answer(if is_answering { 200 } else { 503 }, state.name(), reason.into_iter().chain(ahead))
}

/// Some document bears a time that is this far ahead of the wall clock.
fn clock_is_ahead(ahead_ms: u64, wall: WallMs) -> Reason {
    let seconds = ahead_ms / 1_000;
    let text = format!(
        "documents bear times up to {seconds} s ahead of this machine's clock: peers refuse what is written to them \
         until then; compare the clock with that of other machines"
    );
    Reason { code: "clock_ahead", since: wall, text }
}

fn answer(status: u16, word: &str, reasons: impl IntoIterator<Item = Reason>) -> Response {
    let mut object = Object::new();
    object.insert("status", Value::from(word));
    let reasons: Vec<_> =
        reasons.into_iter().map(|reason| Value::Object(describe(reason))).collect();
    if !reasons.is_empty() {
        object.insert("reasons", Value::Array(reasons));
    }
    let mut out = Vec::new();
    json::write(&Value::Object(object), &mut out);
    Response::json(status, out)
}

fn describe(reason: Reason) -> Object {
    let Reason { code, since, text } = reason;
    let mut object = Object::new();
    object.insert("code", Value::from(code));
    object.insert("since", Value::from(timestamp::format(since)));
    object.insert("text", Value::from(text));
    object
}
