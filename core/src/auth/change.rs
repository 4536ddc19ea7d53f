//! Changes of the catalog that one transaction makes: all of them or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::catalog::{Catalog, CatalogError, CatalogOp};
use crate::ident::AppId;

/// The most changes that one transaction makes.
pub const CHANGES_MAX: usize = 1_024;

/// The most bytes that the changes of one transaction take in the log together: eight keys with the largest permissions,
/// or a thousand with 4 KiB each. Every thread reads all of them in one go.
pub const CHANGES_BYTES_MAX: usize = 4 << 20;

/// The refusal of a list of changes: none of them is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesRefused {
    /// The index of the entry that is at fault; none where it is the list as a whole.
    pub entry: Option<usize>,
    /// The number of entries in the list.
    pub count: usize,
    /// The fault of that entry, or of the list.
    pub cause: CatalogError,
}

impl fmt::Display for ChangesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, count, cause } = self;
        match entry {
            Some(entry) if *count > 1 => {
                write!(f, "change {} of {count}: {cause}: nothing was changed", entry + 1)
            }
            _ => cause.fmt(f),
        }
    }
}

impl std::error::Error for ChangesRefused {}

impl CatalogOp {
    /// Refuses a list of changes that no catalog takes, whatever is in it.
    ///
    /// # Errors
    ///
    /// If the list is empty, too long or too large, or makes a key whose permissions are larger than a session can say.
    pub fn check_list_size(ops: &[Self]) -> Result<(), ChangesRefused> {
        let refuse = |entry, cause| ChangesRefused { entry, count: ops.len(), cause };
        check_count(ops.len()).map_err(|cause| refuse(None, cause))?;
        let mut bytes = 0;
        for (entry, op) in ops.iter().enumerate() {
            op.check_size().map_err(|cause| refuse(Some(entry), cause))?;
            // Not all are encoded first and then counted: of a list without a bound that would be without one as well.
            bytes += op.encode().len();
            if bytes > CHANGES_BYTES_MAX {
                return Err(refuse(None, CatalogError::TooLarge));
            }
        }
        Ok(())
    }

    /// Reads the logged forms of the changes that one transaction makes.
    ///
    /// # Errors
    ///
    /// If there are none or too many, or this build does not understand one of them.
    pub fn decode_list<'a>(
        entries: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Self>, CatalogError> {
        let mut ops = Vec::new();
        for entry in entries {
            check_count(ops.len() + 1)?;
            ops.push(Self::decode(entry)?);
        }
        check_count(ops.len())?;
        Ok(ops)
    }
}

fn check_count(count: usize) -> Result<(), CatalogError> {
    match count {
        0 => Err(CatalogError::NoChange),
        1..=CHANGES_MAX => Ok(()),
        _ => Err(CatalogError::TooMany),
    }
}

impl Catalog {
    /// Refuses changes that must not be logged. Each is judged as if those before it were made.
    /// [`CatalogOp::check_list_size`] has judged their size.
    ///
    /// # Errors
    ///
    /// If a name is taken, or what is to be changed does not exist.
    pub fn check(&self, ops: &[CatalogOp]) -> Result<(), ChangesRefused> {
        let mut draft = Draft::of(self);
        for (entry, op) in ops.iter().enumerate() {
            let refuse = |cause| ChangesRefused { entry: Some(entry), count: ops.len(), cause };
            draft.check(op).map_err(refuse)?;
            draft.note(op);
        }
        Ok(())
    }
}

/// The names in a catalog as they are after some changes, without a copy of it: an app may have 100,000 keys.
struct Draft<'a> {
    base: &'a Catalog,
    /// The names of the apps that were put; none for those that were deleted.
    apps: BTreeMap<AppId, Option<&'a str>>,
    /// The apps that were deleted, perhaps to be put again: no key of the base is theirs any more.
    emptied: BTreeSet<AppId>,
    /// The keys that were put (true) or deleted last (false).
    keys: BTreeMap<(AppId, &'a str), bool>,
}

impl<'a> Draft<'a> {
    fn of(base: &'a Catalog) -> Self {
        Self { base, apps: BTreeMap::new(), emptied: BTreeSet::new(), keys: BTreeMap::new() }
    }

    fn check(&self, op: &CatalogOp) -> Result<(), CatalogError> {
        match op {
            CatalogOp::PutApp { app, name, .. } if self.is_taken(name, *app) => {
                Err(CatalogError::AppExists(name.clone()))
            }
            CatalogOp::PutApp { .. } => Ok(()),
            CatalogOp::DeleteApp { app }
            | CatalogOp::PutKey { app, .. }
            | CatalogOp::DeleteKey { app, .. }
                if !self.has_app(*app) =>
            {
                Err(CatalogError::UnknownApp(*app))
            }
            CatalogOp::DeleteApp { .. } => Ok(()),
            CatalogOp::PutKey { app, key } if self.has_key(*app, &key.name) => {
                Err(CatalogError::KeyExists(key.name.clone()))
            }
            CatalogOp::PutKey { .. } => Ok(()),
            CatalogOp::DeleteKey { app, name } if !self.has_key(*app, name) => {
                Err(CatalogError::UnknownKey(name.clone()))
            }
            CatalogOp::DeleteKey { .. } => Ok(()),
        }
    }

    fn note(&mut self, op: &'a CatalogOp) {
        match op {
            CatalogOp::PutApp { app, name, .. } => drop(self.apps.insert(*app, Some(name))),
            CatalogOp::DeleteApp { app } => {
                self.apps.insert(*app, None);
                self.emptied.insert(*app);
                self.keys.retain(|(of, _), _| of != app);
            }
            CatalogOp::PutKey { app, key } => drop(self.keys.insert((*app, &key.name), true)),
            CatalogOp::DeleteKey { app, name } => drop(self.keys.insert((*app, name), false)),
        }
    }

    /// Another app than this has the name.
    fn is_taken(&self, name: &str, by_other_than: AppId) -> bool {
        let is_put = self.apps.iter().any(|(id, put)| *id != by_other_than && *put == Some(name));
        is_put
            || self.base.apps().any(|(id, app)| {
                *app.name == *name && id != by_other_than && !self.apps.contains_key(&id)
            })
    }

    fn has_app(&self, app: AppId) -> bool {
        self.apps.get(&app).map_or_else(|| self.base.app(app).is_some(), Option::is_some)
    }

    fn has_key(&self, app: AppId, name: &str) -> bool {
        if let Some(is_put) = self.keys.get(&(app, name)) {
            return *is_put;
        }
        let had = || self.base.app(app).is_some_and(|app| app.key(name).is_some());
        !self.emptied.contains(&app) && had()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{ApiKey, Permissions, hash, key_prefix};
    use super::*;
    use crate::ident::Uuid;
    use crate::time::WallMs;
    use crate::value::json;

    fn app_id(id: u8) -> AppId {
        AppId(Uuid([id; 16]))
    }

    fn put_app(id: u8, name: &str) -> CatalogOp {
        CatalogOp::PutApp { app: app_id(id), name: name.into(), development_token: None }
    }

    fn put_key(id: u8, name: &str) -> CatalogOp {
        put_key_for(id, name, Permissions::everything())
    }

    fn put_key_for(id: u8, name: &str, permissions: Permissions) -> CatalogOp {
        let key = ApiKey {
            name: name.into(),
            description: None,
            prefix: key_prefix(name).into(),
            hash: hash(name),
            expires: WallMs(u64::MAX),
            permissions: Arc::new(permissions),
        };
        CatalogOp::PutKey { app: app_id(id), key }
    }

    /// Few apps and names, so that changes meet.
    fn any_op() -> impl Strategy<Value = CatalogOp> {
        (0..4_u8, 0..2_u8, 0..2_u8).prop_map(|(kind, id, name)| {
            let name = format!("n{name}");
            match kind {
                0 => put_app(id, &name),
                1 => CatalogOp::DeleteApp { app: app_id(id) },
                2 => put_key(id, &name),
                _ => CatalogOp::DeleteKey { app: app_id(id), name: name.into() },
            }
        })
    }

    /// Makes each change that is not refused, and returns these.
    fn make_what_can_be(catalog: &mut Catalog, ops: Vec<CatalogOp>) -> Vec<CatalogOp> {
        let mut made = Vec::new();
        for op in ops {
            if catalog.check(std::slice::from_ref(&op)).is_ok() {
                catalog.apply(op.clone());
                made.push(op);
            }
        }
        made
    }

    /// The entry that is refused when each change is made before the next is judged.
    fn refused_entry(catalog: &Catalog, ops: &[CatalogOp]) -> Option<usize> {
        let mut catalog = catalog.clone();
        ops.iter().position(|op| {
            let is_refused = catalog.check(std::slice::from_ref(op)).is_err();
            if !is_refused {
                catalog.apply(op.clone());
            }
            is_refused
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn each_change_of_a_list_is_judged_as_if_those_before_it_were_made(
            before in prop::collection::vec(any_op(), 0..16),
            ops in prop::collection::vec(any_op(), 0..16),
            last in any_op(),
        ) {
            let mut catalog = Catalog::default();
            make_what_can_be(&mut catalog, before);
            // Of a list that is drawn the beginning is mostly refused, and the rest never judged.
            let mut list = make_what_can_be(&mut catalog.clone(), ops);
            list.push(last);
            let entry = catalog.check(&list).err().map(|refused| refused.entry);
            prop_assert_eq!(entry, refused_entry(&catalog, &list).map(Some));
        }

        #[test]
        fn what_is_logged_of_a_list_reads_the_same(ops in prop::collection::vec(any_op(), 1..12)) {
            let logged: Vec<_> = ops.iter().map(CatalogOp::encode).collect();
            let read = CatalogOp::decode_list(logged.iter().map(|op| &op[..]));
            let again: Vec<_> =
                read.expect("what we encode we decode").iter().map(CatalogOp::encode).collect();
            prop_assert_eq!(again, logged);
        }
    }

    #[test]
    fn a_refusal_names_the_entry_unless_there_is_only_one() {
        let mut catalog = Catalog::default();
        catalog.apply(put_app(1, "shop"));
        let refusal = |ops: &[CatalogOp]| catalog.check(ops).expect_err("taken").to_string();
        let taken = "an app named `shop` exists already";
        assert_eq!(refusal(&[put_app(2, "shop")]), taken);
        let list = [put_app(2, "branch"), put_key(2, "till"), put_app(3, "shop")];
        assert_eq!(refusal(&list), format!("change 3 of 3: {taken}: nothing was changed"));
    }

    #[test]
    fn lists_without_an_entry_or_with_too_many_are_refused() {
        let op = put_app(1, "shop");
        for (count, refused) in [
            (0, Some(CatalogError::NoChange)),
            (1, None),
            (CHANGES_MAX, None),
            (CHANGES_MAX + 1, Some(CatalogError::TooMany)),
        ] {
            let list = vec![op.clone(); count];
            let found = CatalogOp::check_list_size(&list).err();
            assert!(found.iter().all(|found| found.entry.is_none() && found.count == count));
            assert_eq!(found.map(|found| found.cause), refused, "{count}");
            let logged = op.encode();
            let read = CatalogOp::decode_list(std::iter::repeat_n(&logged[..], count));
            assert_eq!(read.err(), refused, "{count}");
        }
    }

    #[test]
    fn the_size_is_that_of_the_whole_list() {
        let permissions = |bytes: usize| {
            let query = format!(r#""_id == '{}'""#, "x".repeat(bytes / 5));
            let queries = [&*query; 5].join(",");
            let text =
                format!(r#"{{"read":{{"queriesByCollection":{{"c":[{queries}]}}}},"write":{{}}}}"#);
            let value = json::parse(text.as_bytes(), json::Limits::default()).expect("JSON");
            Permissions::from_value(&value).expect("an `_id` is compared")
        };
        let list = |bytes, count: usize| -> Vec<CatalogOp> {
            let names = (0..count).map(|number| format!("k{number}"));
            names.map(|name| put_key_for(1, &name, permissions(bytes))).collect()
        };
        let most = 250_000;
        assert_eq!(CatalogOp::check_list_size(&list(most, 16)), Ok(()));
        let refused = CatalogOp::check_list_size(&list(most, 17)).expect_err("more than 4 MiB");
        assert_eq!((refused.entry, refused.cause), (None, CatalogError::TooLarge));
        let mut list = list(1_000, 3);
        list.insert(2, put_key_for(1, "large", permissions(300_000)));
        let refused = CatalogOp::check_list_size(&list).expect_err("more than a session says");
        assert_eq!(refused.entry, Some(2), "{refused}");
    }
}
