//! Writers that go on until the server is gone, and note what they were told.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::{Fate, GROUP_SIZE, Notes, members_of};
use crate::server::{Client, Server};

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<Notes>>,
    /// Nothing is ever sent: it ends when the last writer does.
    running: Receiver<()>,
}

impl Load {
    /// Starts a writer, with a connection of its own, for each of the notes.
    #[must_use]
    pub fn start(server: &Server, notes: Vec<Notes>) -> Self {
        let (guard, running) = channel();
        let start = |notes: Notes| {
            let (client, guard) = (server.client(), guard.clone());
            std::thread::spawn(move || {
                let notes = write_until_refused(client, notes);
                drop(guard);
                notes
            })
        };
        Self { threads: notes.into_iter().map(start).collect(), running }
    }

    /// Lets the writers work for a time.
    ///
    /// # Panics
    ///
    /// When all have stopped before: nobody had killed their server yet.
    pub fn run_for(&self, time: Duration) {
        let ended = self.running.recv_timeout(time);
        assert_eq!(ended, Err(RecvTimeoutError::Timeout), "every writer was refused");
    }

    /// Waits until every writer has met the end of its server.
    ///
    /// # Panics
    ///
    /// When a writer was refused for a reason that no crash explains.
    #[must_use]
    pub fn join(self) -> Vec<Notes> {
        let join = |thread: JoinHandle<Notes>| thread.join().expect("a writer's claim holds");
        self.threads.into_iter().map(join).collect()
    }
}

fn write_until_refused(mut client: Client, mut notes: Notes) -> Notes {
    for turn in 0.. {
        let fate = match turn % 8 {
            0 => set_register(&mut client, &mut notes),
            2 => insert_group(&mut client, &mut notes),
            4 => increment(&mut client, &mut notes),
            6 => delete(&mut client, &mut notes),
            _ => insert_single(&mut client, &mut notes),
        };
        if fate == Fate::Unknown {
            break;
        }
    }
    notes
}

fn insert_single(client: &mut Client, notes: &mut Notes) -> Fate {
    let id = next_id(notes);
    let document =
        json!({"_id": id, "text": "a document of ordinary length, as those of users are"});
    let fate = write(client, "INSERT INTO singles DOCUMENTS (:doc)", &json!({"doc": document}));
    notes.singles.insert(id, fate);
    fate
}

fn insert_group(client: &mut Client, notes: &mut Notes) -> Fate {
    let group = next_id(notes);
    let names: Vec<_> = (0..GROUP_SIZE).map(|member| format!("(:m{member})")).collect();
    let statement = format!("INSERT INTO members DOCUMENTS {}", names.join(", "));
    let mut args = json!({});
    for (number, id) in members_of(&group).enumerate() {
        args[format!("m{number}")] = json!({"_id": id, "batch": group});
    }
    let fate = write(client, &statement, &args);
    notes.groups.insert(group, fate);
    fate
}

/// Deletes the newest document that is still there.
fn delete(client: &mut Client, notes: &mut Notes) -> Fate {
    let mut newest = notes.singles.keys().rev();
    let Some(id) = newest.find(|id| !notes.deletions.contains_key(*id)).cloned() else {
        return Fate::Acknowledged;
    };
    let fate = write(client, "DELETE FROM singles WHERE _id = :id", &json!({"id": id}));
    notes.deletions.insert(id, fate);
    fate
}

fn set_register(client: &mut Client, notes: &mut Notes) -> Fate {
    notes.register.asked = notes.register.acknowledged + 1;
    let document = json!({"_id": notes.name, "value": notes.register.asked});
    let statement = "INSERT INTO registers DOCUMENTS (:doc) ON ID CONFLICT DO UPDATE";
    let fate = write(client, statement, &json!({"doc": document}));
    if fate == Fate::Acknowledged {
        notes.register.acknowledged = notes.register.asked;
    }
    fate
}

fn increment(client: &mut Client, notes: &mut Notes) -> Fate {
    notes.increments.asked += 1;
    let statement = "UPDATE counters APPLY n INCREMENT BY 1 WHERE _id = 'all'";
    let fate = write(client, statement, &json!({}));
    if fate == Fate::Acknowledged {
        notes.increments.acknowledged += 1;
    }
    fate
}

/// Makes the document of the counter, which increments need.
pub fn found_counter(client: &mut Client) {
    let statement = "INSERT INTO counters DOCUMENTS (:doc) ON ID CONFLICT DO NOTHING";
    client.run(statement, &json!({"doc": {"_id": "all"}}));
}

fn write(client: &mut Client, statement: &str, args: &Value) -> Fate {
    let answer: io::Result<_> = client.execute(statement, args);
    match answer {
        Ok(answer) if answer.status == 200 => Fate::Acknowledged,
        // What a log says after its disk has failed.
        Ok(answer) if answer.status == 503 => Fate::Unknown,
        Ok(answer) => panic!("{statement} got {}: {}", answer.status, answer.complaint()),
        Err(_) => Fate::Unknown,
    }
}

fn next_id(notes: &mut Notes) -> String {
    notes.id_count += 1;
    format!("{}-{:06}", notes.name, notes.id_count)
}
