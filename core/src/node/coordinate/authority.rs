//! The right by which a statement reads, and its end.
//!
//! A credential is judged when its statement begins. What it grants may change or expire while the statement is under
//! way: then a read ends, and so does a mutation that is still choosing its documents, since neither has written
//! anything and nothing more may be shown. A mutation whose documents are known was accepted, and goes on.

use std::time::Duration;

use super::super::Node;
use super::super::message::CallId;
use super::super::request::{Credential, ErrorKind, RequestError};
use super::{Call, Work};
use crate::auth::{AuthError, Grant};
use crate::ident::AppId;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::time::{Instant, WallMs};

/// A credential, and its worth when the statement of its bearer began.
#[derive(Debug)]
pub(crate) struct Authority {
    app: AppId,
    credential: Credential,
    grant: Grant,
}

impl Authority {
    pub(crate) fn new(app: AppId, credential: Credential, grant: Grant) -> Self {
        Self { app, credential, grant }
    }

    pub(crate) fn app(&self) -> AppId {
        self.app
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn has_expired(&self, wall: WallMs) -> bool {
        let is_over = self.grant.expires.is_some_and(|expires| expires <= wall);
        is_over && !is_planted(Plant::AuthorityOutlived)
    }

    /// The end of the credential, if a statement that begins now may live to see it.
    fn expires_soon(&self, wall: WallMs) -> Option<WallMs> {
        let is_watched = !is_planted(Plant::AuthorityOutlived);
        let is_soon = |expires: &WallMs| expires.0 <= wall.0.saturating_add(SOON_MS);
        self.grant.expires.filter(|expires| is_watched && is_soon(expires))
    }
}

impl Call {
    /// The right by which the call reads. A statement that waits for a transaction is judged when it begins.
    fn authority(&self) -> Option<&Authority> {
        match &self.work {
            Work::Queued(start) => Some(start.authority()),
            Work::Select(select) => Some(select.authority()),
            Work::Wait { .. } | Work::Mutate(_) | Work::Catalog => None,
        }
    }

    fn ended_because(&self, credential: &str) -> RequestError {
        let meanwhile = match self.is_mutation() {
            true => "the statement was choosing its documents: nothing was written",
            false => "the read was in progress: ask again with one that is valid",
        };
        RequestError::new(ErrorKind::Unauthorized, format!("{credential} while {meanwhile}"))
    }
}

impl Node {
    /// The worth of a credential in an app now.
    pub(super) fn authorize(
        &self,
        app: AppId,
        credential: &Credential,
        now: Now,
    ) -> Result<Grant, AuthError> {
        match credential {
            Credential::Local if self.catalog.app(app).is_none() && !self.config.is_device => {
                Err(AuthError::UnknownApp(app))
            }
            Credential::Local => Ok(Grant::everything()),
            Credential::Bearer(token) => self.catalog.grant(app, token.as_deref(), now.wall),
        }
    }

    /// The catalog has changed: what is under way by a right that its credential has no more ends.
    pub(crate) fn recheck_calls(&mut self, now: Now) {
        let is_over = |authority: &Authority| {
            let grant = self.authorize(authority.app, &authority.credential, now);
            let is_over = !grant.is_ok_and(|grant| grant.is_same(&authority.grant));
            is_over && !is_planted(Plant::AuthorityKept)
        };
        let over = self.calls.keys_where(|call| call.authority().is_some_and(is_over));
        for call in over {
            let authority = self.calls.get(&call).and_then(Call::authority);
            match authority.is_some_and(|authority| authority.has_expired(now.wall)) {
                true => self.end_expired(call),
                false => self.end_for_credential(call, "the credential was revoked or changed"),
            }
        }
    }

    pub(crate) fn end_expired(&mut self, call: CallId) {
        self.end_for_credential(call, "the API key expired");
    }

    fn end_for_credential(&mut self, call: CallId, credential: &str) {
        if let Some(found) = self.calls.get(&call) {
            let error = found.ended_because(credential);
            self.fail_call(call, error);
        }
    }

    /// Ends what is under way by keys that have expired.
    pub(super) fn expire_authorities(&mut self, now: Now) {
        while let Some(&(expires, call)) = self.expiries.first()
            && expires <= now.wall
        {
            self.expiries.remove(&(expires, call));
            self.end_expired(call);
        }
    }

    /// The moment at which the first of the watched keys expires, if wall time goes on as monotonic time does.
    pub(crate) fn next_authority_expiry(&self) -> Option<Instant> {
        let (expires, _) = self.expiries.first()?;
        let left_ms = expires.0.saturating_sub(self.last_now.wall.0);
        Some(self.last_now.mono.after(Duration::from_millis(left_ms)))
    }

    /// A call whose key may expire under it is watched; most keys expire long after.
    pub(super) fn watch_authority(&mut self, id: CallId, call: &Call) {
        let wall = self.last_now.wall;
        if let Some(expires) = call.authority().and_then(|authority| authority.expires_soon(wall)) {
            self.expiries.insert((expires, id));
        }
    }

    pub(super) fn unwatch_authority(&mut self, id: CallId, call: &Call) {
        if let Some(expires) = call.authority().and_then(|authority| authority.grant.expires)
            && !self.expiries.is_empty()
        {
            self.expiries.remove(&(expires, id));
        }
    }
}

/// A key that expires later than this is not watched. A read whose client takes nothing for so long lives on, but none of
/// its rows leaves: `Node::hand_on_rows` looks at the end of the key once more.
const SOON_MS: u64 = 3_600_000;
