//! Statements as text: where one ends, and where the server found fault with it.

use super::api::Refusal;
use super::text::{visible, width};

/// Where the first `;` outside strings, quoted names and comments stands in `text`, in bytes.
pub(crate) fn end_of_first(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest[0] {
            b';' => return Some(at),
            quote @ (b'\'' | b'"' | b'`') => quoted_len(rest, quote)?,
            b'-' if rest.starts_with(b"--") => rest.iter().position(|&byte| byte == b'\n')?,
            b'/' if rest.starts_with(b"/*") => {
                4 + rest[2..].windows(2).position(|pair| pair == b"*/")?
            }
            _ => 1,
        };
    }
    None
}

/// The length of the quoted text at the start of `text`; a backslash escapes, except in a name.
fn quoted_len(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Cuts a script into its statements, without their semicolons. The last one needs none; empty ones are left out.
pub(crate) fn split(script: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut rest = script;
    while let Some(end) = end_of_first(rest) {
        statements.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    statements.push(rest);
    statements.retain(|statement| !is_blank(statement));
    statements
}

/// Whether there is nothing but white space and line comments.
fn is_blank(statement: &str) -> bool {
    statement
        .lines()
        .map(str::trim)
        .all(|line| line.is_empty() || (line.starts_with("--") && !line.starts_with("--+")))
}

/// A collection's name as it stands in a statement.
pub(crate) fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What the server said of a statement; below it the line at fault with a caret under the place, if that is known.
pub(crate) fn explain(statement: &str, refusal: &Refusal) -> String {
    let message = refusal.to_string();
    let Some((line, column)) = refusal.position else { return message };
    let Some(text) = line.checked_sub(1).and_then(|index| statement.lines().nth(index)) else {
        return message;
    };
    let before: String = text.chars().take(column.saturating_sub(1)).collect();
    let indent = " ".repeat(width(&visible(&before)));
    format!("{message}\n  {}\n  {indent}^", visible(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_in_a_string_a_name_or_a_comment_ends_nothing() {
        let script =
            "SELECT ';\\';' FROM `a;``b`; -- x;\n/* ; */ SELECT \"it's;\" FROM c;\n;-- end\n";
        let expected = ["SELECT ';\\';' FROM `a;``b`", " -- x;\n/* ; */ SELECT \"it's;\" FROM c"];
        assert_eq!(split(script), expected);
        assert_eq!(split("SELECT * FROM c"), ["SELECT * FROM c"]);
        assert_eq!(split(" ; "), [""; 0]);
    }

    #[test]
    fn what_is_not_closed_is_not_ended() {
        for text in ["'a;", "\"a;\\", "`a;", "-- a;", "/* a; *", "/*/;"] {
            assert_eq!(end_of_first(text), None, "{text}");
        }
    }

    #[test]
    fn the_caret_stands_under_the_fault() {
        let refusal = |line, column| Refusal {
            status: 400,
            description: "no".into(),
            position: Some((line, column)),
        };
        let statement = "SELECT '日本'\n\tFRM c";
        assert_eq!(
            explain(statement, &refusal(1, 12)),
            "no (400)\n  SELECT '日本'\n               ^"
        );
        assert_eq!(explain(statement, &refusal(2, 2)), "no (400)\n  \\tFRM c\n    ^");
        assert_eq!(explain(statement, &refusal(9, 1)), "no (400)");
        assert_eq!(explain(statement, &refusal(0, 0)), "no (400)");
    }
}
