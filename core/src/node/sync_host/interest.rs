//! Subscriptions: parsed, put together with permissions, and renewed when they change.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{SessionId, SessionReport};
use crate::auth::Access;
use crate::dql::{Bound, Statement, SubscriptionQuery};
use crate::ident::{AppId, Dot, PartitionId};
use crate::node::request::{ErrorKind, RequestError};
use crate::node::row::StoredRow;
use crate::node::sync_ask::{Answer, Ask, CompiledInterest, RemoteFilter};
use crate::node::sync_gather::Gather;
use crate::node::{Node, Output};
use crate::seam::Now;
use crate::store::Held;
use crate::sync::{FEATURE_RECALLS_BASES, Interest, Subscription};
use crate::time::Hlc;
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
                recalls_bases: watch.filter.recalls_bases,
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
            permissions: hosted.grant.permissions.clone(),
            theirs: Arc::new(CompiledInterest::compile(theirs)?),
            ours: Arc::new(self.our_interest()?),
            recalls_bases: hosted.features & FEATURE_RECALLS_BASES != 0,
        }))
    }

    /// The remote has said what it lets us read. Finds out of which collections we ask for more than that, and tells
    /// the owner of the session: never a word would pass for "all is here".
    pub(super) fn find_unreadable(&mut self, id: SessionId, read: &[u8], now: Now) {
        let Ok(CompiledInterest::Queries(queries)) = self.our_interest() else { return };
        let Some(app) = self.session_app(id) else { return };
        let ours = Arc::new(CompiledInterest::Queries(queries));
        let granted = json::parse(read, json::Limits::default()).ok();
        // A grant that we do not understand grants nothing that we could rely on.
        let access = granted.and_then(|value| Access::from_value(&value).ok()).unwrap_or_default();
        let mut collections = ours.collections();
        collections.retain(|collection| !access.has_rule(collection));
        let access = Arc::new(access);
        let gather = Gather::unreadable(id, collections, self.config.partitions);
        let gather = self.add_gather(gather);
        for partition in 0..self.config.partitions {
            let ask = Ask::Unreadable { ours: ours.clone(), access: access.clone() };
            self.ask(PartitionId(partition), gather, app, now.durable, ask);
        }
    }

    /// The first document of each collection that is of others, asked for, and not readable, names it.
    pub(crate) fn unreadable(
        &self,
        app: AppId,
        ours: &CompiledInterest,
        access: &Access,
    ) -> Answer {
        let asked = self.store.collections(app).map(|(name, _)| name.clone());
        let asked: Vec<Arc<str>> = asked.filter(|name| ours.has_collection(name)).collect();
        let is_unreadable = |name: &Arc<str>| {
            let mut last = None;
            while let Some((id, held)) = self.store.held_after(app, name, last.as_ref()) {
                if let Held::Document(document) = held
                    && !access.covers(name, &id)
                    && document.is_visible()
                    && ours.matches(name, &StoredRow::new(&id, &document))
                    && !document.vector().iter().all(|dot| self.may_be_ours(dot))
                {
                    return true;
                }
                last = Some(id);
            }
            false
        };
        let found = asked.iter().filter(|name| is_unreadable(name));
        Answer::Unreadable(found.map(|name| Box::from(&**name)).collect())
    }

    /// Whether we may have written this: under any actor of ours, or as INITIAL content, which has no author.
    pub(crate) fn may_be_ours(&self, dot: Dot) -> bool {
        dot.actor.site() == self.config.identity.peer_key.site() || dot.hlc <= Hlc::INITIAL
    }

    pub(crate) fn on_unreadable(&mut self, id: SessionId, collections: BTreeSet<Box<str>>) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if collections.is_empty() && !hosted.was_restricted {
            return;
        }
        hosted.was_restricted = !collections.is_empty();
        let report = SessionReport::Restricted { collections: collections.into_iter().collect() };
        self.outputs.push_back(Output::SessionReport { session: id, report });
    }
}

impl CompiledInterest {
    /// The collections that some query looks at, without repetition.
    fn collections(&self) -> BTreeSet<Box<str>> {
        match self {
            Self::Everything => BTreeSet::new(),
            Self::Queries(queries) => {
                queries.iter().map(|query| query.collection().into()).collect()
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_takes_the_bytes_of_its_text_and_of_its_arguments_as_json() {
        let text = "SELECT * FROM cars WHERE color = :color";
        let args: Object =
            [(Box::from("color"), Value::from("blue".to_owned()))].into_iter().collect();
        assert_eq!(subscription_bytes(text, &Object::default()), text.len());
        assert_eq!(subscription_bytes(text, &args), text.len() + r#"{"color":"blue"}"#.len());
    }
}
