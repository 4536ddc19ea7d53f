//! Changes of the catalog that race, that are refused, and that wait.

use super::refused::Appending;
use super::*;
use crate::disk::DiskError;
use crate::disk_sim::CommandKind;

/// The key of a name with a text of its own.
fn key_of(name: &str, text: &str) -> ApiKey {
    ApiKey {
        name: name.into(),
        description: None,
        prefix: key_prefix(text).into(),
        hash: hash(text),
        expires: WallMs(u64::MAX),
        permissions: Arc::new(Permissions::everything()),
    }
}

pub(super) fn put_key(name: &str, text: &str) -> CatalogOp {
    CatalogOp::PutKey { app: APP, key: key_of(name, text) }
}

pub(super) fn put_app(id: u8, name: &str) -> CatalogOp {
    CatalogOp::PutApp { app: AppId(Uuid([id; 16])), name: name.into(), development_token: None }
}

impl Process {
    fn change(&mut self, thread: u16, op: CatalogOp) -> RequestId {
        self.submit(thread, Request::Catalog(vec![op]))
    }

    pub(super) fn kinds(&mut self, requests: &[RequestId]) -> Vec<Option<ErrorKind>> {
        let kind = |(_, outcome): (Value, Outcome)| outcome.error.map(|error| error.kind);
        requests.iter().map(|request| kind(self.answer(*request))).collect()
    }
}

impl Appending {
    pub(super) fn change(&mut self, at: u16, request: u64, op: CatalogOp) {
        let body = Request::Catalog(vec![op]);
        self.input(at, Input::Request { request: RequestId(request), body });
    }

    pub(super) fn kind(&self, request: u64) -> Option<ErrorKind> {
        let outcome = self.outcome(request).expect("it is answered");
        outcome.error.as_ref().map(|error| error.kind)
    }

    pub(super) fn check(&self) {
        self.nodes.iter().for_each(Node::check_invariants);
    }
}

#[test]
fn of_racing_changes_of_one_name_the_first_is_made_and_the_others_are_told() {
    for threads in [1, 2] {
        let mut server = Process::server(&Options { threads, ..Options::default() });
        let requests = [
            server.change(0, put_key("till", "first-----secret")),
            server.change(threads - 1, put_key("till", "second----secret")),
            server.change(0, put_app(2, "branch")),
            server.change(threads - 1, put_app(3, "branch")),
        ];
        server.settle();
        let mut kinds = server.kinds(&requests);
        // Those of another thread may have been the first.
        kinds[..2].sort_by_key(Option::is_some);
        kinds[2..].sort_by_key(Option::is_some);
        let taken = Some(ErrorKind::Conflict);
        assert_eq!(kinds, [None, taken, None, taken], "on {threads} threads");
        let node = &server.racks[0].nodes()[0];
        let first = node.catalog().authorize(APP, Some("first-----secret"), WallMs(0)).is_ok();
        let second = node.catalog().authorize(APP, Some("second----secret"), WallMs(0)).is_ok();
        assert!(first != second, "the key that was given out is the one that opens");
        assert_eq!(node.catalog().apps().count(), 2);
        server.check();
    }
}

#[test]
fn a_change_is_judged_by_those_before_it() {
    let mut server = Process::server(&Options::default());
    let delete_key = |name: &str| CatalogOp::DeleteKey { app: APP, name: name.into() };
    let requests = [
        server.change(0, put_key("till", "first-----secret")),
        server.change(0, delete_key("till")),
        server.change(0, delete_key("till")),
        server.change(0, put_key("till", "second----secret")),
        server.change(0, CatalogOp::DeleteApp { app: APP }),
        server.change(0, put_key("other", "third-----secret")),
    ];
    server.settle();
    let gone = Some(ErrorKind::Conflict);
    assert_eq!(server.kinds(&requests), [None, None, gone, None, None, gone]);
    server.check();
}

#[test]
fn a_refused_change_lets_the_next_go() {
    for why in [
        AppendRefused::Full,
        AppendRefused::ReadOnly,
        AppendRefused::Busy,
        AppendRefused::Closed,
        AppendRefused::Superseded,
        AppendRefused::OutcomeUnknown,
    ] {
        let mut world = Appending::new();
        world.change(0, 1, put_app(1, "shop"));
        world.change(1, 2, put_app(2, "shop"));
        world.change(1, 3, put_app(3, "shop"));
        let first = world.appends.pop_front().expect("the first is appended");
        assert!(world.appends.is_empty(), "the others wait for it");
        world.check();
        let (ticket, result) = (first.ticket, Err(why));
        world.input(0, Input::Appended { ticket, result });
        assert!(world.kind(1).is_some(), "{why:?}");
        let second = world.appends.pop_front().expect("the next has its turn");
        world.commit(&second);
        assert_eq!((world.kind(2), world.kind(3)), (None, Some(ErrorKind::Conflict)), "{why:?}");
        assert!(world.appends.is_empty());
        world.check();
    }
}

#[test]
fn a_change_that_is_superseded_by_a_refused_write_lets_the_next_go() {
    let mut world = Appending::new();
    let id = Appending::id_of(0);
    world.execute(0, 1, &format!("INSERT INTO c DOCUMENTS ({{'_id': {id}}})"));
    world.change(0, 2, put_app(1, "shop"));
    world.change(0, 3, put_app(2, "shop"));
    let write = world.appends.pop_front().expect("the INSERT is appended");
    let superseded = world.appends.pop_front().expect("a change as well");
    assert!(world.appends.is_empty(), "one at a time");
    world.refuse(&write);
    assert_eq!(world.kind(2), Some(ErrorKind::Unavailable));
    let next = world.appends.pop_front().expect("the next has its turn");
    assert!(next.epoch > superseded.epoch, "it is admitted");
    world.commit(&next);
    assert_eq!(world.kind(3), None);
    world.check();
}

#[test]
fn more_changes_than_may_wait_are_refused() {
    let mut world = Appending::new();
    world.change(0, 1, put_app(1, "shop"));
    let waiting = 1_024;
    for request in 2..waiting + 3 {
        world.change(0, request, CatalogOp::DeleteApp { app: AppId(Uuid([9; 16])) });
    }
    world.check();
    let error = world.outcome(waiting + 2).and_then(|outcome| outcome.error.clone());
    let error = error.expect("it is one too many");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("too many changes of the catalog wait"), "{error}");
    assert!(world.outcome(waiting + 1).is_none(), "the last that may");
    let first = world.appends.pop_front().expect("the first is appended");
    world.commit(&first);
    for request in 2..waiting + 2 {
        assert_eq!(world.kind(request), Some(ErrorKind::Conflict));
    }
    world.check();
}

#[test]
fn changes_that_wait_at_a_log_that_fails_are_all_answered() {
    let mut server = Process::server(&Options { threads: 2, ..Options::default() });
    server.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".into()));
    let requests: Vec<_> = (2..20)
        .map(|id| server.change(u16::from(id) % 2, put_app(id, &format!("app {id}"))))
        .collect();
    server.has_failing_log = true;
    server.settle();
    let kinds = server.kinds(&requests);
    assert!(kinds.iter().all(Option::is_some), "{kinds:?}");
    let unknown = kinds.iter().filter(|kind| **kind == Some(ErrorKind::OutcomeUnknown)).count();
    assert_eq!(unknown, 1, "{kinds:?}");
    server.check();
}
