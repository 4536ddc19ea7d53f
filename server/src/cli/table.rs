//! Rows as a table for people.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bigpeer_core::value::Value;

use super::text::{compact, cut, visible, width};

/// A cut column keeps at least this many columns of the terminal, so that its values can be told apart.
const CELL_WIDTH_MIN: usize = 6;

/// What stands between two columns.
const GAP: &str = "  ";

/// The column of rows that are no objects.
const BARE: &str = "value";

/// Rows laid out.
#[derive(Debug)]
pub(crate) struct Table {
    /// The lines.
    pub(crate) text: String,
    /// How many columns found no room.
    pub(crate) columns_hidden: usize,
}

/// Lays out `rows` below a line of names, `_id` first and the others as they first occur. No line is wider than
/// `width_max` if there is one: long cells are cut, nested values are compact JSON, and a field that a row lacks is left
/// blank.
pub(crate) fn render(rows: &[Value], width_max: Option<usize>) -> Table {
    let names = names(rows);
    let mut columns: Vec<Column<'_>> = names.iter().map(|name| Column::new(name, rows)).collect();
    if let Some(width_max) = width_max {
        fit(&mut columns, width_max);
    }
    let mut text = String::new();
    push_line(&mut text, columns.iter().map(|column| (column, &*column.title)));
    let rules: Vec<String> = columns.iter().map(|column| "─".repeat(column.width)).collect();
    push_line(&mut text, columns.iter().zip(rules.iter().map(String::as_str)));
    for index in 0..rows.len() {
        push_line(&mut text, columns.iter().map(|column| (column, &*column.cells[index])));
    }
    Table { text, columns_hidden: names.len() - columns.len() }
}

struct Column<'a> {
    title: Cow<'a, str>,
    cells: Vec<Cow<'a, str>>,
    width: usize,
    /// All its values are numbers, which line up on the right.
    is_numeric: bool,
}

impl<'a> Column<'a> {
    fn new(name: &'a str, rows: &'a [Value]) -> Self {
        let value = |row: &'a Value| match row {
            Value::Object(object) => object.get(name),
            bare => (name == BARE).then_some(bare),
        };
        let values: Vec<Option<&Value>> = rows.iter().map(value).collect();
        let is_numeric = values.iter().flatten().all(|value| value.is_number() || value.is_null());
        let title = visible(name);
        let cells: Vec<Cow<'_, str>> = values.into_iter().map(cell).collect();
        let widest = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
        let width = widest.max(width(&title));
        Self { title, cells, width, is_numeric }
    }
}

/// `_id` first, then every name where it first occurs.
fn names(rows: &[Value]) -> Vec<&str> {
    let mut seen = BTreeMap::new();
    for row in rows {
        let row_names: Vec<&str> = match row {
            Value::Object(object) => object.iter().map(|(name, _)| name).collect(),
            _ => vec![BARE],
        };
        for name in row_names {
            let next = seen.len() + 1;
            seen.entry(name).or_insert(if name == "_id" { 0 } else { next });
        }
    }
    let mut names: Vec<&str> = seen.keys().copied().collect();
    names.sort_by_key(|name| seen[name]);
    names
}

fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None => Cow::Borrowed(""),
        Some(Value::String(text)) => visible(text),
        Some(value) => Cow::Owned(visible(&compact(value)).into_owned()),
    }
}

/// Narrows the widest columns until the line fits. Columns that find no room at all are left out.
fn fit(columns: &mut Vec<Column<'_>>, width_max: usize) {
    let room_for = |count: usize| width_max.saturating_sub(GAP.len() * count.saturating_sub(1));
    while columns.len() > 1 && columns.len() * CELL_WIDTH_MIN > room_for(columns.len()) {
        columns.pop();
    }
    let room = room_for(columns.len());
    let fits =
        |limit: usize| columns.iter().map(|column| column.width.min(limit)).sum::<usize>() <= room;
    let widest = columns.iter().map(|column| column.width).max().unwrap_or(0);
    let limit = (1..=widest).rev().find(|&limit| fits(limit)).unwrap_or(1);
    // What the common limit leaves over goes to the first columns that it cuts.
    let mut spare = room.saturating_sub(columns.iter().map(|column| column.width.min(limit)).sum());
    for column in columns {
        if column.width > limit {
            let extra = spare.min(1);
            spare -= extra;
            column.width = limit + extra;
        }
    }
}

fn push_line<'a>(out: &mut String, cells: impl Iterator<Item = (&'a Column<'a>, &'a str)>) {
    let start = out.len();
    for (index, (column, text)) in cells.enumerate() {
        if index > 0 {
            out.push_str(GAP);
        }
        let text = cut(text, column.width);
        let padding = " ".repeat(column.width.saturating_sub(width(&text)));
        if column.is_numeric {
            out.push_str(&padding);
            out.push_str(&text);
        } else {
            out.push_str(&text);
            out.push_str(&padding);
        }
    }
    out.truncate(start + out[start..].trim_end().len());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use bigpeer_core::value::json;

    use super::*;

    fn rows(text: &str) -> Vec<Value> {
        let parsed = json::parse(text.as_bytes(), json::Limits::default()).unwrap();
        parsed.as_array().unwrap().to_vec()
    }

    #[test]
    fn the_id_comes_first_numbers_line_up_and_absence_is_blank() {
        let rows =
            rows(r#"[{"a":5,"_id":"x","n":null},{"_id":"yy","a":1.5,"tags":["é",{"k":1}]}]"#);
        let expected = "\
_id    a     n  tags
───  ───  ────  ─────────────
x      5  null
yy   1.5        [\"é\",{\"k\":1}]
";
        assert_eq!(render(&rows, None).text, expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let rows = rows(
            r#"[{"_id":"1","name":"日本語日本語日本語日本語","text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","n":1}]"#,
        );
        for width_max in 1..90 {
            for line in render(&rows, Some(width_max)).text.lines() {
                assert!(width(line) <= width_max, "{width_max}: {line:?}");
            }
        }
        assert_eq!(render(&rows, Some(40)).columns_hidden, 0);
        assert_eq!(render(&rows, Some(20)).columns_hidden, 2);
        let cut = render(&rows, Some(40)).text;
        assert!(cut.lines().nth(2).unwrap().ends_with('…'), "{cut}");
        assert_eq!(width(cut.lines().nth(1).unwrap()), 40, "the line is used up: {cut}");
    }

    #[test]
    fn a_line_break_in_a_value_stays_in_its_row() {
        assert_eq!(render(&rows(r#"[{"a":"x\ny\u001b[1m"}]"#), None).text.lines().count(), 3);
    }

    #[test]
    fn rows_that_are_no_objects_have_a_column_too() {
        assert_eq!(render(&rows("[1,\"x\"]"), None).text, "value\n─────\n1\nx\n");
    }
}
