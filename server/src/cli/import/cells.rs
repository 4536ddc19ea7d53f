//! Cells of a CSV file as values.

use bigpeer_core::value::{Object, Value, json};

/// The deepest nesting that a name with dots may ask for.
const PATH_DEPTH_MAX: usize = 32;

/// What the first line says about the cells below.
#[derive(Debug)]
pub(super) struct Columns {
    /// The path of each column: `address.city` is two names.
    paths: Vec<Vec<Box<str>>>,
    strings: bool,
}

impl Columns {
    /// Reads the line of names. With `strings` no cell becomes anything but text.
    ///
    /// # Errors
    ///
    /// If a name is missing or stands twice.
    pub(super) fn new(names: &csv::ByteRecord, strings: bool) -> Result<Self, String> {
        let mut paths = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let name = str::from_utf8(name)
                .map_err(|_| format!("line 1: the name of column {} is not UTF-8", index + 1))?;
            if name.is_empty() {
                return Err(format!("line 1: column {} has no name", index + 1));
            }
            paths.push(path(name)?);
        }
        let mut sorted: Vec<&Vec<Box<str>>> = paths.iter().collect();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(Self { paths, strings }),
            Some(pair) => Err(format!("line 1: there are two columns `{}`", pair[0].join("."))),
        }
    }

    /// A row as an object; empty cells are absent from it.
    ///
    /// # Errors
    ///
    /// If a cell is not UTF-8, or two cells are for the same place: one under `a` and one under `a.b`.
    pub(super) fn fields(&self, row: &csv::ByteRecord) -> Result<Object, String> {
        let mut fields = Object::new();
        for (path, cell) in self.paths.iter().zip(row) {
            let text = str::from_utf8(cell)
                .map_err(|_| format!("the cell `{}` is not UTF-8", path.join(".")))?;
            if !text.is_empty() {
                put(&mut fields, path, self.value(text)).ok_or_else(|| {
                    format!("the cell `{}` is inside or around another cell", path.join("."))
                })?;
            }
        }
        Ok(fields)
    }

    fn value(&self, text: &str) -> Value {
        if self.strings { Value::from(text) } else { infer(text) }
    }
}

/// Splits a name at its dots. One with nothing before, between or after them is taken as it stands.
fn path(name: &str) -> Result<Vec<Box<str>>, String> {
    let path: Vec<Box<str>> = name.split('.').map(Box::from).collect();
    if path.len() > PATH_DEPTH_MAX {
        return Err(format!("line 1: a name has more than {PATH_DEPTH_MAX} parts"));
    }
    Ok(if path.iter().any(|part| part.is_empty()) { vec![name.into()] } else { path })
}

/// Puts a value at a path; `None` if there is a value at, above or below it.
fn put(fields: &mut Object, path: &[Box<str>], value: Value) -> Option<()> {
    let (last, way) = path.split_last().expect("a path has at least one name");
    let mut at = fields;
    for name in way {
        if !at.contains(name) {
            at.insert(name.clone(), Value::Object(Object::new()));
        }
        at = at.get_mut(name)?.as_object_mut()?;
    }
    at.insert(last.clone(), value).is_none().then_some(())
}

/// The value that a cell stands for: `true`, `false`, an integer or a float in the form that JSON has for them, else
/// text. What would lose something as a number stays text: leading zeroes, as in `007`, and too many digits.
fn infer(text: &str) -> Value {
    match text.as_bytes()[0] {
        b't' | b'f' | b'-' | b'0'..=b'9' => {}
        _ => return Value::from(text),
    }
    // Also "1 " parses, and "-0" loses its sign; neither is how a number is written.
    if text == "-0" || text.ends_with(|c: char| c.is_ascii_whitespace()) {
        return Value::from(text);
    }
    json::parse(text.as_bytes(), json::Limits::default()).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::compact;

    fn columns(names: &[&str], strings: bool) -> Result<Columns, String> {
        Columns::new(&csv::ByteRecord::from(names.to_vec()), strings)
    }

    #[test]
    fn a_cell_is_a_number_only_if_it_is_written_like_one() {
        for (text, value) in [
            ("0", Value::Int(0)),
            ("-12", Value::Int(-12)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("6.0", Value::Float(6.0)),
            ("-1.5", Value::Float(-1.5)),
            ("1e3", Value::Float(1000.0)),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
        ] {
            assert_eq!(infer(text), value, "{text}");
        }
        for text in [
            "007",
            "+5",
            "-0",
            "1.",
            ".5",
            "1,5",
            "0x10",
            "1e999",
            "18446744073709551616",
            "True",
            "TRUE",
            "null",
            "NaN",
            "inf",
            " 5",
            "5 ",
            "1 2",
            "-",
            "[1]",
            "{}",
            "\"x\"",
            "truely",
            "2026-11-21",
            "é",
            "٣",
        ] {
            assert_eq!(infer(text), Value::from(text), "{text}");
        }
    }

    #[test]
    fn integers_and_floats_stay_apart() {
        assert!(matches!(infer("6"), Value::Int(6)));
        assert!(matches!(infer("6.0"), Value::Float(_)));
    }

    #[test]
    fn an_empty_cell_is_absent_and_dots_nest() {
        let columns = columns(&["_id.site", "a", "_id.no", "b.c.d", "x..y"], false).unwrap();
        let row = csv::ByteRecord::from(vec!["S1", "", "7", "", "z"]);
        let fields = Value::Object(columns.fields(&row).unwrap());
        assert_eq!(compact(&fields), r#"{"_id":{"no":7,"site":"S1"},"x..y":"z"}"#);
    }

    #[test]
    fn strings_keeps_every_cell_as_text() {
        let columns = columns(&["a", "b"], true).unwrap();
        let fields = columns.fields(&csv::ByteRecord::from(vec!["1", "true"])).unwrap();
        assert_eq!(compact(&Value::Object(fields)), r#"{"a":"1","b":"true"}"#);
    }

    #[test]
    fn no_two_cells_are_for_the_same_place() {
        assert!(columns(&["a", "b", "a"], false).is_err());
        assert!(columns(&["a", ""], false).is_err());
        let columns = columns(&["_id", "_id.a", "_id.b"], false).unwrap();
        let fields = |cells: [&str; 3]| columns.fields(&csv::ByteRecord::from(cells.to_vec()));
        assert!(fields(["1", "", ""]).is_ok());
        assert!(fields(["", "1", "2"]).is_ok());
        assert!(fields(["1", "", "2"]).is_err());
    }
}
