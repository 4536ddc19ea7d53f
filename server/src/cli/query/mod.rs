//! `bigpeer query`: one statement, a script on standard input, or a shell.

mod shell;

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use bigpeer_core::value::{Object, Value, json};

use super::api::{Api, ApiVersion, Outcome, Reply, ServerArgs};
use super::error::{CliError, finish, print, say};
use super::http::Transport;
use super::statement;
use super::table;
use super::text::{compact, count, visible};

/// The longest script taken from standard input, in bytes.
const SCRIPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most rows that a table holds: its columns are as wide as the widest cell, so all are in memory.
const TABLE_ROWS_MAX: usize = 100_000;

/// Run one DQL statement, or open a shell.
///
/// Prints a table on a terminal, and one JSON object per line elsewhere. Without a statement, statements are read
/// from standard input up to their `;` and run one by one until one fails; on a terminal that is a shell.
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the server.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The statement.
    #[arg(value_name = "DQL")]
    statement: Option<String>,
    /// Values for the statement's parameters: a JSON object, names without the colon.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = parse_args)]
    args: Object,
    /// One JSON object per line, also on a terminal.
    #[arg(long)]
    json: bool,
    /// The version of the HTTP API: v4 runs in strict mode.
    #[arg(long, value_enum, default_value_t)]
    api: ApiVersion,
}

impl QueryArgs {
    /// Runs the statement, the script or the shell.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.try_run())
    }

    fn try_run(self) -> Result<(), CliError> {
        let format = match self.json || !io::stdout().is_terminal() {
            true => Format::Lines,
            false => Format::Table,
        };
        let args = compact(&Value::Object(self.args.clone()));
        if let Some(statement) = &self.statement {
            let mut api = self.server.connect(self.api)?;
            return run_statement(&mut api, statement, &args, format);
        }
        if io::stdin().is_terminal() {
            return shell::run(&self, &args, format);
        }
        let script = read_script()?;
        let statements = statement::split(&script);
        if statements.is_empty() {
            return Err(CliError::Usage(
                "no statement, neither as an argument nor on input".into(),
            ));
        }
        let mut api = self.server.connect(self.api)?;
        statements.iter().try_for_each(|text| run_statement(&mut api, text, &args, format))
    }
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For people.
    Table,
    /// One JSON value per line.
    Lines,
}

fn parse_args(text: &str) -> Result<Object, String> {
    match json::parse(text.as_bytes(), json::Limits::default()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("{} is no object, as in {{\"name\": 1}}", other.type_name())),
        Err(error) => Err(error.to_string()),
    }
}

fn read_script() -> Result<String, CliError> {
    let mut script = String::new();
    let read = io::stdin().lock().take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut script);
    match read {
        Ok(bytes) if bytes as u64 > SCRIPT_BYTES_MAX => {
            let message = format!("the script is longer than {SCRIPT_BYTES_MAX} bytes: split it");
            Err(CliError::Usage(message))
        }
        Ok(_) => Ok(script),
        Err(error) => Err(CliError::Failed(format!("standard input cannot be read: {error}"))),
    }
}

/// Runs one statement and prints what comes of it.
fn run_statement<T: Transport>(
    api: &mut Api<T>,
    statement: &str,
    args: &str,
    format: Format,
) -> Result<(), CliError> {
    let reply = match format {
        Format::Lines => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let reply = run_lines(api, statement, args, &mut out)?;
            out.flush().map_err(|error| CliError::output(&error))?;
            reply
        }
        Format::Table => run_table(api, statement, args)?,
    };
    match reply {
        Reply::Done(outcome) => report(&outcome, format),
        Reply::Refused(refusal) => {
            let explained = statement::explain(statement, &refusal);
            Err(match refusal.into_error() {
                CliError::Refused(_) => CliError::Refused(explained),
                _ => CliError::Failed(explained),
            })
        }
    }
}

/// Rows leave as they arrive.
fn run_lines<T: Transport>(
    api: &mut Api<T>,
    statement: &str,
    args: &str,
    out: &mut impl Write,
) -> Result<Reply, CliError> {
    api.execute(statement, args.as_bytes(), &mut |item| {
        // A server may break lines inside a row; only strings could not bear the change, and hold none.
        let line: Vec<u8> = item
            .iter()
            .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })
            .collect();
        out.write_all(&line)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(|error| CliError::output(&error))
    })
}

fn run_table<T: Transport>(
    api: &mut Api<T>,
    statement: &str,
    args: &str,
) -> Result<Reply, CliError> {
    let mut rows = Vec::new();
    let mut unshown: u64 = 0;
    let reply = api.execute(statement, args.as_bytes(), &mut |item| {
        if rows.len() == TABLE_ROWS_MAX {
            unshown += 1;
            return Ok(());
        }
        let row = json::parse(item, json::Limits::default())
            .map_err(|error| CliError::Failed(format!("a row cannot be read: {error}")))?;
        rows.push(row);
        Ok(())
    })?;
    if let Reply::Done(outcome) = &reply
        && (!rows.is_empty() || !outcome.is_mutation())
    {
        print(&table_text(&rows, unshown, terminal_width()))?;
    }
    Ok(reply)
}

/// A table, and below it how many rows there are and what of them is not in it.
fn table_text(rows: &[Value], rows_hidden: u64, width_max: Option<usize>) -> String {
    let rows_count = count(rows.len() as u64 + rows_hidden, "row");
    if rows.is_empty() {
        return format!("{rows_count}\n");
    }
    let table = table::render(rows, width_max);
    let mut hidden = Vec::new();
    if rows_hidden > 0 {
        hidden.push(count(rows_hidden, "row"));
    }
    if table.columns_hidden > 0 {
        hidden.push(count(table.columns_hidden as u64, "column"));
    }
    let note = match hidden.is_empty() {
        true => String::new(),
        false => format!(", {} not shown: --json shows all", hidden.join(" and ")),
    };
    format!("{}{rows_count}{note}\n", table.text)
}

/// Says what a mutation did, and what the server warns of. Elsewhere than on a terminal that is not data, so it goes
/// to standard error.
fn report(outcome: &Outcome, format: Format) -> Result<(), CliError> {
    for warning in outcome.warnings() {
        say(&format!("warning: {}", visible(&warning)));
    }
    if outcome.is_mutation() {
        let written = mutation_line(outcome);
        match format {
            Format::Table => print(&format!("{written}\n"))?,
            Format::Lines => say(&written),
        }
    }
    Ok(())
}

fn mutation_line(outcome: &Outcome) -> String {
    let written = count(outcome.mutated(), "document");
    match outcome.transaction() {
        Some(transaction) => format!("{written} written, transaction {transaction}"),
        None => format!("{written} written"),
    }
}

fn terminal_width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Scripted;

    fn api<const N: usize>(answers: [(u16, &str); N]) -> Api<Scripted> {
        Api::new(Scripted::new(answers).0, "/t".into(), "k".into())
    }

    #[test]
    fn rows_leave_as_lines_just_as_the_server_wrote_them() {
        let answer = "{\"queryType\":\"select\",\"items\":[{\"_id\":\"1\",\"f\":6.0},\n{\"n\":\n18446744073709551615}]}";
        let mut out = Vec::new();
        run_lines(&mut api([(200, answer)]), "SELECT", "{}", &mut out).unwrap();
        assert_eq!(out, b"{\"_id\":\"1\",\"f\":6.0}\n{\"n\": 18446744073709551615}\n");
    }

    #[test]
    fn a_mutation_says_how_much_and_when() {
        let answer = r#"{"transactionId":12,"queryType":"insert","items":[],"mutatedDocumentIds":["a",{"b":1}],"error":{}}"#;
        let mut api = api([(200, answer)]);
        let Reply::Done(outcome) = api.execute("INSERT", b"{}", &mut |_| Ok(())).unwrap() else {
            panic!("it was done")
        };
        assert!(outcome.is_mutation());
        assert_eq!(mutation_line(&outcome), "2 documents written, transaction 12");
    }

    #[test]
    fn what_a_table_leaves_out_is_counted() {
        let rows = [Value::from(1), Value::Object([("a", 1), ("b", 2)].into_iter().collect())];
        assert!(table_text(&rows, 0, None).ends_with("\n2 rows\n"));
        let narrow = table_text(&rows, 3, Some(14));
        assert!(
            narrow.ends_with("\n5 rows, 3 rows and 1 column not shown: --json shows all\n"),
            "{narrow}"
        );
        assert_eq!(table_text(&[], 0, None), "0 rows\n");
    }

    #[test]
    fn who_refuses_decides_the_exit_code() {
        let run = |status, body: &str| {
            run_statement(&mut api([(status, body)]), "SELECT", "{}", Format::Lines).unwrap_err()
        };
        let no = r#"{"error":{"description":"no"}}"#;
        assert!(matches!(run(400, no), CliError::Refused(_)));
        assert!(matches!(run(200, no), CliError::Refused(_)));
        assert!(matches!(run(503, no), CliError::Failed(_)));
        assert!(matches!(run(200, "{\"items\":["), CliError::Failed(_)));
    }

    #[test]
    fn arguments_are_an_object_of_exact_values() {
        let args = parse_args(r#"{"n": 9223372036854775807, "f": 1.0}"#).unwrap();
        assert_eq!(compact(&Value::Object(args)), r#"{"f":1.0,"n":9223372036854775807}"#);
        assert!(parse_args("[1]").is_err());
        assert!(parse_args("{").is_err());
    }
}
