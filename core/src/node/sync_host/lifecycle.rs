//! From the greeting to the farewell: how sessions begin, which credential they live by, and how they end.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::interest::compiled_texts;
use super::{Hosted, Leaving, SessionId, SessionOpen};
use crate::auth::{AuthError, Grant};
use crate::ident::{AppId, PartitionId, PeerKey, Txn};
use crate::node::request::Credential;
use crate::node::sync_ask::{Ask, GatherId};
use crate::node::{Node, Output};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::sync::{
    HostEvent, Interest, Limits, LocalIdentity, RemoteRecord, Role, Session, SessionConfig,
};

impl Node {
    pub(super) fn open_session(&mut self, id: SessionId, open: SessionOpen, now: Now) {
        let grant = match self.session_grant(open.app, &open.credential, now) {
            Ok(grant) => grant,
            Err(error) => return self.close_connection(id, &error.to_string()),
        };
        // Such a key is not made any more; in the log one may be. Without a word about what may be read, its bearer
        // would take a part for all there is.
        if let Err(error) = grant.permissions.check_size() {
            return self.close_connection(id, &format!("{error}; make the key anew"));
        }
        let mut greeting = Vec::with_capacity(GREETING_BYTES);
        greeting.extend_from_slice(GREETING_MAGIC);
        greeting.extend_from_slice(&self.config.identity.peer_key.0);
        self.outputs.push_back(Output::Frame { session: id, frame: greeting.into() });
        let hosted = Hosted {
            app: open.app,
            credential: open.credential,
            grant,
            session: None,
            peer: PeerKey::default(),
            visit: None,
            record: RemoteRecord::default(),
            is_unknown: true,
            unwritten: Vec::new(),
            watches: BTreeMap::new(),
            scans: BTreeMap::new(),
            features: 0,
            was_ready: false,
            was_restricted: false,
            is_renewed: false,
        };
        self.sync.sessions.insert(id, hosted);
    }

    fn session_grant(
        &self,
        app: AppId,
        credential: &Credential,
        now: Now,
    ) -> Result<Grant, AuthError> {
        match credential {
            Credential::Local => Ok(Grant::everything()),
            Credential::Bearer(Some(token)) if self.catalog.is_development_token(app, token) => {
                Ok(Grant::everything())
            }
            Credential::Bearer(token) => self.catalog.grant(app, token.as_deref(), now.wall),
        }
    }

    pub(super) fn on_session_frame(&mut self, id: SessionId, frame: &Bytes, now: Now) {
        let Some(hosted) = self.sync.sessions.get(&id) else { return };
        if hosted.has_expired(now) {
            return self.end_permission(id, now);
        }
        if hosted.session.is_some() {
            return self.with_session(id, now, |session| session.handle_frame(frame, now));
        }
        let key = frame
            .strip_prefix(GREETING_MAGIC)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .map(PeerKey);
        match key {
            Some(peer) if peer != self.config.identity.peer_key => {
                self.begin_session(id, peer, now);
            }
            Some(_) => self.close_connection(id, "the remote has our own peer key"),
            None => self.close_connection(id, "the first frame is not a greeting of this protocol"),
        }
    }

    /// The remote has greeted. The session begins by asking the owner of the remote's record for it, and the owner
    /// replaces older sessions of the same peer wherever they live.
    fn begin_session(&mut self, id: SessionId, peer: PeerKey, now: Now) {
        let Some(hosted) = self.sync.sessions.get(&id) else { return };
        let (app, permissions) = (hosted.app, hosted.grant.permissions.clone());
        let identity = &self.config.identity;
        // What a server evicts is asked for by nobody, and is nobody's affair.
        let evict_generation =
            if self.config.is_device { self.sync.evict_generation(app) } else { 0 };
        let local = LocalIdentity {
            store: identity.store,
            boots: identity.boots.clone(),
            actor: self.actor(),
            peer_key: identity.peer_key,
            hlc: self.issued,
            device_name: identity.name.to_string(),
            tombstone_ttl_hours: TOMBSTONE_TTL_HOURS,
            evict_generation,
        };
        let (role, interest) = if self.config.is_device {
            (Role::Device, Interest::of(compiled_texts(&self.sync.subscriptions)))
        } else {
            (Role::Server, Interest::Everything)
        };
        let config = SessionConfig {
            role,
            app,
            remote: peer,
            local,
            interest,
            permissions,
            limits: Limits {
                update_target_bytes: self.config.limits.update_target_bytes,
                update_bytes_max: self.config.limits.update_bytes_max,
                item_bytes_max: self.config.limits.merged_bytes_max,
                window_bytes: self.config.limits.window_bytes,
                outputs_max: self.config.limits.outputs_max,
                owed_max: self.config.limits.owed_max,
            },
        };
        let mut rng = self.sync.rng.split();
        let session = Session::new(config, &mut rng, now);
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.peer = peer;
            hosted.session = Some(Box::new(session));
        }
        self.drain_session(id, now);
    }

    pub(super) fn close_connection(&mut self, id: SessionId, reason: &str) {
        self.outputs.push_back(Output::CloseSession { session: id, reason: reason.into() });
        self.forget_session(id);
    }

    pub(super) fn forget_session(&mut self, id: SessionId) {
        let Some(hosted) = self.sync.sessions.remove(&id) else { return };
        self.sync.gathers.retain(|_, gather| gather.session() != id);
        if let Some(visit) = hosted.visit {
            self.leave_remote(id, Leaving { app: hosted.app, peer: hosted.peer, visit });
        }
        if !hosted.watches.is_empty() {
            for partition in 0..self.config.partitions {
                let gather = GatherId(0);
                self.ask(PartitionId(partition), gather, hosted.app, Txn(0), Ask::StirStop(id));
            }
        }
    }

    pub(crate) fn sync_timeout(&mut self, now: Now) {
        let mut expired = Vec::new();
        let mut due = Vec::new();
        for (id, hosted) in &self.sync.sessions {
            let timeout = hosted.session.as_ref().and_then(|session| session.poll_timeout());
            if hosted.has_expired(now) {
                expired.push(*id);
            } else if timeout.is_some_and(|at| at <= now.mono) {
                due.push(*id);
            }
        }
        for id in expired {
            self.end_permission(id, now);
        }
        for id in due {
            self.with_session(id, now, |session| session.handle_timeout(now));
        }
    }

    /// What was evicted here must be offered again where it still matches.
    pub(crate) fn announce_evictions(&mut self, now: Now) {
        let sessions: Vec<(SessionId, AppId)> =
            self.sync.sessions.iter().map(|(id, hosted)| (*id, hosted.app)).collect();
        for (id, app) in sessions {
            let generation = self.sync.evict_generation(app);
            self.tell(id, HostEvent::Evicted { generation }, now);
        }
    }

    /// The catalog has changed: what was prepared for a session whose credential is worth less, more or nothing
    /// by now must not leave. Its remote comes again, and gets what it may have.
    pub(crate) fn recheck_sessions(&mut self, now: Now) {
        let changed: Vec<SessionId> = self
            .sync
            .sessions
            .iter()
            .filter(|(_, hosted)| {
                let grant = self.session_grant(hosted.app, &hosted.credential, now);
                let is_same = |grant: &Grant| {
                    grant.is_same(&hosted.grant) || is_planted(Plant::PermissionKept)
                };
                !grant.is_ok_and(|grant| is_same(&grant))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in changed {
            self.end_permission(id, now);
        }
    }

    /// Ends a session whose credential has expired or changed, at once: frames that wait are dropped.
    fn end_permission(&mut self, id: SessionId, now: Now) {
        self.tell(id, HostEvent::PermissionChanged, now);
        if self.sync.sessions.contains_key(&id) {
            self.close_connection(id, "the credential has expired or was changed: connect again");
        }
    }
}

impl Hosted {
    /// The moment of the credential is over. Wall time may go back: then the session is over all the same.
    fn has_expired(&self, now: Now) -> bool {
        self.grant.expires.is_some_and(|expires| expires <= now.wall)
            && !is_planted(Plant::PermissionKept)
    }
}

/// The first frame of each side: these bytes, then the peer key.
const GREETING_MAGIC: &[u8] = b"BPG1";
const GREETING_BYTES: usize = 36;

/// Announced to remotes; tombstones do not expire yet.
const TOMBSTONE_TTL_HOURS: u32 = 720;
