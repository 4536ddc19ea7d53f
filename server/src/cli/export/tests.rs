use super::*;
use crate::cli::testing::Scripted;

const ANSWER: &str = r#"{"queryType":"select","items":[
 {"_id":{"no":1,"site":"S1"},"f":6.0,"n":18446744073709551615,"tags":[1,"a,b"],
  "m":{"x":true}},
 {"_id":"2","text":"a\n\"b\"","nothing":null,"m":{"y":{"z":-1}}}]}"#;

fn run(format: Format, answer: &str) -> Result<(u64, String), CliError> {
    let (transport, _) = Scripted::new([(200, answer)]);
    let mut api = Api::new(transport, "/t".into(), "k".into());
    let mut out = Vec::new();
    let exported = export(&mut api, "SELECT", format, &mut out)?;
    Ok((exported, String::from_utf8(out).unwrap()))
}

#[test]
fn every_value_leaves_as_it_came() {
    let (exported, lines) = run(Format::Ndjson, ANSWER).unwrap();
    assert_eq!((exported, lines.lines().count()), (2, 2));
    assert!(lines.starts_with(r#"{"_id":{"no":1,"site":"S1"},"f":6.0,"n":18446744073709551615,"#));
    let (_, array) = run(Format::Json, ANSWER).unwrap();
    assert!(array.starts_with("[\n{") && array.ends_with("}\n]\n"), "{array}");
    assert_eq!(run(Format::Json, r#"{"items":[]}"#).unwrap(), (0, "[]\n".into()));
    assert_eq!(run(Format::Csv, r#"{"items":[]}"#).unwrap(), (0, String::new()));
}

#[test]
fn csv_has_a_column_for_every_field_of_any_document() {
    let (_, text) = run(Format::Csv, ANSWER).unwrap();
    let expected = "\
_id,_id.no,_id.site,f,m.x,m.y.z,n,nothing,tags,text
,1,S1,6.0,true,,18446744073709551615,,\"[1,\"\"a,b\"\"]\",
2,,,,,-1,,,,\"a
\"\"b\"\"\"
";
    assert_eq!(text, expected);
}

#[test]
fn an_export_cut_short_is_no_export() {
    for format in [Format::Ndjson, Format::Json, Format::Csv] {
        assert!(run(format, "{\"items\":[{\"_id\":1},").is_err());
        let refused =
            run(format, r#"{"items":[{"_id":1}],"error":{"description":"data_damaged"}}"#);
        assert!(matches!(refused, Err(CliError::Refused(_))));
    }
}

#[test]
fn a_file_is_replaced_only_by_a_whole_export() {
    let path = std::env::temp_dir().join(format!("bigpeer-export-{}", std::process::id()));
    let fill = |text: &'static str, result: Result<u64, CliError>| {
        to_file(&path, |file| {
            file.write_all(text.as_bytes()).unwrap();
            result
        })
    };
    assert_eq!(fill("one", Ok(1)).unwrap(), 1);
    fill("two", Err(CliError::Failed("cut".into()))).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_condition_may_end_in_a_comment() {
    assert_eq!(query("a`b", Some("x = 1 -- y")), "SELECT * FROM `a``b` WHERE x = 1 -- y\n");
}
