//! What a reconnect costs on the wire, counted between two whole nodes.

use super::*;

/// How many documents both sides hold.
const DOCUMENTS: usize = 10_000;

/// The text of each, so that a body is told from what is said about it.
const TEXT_BYTES: usize = 200;

/// Every n-th document changes where one in a hundred does.
const CHANGED_EACH: usize = 100;

const ALL: &str = "SELECT * FROM cars WHERE n >= 0";
/// The same documents by another question: the cursor of the first one does not serve it.
const ALL_OTHERWISE: &str = "SELECT * FROM cars WHERE n >= 0 AND true";

/// A server, a device, and a line between them that counts.
struct Line {
    server: Process,
    device: Process,
    session: SessionId,
    bytes: usize,
    /// How often the line turned: all that both sides had to say went over, and both answered.
    turns: usize,
}

impl Line {
    fn with_documents() -> Self {
        let server = Process::server(&Options::default());
        let options = Options { seed: 7, device: true, partitions: 1, ..Options::default() };
        let device = Process::new(&options);
        let mut line = Self { server, device, session: SessionId(0), bytes: 0, turns: 0 };
        let text = "x".repeat(TEXT_BYTES);
        for first in (0..DOCUMENTS).step_by(500) {
            let document = |n| format!("({{'_id': {n}, 'n': {n}, 'text': '{text}'}})");
            let documents: Vec<_> = (first..first + 500).map(document).collect();
            line.server.rows(&format!("INSERT INTO cars DOCUMENTS {}", documents.join(", ")));
        }
        line.connect(ALL);
        line.disconnect();
        // What the device applied after its last position was written is known from here on.
        line.connect(ALL);
        line.disconnect();
        line
    }

    fn connect(&mut self, subscription: &str) {
        (self.bytes, self.turns) = (0, 0);
        self.session = SessionId(self.session.0 + 1);
        let open = SessionOpen { app: APP, credential: Credential::Bearer(Some("dev".into())) };
        self.server.hear(self.session, SessionInput::Open(open));
        let subscriptions = vec![(subscription.into(), Object::default())];
        self.device.hear(self.session, SessionInput::Subscribe(subscriptions));
        let open = SessionOpen { app: APP, credential: Credential::Local };
        self.device.hear(self.session, SessionInput::Open(open));
        self.exchange();
    }

    fn disconnect(&mut self) {
        self.server.hear(self.session, SessionInput::Closed);
        self.device.hear(self.session, SessionInput::Closed);
        self.server.frames.clear();
        self.device.frames.clear();
    }

    fn exchange(&mut self) {
        loop {
            let down = std::mem::take(&mut self.server.frames);
            let up = std::mem::take(&mut self.device.frames);
            if down.is_empty() && up.is_empty() {
                return;
            }
            self.turns += 1;
            for (session, frame) in down {
                self.bytes += frame.len();
                self.device.hear(session, SessionInput::Frame(frame));
            }
            for (session, frame) in up {
                self.bytes += frame.len();
                self.server.hear(session, SessionInput::Frame(frame));
            }
        }
    }

    fn assert_agreed(&mut self) {
        let all = "SELECT * FROM cars ORDER BY n";
        let device = to_text(&self.device.local(all, "{}").0);
        assert!(self.server.rows(all) == device, "both sides hold the same");
    }
}

impl Process {
    fn hear(&mut self, session: SessionId, input: SessionInput) {
        self.now.mono.ns += 1_000;
        self.now.wall.0 += 1;
        self.racks[0].handle_input(RackInput::Session { session, input }, self.now);
        self.settle();
    }
}

#[test]
fn a_reconnect_costs_what_changed_and_not_what_is_held() {
    let mut line = Line::with_documents();
    line.connect(ALL);
    assert!(line.bytes <= 1_024, "{} bytes when nothing is new", line.bytes);
    // Both greet; then each introduces itself; then what each asks for and where it stands: one round trip.
    assert_eq!(line.turns, 5);
    line.disconnect();

    line.server.rows("UPDATE cars SET color = 'red' WHERE _id = 4000");
    line.device.local("UPDATE cars SET color = 'blue' WHERE _id = 7000", "{}");
    line.connect(ALL);
    assert!(line.bytes <= 4_096, "{} bytes for one change on each side", line.bytes);
    eprintln!("one change on each side of {DOCUMENTS}: {} bytes", line.bytes);
    line.assert_agreed();
}

#[test]
fn a_lost_cursor_costs_a_comparison_and_the_bodies_that_differ() {
    /// What both sides together may say about each document, and what one change may cost.
    const COMPARE_BYTES: usize = 50;
    const CHANGE_BYTES: usize = 2 * TEXT_BYTES;
    let mut line = Line::with_documents();
    let text = "y".repeat(TEXT_BYTES);
    for n in (0..DOCUMENTS).step_by(CHANGED_EACH) {
        line.server.rows(&format!("UPDATE cars SET text = '{text}' WHERE _id = {n}"));
    }
    line.connect(ALL_OTHERWISE);
    line.assert_agreed();
    eprintln!(
        "a lost cursor over {DOCUMENTS}, one in {CHANGED_EACH} changed: {} bytes",
        line.bytes
    );
    let limit = DOCUMENTS * COMPARE_BYTES + DOCUMENTS / CHANGED_EACH * CHANGE_BYTES;
    assert!(line.bytes <= limit, "{} bytes of at most {limit}", line.bytes);
    assert!(limit < DOCUMENTS * TEXT_BYTES / 2, "all bodies would not fit");
}
