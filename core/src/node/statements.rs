//! Parsed statements, kept by their text.

use std::collections::VecDeque;
use std::sync::Arc;

use super::request::{ErrorKind, RequestError};
use crate::dql::Statement;
use crate::map::Map;

/// The statements that were parsed last, as many as fit the bytes that they may take.
#[derive(Debug, Default)]
pub(crate) struct StatementCache {
    by_text: Map<Arc<str>, Arc<Statement>>,
    oldest: VecDeque<Arc<str>>,
    held_bytes: usize,
}

impl StatementCache {
    pub(crate) fn parse(&mut self, text: &Arc<str>) -> Result<Arc<Statement>, RequestError> {
        if let Some(statement) = self.by_text.get(&**text) {
            return Ok(statement.clone());
        }
        let statement = Statement::parse(text)
            .map(Arc::new)
            .map_err(|error| RequestError::new(ErrorKind::Invalid, error.to_string()))?;
        if text.len() <= CACHED_TEXT_BYTES_MAX {
            self.keep(text, &statement);
        }
        Ok(statement)
    }

    fn keep(&mut self, text: &Arc<str>, statement: &Arc<Statement>) {
        self.held_bytes += size_bytes(text, statement);
        self.oldest.push_back(text.clone());
        self.by_text.insert(text.clone(), statement.clone());
        while self.held_bytes > HELD_BYTES_MAX {
            let oldest = self.oldest.pop_front().expect("what is held is listed");
            if let Some(dropped) = self.by_text.remove(&*oldest) {
                self.held_bytes -= size_bytes(&oldest, &dropped);
            }
        }
    }
}

/// With its text as a key and its places in both lists.
fn size_bytes(text: &str, statement: &Statement) -> usize {
    text.len() + statement.size_bytes() + 128
}

/// The longest text that is kept: what is longer is rarely asked for twice.
const CACHED_TEXT_BYTES_MAX: usize = 16 * 1_024;

/// What all statements that are kept take at most.
const HELD_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_kept_by_their_bytes() {
        let mut cache = StatementCache::default();
        let text = |number: usize| -> Arc<str> {
            format!("SELECT {}{number} AS x FROM c", "1,".repeat(1_000)).into()
        };
        for number in 0..1_000 {
            cache.parse(&text(number)).expect("well-formed");
        }
        let listed: usize = cache
            .oldest
            .iter()
            .map(|text| {
                let statement = cache.by_text.get(&**text).expect("what is listed is there");
                size_bytes(text, statement)
            })
            .sum();
        assert_eq!(listed, cache.held_bytes);
        assert!(cache.held_bytes <= HELD_BYTES_MAX);
        let count = cache.by_text.len();
        assert!((20..200).contains(&count), "{count} statements of about 150 KB are kept");
        let again = cache.parse(&text(999)).expect("well-formed");
        assert!(Arc::ptr_eq(&again, &cache.parse(&text(999)).expect("well-formed")));
    }
}
