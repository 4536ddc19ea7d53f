use super::*;

/// The records of a text as JSON, or what is wrong with them, each with its line and number.
fn read(text: &'static str, format: Option<Format>, name: &str) -> Result<Vec<String>, CliError> {
    let mut records = Records::new(Source::stream(text.as_bytes()), format, name.as_ref(), false)?;
    let mut out = Vec::new();
    while let Some(entry) = records.next()? {
        out.push(match entry {
            Entry::Record(Record { line, number, fields }) => {
                format!("{line} {number} {}", crate::cli::text::compact(&Value::Object(fields)))
            }
            Entry::Bad(Bad { line, reason }) => format!("{line}: {reason}"),
        });
    }
    Ok(out)
}

#[test]
fn the_format_is_told_from_name_or_content() {
    let expected = ["1 0 {\"a\":1}"];
    assert_eq!(read("[{\"a\":1}]", None, "-").unwrap(), expected);
    assert_eq!(read("{\"a\":1}\n", None, "-").unwrap(), expected);
    assert_eq!(read("\u{feff}[{\"a\":1}]", None, "x.JSON").unwrap(), expected);
    assert_eq!(read("{\n\"a\":1}{\"a\":2}", None, "x.json").unwrap().len(), 2);
    assert_eq!(read("\u{feff}a\n1\n", None, "x.csv").unwrap(), ["2 0 {\"a\":1}"]);
    assert!(matches!(read("a\n1\n", None, "-"), Err(CliError::Usage(_))));
    assert_eq!(read("", None, "-").unwrap(), [""; 0]);
}

#[test]
fn a_bad_record_is_listed_and_the_rest_is_read() {
    let lines = read("{\"a\":1}\n\n{\"a\":}\r\n[2]\n{\"a\":3}", Some(Format::Ndjson), "-").unwrap();
    let expected = [
        "1 0 {\"a\":1}",
        "3: column 6: found '}' where a value should be",
        "4: a record is an object, this is array",
        "5 3 {\"a\":3}",
    ];
    assert_eq!(lines, expected);
    let array =
        read("[{\"a\":1},\n{\"a\":1,\n \"a\":2}, {\"b\":01},\n{\"c\":1}]", None, "-").unwrap();
    assert_eq!(array.len(), 4);
    assert!(array[1].starts_with("3: column 2: the name \"a\""), "{}", array[1]);
    assert!(array[2].starts_with("3: column 6: malformed number"), "{}", array[2]);
    assert_eq!(array[3], "4 3 {\"c\":1}");
}

#[test]
fn a_row_with_too_few_cells_is_bad_and_the_next_one_is_read() {
    let rows = read("a,b\n1,2\n3\n\"x\ny\",4\n5,6\n", Some(Format::Csv), "-").unwrap();
    let expected = [
        "2 0 {\"a\":1,\"b\":2}",
        "3: it has 1 cell, the first line has 2",
        "4 2 {\"a\":\"x\\ny\",\"b\":4}",
        "6 3 {\"a\":5,\"b\":6}",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn what_cannot_be_cut_into_records_ends_the_file_after_those_before_it() {
    let text = "[{\"a\":1} {\"a\":2}]";
    let source = Source::stream(text.as_bytes());
    let mut records = Records::new(source, None, "-".as_ref(), false).unwrap();
    assert!(matches!(records.next(), Ok(Some(Entry::Record(_)))));
    assert!(matches!(records.next(), Err(CliError::Failed(_))));
    assert!(read("[{\"a\":1}] 2", None, "-").is_err());
    assert!(read("[{\"a\":1}", None, "-").is_err());
}
