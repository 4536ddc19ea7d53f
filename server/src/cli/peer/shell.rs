//! The shell of a peer: statements over several lines, up to their `;`, and a word when the server comes or goes.

use std::io;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use bigpeer_core::value::Object;
use bigpeer_peer::{Peer, PeerStatus, QueryResult, Subscription, SyncState};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};

use super::{End, list_shortfalls, print_line};
use crate::cli::error::say;
use crate::cli::statement;
use crate::cli::table;
use crate::cli::text::{count, visible};

/// How long the follower of the status sleeps before it asks whether the shell has ended.
const STATUS_PACE: Duration = Duration::from_millis(200);

/// The longest statement that is typed or piped in, in bytes.
const STATEMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

const HELP: &str = "\
  statement;        runs it, over as many lines as you like
  \\subscribe QUERY  asks the server for what the query selects, until the shell ends
  \\status           how this peer stands towards its server
  \\h                this help
  \\q                leaves, as Ctrl-D does";

/// Runs statements until the user leaves. On a terminal a statement that fails ends nothing; elsewhere it is the last.
pub(super) fn run(
    peer: &Peer,
    subscriptions: &mut Vec<Subscription>,
    args: &Object,
    is_compact: bool,
) -> End {
    let mut editor = match DefaultEditor::new() {
        Ok(editor) => editor,
        Err(error) => {
            say(&format!("error: the terminal cannot be used: {error}"));
            return End::Failed;
        }
    };
    let is_terminal = io::stdin().is_terminal();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if is_terminal {
            follow_status(scope, peer, &is_over, editor.create_external_printer().ok());
            say("Statements end with `;`. \\h shows help, \\q leaves.");
        }
        let mut shell = Shell { peer, subscriptions, args, is_compact, is_terminal };
        let end = shell.converse(&mut editor);
        is_over.store(true, Ordering::Release);
        end
    })
}

struct Shell<'a> {
    peer: &'a Peer,
    subscriptions: &'a mut Vec<Subscription>,
    args: &'a Object,
    is_compact: bool,
    is_terminal: bool,
}

impl Shell<'_> {
    fn converse(&mut self, editor: &mut DefaultEditor) -> End {
        let mut pending = String::new();
        loop {
            let prompt = if pending.is_empty() { "peer> " } else { "   -> " };
            let line = match editor.readline(prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    pending.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => return self.run_rest(&pending),
                Err(error) => {
                    say(&format!("error: the terminal failed: {error}"));
                    return End::Failed;
                }
            };
            // A history that is full, or refuses a line, is no reason to stop.
            let _ = editor.add_history_entry(&line);
            if pending.is_empty() && line.trim_start().starts_with('\\') {
                if !self.run_command(line.trim()) {
                    return End::Done;
                }
                continue;
            }
            pending.push_str(&line);
            pending.push('\n');
            if pending.len() > STATEMENT_BYTES_MAX {
                say(&format!("error: a statement has at most {STATEMENT_BYTES_MAX} bytes"));
                return End::Failed;
            }
            while let Some(end) = statement::end_of_first(&pending) {
                let text: String = pending.drain(..=end).collect();
                if !self.run_statement(text.trim_end_matches(';')) && !self.is_terminal {
                    return End::Failed;
                }
            }
            if pending.trim().is_empty() {
                pending.clear();
            }
        }
    }

    /// The last statement of a script needs no semicolon; what was half typed on a terminal is dropped.
    fn run_rest(&self, pending: &str) -> End {
        match self.is_terminal || pending.trim().is_empty() || self.run_statement(pending) {
            true => End::Done,
            false => End::Failed,
        }
    }

    fn run_statement(&self, text: &str) -> bool {
        match self.peer.execute(text.trim(), self.args.clone()) {
            Ok(result) => self.show(&result),
            Err(error) => {
                say(&format!("error: {}", visible(&error.to_string())));
                false
            }
        }
    }

    fn show(&self, result: &QueryResult) -> bool {
        if self.is_compact {
            return print_line(&result.to_json());
        }
        for warning in &result.warnings {
            say(&format!("warning: {}", visible(warning)));
        }
        if result.query_type != "select" {
            let written = count(result.mutated_ids.len() as u64, "document");
            return print_line(&format!("{written} written"));
        }
        let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        let table = match result.items.is_empty() {
            true => String::new(),
            false => table::render(&result.items, width).text,
        };
        print_line(&format!("{table}{}", count(result.items.len() as u64, "row")))
    }

    /// False for the command that leaves.
    fn run_command(&mut self, command: &str) -> bool {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match name {
            "\\q" => return false,
            "\\h" | "\\?" => say(HELP),
            "\\status" => show_status(&self.peer.status()),
            "\\subscribe" => {
                let query = rest.trim().trim_end_matches(';');
                match self.peer.subscribe(query, self.args.clone()) {
                    Ok(subscription) => self.subscriptions.push(subscription),
                    Err(error) => say(&format!("error: {}", visible(&error.to_string()))),
                }
            }
            _ => say(&format!("there is no such command\n{HELP}")),
        }
        true
    }
}

fn show_status(status: &PeerStatus) {
    let server = status.server.map(|key| format!(", server {key}")).unwrap_or_default();
    let synced = status.synced.map(|txn| format!(", synced up to {txn}")).unwrap_or_default();
    say(&format!("{}, changed up to {}{synced}{server}", status.state.name(), status.changed));
    if let Some(error) = &status.last_error {
        say(&format!("last error: {}", visible(error)));
    }
    list_shortfalls(status);
}

/// Says when the server is reached, agrees and is lost, without spoiling the line that is being typed.
fn follow_status<'scope, 'env, P: ExternalPrinter + Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    peer: &Peer,
    is_over: &'scope AtomicBool,
    mut printer: Option<P>,
) {
    let mut watch = peer.watch_status();
    scope.spawn(move || {
        let mut said = SyncState::Stopped;
        while !is_over.load(Ordering::Acquire) && !watch.is_closed() {
            let Some(status) = watch.next(STATUS_PACE) else { continue };
            // Between two agreements there is nothing that a person must know.
            if status.state == said || status.state == SyncState::Connected {
                continue;
            }
            said = status.state;
            let cause = match &status.last_error {
                Some(error) if said == SyncState::Offline => format!(": {}", visible(error)),
                _ => String::new(),
            };
            let line = format!("[{}{cause}]\n", said.name());
            if printer.as_mut().is_none_or(|printer| printer.print(line.clone()).is_err()) {
                say(line.trim_end());
            }
        }
    });
}
