//! What the node of a session asks of the owners of documents, and what they answer.

use std::sync::Arc;

use super::sync_host::SessionId;
use super::sync_owed::OwedNews;
use crate::auth::{Access, SharedPermissions};
use crate::document::Delta;
use crate::dql::SubscriptionQuery;
use crate::ident::{AppId, DocId, PeerKey, Txn};
use crate::store::ChangeCursor;
use crate::sync::{
    Interest, ItemBody, Lacking, Offered, Outcome, Part, RemoteRecord, UpdateItem, Verdict, Wanted,
};

/// From a session's node to an owner of documents.
#[derive(Clone, Debug)]
pub struct FromSession {
    /// Names the question; the answer repeats it.
    pub gather: GatherId,
    /// Whose documents.
    pub app: AppId,
    /// The question is about this position: the owner applies the log up to here first.
    pub at: Txn,
    /// The question.
    pub ask: Ask,
}

/// From an owner of documents to a session's node.
#[derive(Clone, Debug)]
pub struct ToSession {
    /// Which question.
    pub gather: GatherId,
    /// The answer.
    pub answer: Answer,
}

/// Names a question of a session's node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatherId(pub u64);

/// A question.
#[derive(Clone, Debug)]
pub enum Ask {
    /// What is kept about this remote? Answered once no other session of the remote lives in this process: older
    /// ones are replaced.
    Remote {
        /// The remote.
        peer: PeerKey,
        /// The session that asks.
        session: SessionId,
    },
    /// The session that asked `Remote` by question `visit` is over, with all that it appended. Not answered.
    Leave {
        /// The remote.
        peer: PeerKey,
        /// The session.
        session: SessionId,
        /// Its question.
        visit: GatherId,
    },
    /// What should a remote hear that has everything up to `after`, as of the position asked about?
    Collect {
        /// For whom.
        filter: Arc<RemoteFilter>,
        /// The states that it has of some documents, where it was thought to have others.
        lacking: Arc<Lacking>,
        /// The remote has everything up to here.
        after: Txn,
        /// Go on behind this change.
        from: ChangeCursor,
        /// Stop after this many bytes.
        credit_bytes: usize,
    },
    /// Say so, once, when anything of the app is touched after the position asked about. Replaces an earlier
    /// question of the same session.
    Stir(SessionId),
    /// The session is over: forget its `Stir`. Not answered.
    StirStop(SessionId),
    /// Everything of the app that was authored here up to this position is settled at a server: what EVICT asks
    /// for. Not answered.
    SettledThere(Txn),
    /// A server says anew how far it has come: nothing is settled until then. Not answered.
    UnsettledThere,
    /// A remote refuses others of this partition's documents than before: EVICT asks for that as well. Not answered.
    Owed(OwedNews),
    /// What is held, in key order behind `after`?
    Scan {
        /// Whose interest.
        filter: Arc<RemoteFilter>,
        /// Which kind of offer.
        part: Part,
        /// Go on behind this key.
        after: Option<(Arc<str>, DocId)>,
        /// At most this many documents.
        count: usize,
    },
    /// How do these versions of the remote compare? With the place of each in the session's command.
    Compare {
        /// Whose interest.
        filter: Arc<RemoteFilter>,
        /// Which kind of offer.
        part: Part,
        /// The versions.
        offered: Vec<(usize, Offered)>,
    },
    /// The deltas from these bases.
    Diff {
        /// Who asks.
        filter: Arc<RemoteFilter>,
        /// The documents.
        wanted: Vec<(usize, Wanted)>,
        /// Stop after this many bytes, but not before the first.
        credit_bytes: usize,
    },
    /// In which collections is a document held that we ask the remote for and that it does not let us read? Those
    /// with nothing but our own edits count as readable: nobody gave them to us.
    Unreadable {
        /// What we ask for.
        ours: Arc<CompiledInterest>,
        /// What the remote lets us read.
        access: Arc<Access>,
    },
    /// May these be merged?
    Judge {
        /// Who sends.
        filter: Arc<RemoteFilter>,
        /// Clocks beyond this many milliseconds since the epoch are refused.
        clock_ms_max: u64,
        /// The items.
        items: Vec<(usize, UpdateItem)>,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Ask::Remote`].
    Remote(Box<RemoteRecord>),
    /// Instead of an answer, or long after it: a newer session of the remote has come.
    Replaced(SessionId),
    /// To [`Ask::Collect`].
    Collected {
        /// What to tell.
        items: Vec<UpdateItem>,
        /// Where to go on; none when that was all.
        next: Option<ChangeCursor>,
    },
    /// To [`Ask::Stir`], when it has happened.
    Stirred,
    /// To [`Ask::Scan`].
    Scanned {
        /// What is held.
        items: Vec<Offered>,
        /// Where to go on; none when that was all.
        next: Option<(Arc<str>, DocId)>,
    },
    /// To [`Ask::Compare`].
    Compared(Vec<(usize, Verdict)>),
    /// To [`Ask::Diff`]: of the first of them.
    Diffs(Vec<(usize, Option<ItemBody>)>),
    /// To [`Ask::Unreadable`].
    Unreadable(Vec<Box<str>>),
    /// To [`Ask::Judge`]: the outcome, and what to merge.
    Judged(Vec<(usize, Outcome, Option<Arc<Delta>>)>),
}

/// Which documents concern a remote.
#[derive(Debug)]
pub struct RemoteFilter {
    /// The remote.
    pub peer: PeerKey,
    /// What it may read and write here.
    pub permissions: SharedPermissions,
    /// What it asks for.
    pub theirs: Arc<CompiledInterest>,
    /// What we ask of it.
    pub ours: Arc<CompiledInterest>,
    /// It takes deltas whose base is named by a digest.
    pub recalls_bases: bool,
}

/// An interest whose queries are parsed.
#[derive(Debug)]
pub enum CompiledInterest {
    /// Everything.
    Everything,
    /// What any of these matches.
    Queries(Vec<SubscriptionQuery>),
}

impl CompiledInterest {
    /// Parses the queries of an interest.
    ///
    /// # Errors
    ///
    /// The text of the first query's error.
    pub(crate) fn compile(interest: &Interest) -> Result<Self, String> {
        let Interest::Queries(queries) = interest else { return Ok(Self::Everything) };
        let compiled = queries.iter().map(super::sync_host::compile_subscription);
        compiled.collect::<Result<_, _>>().map(Self::Queries)
    }

    /// True when some query looks at the collection.
    pub(crate) fn has_collection(&self, collection: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Queries(queries) => queries.iter().any(|query| query.collection() == collection),
        }
    }

    /// True when some query matches the document.
    pub(crate) fn matches(&self, collection: &str, row: &dyn crate::dql::Row) -> bool {
        match self {
            Self::Everything => true,
            Self::Queries(queries) => {
                queries.iter().any(|query| query.collection() == collection && query.matches(row))
            }
        }
    }
}
