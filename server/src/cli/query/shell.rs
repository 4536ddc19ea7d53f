//! The shell: statements over several lines, up to their `;`.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use super::{Format, QueryArgs, run_statement};
use crate::cli::error::{CliError, print, say};
use crate::cli::statement;

/// How many statements are remembered from one shell to the next.
const HISTORY_COUNT_MAX: usize = 1000;

const HELP: &str = "\
  statement;   runs it, over as many lines as you like
  \\table       rows as a table
  \\json        rows as JSON, one per line
  \\h           this help
  \\q           leaves, as Ctrl-D does
";

/// Runs statements until the user leaves. A statement that fails ends nothing.
pub(super) fn run(query: &QueryArgs, args: &str, format: Format) -> Result<(), CliError> {
    // Whether the server is there, and takes our arguments, is worth knowing before a statement is typed.
    drop(query.server.connect(query.api)?);
    let failed = |error: ReadlineError| CliError::Failed(format!("the terminal failed: {error}"));
    let config = Config::builder()
        .max_history_size(HISTORY_COUNT_MAX)
        .map_err(failed)?
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Lines, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Lines));
    let history = history_path();
    if let Some(path) = &history {
        // There is none the first time, and a shell without a past still works.
        let _ = editor.load_history(path);
    }
    print("Statements end with `;`. \\h shows help, \\q leaves.\n")?;
    let result = converse(&mut editor, query, args, format);
    if let Some(path) = &history
        && let Err(error) = editor.save_history(path)
    {
        say(&format!("the history was not kept in {}: {error}", path.display()));
    }
    result
}

fn converse(
    editor: &mut Editor<Lines, FileHistory>,
    query: &QueryArgs,
    args: &str,
    mut format: Format,
) -> Result<(), CliError> {
    loop {
        let text = match editor.readline("bigpeer> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(CliError::Failed(format!("the terminal failed: {error}"))),
        };
        match Line::read(&text) {
            Line::Quit => return Ok(()),
            Line::Help => print(HELP)?,
            Line::Show(chosen) => format = chosen,
            Line::Unknown => print(&format!("there is no such command\n{HELP}"))?,
            Line::Statements(statements) => {
                if let Err(error) = run_all(query, &statements, args, format) {
                    say(&format!("error: {error}"));
                }
            }
        }
    }
}

/// Runs statements over a connection of their own: between two of a person's statements a server closes an idle one.
fn run_all(
    query: &QueryArgs,
    statements: &[&str],
    args: &str,
    format: Format,
) -> Result<(), CliError> {
    if statements.is_empty() {
        return Ok(());
    }
    let mut api = query.server.connect(query.api)?;
    statements.iter().try_for_each(|text| run_statement(&mut api, text, args, format))
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Quit,
    Help,
    Show(Format),
    Unknown,
    Statements(Vec<&'a str>),
}

impl<'a> Line<'a> {
    fn read(text: &'a str) -> Self {
        match text.trim() {
            "\\q" => Self::Quit,
            "\\h" | "\\?" => Self::Help,
            "\\json" => Self::Show(Format::Lines),
            "\\table" => Self::Show(Format::Table),
            command if command.starts_with('\\') => Self::Unknown,
            _ => Self::Statements(statement::split(text)),
        }
    }
}

/// Whether the text so far can be run: a command, nothing, or statements of which the last one is ended.
fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') {
        return true;
    }
    let mut rest = trimmed;
    while let Some(end) = statement::end_of_first(rest) {
        rest = &rest[end + 1..];
    }
    rest.len() < trimmed.len() && statement::split(rest).is_empty()
}

/// Tells the editor when a text goes on in the next line.
struct Lines;

impl Helper for Lines {}
impl Highlighter for Lines {}

impl Completer for Lines {
    type Candidate = String;
}

impl Hinter for Lines {
    type Hint = String;
}

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

/// Where the history is kept: below the user's directory for state.
fn history_path() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("bigpeer");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_until_its_semicolon() {
        for text in ["", "\\q", "SELECT 1;", "SELECT 1; -- done", "a;\nb;", "SELECT ';';"] {
            assert!(is_complete(text), "{text:?}");
        }
        for text in ["SELECT 1", "SELECT 1; SELECT", "SELECT ';", "a /* ;"] {
            assert!(!is_complete(text), "{text:?}");
        }
    }

    #[test]
    fn commands_are_told_from_statements() {
        assert_eq!(Line::read(" \\q "), Line::Quit);
        assert_eq!(Line::read("\\json"), Line::Show(Format::Lines));
        assert_eq!(Line::read("\\nonsense"), Line::Unknown);
        assert_eq!(Line::read("a; b;"), Line::Statements(vec!["a", " b"]));
    }
}
