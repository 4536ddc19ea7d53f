//! Subscriptions: parsed, put together with permissions, and renewed when they change.

use std::sync::Arc;

use super::SessionId;
use crate::dql::{Bound, Statement, SubscriptionQuery};
use crate::node::Node;
use crate::node::request::{ErrorKind, RequestError};
use crate::node::sync_ask::{CompiledInterest, RemoteFilter};
use crate::seam::Now;
use crate::sync::{Interest, Subscription};
use crate::value::{Object, Value, json};

impl Node {
    pub(super) fn subscribe(&mut self, id: SessionId, queries: Vec<(Box<str>, Object)>, now: Now) {
        let subscriptions = compiled_texts(&queries);
        self.sync.subscriptions = queries;
        self.renew_filters();
        self.with_session(id, now, |session| session.set_subscriptions(subscriptions, now));
    }

    /// What we ask for has changed: what remotes send is judged by it from now on.
    fn renew_filters(&mut self) {
        let Ok(interest) = self.our_interest() else { return };
        let ours = Arc::new(interest);
        for watch in self.sync.sessions.values_mut().flat_map(|hosted| hosted.watches.values_mut())
        {
            watch.filter = Arc::new(RemoteFilter {
                peer: watch.filter.peer,
                permissions: watch.filter.permissions.clone(),
                theirs: watch.filter.theirs.clone(),
                ours: ours.clone(),
            });
        }
    }

    fn our_interest(&self) -> Result<CompiledInterest, String> {
        if self.config.is_device {
            CompiledInterest::compile(&Interest::of(compiled_texts(&self.sync.subscriptions)))
        } else {
            Ok(CompiledInterest::Everything)
        }
    }

    pub(crate) fn filter(
        &self,
        id: SessionId,
        theirs: &Interest,
    ) -> Result<Arc<RemoteFilter>, String> {
        let Some(hosted) = self.sync.sessions.get(&id) else {
            return Err("the session is over".to_owned());
        };
        Ok(Arc::new(RemoteFilter {
            peer: hosted.peer,
            permissions: hosted.permissions.clone(),
            theirs: Arc::new(CompiledInterest::compile(theirs)?),
            ours: Arc::new(self.our_interest()?),
        }))
    }
}

/// Parses one subscription.
pub(crate) fn compile_subscription(
    subscription: &Subscription,
) -> Result<SubscriptionQuery, String> {
    let args = if subscription.args.is_empty() {
        Object::default()
    } else {
        match json::parse(&subscription.args, json::Limits::default()) {
            Ok(Value::Object(args)) => args,
            _ => return Err("the arguments of a subscription are not a JSON object".to_owned()),
        }
    };
    let bound = Statement::parse(&subscription.text)
        .and_then(|statement| Bound::new(Arc::new(statement), &args))
        .map_err(|error| error.to_string())?;
    crate::dql::subscription(bound).map_err(|error| error.to_string())
}

pub(super) fn compiled_texts(queries: &[(Box<str>, Object)]) -> Vec<Subscription> {
    let one = |(text, args): &(Box<str>, Object)| {
        let mut bytes = Vec::new();
        if !args.is_empty() {
            json::write(&Value::Object(args.clone()), &mut bytes);
        }
        Subscription { text: text.to_string(), args: bytes.into() }
    };
    queries.iter().map(one).collect()
}

/// What a subscription adds to the bytes of all of a peer's: see
/// [`SUBSCRIPTIONS_BYTES_MAX`](crate::sync::SUBSCRIPTIONS_BYTES_MAX).
#[must_use]
pub fn subscription_bytes(text: &str, args: &Object) -> usize {
    let texts = compiled_texts(&[(text.into(), args.clone())]);
    texts.iter().map(|it| it.text.len() + it.args.len()).sum()
}

/// Says that a subscription cannot be used.
pub fn check_subscription(text: &str, args: &Object) -> Result<(), RequestError> {
    let texts = compiled_texts(&[(text.into(), args.clone())]);
    match compile_subscription(&texts[0]) {
        Ok(_) => Ok(()),
        Err(error) => Err(RequestError::new(ErrorKind::Invalid, error)),
    }
}
