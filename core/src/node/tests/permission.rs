//! What a key may not read is not there: not in rows, not in conditions, not in errors.

use proptest::prelude::*;

use super::*;

const LIMITED: &str = "limited---secret";

/// Ids that documents, permissions and statements draw from.
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl Process {
    /// A server with a key of these permissions beside the one that may do everything.
    fn with_limited_key(permissions: &str) -> Self {
        Self::with_limited_key_on(&Options::default(), permissions)
    }

    fn with_limited_key_on(options: &Options, permissions: &str) -> Self {
        let mut server = Self::server(options);
        let permissions = json::parse(permissions.as_bytes(), json::Limits::default());
        let permissions = Permissions::from_value(&permissions.expect("JSON")).expect("valid");
        let key = ApiKey {
            name: "limited".into(),
            description: None,
            prefix: key_prefix(LIMITED).into(),
            hash: hash(LIMITED),
            expires: WallMs(u64::MAX),
            permissions: Arc::new(permissions),
        };
        let request = server.submit(0, Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
        server.settle();
        assert_eq!(server.answer(request).1.error, None);
        server
    }

    fn limited(&mut self, text: &str) -> (Value, Outcome) {
        let request = self.submit(0, Request::Execute(as_limited(text)));
        self.settle();
        self.answer(request)
    }

    /// The documents that a statement of the limited key wrote, or the text of its refusal.
    fn limited_wrote(&mut self, text: &str) -> Result<String, String> {
        let (_, outcome) = self.limited(text);
        match outcome.error {
            None => Ok(to_text(&Value::Array(outcome.mutated))),
            Some(error) => Err(format!("{:?}: {error}", error.kind)),
        }
    }
}

fn as_limited(text: &str) -> Execute {
    let credential = Credential::Bearer(Some(LIMITED.into()));
    Execute { credential, ..Process::statement(text, "{}") }
}

#[test]
fn a_mutation_does_not_see_what_its_key_may_not_read() {
    for write in [r#"["_id == 'me'"]"#, r#"["true"]"#] {
        let mut server = Process::with_limited_key(&format!(
            r#"{{"read":{{"queriesByCollection":{{"c":["_id == 'me'"]}}}},
                 "write":{{"queriesByCollection":{{"c":{write}}}}}}}"#
        ));
        server.rows("INSERT INTO c DOCUMENTS ({'_id':'me','pay':1}), ({'_id':'boss','pay':9})");
        for mutation in ["UPDATE c SET x = 1", "DELETE FROM c", "EVICT FROM c"] {
            for condition in ["pay > 5", "_id = 'boss'", "_id = 'boss' AND pay > 5"] {
                let text = format!("{mutation} WHERE {condition}");
                assert_eq!(server.limited_wrote(&text).as_deref(), Ok("[]"), "{text}");
            }
        }
        let update = "UPDATE c SET rank = pay WHERE pay > 0 ORDER BY pay DESC LIMIT 1";
        assert_eq!(server.limited_wrote(update).as_deref(), Ok(r#"["me"]"#), "{write}");
        let update = "UPDATE c SET seen = 1 WHERE _id IN ('boss', 'me')";
        assert_eq!(server.limited_wrote(update).as_deref(), Ok(r#"["me"]"#), "{write}");
        assert_eq!(
            server.rows("SELECT * FROM c ORDER BY pay"),
            r#"[{"_id":"me","pay":1,"rank":1,"seen":1},{"_id":"boss","pay":9}]"#
        );
        server.check();
    }
}

#[test]
fn a_key_that_may_read_nothing_changes_nothing_and_hears_nothing() {
    let write = r#"{"write":{"everything":true}}"#;
    let mut server = Process::with_limited_key(write);
    server.rows("INSERT INTO c DOCUMENTS ({'_id':'x','n':1})");
    for text in [
        "UPDATE c SET n = 2 WHERE _id = 'x'",
        "UPDATE c SET n = 2",
        "DELETE FROM c WHERE n = 1",
        "EVICT FROM c WHERE _id IN ('x', 'y')",
    ] {
        assert_eq!(server.limited_wrote(text).as_deref(), Ok("[]"), "{text}");
    }
    assert_eq!(server.rows("SELECT * FROM c"), r#"[{"_id":"x","n":1}]"#);
}

#[test]
fn of_readable_documents_that_may_not_be_written_the_least_is_named() {
    let options = Options { threads: 2, partitions: 16, ..Options::default() };
    let mut server = Process::with_limited_key_on(
        &options,
        r#"{"read":{"queriesByCollection":{"c":["_id > 'b'"]}},
            "write":{"queriesByCollection":{"c":["_id == 'f'"]}}}"#,
    );
    for id in IDS {
        server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id':'{id}','n':1}})"));
    }
    let refusal =
        "Forbidden: the credential may not write document \"c\" of `c`: nothing was written";
    for text in [
        "UPDATE c SET n = 2",
        "DELETE FROM c WHERE n = 1",
        "EVICT FROM c WHERE _id IN ('f', 'e', 'd', 'c', 'b', 'a')",
    ] {
        assert_eq!(server.limited_wrote(text), Err(refusal.into()), "{text}");
    }
    // What does not match is not refused, by whatever way it is found.
    let text = "UPDATE c SET n = 2 WHERE _id IN ('f', 'e') AND (_id = 'f' OR n > 1)";
    assert_eq!(server.limited_wrote(text).as_deref(), Ok(r#"["f"]"#));
    assert_eq!(server.rows("SELECT _id FROM c WHERE n = 2"), r#"[{"_id":"f"}]"#);
}

#[test]
fn an_insert_outside_the_write_rule_is_refused_before_it_looks() {
    let options = Options { threads: 2, partitions: 16, ..Options::default() };
    let mut server = Process::with_limited_key_on(
        &options,
        r#"{"read":{"everything":true},"write":{"queriesByCollection":{"c":["_id < 'd'"]}}}"#,
    );
    for id in ["a", "f"] {
        server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id':'{id}'}})"));
    }
    let refusal =
        "Forbidden: the credential may not write document \"d\" of `c`: nothing was written";
    let text = "INSERT INTO c DOCUMENTS ({'_id':'f'}), ({'_id':'a'}), ({'_id':'d'}), ({'_id':'e'})";
    assert_eq!(server.limited_wrote(text), Err(refusal.into()));
    let taken = server.limited_wrote("INSERT INTO c DOCUMENTS ({'_id':'a'})");
    assert!(taken.is_err_and(|text| text.starts_with("Conflict: ")));
    assert_eq!(server.rows("SELECT COUNT(*) AS n FROM c"), r#"[{"n":2}]"#);
}

#[test]
fn an_insert_over_an_unreadable_document_does_not_tell_what_differs() {
    let mut server = Process::with_limited_key(
        r#"{"read":{"queriesByCollection":{"c":["_id == 'me'"]}},"write":{"everything":true}}"#,
    );
    server.rows("INSERT INTO c DOCUMENTS ({'_id':'boss','pay':9}), ({'_id':'me','pay':1})");
    let mut insert = |id: &str, pay: u32| {
        server.limited_wrote(&format!(
            "INSERT INTO c DOCUMENTS ({{'_id':'{id}','pay':{pay}}})
             ON ID CONFLICT DO UPDATE_LOCAL_DIFF"
        ))
    };
    assert_eq!(insert("boss", 9), insert("boss", 9));
    assert_eq!(insert("boss", 9).as_deref(), Ok(r#"["boss"]"#));
    assert_eq!(insert("me", 1).as_deref(), Ok("[]"));
}

/// A statement that waits for a lock looks at its document again when it gets it, and no further than before.
#[test]
fn a_mutation_that_waited_for_a_rival_sees_no_more_than_before() {
    let options = Options { threads: 2, partitions: 16, ..Options::default() };
    let mut server = Process::with_limited_key_on(
        &options,
        r#"{"read":{"queriesByCollection":{"c":["_id == 'a' || _id == 'b'"]}},
            "write":{"queriesByCollection":{"c":["_id == 'a' || _id == 'f'"]}}}"#,
    );
    for id in IDS {
        server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id':'{id}','n':1}})"));
    }
    let mut asked = Vec::new();
    for round in 0..20 {
        let rival = format!("UPDATE c SET n = {round}");
        server.submit(1, Request::Execute(Process::statement(&rival, "{}")));
        for text in
            ["UPDATE c SET m = 1 WHERE _id IN ('a', 'f')", "UPDATE c SET m = 1 WHERE _id = 'f'"]
        {
            asked.push(server.submit(round % 2, Request::Execute(as_limited(text))));
        }
    }
    server.settle();
    for (index, request) in asked.into_iter().enumerate() {
        let (_, outcome) = server.answer(request);
        assert_eq!(outcome.error, None);
        let expected = if index % 2 == 0 { r#"["a"]"# } else { "[]" };
        assert_eq!(to_text(&Value::Array(outcome.mutated)), expected);
    }
    server.check();
}

/// One step of a property: what the owner of everything does first, and then the limited key.
#[derive(Clone, Debug)]
struct Case {
    read: Vec<bool>,
    write: Vec<bool>,
    /// Of each id, the number in its document in one database and in the other; none: no document.
    documents: Vec<(Option<u8>, Option<u8>)>,
    statements: Vec<String>,
}

fn condition() -> impl Strategy<Value = String> {
    let id = || prop::sample::select(&IDS[..]);
    prop_oneof![
        id().prop_map(|id| format!("_id = '{id}'")),
        (id(), 0..4_u8).prop_map(|(id, n)| format!("_id = '{id}' AND n > {n}")),
        (id(), id()).prop_map(|(a, b)| format!("_id IN ('{a}', '{b}')")),
        (0..4_u8).prop_map(|n| format!("n >= {n}")),
        (id(), 0..4_u8).prop_map(|(id, n)| format!("_id < '{id}' OR n = {n}")),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let tail = prop_oneof![
        Just(String::new()),
        (0..3_u8).prop_map(|limit| format!(" LIMIT {limit}")),
        (1..3_u8, any::<bool>()).prop_map(|(limit, down)| {
            format!(" ORDER BY n{} LIMIT {limit}", if down { " DESC" } else { "" })
        }),
    ];
    let head = prop::sample::select(
        &[
            "SELECT * FROM c",
            "SELECT COUNT(*) AS n, SUM(n) AS s, MAX(_id) AS m FROM c",
            "SELECT DISTINCT n FROM c",
            "UPDATE c SET n = n + 1",
            "UPDATE c SET other.field = n",
            "UPDATE c APPLY hits INCREMENT BY n",
            "DELETE FROM c",
            "EVICT FROM c",
        ][..],
    );
    let insert = (prop::sample::select(&IDS[..]), 0..4_usize).prop_map(|(id, policy)| {
        let policies = ["FAIL", "DO NOTHING", "DO UPDATE", "DO UPDATE_LOCAL_DIFF"];
        let policy = policies[policy];
        format!("INSERT INTO c DOCUMENTS ({{'_id':'{id}','n':2}}) ON ID CONFLICT {policy}")
    });
    prop_oneof![
        4 => (head, condition(), tail).prop_map(|(head, condition, tail)| {
            format!("{head} WHERE {condition}{tail}")
        }),
        1 => insert,
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let flags = || prop::collection::vec(any::<bool>(), IDS.len());
    let content = || prop::option::weighted(0.7, 0..4_u8);
    let documents = prop::collection::vec((content(), content()), IDS.len());
    let statements = prop::collection::vec(statement(), 1..8);
    (flags(), flags(), documents, statements).prop_map(|(read, write, documents, statements)| {
        Case { read, write, documents, statements }
    })
}

fn rule(covered: &[bool]) -> String {
    let ids = IDS.iter().zip(covered).filter(|(_, covered)| **covered);
    ids.map(|(id, _)| format!("\"_id == '{id}'\"")).collect::<Vec<_>>().join(",")
}

impl Case {
    fn permissions(&self) -> String {
        let (read, write) = (rule(&self.read), rule(&self.write));
        format!(
            r#"{{"read":{{"queriesByCollection":{{"c":[{read}]}}}},
                 "write":{{"queriesByCollection":{{"c":[{write}]}}}}}}"#
        )
    }

    /// A database; both have the same transactions at the same positions.
    fn database(&self, is_other: bool) -> Process {
        let options = Options { threads: 2, partitions: 8, ..Options::default() };
        let mut server = Process::with_limited_key_on(&options, &self.permissions());
        for ((id, documents), readable) in IDS.iter().zip(&self.documents).zip(&self.read) {
            let content = if is_other && !readable { documents.1 } else { documents.0 };
            let (collection, n) = content.map_or(("elsewhere", 0), |n| ("c", n));
            server.rows(&format!("INSERT INTO {collection} DOCUMENTS ({{'_id':'{id}','n':{n}}})"));
        }
        server
    }

    /// An INSERT of an id that may be written and not read says whether it is taken. All else is left.
    fn may_tell(&self, text: &str) -> bool {
        text.starts_with("INSERT")
            && IDS.iter().enumerate().any(|(place, id)| {
                text.contains(&format!("'_id':'{id}'")) && self.write[place] && !self.read[place]
            })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_may_not_be_read_changes_no_byte_of_any_answer(case in case()) {
        let (mut one, mut other) = (case.database(false), case.database(true));
        for text in case.statements.iter().filter(|text| !case.may_tell(text)) {
            prop_assert_eq!(one.limited(text), other.limited(text), "{}", text);
        }
    }
}
