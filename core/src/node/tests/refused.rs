use super::*;

/// Two nodes whose appends the test decides about.
pub(super) struct Appending {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Now,
    pub(super) appends: VecDeque<Append>,
    replies: Vec<(RequestId, Reply)>,
}

impl Appending {
    pub(super) fn new() -> Self {
        Self::limited(NodeLimits::default())
    }

    pub(super) fn limited(limits: NodeLimits) -> Self {
        let process =
            Process::new(&Options { partitions: 2, device: true, limits, ..Options::default() });
        let config = |partition| {
            let mut config = process.racks[0].nodes()[0].config.clone();
            config.partition = PartitionId(partition);
            config
        };
        Self {
            nodes: vec![Node::new(config(0)), Node::new(config(1))],
            now: Now { wall: WallMs(1_700_000_000_000), ..Now::default() },
            appends: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    pub(super) fn input(&mut self, at: u16, input: Input) {
        let mut queue = VecDeque::from([(at, input)]);
        while let Some((at, input)) = queue.pop_front() {
            self.now.mono.ns += 1;
            let node = &mut self.nodes[usize::from(at)];
            node.handle_input(input, self.now);
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Message(message) => {
                        queue.push_back((message.to.0, Input::Message(message)));
                    }
                    Output::Append(append) => self.appends.push_back(append),
                    Output::Reply { request, reply } => self.replies.push((request, reply)),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn execute(&mut self, at: u16, request: u64, text: &str) {
        let mut execute = Process::statement(text, "{}");
        execute.credential = Credential::Local;
        let body = Request::Execute(execute);
        self.input(at, Input::Request { request: RequestId(request), body });
    }

    pub(super) fn refuse(&mut self, append: &Append) {
        let (ticket, result) = (append.ticket, Err(AppendRefused::Busy));
        self.input(append.from.0, Input::Appended { ticket, result });
    }

    pub(super) fn commit(&mut self, append: &Append) {
        let txn = self.now.durable.next();
        self.input(append.from.0, Input::Appended { ticket: append.ticket, result: Ok(txn) });
        self.now.durable = txn;
        self.now.oldest_read = txn;
        let transaction = append.record.transaction.as_ref().expect("a node wrote it");
        for at in 0..2 {
            let part = Part::of(txn, transaction.clone(), PartitionId(at), 2);
            self.input(at, Input::Committed { upto: txn, records: [part].into() });
        }
    }

    pub(super) fn outcome(&self, request: u64) -> Option<&Outcome> {
        self.replies.iter().find_map(|(id, reply)| match reply {
            Reply::Done(outcome) if *id == RequestId(request) => Some(outcome),
            _ => None,
        })
    }

    /// An integer id that falls to this partition.
    pub(super) fn id_of(partition: u16) -> i64 {
        let owner = |id: &i64| {
            let id = crate::value::canonical::encode_id(&Value::from(*id)).expect("it is an id");
            Slot::of(APP, "c", &id).partition(2)
        };
        (0..).find(|id| owner(id) == PartitionId(partition)).expect("each partition has ids")
    }
}

#[test]
fn a_joined_record_does_not_build_on_an_append_that_may_be_refused() {
    let mut world = Appending::new();
    let (first, second) = (Appending::id_of(0), Appending::id_of(1));
    world.execute(1, 1, &format!("INSERT INTO c DOCUMENTS ({{'_id': {second}, 'a': 1}})"));
    let single = world.appends.pop_front().expect("the INSERT is appended");
    world.execute(
        0,
        2,
        &format!(
            "INSERT INTO c DOCUMENTS ({{'_id': {second}, 'b': 2}}), ({{'_id': {first}, 'b': 2}})
             ON ID CONFLICT DO UPDATE"
        ),
    );
    assert!(world.appends.is_empty(), "the joined record waits for what it would build on");
    world.refuse(&single);
    assert!(world.outcome(1).expect("it was refused").error.is_some());
    let joined = world.appends.pop_front().expect("it goes on without what was refused");
    world.commit(&joined);
    assert_eq!(world.outcome(2).expect("it was committed").error, None);
    for node in &world.nodes {
        assert_eq!(node.store().collections(APP).map(|(_, count)| count).sum::<u64>(), 1);
        node.check_invariants();
    }
}

#[test]
fn a_waiting_joined_record_is_not_overtaken_for_ever() {
    let mut world = Appending::new();
    let (first, second) = (Appending::id_of(0), Appending::id_of(1));
    let hot = format!("INSERT INTO c DOCUMENTS ({{'_id': {second}}}) ON ID CONFLICT DO UPDATE");
    world.execute(1, 1, &hot);
    world.execute(
        0,
        2,
        &format!("INSERT INTO c DOCUMENTS ({{'_id': {second}}}), ({{'_id': {first}}}) ON ID CONFLICT DO UPDATE"),
    );
    world.execute(1, 3, &hot);
    let single = world.appends.pop_front().expect("the first INSERT is appended");
    assert!(world.appends.is_empty(), "who comes later queues behind the joined record");
    world.commit(&single);
    let joined = world.appends.pop_front().expect("the joined record has its turn");
    assert!(world.appends.is_empty());
    world.commit(&joined);
    let last = world.appends.pop_front().expect("then the next");
    world.commit(&last);
    for request in 1..=3 {
        assert_eq!(world.outcome(request).expect("all are answered").error, None);
    }
}
