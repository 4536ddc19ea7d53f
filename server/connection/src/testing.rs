//! What the tests of whole connections share.

use std::sync::Arc;

use bigpeer_core::time::Instant;

use crate::machine::{Machine, Protocol};
use crate::{ClientTls, Config, Event, RequestId, Response, ServerConnection};

/// The moment `seconds` after the start.
pub(crate) fn at(seconds: u64) -> Instant {
    Instant { ns: seconds * 1_000_000_000 }
}

pub(crate) fn server() -> ServerConnection {
    server_with(Config::default())
}

pub(crate) fn server_with(config: Config) -> ServerConnection {
    ServerConnection::new(Arc::new(config), None, at(0)).expect("without TLS nothing can fail")
}

/// Everything the connection wants sent, as if the kernel took it at once.
pub(crate) fn sent<P: Protocol>(machine: &mut Machine<P>, now: Instant) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let count = machine.poll_transmit(&mut out, 1000);
        if count == 0 {
            return out;
        }
        machine.handle_sent(count, now);
    }
}

pub(crate) fn sent_text<P: Protocol>(machine: &mut Machine<P>, now: Instant) -> String {
    String::from_utf8(sent(machine, now)).expect("the output is text")
}

pub(crate) fn events<P: Protocol>(machine: &mut Machine<P>) -> Vec<Event> {
    std::iter::from_fn(|| machine.poll_event()).collect()
}

/// What happened, in a form that can be compared.
pub(crate) fn describe(event: &Event) -> String {
    match event {
        Event::Request { id, request } | Event::WebSocketUpgrade { id, request } => format!(
            "{} {:?} {} {:?} auth={:?} body={}",
            id.0,
            request.method(),
            request.path(),
            request.query(),
            request.authorization(),
            request.body().escape_ascii()
        ),
        other => format!("{other:?}"),
    }
}

/// The ids of the requests among `events`.
pub(crate) fn request_ids(events: &[Event]) -> Vec<RequestId> {
    let ids = events.iter().filter_map(|event| match event {
        Event::Request { id, .. } => Some(*id),
        _ => None,
    });
    ids.collect()
}

/// Answers every request with its path.
pub(crate) fn answer_all(server: &mut ServerConnection) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = server.poll_event() {
        seen.push(describe(&event));
        match event {
            Event::Request { id, request } => {
                server.respond(id, Response::json(200, request.path().to_owned()));
            }
            Event::RequestHead { .. } => {
                seen.pop();
                server.accept_body(usize::MAX);
            }
            Event::WebSocketUpgrade { id, request } => {
                let protocol = request.websocket_protocols().next().map(str::to_owned);
                server.accept_websocket(id, protocol.as_deref());
            }
            _ => {}
        }
    }
    seen
}

/// Carries bytes between two connections, `step` at a time, until both are at rest.
pub(crate) fn exchange<A: Protocol, B: Protocol>(
    left: &mut Machine<A>,
    right: &mut Machine<B>,
    step: usize,
    now: Instant,
) {
    loop {
        let forth = carry(left, right, step, now);
        let back = carry(right, left, step, now);
        if !forth && !back {
            return;
        }
    }
}

fn carry<A: Protocol, B: Protocol>(
    from: &mut Machine<A>,
    to: &mut Machine<B>,
    step: usize,
    now: Instant,
) -> bool {
    if !to.wants_read() && !to.is_closed() {
        return false;
    }
    let mut out = Vec::new();
    let count = from.poll_transmit(&mut out, step);
    to.handle_bytes(&out, now);
    from.handle_sent(count, now);
    if count == 0 && (from.is_closed() || from.wants_shutdown()) && !to.is_closed() {
        to.handle_eof(now);
    }
    count > 0
}

/// Both sides' configurations.
pub(crate) struct Certificates {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) client: ClientTls,
}

/// A certificate for `localhost` and a client that trusts it.
pub(crate) fn certificates() -> Certificates {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server_name = "localhost".try_into().unwrap();
    let client = ClientTls { config: Arc::new(client), server_name };
    Certificates { server: Arc::new(server), client }
}
