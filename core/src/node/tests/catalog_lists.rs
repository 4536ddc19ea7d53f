//! Changes of the catalog that are made together: all of a list or none of it.

use super::super::read_catalog;
use super::catalog::{put_app, put_key};
use super::refused::Appending;
use super::*;
use crate::auth::{CHANGES_MAX, CatalogError};
use crate::value::canonical::encode_id;

fn app_id(id: u8) -> AppId {
    AppId(Uuid([id; 16]))
}

fn delete_key(name: &str) -> CatalogOp {
    CatalogOp::DeleteKey { app: APP, name: name.into() }
}

/// Another app with two keys.
fn branch() -> Vec<CatalogOp> {
    let put_key = |name: &str| match put_key(name, &format!("{name}-----secret")) {
        CatalogOp::PutKey { key, .. } => CatalogOp::PutKey { app: app_id(2), key },
        _ => unreachable!("it puts a key"),
    };
    vec![put_app(2, "branch"), put_key("first"), put_key("second")]
}

/// Everything in the catalog of each node, as text.
fn catalogs(server: &Process) -> Vec<String> {
    let nodes = server.racks.iter().flat_map(Rack::nodes);
    nodes.map(|node| String::from_utf8(node.catalog().to_json_rows()).expect("JSON")).collect()
}

#[test]
fn a_list_is_one_record_and_every_partition_has_all_of_it() {
    for threads in [1, 2] {
        let mut server = Process::server(&Options { threads, ..Options::default() });
        let before = server.now.durable;
        let request = server.submit(threads - 1, Request::Catalog(branch()));
        server.settle();
        let (_, outcome) = server.answer(request);
        assert_eq!((outcome.error, outcome.txn), (None, Some(before.next())));
        assert_eq!(server.now.durable, before.next(), "one position for the whole list");
        for node in server.racks.iter().flat_map(Rack::nodes) {
            assert_eq!(node.catalog().app(app_id(2)).expect("it is made").keys().count(), 2);
        }
        let made = catalogs(&server);
        let disk = server.disk;
        let again = Process::on_disk(&Options { threads, boot: 2, ..Options::default() }, disk);
        assert_eq!(catalogs(&again), made, "the next start reads the same");
    }
}

#[test]
fn a_list_with_a_refused_entry_changes_nothing_and_names_the_entry() {
    let mut server = Process::server(&Options::default());
    let before = (catalogs(&server), server.now.durable);
    let good = branch();
    for refused in [put_app(3, "shop"), put_app(3, "branch"), delete_key("unknown")] {
        for place in 1..=good.len() {
            let mut list = good.clone();
            list.insert(place, refused.clone());
            let request = server.submit(0, Request::Catalog(list));
            server.settle();
            let error = server.answer(request).1.error.expect("one entry cannot be made");
            assert_eq!(error.kind, ErrorKind::Conflict);
            let named = format!("change {} of 4: ", place + 1);
            assert!(error.message.starts_with(&named), "{error}");
            assert!(error.message.ends_with(": nothing was changed"), "{error}");
            assert_eq!((catalogs(&server), server.now.durable), before, "{error}");
        }
    }
    server.check();
}

#[test]
fn entries_see_those_before_them() {
    let mut server = Process::server(&Options::default());
    let shop = CatalogOp::PutApp { app: APP, name: "shop".into(), development_token: None };
    let lists = [
        // A key is replaced, and nobody finds the app without it.
        (vec![delete_key("k"), put_key("k", "another---secret")], None),
        // The keys of a deleted app went with it, also where one of its id is put again.
        (
            vec![CatalogOp::DeleteApp { app: APP }, shop.clone(), put_key("k", "a-third---secret")],
            None,
        ),
        (vec![CatalogOp::DeleteApp { app: APP }, shop, delete_key("k")], Some(ErrorKind::Conflict)),
        (vec![CatalogOp::DeleteApp { app: APP }, delete_key("k")], Some(ErrorKind::Conflict)),
        (vec![CatalogOp::DeleteApp { app: APP }, put_app(2, "shop")], None),
        (vec![put_app(3, "x"), put_app(3, "y"), put_app(4, "x")], None),
        (vec![put_app(5, "z"), put_app(6, "z")], Some(ErrorKind::Conflict)),
    ];
    for (list, expected) in lists {
        let request = server.submit(0, Request::Catalog(list.clone()));
        server.settle();
        assert_eq!(server.kinds(&[request]), [expected], "{list:?}");
    }
    let names = |app: u8| server.racks[0].nodes()[0].catalog().app(app_id(app)).is_some();
    assert_eq!([2, 3, 4, 5, 6].map(names), [true, true, true, false, false]);
    server.check();
}

#[test]
fn of_lists_that_race_for_a_name_one_is_made_whole_and_the_other_not_at_all() {
    for threads in [1, 2] {
        let mut server = Process::server(&Options { threads, ..Options::default() });
        let requests = [
            server.submit(0, Request::Catalog(vec![put_app(2, "one"), put_app(3, "both")])),
            server
                .submit(threads - 1, Request::Catalog(vec![put_app(4, "two"), put_app(5, "both")])),
        ];
        server.settle();
        let kinds = server.kinds(&requests);
        let is_first = kinds[0].is_none();
        assert_eq!(kinds[usize::from(is_first)], Some(ErrorKind::Conflict), "{kinds:?}");
        assert_eq!(kinds[usize::from(!is_first)], None, "{kinds:?}");
        let catalog = server.racks[0].nodes()[0].catalog();
        let made = [2, 3, 4, 5].map(|app| catalog.app(app_id(app)).is_some());
        assert_eq!(made, [is_first, is_first, !is_first, !is_first]);
        server.check();
    }
}

#[test]
fn a_list_that_the_log_refuses_is_not_made_in_part() {
    let mut world = Appending::new();
    world.input(0, Input::Request { request: RequestId(1), body: Request::Catalog(branch()) });
    let append = world.appends.pop_front().expect("it is appended");
    assert!(world.appends.is_empty(), "as one record");
    world.refuse(&append);
    assert_eq!(world.kind(1), Some(ErrorKind::Unavailable));
    assert_eq!(world.nodes[0].catalog().generation(), 0);
    world.check();
}

#[test]
fn lists_of_no_size_are_refused_before_they_wait() {
    let mut world = Appending::new();
    world.change(0, 1, put_app(1, "shop"));
    let too_many = vec![put_app(2, "x"); CHANGES_MAX + 1];
    let mut named = put_app(2, "x");
    if let CatalogOp::PutApp { name, .. } = &mut named {
        *name = "x".repeat(2 << 20).into();
    }
    let too_large = vec![named; 2];
    for (request, list, kind) in [
        (2, Vec::new(), ErrorKind::Invalid),
        (3, too_many, ErrorKind::TooLarge),
        (4, too_large, ErrorKind::TooLarge),
    ] {
        let body = Request::Catalog(list);
        world.input(0, Input::Request { request: RequestId(request), body });
        assert_eq!(world.kind(request), Some(kind));
    }
    world.check();
}

#[test]
fn what_waits_is_counted_by_entries() {
    let mut world = Appending::new();
    world.change(0, 1, put_app(1, "shop"));
    let list = |world: &mut Appending, request, count| {
        let body = Request::Catalog(vec![CatalogOp::DeleteApp { app: app_id(9) }; count]);
        world.input(0, Input::Request { request: RequestId(request), body });
    };
    list(&mut world, 2, 1_000);
    list(&mut world, 3, 23);
    list(&mut world, 4, CHANGES_MAX);
    world.check();
    list(&mut world, 5, 1);
    assert_eq!(world.kind(5), Some(ErrorKind::Unavailable), "1,024 and more wait already");
    let first = world.appends.pop_front().expect("the first is appended");
    world.commit(&first);
    for request in 2..5 {
        assert_eq!(world.kind(request), Some(ErrorKind::Conflict));
    }
    world.check();
}

/// A record with so many changes of the catalog.
fn record(origin: Origin, count: usize) -> Transaction {
    let op = Op::System(put_app(2, "x").encode());
    let wall = WallMs(1_700_000_000_000);
    Transaction { id: TxnId(Uuid([1; 16])), app: APP, origin, wall, ops: vec![op; count] }
}

#[test]
fn a_record_in_the_log_has_at_least_one_change_and_no_more_than_can_be_made() {
    let read = |origin, count| {
        let changes = read_catalog(&record(origin, count));
        changes.map(|changes| changes.map_or(0, |changes| changes.len()))
    };
    assert_eq!(read(Origin::Http, 0), Ok(0), "it is on documents alone");
    assert_eq!(read(Origin::System, 0), Err(CatalogError::NoChange));
    assert_eq!(read(Origin::System, 1), Ok(1));
    assert_eq!(read(Origin::System, CHANGES_MAX), Ok(CHANGES_MAX));
    assert_eq!(read(Origin::System, CHANGES_MAX + 1), Err(CatalogError::TooMany));
}

#[test]
fn a_log_with_another_record_is_refused() {
    let mut mixed = record(Origin::System, 1);
    mixed.ops.push(Op::Evict {
        collection: "cars".into(),
        id: encode_id(&Value::from(1)).expect("an id"),
    });
    for record in [
        record(Origin::System, 0).encode_for_everyone(),
        record(Origin::System, CHANGES_MAX + 1).encode_for_everyone(),
        mixed.encode_for_everyone(),
        record(Origin::Http, 1).encode_for_everyone(),
    ] {
        let mut server = Process::server(&Options::default());
        let (now, txn) = (server.now, server.now.durable.next());
        let records = [record.into()];
        let rack = &mut server.racks[0];
        rack.handle_input(
            RackInput::Committed { first: txn, records: records.into(), upto: txn },
            now,
        );
        let output = rack.poll_output();
        let Some(RackOutput::Damaged { txn: at, .. }) = output else { panic!("{output:?}") };
        assert_eq!(at, txn);
    }
}
