//! Introductions: who the other side is, and whether its store is the one that we met last.
//!
//! Each side draws a nonce for the session and keeps the last one it got from the other. A Hello carries the new
//! nonce and the last few; if the one that we keep is not among them, the other store was rolled back to before
//! our last meeting, or somebody else met us under its name: a clone. It is told so with the first `Subs`, and
//! takes a new epoch before it sends anything.

use crate::ident::{Actor, LogId};
use crate::plant::{Plant, is_planted};
use crate::rng::Rng;
use crate::sync::error::{CloseReason, ProtocolError};
use crate::sync::frame::{
    DIGEST_VERSION, Frame, Hello, ID_VERSION, NAME_BYTES_MAX, PROTO, Role, Subs,
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
    /// The remote's nonce on its way to the disk, before our Subs.
    save_theirs: Option<CommandId>,
    record: Option<RemoteRecord>,
    is_hello_sent: bool,
    hello: Option<Box<Hello>>,
    /// What our first Subs tells: stale, and what we know of the remote's actor.
    verdict: Option<(bool, Option<Hlc>)>,
    is_open: bool,
    early_subs: Option<Box<Subs>>,
    epoch: Option<CommandId>,
}

impl Handshake {
    pub(crate) fn begin(config: &SessionConfig, rng: &mut Rng, link: &mut Link) -> Self {
        let peer = config.remote;
        Self {
            nonce: Nonce(rng.next_u64()),
            load: Some(link.command(|id| HostCommand::LoadRemote { id, peer })),
            save_ours: None,
            save_theirs: None,
            record: None,
            is_hello_sent: false,
            hello: None,
            verdict: None,
            is_open: false,
            early_subs: None,
            epoch: None,
        }
    }

    /// The remote has said Hello.
    pub(crate) fn is_met(&self) -> bool {
        self.hello.is_some()
    }

    /// What a Subs of ours has to tell; `None` before it may be sent.
    pub(crate) fn verdict(&self) -> Option<(bool, Option<Hlc>)> {
        self.verdict.filter(|_| self.is_open)
    }

    /// The remote's log; the default one before the Hello.
    pub(crate) fn log(&self) -> LogId {
        self.hello.as_ref().map_or_else(LogId::default, |hello| hello.log)
    }

    /// Our newest nonces for this remote, this session's last.
    fn nonces(&self) -> Vec<Nonce> {
        let before = self.record.as_ref().map_or(&[][..], |record| &record.ours);
        let kept = before.iter().skip(before.len().saturating_sub(NONCES_KEPT - 1));
        kept.copied().chain([self.nonce]).collect()
    }
}

impl Session {
    pub(super) fn on_remote(&mut self, id: CommandId, record: RemoteRecord) {
        if self.handshake.load.take_if(|load| *load == id).is_none() {
            return;
        }
        self.sending.load_owed(record.owed.clone());
        self.handshake.record = Some(record);
        // A device that crashes after its Hello must remember the nonce, or it looks rolled back. A server may
        // look so: it takes a new epoch at every start anyway, and is spared a write for each connection.
        if self.config.role == Role::Device {
            let (peer, ours) = (self.config.remote, self.handshake.nonces());
            self.handshake.save_ours = Some(self.link.command(|id| HostCommand::SaveRemote {
                id,
                peer,
                store: None,
                ours,
                theirs: None,
            }));
        } else {
            self.say_hello();
        }
    }

    pub(super) fn on_saved(&mut self, id: CommandId) -> Result<(), CloseReason> {
        if self.handshake.save_ours.take_if(|save| *save == id).is_some() {
            self.say_hello();
        }
        if self.handshake.save_theirs.take_if(|save| *save == id).is_some() {
            self.handshake.is_open = true;
            self.send_subs();
            if let Some(subs) = self.handshake.early_subs.take() {
                self.on_subs(*subs)?;
            }
        }
        Ok(())
    }

    fn say_hello(&mut self) {
        let local = &self.config.local;
        let mut device_name = local.device_name.clone();
        cut(&mut device_name, NAME_BYTES_MAX);
        let mut nonces_before = self.handshake.nonces();
        nonces_before.pop();
        let hello = Hello {
            proto_min: PROTO.0,
            proto_max: PROTO.1,
            features: 0,
            app: self.config.app,
            role: self.config.role,
            peer_key: local.peer_key,
            log: local.boots.log,
            store: local.store,
            boot: local.boots.rows.last().map(|row| row.boot).unwrap_or_default(),
            actor: local.actor,
            nonce: self.handshake.nonce,
            nonces_before,
            hlc: local.hlc,
            tombstone_ttl_hours: local.tombstone_ttl_hours,
            digest_version: DIGEST_VERSION,
            id_version: ID_VERSION,
            device_name,
        };
        self.link.frame(&Frame::Hello(Box::new(hello)));
        self.handshake.is_hello_sent = true;
        self.meet();
    }

    pub(super) fn on_hello(&mut self, hello: Box<Hello>) -> Result<(), ProtocolError> {
        if self.handshake.is_met() {
            return Err(ProtocolError::OutOfOrder { frame: "Hello", state: "twice" });
        }
        self.check_hello(&hello)?;
        self.link.event(SessionEvent::Connected(hello.clone()));
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

    /// Both Hellos are out: judge the remote's nonce and keep the new one before we say what we want.
    fn meet(&mut self) {
        let handshake = &mut self.handshake;
        let (Some(hello), Some(record), true) =
            (&handshake.hello, &handshake.record, handshake.is_hello_sent)
        else {
            return;
        };
        let is_same_store = record.store == Some(hello.store);
        let is_known = |kept| hello.nonces_before.contains(&kept) || hello.nonce == kept;
        let stale = !is_planted(Plant::NonceIgnored)
            && is_same_store && record.theirs.is_some_and(|kept| !is_known(kept));
        let of_actor = |(actor, hlc): (Actor, Hlc)| (actor == hello.actor).then_some(hlc);
        handshake.verdict = Some((stale, record.seen.and_then(of_actor)));
        self.receiving.load_cursor(record.cursor, hello.log);
        if stale {
            self.sending.diverge();
        }
        let (peer, store, theirs) = (self.config.remote, hello.store, hello.nonce);
        let ours = handshake.nonces();
        let save = self.link.command(|id| HostCommand::SaveRemote {
            id,
            peer,
            store: Some(store),
            ours,
            theirs: Some(theirs),
        });
        self.handshake.save_theirs = Some(save);
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
        let is_first = self.sending.round() == 0 && self.handshake.epoch.is_none();
        let is_behind = subs.seen.is_some_and(|seen| seen > self.config.local.hlc);
        let (stale, seen) = (subs.stale, subs.seen);
        self.sending.on_subs(subs)?;
        if is_first && (stale || is_behind) {
            self.link.event(SessionEvent::StoreDiverged { stale, seen });
            self.sending.diverge();
            self.sending.hold(true);
            self.handshake.epoch =
                Some(self.link.command(|id| HostCommand::NewEpoch { id, stale, seen }));
        }
        Ok(())
    }

    pub(super) fn on_epoch(&mut self, id: CommandId, actor: Actor) {
        if self.handshake.epoch == Some(id) {
            self.config.local.actor = actor;
            self.sending.hold(false);
        }
    }
}
