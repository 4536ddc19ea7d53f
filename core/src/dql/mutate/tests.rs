use super::super::ast::Conflict;
use super::super::testing::{bind, bound, row, text, value};
use super::*;
use crate::dql::Bound;

fn documents(statement: &str, arguments: &str) -> Result<Vec<String>, DqlError> {
    let bound = bind(statement, arguments)?;
    let mut insert = Insert::new(bound, ObjectMode::Map).expect("an insert");
    let mut fresh = 0;
    let documents = insert.documents(&mut || {
        fresh += 1;
        Value::from(format!("fresh-{fresh}"))
    })?;
    let fields_of = |id| documents.fields.iter().find(|(have, _)| have == id).map(|(_, it)| it);
    let shown = documents.ids.iter().map(|id| {
        let fields = fields_of(id).expect("each has fields").clone();
        format!("{} {}", text(&id.to_value()), text(&fields.into()))
    });
    Ok(shown.collect())
}

fn kind_of(statement: &str, arguments: &str) -> ErrorKind {
    documents(statement, arguments).expect_err(statement).kind()
}

#[test]
fn documents_come_as_objects_and_arrays_of_them() {
    let found = documents(
        "INSERT INTO c DOCUMENTS (:a), ([{'_id': 2}, {'x': :n}]), (deserialize_json('{\"_id\":3}'))",
        r#"{"a":{"_id":"one","b":{"c":[1]}},"n":5}"#,
    );
    let expected = [r#""one" {"b":{"c":[1]}}"#, "2 {}", r#""fresh-1" {"x":5}"#, "3 {}"];
    assert_eq!(found, Ok(expected.map(str::to_owned).to_vec()));
}

#[test]
fn documents_that_were_found_ahead_are_the_same() {
    for (statement, arguments) in [
        ("INSERT INTO c DOCUMENTS (:a), ({'_id': 1})", r#"{"a":[{"_id":2},{"x":1}]}"#),
        ("INSERT INTO c DOCUMENTS (:a)", r#"{"a":[{"_id":2},{"_id":1}]}"#),
        ("INSERT INTO c DOCUMENTS (:a)", r#"{"a":[{"_id":2},{"_id":2}]}"#),
        ("INSERT INTO c DOCUMENTS (:a)", r#"{"a":7}"#),
    ] {
        let found = |is_ahead: bool| {
            let mut bound = bind(statement, arguments).expect("it is bound");
            if is_ahead {
                bound.plan_insert(&mut || Value::from("fresh"));
            }
            // They are there also when somebody else holds the statement.
            let _holder = is_ahead.then(|| bound.clone());
            let mut insert = Insert::new(bound, ObjectMode::Map).expect("an insert");
            insert.documents(&mut || {
                assert!(!is_ahead, "no id is made twice");
                Value::from("fresh")
            })
        };
        assert_eq!(found(true), found(false), "{statement} with {arguments}");
    }
    let mut select = bind("SELECT * FROM c", "{}").expect("it is bound");
    select.plan_insert(&mut || unreachable!("it has no documents"));
}

#[test]
fn what_cannot_be_a_document_is_refused() {
    let twice = documents(
        "INSERT INTO c VALUES ({'_id': {'a': 1, 'b': 2}}), ({'_id': {'b': 2, 'a': 1}})",
        "{}",
    );
    assert_eq!(twice.expect_err("one id").message(), "Expected unique document identifiers");
    let float = documents("INSERT INTO c VALUES ({'_id': 1.5})", "{}").expect_err("a float");
    assert_eq!(
        (float.kind(), float.message()),
        (ErrorKind::DocumentId, "Floats are not supported in document IDs")
    );
    let null = documents("INSERT INTO c VALUES ({'_id': null})", "{}").expect_err("a null");
    assert_eq!(null.message(), "Null document ID not allowed");
    for wrong in ["1", "null", "[1]", "gone", "'{}'", "[[{}]]"] {
        assert_eq!(kind_of(&format!("INSERT INTO c VALUES ({wrong})"), "{}"), ErrorKind::Execution);
    }
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let arguments = format!(r#"{{"a":{deep}}}"#);
    assert!(documents("INSERT INTO c VALUES ({'a': :a})", &arguments).is_ok());
    assert_eq!(kind_of("INSERT INTO c VALUES ({'a': [:a]})", &arguments), ErrorKind::Execution);
}

#[test]
fn an_insert_says_what_a_conflict_means() {
    let insert = |tail: &str| {
        let statement = format!("INSERT INTO COLLECTION c (n COUNTER) DOCUMENTS ({{}}) {tail}");
        Insert::new(bound(&statement), ObjectMode::Map).expect("an insert")
    };
    assert_eq!(insert("").conflict(), Conflict::Fail);
    assert_eq!(insert("ON ID CONFLICT FAIL").conflict(), Conflict::Fail);
    assert_eq!(insert("ON ID CONFLICT DO NOTHING").conflict(), Conflict::Nothing);
    assert_eq!(insert("ON ID CONFLICT DO MERGE").conflict(), Conflict::Update);
    assert_eq!(insert("on id conflict do update_local_diff").conflict(), Conflict::UpdateLocalDiff);
    assert_eq!(insert("").types()[0].declared, DeclaredType::Counter);
    let initial = Insert::new(bound("INSERT INTO c INITIAL DOCUMENTS ({})"), ObjectMode::Map);
    assert!(initial.expect("an insert").is_initial());
    assert!(Insert::new(bound("DELETE FROM c"), ObjectMode::Map).is_none());
}

fn update(statement: &str, mode: ObjectMode) -> Result<Update, DqlError> {
    Update::new(bound(statement), mode).map(|update| update.expect("an update"))
}

fn ops(statement: &str) -> Result<Vec<FieldOp>, DqlError> {
    let document = row(r#"{"_id":1,"n":3,"s":"x","o":{"p":1}}"#);
    update(statement, ObjectMode::Map)?.assignments_for(&document)
}

fn path(path: &str) -> super::super::ast::Path {
    path.split('.').map(Box::from).collect()
}

fn set(at: &str, to: &str) -> FieldOp {
    FieldOp::Set { path: path(at), value: value(to), declared: None }
}

#[test]
fn right_hand_sides_see_the_document_as_it_was() {
    let found = ops("UPDATE c SET n = n + 1, m = n, c.o.q = s || 'y', z = gone UNSET o.p");
    let expected = vec![
        set("n", "4"),
        set("m", "3"),
        set("o.q", r#""xy""#),
        FieldOp::Unset { path: path("o.p") },
    ];
    assert_eq!(found, Ok(expected), "the assignment of MISSING is left out");
}

#[test]
fn counters_take_integers() {
    let found = ops(
        "UPDATE c APPLY a INCREMENT BY -n, b.c RESTART, d RESTART WITH 2.0, e PN_INCREMENT BY 1.5",
    );
    let expected = vec![
        FieldOp::Increment { path: path("a"), by: -3 },
        FieldOp::Restart { path: path("b.c"), to: 0 },
        FieldOp::Restart { path: path("d"), to: 2 },
        FieldOp::PnIncrement { path: path("e"), by: 1.5 },
    ];
    assert_eq!(found, Ok(expected));
    let fraction = ops("UPDATE c APPLY a INCREMENT BY 1.5").expect_err("a fraction");
    assert_eq!(fraction.to_string(), "line 1, column 31: Expected 1.5 to be an integer value");
    assert_eq!(fraction.kind(), ErrorKind::Evaluation);
    assert!(ops("UPDATE c APPLY a INCREMENT BY gone").is_err());
    assert!(ops("UPDATE c APPLY a RESTART WITH 1e30").is_err());
}

#[test]
fn declarations_travel_with_assignments() {
    let found = ops(
        "UPDATE COLLECTION c (r REGISTER, m MAP(x COUNTER)) SET r = {}, m.x = 2, m.y = 3, d -> default(), m -> default()",
    );
    let declared = |at: &str, to: &str, declared| FieldOp::Set {
        path: path(at),
        value: value(to),
        declared: Some(declared),
    };
    let counter = TypeDeclaration { name: "x".into(), declared: DeclaredType::Counter };
    let expected = vec![
        declared("r", "{}", DeclaredType::Register),
        declared("m.x", "2", DeclaredType::Counter),
        set("m.y", "3"),
        set("d", "null"),
        declared("m", "{}", DeclaredType::Map(vec![counter])),
    ];
    assert_eq!(found, Ok(expected));
}

#[test]
fn operations_must_go_with_the_types() {
    let refused = |statement: &str, mode| {
        let error = update(statement, mode).expect_err(statement);
        assert_eq!(error.kind(), ErrorKind::Execution);
        error.message().to_owned()
    };
    let message = "Unsupported DML operation on REGISTER field \"a\"";
    assert_eq!(refused("UPDATE c SET a.b = 1", ObjectMode::Register), message);
    assert_eq!(refused("UPDATE COLLECTION c (a REGISTER) SET a.b = 1", ObjectMode::Map), message);
    refused("UPDATE c APPLY a INCREMENT BY 1", ObjectMode::Register);
    refused("UPDATE COLLECTION c (a REGISTER) APPLY a INCREMENT BY 1", ObjectMode::Map);
    refused("UPDATE COLLECTION c (a COUNTER) APPLY a PN_INCREMENT BY 1", ObjectMode::Map);
    refused("UPDATE COLLECTION c (a COUNTER) SET a -> default()", ObjectMode::Map);
    for fine in [
        "UPDATE c SET a = {}",
        "UPDATE COLLECTION c (a MAP(b MAP)) SET a.b.c = 1",
        "UPDATE COLLECTION c (a MAP(b COUNTER)) APPLY a.b INCREMENT BY 1",
        "UPDATE c UNSET a.b",
    ] {
        assert!(update(fine, ObjectMode::Register).is_ok(), "{fine}");
    }
}

#[test]
fn an_update_cannot_nest_without_end() {
    let mut nested = "1".to_owned();
    for _ in 1..value::DEPTH_MAX {
        nested = format!("[{nested}]");
    }
    let document = row(&format!(r#"{{"_id":1,"a":{nested}}}"#));
    let bound: Bound = bound("UPDATE c SET a = [a]");
    let update = Update::new(bound, ObjectMode::Map).expect("no conflict").expect("an update");
    assert!(update.assignments_for(&document).is_err());
}
