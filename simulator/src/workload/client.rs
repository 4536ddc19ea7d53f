//! HTTP clients that remember what was acknowledged.

use bigpeer_connection::{ClientRequest, Event as NetEvent, Method};
use bigpeer_core::node::{Credential, ErrorKind, Execute, ObjectMode};
use bigpeer_core::rng::Rng;
use bigpeer_core::time::Instant;
use bigpeer_core::value::{Object, Value};

use std::collections::BTreeSet;

use super::documents::{CARS, KEPT, collection_of};
use super::statement::{Pen, Read, Statement};
use crate::check::ledger::{Effect, End, Ledger, OpId, SERVER_SITE, SiteId, WriterId, judge_whole};
use crate::check::{Failure, answers};
use crate::coverage::Seen;
use crate::profile::Profile;
use crate::world::api::{self, Answer};
use crate::world::clock::MS;
use crate::world::living::ALIVE;
use crate::world::network::{ConnectionId, Owner};
use crate::world::process::{APP, ProcessId, SERVER};
use crate::world::{Event, World};

/// One client: it asks one thing at a time.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Option<ConnectionId>,
    asked: Option<Asked>,
    pen: Pen,
    /// Writers of documents that are written together, all of this server.
    rng: Rng,
    body: Vec<u8>,
    last_txn: u64,
    /// The rights of its key.
    profile: Profile,
}

/// What waits for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) op: OpId,
    pub(crate) statement: Statement,
    pub(crate) asked_ns: u64,
    /// With which rights it was asked.
    pub(crate) profile: Profile,
    /// The documents of `cars` that its place held when it was asked.
    pub(crate) held: BTreeSet<String>,
    /// The greatest transaction that anybody had been served when it was asked.
    pub(crate) newest_txn: u64,
    /// Its place held each transaction whole or not at all when it was asked, which is what a read shows.
    pub(crate) is_whole: bool,
}

impl Client {
    pub(crate) fn new(ledger: &mut Ledger, profile: Profile, rng: Rng) -> Self {
        let pen = Pen::new(ledger);
        Self { connection: None, asked: None, pen, rng, body: Vec::new(), last_txn: 0, profile }
    }

    /// Writes of before may be gone, and positions count anew.
    pub(crate) fn begin_history(&mut self, ledger: &mut Ledger) {
        self.pen = Pen::new(ledger);
        self.last_txn = 0;
    }

    pub(crate) fn whole_writer(&self) -> WriterId {
        self.pen.whole
    }
}

/// A statement of the process itself.
pub(crate) fn local(text: &str, deadline: Instant) -> Execute {
    Execute {
        app: APP,
        credential: Credential::Local,
        statement: text.into(),
        args: Object::default(),
        mode: ObjectMode::Map,
        min_txn: None,
        deadline,
    }
}

impl World {
    /// A client asks the next thing.
    pub(crate) fn client_turn(&mut self, index: usize) {
        if !self.is_working() || self.clients[index].asked.is_some() {
            return;
        }
        let Some(connection) = self.clients[index].connection else {
            if self.is_ready(SERVER) {
                let connection = self.connect(Owner::Client(index));
                self.clients[index].connection = Some(connection);
            }
            let delay_ns = 5 * MS + self.delays.below(40 * MS);
            return self.clock.after(delay_ns, Event::ClientTurn(index));
        };
        let is_finale = self.is_finale();
        let client = &mut self.clients[index];
        let statement = Statement::for_client(&mut client.pen, is_finale, &mut client.rng);
        let now_ns = self.clock.now_ns();
        let op = self.ledger.begin(SERVER_SITE, statement.effect, statement.target.clone(), now_ns);
        let held = self.note_held(SERVER, op, &statement);
        let client = &mut self.clients[index];
        let profile = match &statement {
            Statement { is_forbidden: true, .. } => Profile::NoSecrets,
            Statement { is_blind: true, .. } => Profile::Writer,
            _ => client.profile,
        };
        let token = format!("Bearer {}", profile.key());
        let txn = client.last_txn.to_string();
        let with_txn = client.rng.one_in(4);
        let headers = [("Authorization", &*token), ("X-DITTO-TXN-ID", &*txn)];
        let request = ClientRequest {
            method: Method::Post,
            target: if statement.is_v4 { api::V4 } else { api::V5 },
            host: "server",
            headers: if with_txn { &headers } else { &headers[..1] },
            body: api::request_body(&statement.text).into(),
        };
        self.line(format!("client {index} asks {}", statement.text));
        let newest_txn = self.ledger.newest_txn();
        let is_whole = true;
        let asked = Asked { op, statement, asked_ns: now_ns, profile, held, newest_txn, is_whole };
        self.clients[index].asked = Some(asked);
        self.clients[index].body.clear();
        if let Some(found) = self.connections.get_mut(&connection)
            && found.near.request(&request).is_ok()
        {
            return self.pump(connection);
        }
        self.on_client_lost(index, connection);
    }

    pub(crate) fn on_client_event(
        &mut self,
        index: usize,
        connection: ConnectionId,
        event: NetEvent,
    ) {
        match event {
            NetEvent::ResponseBody { bytes, .. } => {
                self.clients[index].body.extend_from_slice(&bytes);
            }
            NetEvent::ResponseEnd { .. } => {
                let body = std::mem::take(&mut self.clients[index].body);
                self.on_client_answer(index, &body);
            }
            NetEvent::Closed { .. } => self.on_client_lost(index, connection),
            _ => {}
        }
    }

    fn on_client_answer(&mut self, index: usize, body: &[u8]) {
        let Some(asked) = self.clients[index].asked.take() else { return };
        let Some(answer) = api::read(body) else {
            let text = String::from_utf8_lossy(body).into_owned();
            return self
                .fail(Failure::new("answers", format!("an answer that is no JSON: {text}")));
        };
        self.judge_answer(&format!("client {index}"), SERVER_SITE, &asked, &answer);
        if let Some(txn) = answer.txn {
            self.clients[index].last_txn = self.clients[index].last_txn.max(txn);
            let promised = self.processes[SERVER].durable_mark.0;
            if let Err(failure) = self.ledger.note_txn(asked.newest_txn, txn, promised) {
                self.fail(failure);
            }
        }
        let is_eager = self.delays.one_in(3);
        let delay_ns = if is_eager { 0 } else { self.delays.below(100 * MS) };
        self.clock.after(delay_ns, Event::ClientTurn(index));
    }

    /// The connection is gone: what was asked may or may not have happened.
    pub(crate) fn on_client_lost(&mut self, index: usize, connection: ConnectionId) {
        if self.clients[index].connection != Some(connection) {
            return;
        }
        self.clients[index].connection = None;
        if let Some(asked) = self.clients[index].asked.take() {
            self.saw(Seen::AnswerUnknown);
            self.line(format!("client {index} will never know"));
            self.note_evicted(&asked, None);
            self.ledger.end(asked.op, End::Unknown, self.clock.now_ns());
            // What was asked may still be written, after what is asked next.
            self.clients[index].pen = Pen::new(&mut self.ledger);
        }
        let delay_ns = MS + self.delays.below(100 * MS);
        self.clock.after(delay_ns, Event::ClientTurn(index));
    }

    /// Notes what a place holds when something is asked there: its documents, and what a deletion will have seen.
    pub(crate) fn note_held(
        &mut self,
        process: ProcessId,
        op: OpId,
        statement: &Statement,
    ) -> BTreeSet<String> {
        let held = self.documents(process);
        let mut ids = BTreeSet::new();
        for (id, document) in held.visible(CARS) {
            if statement.effect == Effect::Delete {
                self.ledger.note_seen(op, &id, writes_in(&document.to_object()));
            }
            ids.insert(id);
        }
        ids
    }

    /// Writes an answer into the ledger, and judges what was read.
    pub(crate) fn judge_answer(&mut self, who: &str, site: SiteId, asked: &Asked, answer: &Answer) {
        let now_ns = self.clock.now_ns();
        let mutated: Vec<String> =
            answer.mutated.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        let is_refused =
            answer.error.as_ref().is_some_and(|(kind, _)| *kind == ErrorKind::Forbidden);
        if asked.statement.is_blind && (!mutated.is_empty() || is_refused) {
            let text = format!("{who} may read nothing, and saw with: {}", asked.statement.text);
            self.fail(Failure::new("permission", text));
        }
        let text = &asked.statement.text;
        let judged = answers::judge_told(asked.profile, text, answer)
            .and_then(|()| answers::judge_written(asked.profile, text, &mutated));
        if let Err(failure) = judged {
            self.fail(failure);
        }
        match &answer.error {
            None => {
                self.line(format!(
                    "{who} has {:?}: {} rows, wrote {mutated:?}",
                    answer.txn,
                    answer.rows.len()
                ));
                if asked.statement.is_forbidden {
                    let text = format!("{who} may not, but did: {}", asked.statement.text);
                    self.fail(Failure::new("permission", text));
                }
                if let Some(seen) = asked.statement.seen.filter(|_| !mutated.is_empty()) {
                    self.saw(seen);
                }
                if asked.profile == Profile::Everything
                    && let Err(failure) =
                        answers::judge_reach(&asked.statement, &asked.held, &mutated)
                {
                    self.fail(failure);
                }
                self.note_evicted(asked, Some(&mutated));
                self.ledger.end(asked.op, End::Acknowledged(mutated), now_ns);
                if asked.statement.is_insert {
                    self.ledger.mark_insert(asked.op);
                }
                if let Err(failure) = self.ledger.judge_insert(asked.op) {
                    self.fail(failure);
                }
                self.judge_rows(site, asked, answer);
            }
            Some((kind, message)) => {
                self.line(format!("{who} is refused: {kind:?} {message}"));
                let end = match kind {
                    ErrorKind::OutcomeUnknown => End::Unknown,
                    _ => End::Refused,
                };
                if *kind == ErrorKind::OutcomeUnknown {
                    self.note_evicted(asked, None);
                }
                match kind {
                    ErrorKind::Conflict => self.saw(Seen::Conflict),
                    ErrorKind::Forbidden => self.saw(Seen::Forbidden),
                    ErrorKind::Full => self.saw(Seen::StatementRefusedFull),
                    ErrorKind::TooLarge => self.saw(Seen::BulkRefused),
                    ErrorKind::Invalid if !asked.statement.text.contains("obj") => {
                        let text = format!("{}: {message}", asked.statement.text);
                        self.fail(Failure::new("answers", text));
                    }
                    _ => {}
                }
                self.ledger.end(asked.op, end, now_ns);
            }
        }
    }

    /// Notes what an eviction at the server took; of one without an answer nothing is known.
    fn note_evicted(&mut self, asked: &Asked, mutated: Option<&[String]>) {
        let is_here = self.ledger.site_of(asked.op) == SERVER_SITE;
        let Some(target) = asked.statement.target.as_ref().filter(|_| is_here) else { return };
        if asked.statement.effect != Effect::Evict {
            return;
        }
        match mutated {
            None => self.evicted.lose_track(target),
            Some(mutated) if mutated.contains(target) => {
                let server = self.documents(SERVER);
                self.evicted.note(target, server.marker(target));
            }
            Some(_) => {}
        }
    }

    fn judge_rows(&mut self, site: SiteId, asked: &Asked, answer: &Answer) {
        let Some(read) = &asked.statement.read else { return };
        let rows: Vec<Object> =
            answer.rows.iter().filter_map(|row| row.as_object().cloned()).collect();
        let result = match read {
            Read::Point(id) if rows.len() <= 1 => self.judge_one(site, asked, id, rows.first()),
            Read::Point(id) => Err(Failure::new("answers", format!("{id} twice in one answer"))),
            Read::Scan => self.judge_scan(site, asked, &rows),
            Read::Some(limit) if rows.len() > *limit => {
                Err(Failure::new("answers", format!("{} rows for LIMIT {limit}", rows.len())))
            }
            Read::Some(_) => {
                let ids: Vec<&str> = rows.iter().filter_map(id_of).collect();
                if ids.windows(2).all(|pair| pair[0] > pair[1]) {
                    Ok(())
                } else {
                    Err(Failure::new("answers", format!("not in order: {ids:?}")))
                }
            }
        };
        if let Err(failure) = result {
            self.fail(failure);
        }
    }

    fn judge_one(
        &self,
        site: SiteId,
        asked: &Asked,
        id: &str,
        row: Option<&Object>,
    ) -> Result<(), Failure> {
        let is_hidden =
            collection_of(id).is_some_and(|collection| !asked.profile.may_read(collection, id));
        if is_hidden {
            return Ok(());
        }
        self.ledger.judge_read(site, id, row, asked.asked_ns)
    }

    fn judge_scan(&self, site: SiteId, asked: &Asked, rows: &[Object]) -> Result<(), Failure> {
        let found = |id: &str| rows.iter().find(|row| id_of(row) == Some(id));
        let ids = (0..KEPT)
            .map(|index| format!("k{index}"))
            .chain((0..24).map(|index| format!("d{index}")));
        for id in ids {
            self.judge_one(site, asked, &id, found(&id))?;
        }
        if !asked.is_whole || site != SERVER_SITE && !self.is_whole_at(site) {
            return Ok(());
        }
        let kept: Vec<Object> = rows
            .iter()
            .filter(|row| id_of(row).is_some_and(|id| id.starts_with('k')))
            .cloned()
            .collect();
        let readable =
            (0..KEPT).filter(|id| asked.profile.may_read(CARS, &format!("k{id}"))).count();
        if kept.len() != readable {
            let text = format!("{} of {readable} documents that nobody deletes", kept.len());
            return Err(Failure::new("acknowledged write lost", text));
        }
        judge_whole(&kept, &self.written_together())
    }

    /// The fields that the server writes in all documents that are never deleted, or in none.
    pub(crate) fn written_together(&self) -> Vec<String> {
        let of_clients = self.clients.iter().map(|client| format!("w{}", client.whole_writer()));
        of_clients.chain([ALIVE.to_owned()]).collect()
    }
}

/// The numbers of writers in a row.
fn writes_in(row: &Object) -> BTreeSet<(WriterId, u64)> {
    row.iter()
        .filter_map(|(name, value)| Some((name.strip_prefix('w')?.parse().ok()?, value.as_u64()?)))
        .collect()
}

fn id_of(row: &Object) -> Option<&str> {
    row.get("_id").and_then(Value::as_str)
}
