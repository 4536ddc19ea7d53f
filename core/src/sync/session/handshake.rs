//! Introductions: who the other side is, and whether its store is the one that we met last.
//!
//! A device says Hello first; a server waits for it (two devices both begin). Each side's nonce is on its disk before
//! its Hello, so no nonce is ever told that could be forgotten in a crash.
//!
//! Each side draws a nonce for the session, keeps the last one it got from the other, and says in its Hello which
//! that is. A store that is told a nonce it never drew was rolled back to before the last meeting, or somebody met
//! the other under its name: a clone. A store that was rolled back to a moment within a session still agrees about the
//! nonces. Then positions tell: each side keeps how far the other's log had come when it last took something of it,
//! and says so in its Subs. A position that our log does not hold was lost here.
//!
//! A store that comes back after another one had its key finds neither: its nonces and positions are as they were. But
//! what the other wrote counts as its own, and would be passed over. So each side keeps the store that it met last, and
//! how far its own log had come when that was another: no cursor below counts (`distrust_below`).
//!
//! From either proof on our own cursor is forgotten, since it passes over what we sent ourselves and have lost. A
//! device takes a new epoch before it sends anything. We say that we are stale: the other side offers us everything.
//! Proof is never taken away before its listener has written that it is stale:
//! - the other side's nonce is kept at its first Subs, which it says only once it has judged our Hello,
//! - how far its log has come is kept with what it sends, and it sends nothing before it has judged our Subs.

use crate::ident::{Actor, BootId, LogId, Txn};
use crate::plant::{Plant, is_planted};
use crate::rng::Rng;
use crate::sync::cursor::Position;
use crate::sync::error::{CloseReason, ProtocolError};
use crate::sync::frame::{
    DIGEST_VERSION, FEATURE_RECALLS_BASES, Frame, Hello, ID_VERSION, NAME_BYTES_MAX, PROTO, Role,
    Subs,
};
use crate::sync::host::{CommandId, HostCommand, NONCES_KEPT, Nonce, RemoteRecord};
use crate::sync::link::{Link, SessionEvent};
use crate::time::Hlc;

use super::{Session, SessionConfig, cut};

/// What is known of the remote so far.
#[derive(Debug)]
pub(crate) struct Handshake {
    nonce: Nonce,
    load: Option<CommandId>,
    /// Our own nonce on its way to the disk, before the Hello.
    save_ours: Option<CommandId>,
    /// Our conclusion from the remote's Hello on its way to the disk, before our Subs.
    save_judged: Option<CommandId>,
    record: Option<RemoteRecord>,
    /// A nonce of ours was kept for the remote before this session.
    is_remembered: bool,
    is_hello_sent: bool,
    hello: Option<Box<Hello>>,
    /// The remote keeps a nonce of ours that we do not know, or a position in our log that we never reached.
    is_stale: bool,
    is_open: bool,
    early_subs: Option<Box<Subs>>,
    epoch: Option<CommandId>,
}

impl Handshake {
    pub(crate) fn begin(config: &SessionConfig, rng: &mut Rng, link: &mut Link) -> Self {
        let peer = config.remote;
        Self {
            nonce: Nonce(rng.next_u64()),
            is_stale: false,
            load: Some(link.command(|id| HostCommand::LoadRemote { id, peer })),
            save_ours: None,
            save_judged: None,
            record: None,
            is_remembered: false,
            is_hello_sent: false,
            hello: None,
            is_open: false,
            early_subs: None,
            epoch: None,
        }
    }

    /// The remote has said Hello.
    pub(crate) fn is_met(&self) -> bool {
        self.hello.is_some()
    }

    /// Both sides are introduced: we may say what we want.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Our own store was rolled back or cloned.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The greatest clock value that we know of the remote's actor.
    pub(crate) fn seen(&self) -> Option<Hlc> {
        let (actor, hlc) = self.record.as_ref()?.seen?;
        (actor == self.hello.as_ref()?.actor).then_some(hlc)
    }

    /// How far the remote's log had come when we last took something of it, as of the beginning of the session.
    pub(crate) fn reached(&self) -> Option<Position> {
        self.record.as_ref()?.reached
    }

    /// The remote's log; the default one before the Hello.
    pub(crate) fn log(&self) -> LogId {
        self.hello.as_ref().map_or_else(LogId::default, |hello| hello.log)
    }

    /// A position of the remote's log, in its running boot.
    pub(crate) fn position(&self, txn: Txn) -> Position {
        let boot = self.hello.as_ref().map_or_else(BootId::default, |hello| hello.boot);
        Position { log: self.log(), boot, txn }
    }

    /// Takes over what we keep; with too many unconfirmed nonces the newest is used again.
    fn load_record(&mut self, mut record: RemoteRecord) {
        self.is_remembered = !record.ours.is_empty();
        if record.ours.len() >= NONCES_KEPT {
            self.nonce = record.ours.pop().unwrap_or(self.nonce);
        }
        record.ours.push(self.nonce);
        self.record = Some(record);
    }

    /// The remote keeps this nonce of ours: older ones are history. False when we do not know it.
    fn confirm(&mut self, kept: Nonce) -> bool {
        let Some(record) = &mut self.record else { return true };
        match record.ours.iter().position(|ours| *ours == kept) {
            Some(at) => {
                record.ours.drain(..at);
                true
            }
            None => false,
        }
    }

    fn nonces(&self) -> Vec<Nonce> {
        self.record.as_ref().map(|record| record.ours.clone()).unwrap_or_default()
    }
}

impl Session {
    pub(super) fn on_remote(&mut self, id: CommandId, record: RemoteRecord) {
        if self.handshake.load.take_if(|load| *load == id).is_none() {
            return;
        }
        self.sending.load_owed(record.owed.clone(), record.unlisted);
        self.sending.distrust_below(record.shared);
        self.handshake.load_record(record);
        if self.is_beginning() {
            let (peer, ours) = (self.config.remote, self.handshake.nonces());
            self.handshake.save_ours = Some(self.link.command(|id| HostCommand::SaveRemote {
                id,
                peer,
                store: None,
                ours,
                theirs: None,
                is_stale: false,
            }));
        } else {
            self.meet();
        }
    }

    pub(super) fn on_saved(&mut self, id: CommandId) -> Result<(), CloseReason> {
        if self.handshake.save_ours.take_if(|save| *save == id).is_some() {
            self.say_hello();
            self.meet();
        }
        if self.handshake.save_judged.take_if(|save| *save == id).is_some() {
            if !self.is_beginning() {
                self.say_hello();
            }
            self.handshake.is_open = true;
            self.is_subs_due = true;
            if let Some(subs) = self.handshake.early_subs.take() {
                self.on_subs(*subs)?;
            }
        }
        Ok(())
    }

    /// It is on us to say Hello, heard or unheard.
    fn is_beginning(&self) -> bool {
        self.config.role == Role::Device
    }

    fn say_hello(&mut self) {
        let local = &self.config.local;
        let mut device_name = local.device_name.clone();
        cut(&mut device_name, NAME_BYTES_MAX);
        let record = self.handshake.record.as_ref();
        let kept = record.and_then(|record| record.store.zip(record.theirs));
        let hello = Hello {
            proto_min: PROTO.0,
            proto_max: PROTO.1,
            features: FEATURE_RECALLS_BASES,
            app: self.config.app,
            role: self.config.role,
            peer_key: local.peer_key,
            log: local.boots.log,
            store: local.store,
            boot: local.boots.rows.last().map(|row| row.boot).unwrap_or_default(),
            actor: local.actor,
            nonce: self.handshake.nonce,
            kept,
            hlc: local.hlc,
            tombstone_ttl_hours: local.tombstone_ttl_hours,
            digest_version: DIGEST_VERSION,
            id_version: ID_VERSION,
            device_name,
        };
        self.link.frame(&Frame::Hello(Box::new(hello)));
        self.handshake.is_hello_sent = true;
    }

    pub(super) fn on_hello(&mut self, hello: Box<Hello>) -> Result<(), ProtocolError> {
        if self.handshake.is_met() {
            return Err(ProtocolError::OutOfOrder { frame: "Hello", state: "twice" });
        }
        self.check_hello(&hello)?;
        self.link.event(SessionEvent::Connected(hello.clone()));
        self.sending.meet(hello.role);
        self.handshake.hello = Some(hello);
        self.meet();
        Ok(())
    }

    fn check_hello(&self, hello: &Hello) -> Result<(), ProtocolError> {
        if hello.proto_max < PROTO.0 || hello.proto_min > PROTO.1 {
            let theirs = (hello.proto_min, hello.proto_max);
            return Err(ProtocolError::NoCommonVersion { ours: PROTO, theirs });
        }
        if hello.app != self.config.app {
            return Err(ProtocolError::WrongApp);
        }
        if hello.peer_key != self.config.remote {
            return Err(ProtocolError::WrongPeer);
        }
        let versions = [
            ("digest", hello.digest_version, DIGEST_VERSION),
            ("id encoding", hello.id_version, ID_VERSION),
        ];
        for (field, found, ours) in versions {
            if found != ours {
                let (found, ours) = (u64::from(found), u64::from(ours));
                return Err(ProtocolError::VersionMismatch { field, found, ours });
            }
        }
        Ok(())
    }

    /// The remote has said Hello, and we as well if it is on us to begin: judges the nonce of ours that it keeps, and
    /// keeps what follows from that before we say what we want.
    fn meet(&mut self) {
        let is_our_turn = self.handshake.is_hello_sent || !self.is_beginning();
        let handshake = &mut self.handshake;
        let (Some(hello), true, true) =
            (handshake.hello.clone(), handshake.record.is_some(), is_our_turn)
        else {
            return;
        };
        let former = handshake.record.as_ref().and_then(|record| record.store);
        if former.is_some_and(|former| former != hello.store) && !is_planted(Plant::NonceIgnored) {
            self.sending.distrust_cursors();
        }
        let kept = hello.kept.filter(|(store, _)| *store == self.config.local.store);
        // A server that keeps nothing about the remote has nothing of it that it could have lost, and has taken a new
        // epoch at its start: see `SaveRemote`. What it once had and lost, the positions that the remote keeps tell.
        let is_known = self.config.role == Role::Device || handshake.is_remembered;
        handshake.is_stale = is_known
            && !is_planted(Plant::NonceIgnored)
            && kept.is_some_and(|(_, kept)| !handshake.confirm(kept));
        let is_stale = handshake.is_stale;
        let cursor = handshake.record.as_ref().and_then(|record| record.cursor);
        self.receiving.load_cursor(cursor.filter(|_| !is_stale), hello.log);
        let (peer, ours) = (self.config.remote, handshake.nonces());
        let at_once = is_planted(Plant::NonceKeptAtHello).then_some((hello.store, hello.nonce));
        let save = self.link.command(|id| HostCommand::SaveRemote {
            id,
            peer,
            store: at_once.map(|(store, _)| store),
            ours,
            theirs: at_once.map(|(_, nonce)| nonce),
            is_stale,
        });
        self.handshake.save_judged = Some(save);
    }

    /// The remote has judged our Hello, and written what follows from it: its own nonce may take the place of the one
    /// that was our proof. Nobody waits for this write: what we take of the remote is appended after it.
    fn keep_nonce(&mut self) {
        let handshake = &self.handshake;
        let hello = handshake.hello.as_ref().expect("Subs before Hello are refused");
        let (peer, ours) = (self.config.remote, handshake.nonces());
        let (store, theirs) = (Some(hello.store), Some(hello.nonce));
        self.link.command(|id| HostCommand::SaveRemote {
            id,
            peer,
            store,
            ours,
            theirs,
            is_stale: false,
        });
    }

    pub(super) fn on_subs(&mut self, subs: Subs) -> Result<(), ProtocolError> {
        if !self.handshake.is_met() {
            return Err(ProtocolError::OutOfOrder { frame: "Subs", state: "before Hello" });
        }
        if !self.handshake.is_open {
            if self.handshake.early_subs.is_some() {
                return Err(ProtocolError::OutOfOrder {
                    frame: "Subs",
                    state: "twice before ours",
                });
            }
            self.handshake.early_subs = Some(Box::new(subs));
            return Ok(());
        }
        let is_first = !self.sending.is_begun();
        // A server has an actor of its own since its start: whatever a peer claims to have seen, nobody else is it.
        let is_behind = self.config.role == Role::Device
            && subs.seen.is_some_and(|seen| seen > self.config.local.hlc);
        if is_first {
            self.keep_nonce();
        }
        if is_first && !self.handshake.is_stale && self.has_lost(&subs) {
            self.handshake.is_stale = true;
            self.receiving.forget_cursor();
            self.is_subs_due = true;
        }
        let (stale, seen) = (self.handshake.is_stale, subs.seen);
        if subs.stale {
            self.sending.distrust_cursors();
        }
        self.sending.on_subs(subs)?;
        if is_first && (stale || is_behind) {
            self.link.event(SessionEvent::StoreDiverged { stale, seen });
            self.sending.diverge();
            let epoch = self.link.command(|id| HostCommand::NewEpoch { id, stale, seen });
            self.handshake.epoch = Some(epoch);
        }
        Ok(())
    }

    /// The remote has come further in our log than our log ever did, or has taken something of it that is not in it
    /// any more: we were rolled back, perhaps to a moment within a session, where the nonces still agree.
    fn has_lost(&self, subs: &Subs) -> bool {
        let cursor = subs.cursor.map(|cursor| cursor.position);
        let mut told = cursor.into_iter().chain(subs.reached);
        told.any(|position| !self.config.local.boots.has_reached(position))
            && !is_planted(Plant::NonceIgnored)
            && !is_planted(Plant::LostPositionIgnored)
    }

    pub(super) fn on_epoch(&mut self, id: CommandId, actor: Actor) {
        if self.handshake.epoch == Some(id) {
            self.config.local.actor = actor;
            self.sending.resume();
        }
    }
}
