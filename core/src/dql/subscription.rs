//! Which statements may be sync subscriptions, and what remains of them.

use super::access::Access;
use super::ast::{Datasource, Projection, Statement, StatementKind};
use super::bind::Bound;
use super::error::{DqlError, ErrorKind};
use super::row::Row;

/// A subscription: the documents of one collection that a condition accepts.
#[derive(Clone, Debug)]
pub struct SubscriptionQuery {
    bound: Bound,
    key: String,
}

impl SubscriptionQuery {
    /// The collection.
    #[must_use]
    pub fn collection(&self) -> &str {
        self.bound.statement().collection()
    }

    /// Subscriptions to virtual collections are accepted and sync nothing.
    #[must_use]
    pub fn datasource(&self) -> Datasource {
        self.bound.statement().datasource()
    }

    /// Whether a document belongs to it. One that costs more than
    /// [`EVALUATION_FUEL_MAX`](super::EVALUATION_FUEL_MAX) to judge does not, on either side of a session: each change
    /// of it is judged, and nobody may subscribe to a thread's time.
    #[must_use]
    pub fn matches(&self, row: &dyn Row) -> bool {
        self.bound.check_matches(row).unwrap_or(false)
    }

    /// Where its documents are.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.bound.access()
    }

    /// Text that is the same for subscriptions that ask the same of the same collection. Blanks, letter case of
    /// keywords, aliases and the split between text and arguments make no difference.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Takes a statement for a subscription.
///
/// # Errors
///
/// `Unsupported`, naming the first clause that no subscription may have.
pub fn subscription(bound: Bound) -> Result<SubscriptionQuery, DqlError> {
    if let Some(feature) = refused(bound.statement()) {
        let message = format!("Unsupported feature: {feature}");
        return Err(DqlError::new(ErrorKind::Unsupported, message));
    }
    let prefix = match bound.statement().datasource() {
        Datasource::Default => "default",
        Datasource::System => "system",
    };
    let key = format!("{prefix}:{} {}", bound.statement().collection(), bound.condition_text());
    Ok(SubscriptionQuery { bound, key })
}

fn refused(statement: &Statement) -> Option<&'static str> {
    let StatementKind::Select(select) = statement.kind() else {
        return Some("non-SELECT statement in sync subscription");
    };
    let tail = &select.tail;
    if select.distinct {
        Some("DISTINCT")
    } else if select.grouping.as_ref().is_some_and(|grouping| !grouping.keys.is_empty()) {
        Some("Grouping")
    } else if !matches!(select.projection, Projection::Whole) {
        Some("A projection other than wildcard (*)")
    } else if select.source.ids.is_some() {
        Some("USE IDS")
    } else if !tail.order.is_empty() || tail.limit.is_some() || tail.offset.is_some() {
        Some("Limit or Order by")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bind, bound, row};
    use super::*;

    #[test]
    fn every_clause_that_no_subscription_has_is_named() {
        let refusals = [
            ("SELECT a FROM c", "A projection other than wildcard (*)"),
            ("SELECT DISTINCT * FROM c", "DISTINCT"),
            ("SELECT a FROM c GROUP BY a", "Grouping"),
            ("SELECT COUNT(*) FROM c", "A projection other than wildcard (*)"),
            ("SELECT * FROM c USE IDS 1", "USE IDS"),
            ("SELECT * FROM c LIMIT 1", "Limit or Order by"),
            ("SELECT * FROM c ORDER BY a", "Limit or Order by"),
            ("DELETE FROM c", "non-SELECT statement in sync subscription"),
        ];
        for (statement, feature) in refusals {
            let error = subscription(bound(statement)).expect_err(statement);
            assert_eq!(error.message(), format!("Unsupported feature: {feature}"));
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn equal_questions_have_equal_keys() {
        let key = |statement: &str, arguments: &str| {
            let bound = bind(statement, arguments).expect(statement);
            subscription(bound).expect(statement).key().to_owned()
        };
        let one = key("SELECT * FROM c WHERE a = 'x'", "{}");
        assert_eq!(key("select  * from c k where (k.a == :v);", r#"{"v":"x"}"#), one);
        assert_ne!(key("SELECT * FROM c WHERE a = 'y'", "{}"), one);
        assert_ne!(key("SELECT * FROM d WHERE a = 'x'", "{}"), one);
        assert_ne!(key("SELECT * FROM c", "{}"), key("SELECT * FROM c WHERE `` = 1", "{}"));
    }

    #[test]
    fn a_subscription_keeps_its_condition() {
        let query = subscription(bound("SELECT * FROM c WHERE a > 1")).expect("a subscription");
        assert_eq!(query.collection(), "c");
        assert_eq!(query.access(), &Access::Scan);
        assert!(query.matches(&row(r#"{"_id":1,"a":2}"#)));
        assert!(!query.matches(&row(r#"{"_id":1,"a":1}"#)));
    }

    #[test]
    fn a_document_that_costs_too_much_to_judge_belongs_to_no_subscription() {
        let terms = vec!["t LIKE '%_b%_b'"; 20].join(" OR ");
        let query = subscription(bound(&format!("SELECT * FROM c WHERE {terms} OR a = 1")));
        let query = query.expect("a subscription");
        let document = |bytes| format!(r#"{{"_id":1,"a":1,"t":"{}"}}"#, "a".repeat(bytes));
        assert!(query.matches(&row(&document(1_000))));
        assert!(!query.matches(&row(&document(1_000_000))), "its last term is never reached");
    }
}
