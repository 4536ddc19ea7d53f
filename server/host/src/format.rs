//! The file FORMAT: what kind of directory it is, and the identities that must be found in it.
//!
//! ```text
//! bigpeer 1                 what the directory is, and the version of its format
//! partitions 16             what its owner needs to know, in lines of its own
//! store UUID                the store of `identity`
//! log UUID                  the log in `log/`
//! ```
//!
//! It is the last that a first start writes, after the log and before the log's first record. So a directory with a
//! FORMAT is whole, and what it names and is missing was lost. Builds that came before named neither store nor log.

use bigpeer_core::ident::{LogId, StoreId, Uuid};
use bigpeer_core::log::LogExpected;

/// The name of the file.
pub const FORMAT: &str = "FORMAT";

/// The identities that a FORMAT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The store.
    pub store: StoreId,
    /// The log.
    pub log: LogId,
}

impl Named {
    /// Reads the lines that name them; `None` if neither is there.
    ///
    /// # Errors
    ///
    /// The cause, if only one is there or one is no UUID.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
        match (line("store "), line("log ")) {
            (None, None) => Ok(None),
            (Some(store), Some(log)) => {
                let uuid = |text: &str| text.parse::<Uuid>().map_err(|_| "an identity is no UUID");
                Ok(Some(Self { store: StoreId(uuid(store)?), log: LogId(uuid(log)?) }))
            }
            _ => Err("it names a store or a log, and not both"),
        }
    }

    /// The lines that [`Named::parse`] reads.
    #[must_use]
    pub fn lines(&self) -> String {
        format!("store {}\nlog {}\n", self.store, self.log)
    }
}

/// How far a directory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It has no FORMAT: this is its first start, or the first that gets to its end.
    No,
    /// It has a FORMAT that names no identities.
    Unnamed,
    /// It has a FORMAT that names them.
    Named(Named),
}

impl Finished {
    /// What the log in such a directory has to be.
    #[must_use]
    pub fn log_expected(self) -> LogExpected {
        match self {
            Self::No => LogExpected::Unwritten,
            Self::Unnamed => LogExpected::Existing,
            Self::Named(named) => LogExpected::This(named.log),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_named_both_or_not_at_all() {
        let named = Named { store: StoreId(Uuid([1; 16])), log: LogId(Uuid([2; 16])) };
        let text = format!("bigpeer 1\npartitions 16\n{}", named.lines());
        assert_eq!(Named::parse(&text), Ok(Some(named)));
        assert_eq!(Named::parse("bigpeer 1\npartitions 16\n"), Ok(None));
        assert!(Named::parse("bigpeer 1\nlog x\nstore x\n").is_err());
        assert!(Named::parse(&format!("bigpeer 1\nlog {}\n", Uuid([2; 16]))).is_err());
    }
}
