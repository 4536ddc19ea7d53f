//! The requests that users of the API already send work as written, with an app and a key of ours.

use std::os::unix::fs::PermissionsExt;

use bigpeer_tests::http::{Answer, Connection};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Options, Server, first_start};
use bigpeer_tests::suite;
use bigpeer_tests::suite::Driver;
use serde_json::{Value, json};

suite!(
    "the file system of temporary files",
    the_requests_of_the_quick_start_work_as_written,
    a_mutation_and_the_read_after_it_name_their_transactions,
    the_first_start_alone_shows_the_key,
);

/// What curl sends for the lines of the guide, down to the lower-case `bearer` and its own header fields.
fn curl(server: &Server, body: &str) -> Answer {
    let request = format!(
        "POST /{}/api/v4/store/execute HTTP/1.1\r\nHost: {}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Authorization: bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.app,
        server.address(),
        server.key,
        body.len()
    );
    let mut connection = Connection::open(server.address()).expect("the server runs");
    connection.exchange(request.as_bytes()).expect("an answer")
}

fn the_requests_of_the_quick_start_work_as_written(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    let inserted = curl(
        &server,
        r#"{"statement":"INSERT INTO cars DOCUMENTS (:doc1)","args":{"doc1":{"_id":{"id":"777","locationId":"123456"},"color":"blue","timestamp":"1732192529"}}}"#,
    );
    let id = json!({"id": "777", "locationId": "123456"});
    assert_eq!(inserted.status, 200);
    check_shape(&inserted, "insert", &json!([]), &json!([id]));

    let selected = curl(&server, r#"{"statement":"SELECT * FROM cars"}"#);
    let car = json!({"_id": id, "color": "blue", "timestamp": "1732192529"});
    assert_eq!(selected.status, 200);
    check_shape(&selected, "select", &json!([car]), &json!([]));

    let again = curl(
        &server,
        r#"{"statement":"INSERT INTO cars DOCUMENTS (:doc1)","args":{"doc1":{"_id":{"locationId":"123456","id":"777"}}}}"#,
    );
    assert_eq!(again.status, 409, "keys in another order name the same document");
    assert!(again.complaint().contains("onflict"), "{}", again.complaint());
}

/// An answer has exactly the members that the API promises, each of its type.
fn check_shape(answer: &Answer, query_type: &str, items: &Value, mutated: &Value) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let mut json = answer.json();
    let transaction = json.as_object_mut().and_then(|members| members.remove("transactionId"));
    assert!(transaction.is_some_and(|id| id.is_u64()), "{json}");
    let expected = json!({
        "queryType": query_type,
        "items": items,
        "mutatedDocumentIds": mutated,
        "error": {},
        "warnings": [],
        "totalWarningsCount": 0,
    });
    assert_eq!(json, expected);
}

fn a_mutation_and_the_read_after_it_name_their_transactions(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    let mut client = server.client();
    let mut last = 0;
    for number in 0..20 {
        let document = json!({"doc": {"_id": number}});
        let written = client.run("INSERT INTO steps DOCUMENTS (:doc)", &document);
        let read = client.run("SELECT * FROM steps WHERE _id = :doc._id", &document);
        let of = |answer: &Value| answer["transactionId"].as_u64().expect("a number");
        assert!(of(&written) > last, "transaction ids rise");
        assert!(of(&read) >= of(&written), "the read includes the write");
        last = of(&written);
    }
    let headers =
        [("Authorization", &*client.authorization), ("X-DITTO-TXN-ID", &*format!("{last}"))];
    let body = br#"{"statement":"SELECT COUNT(*) AS n FROM steps"}"#;
    let request = bigpeer_tests::http::request("POST", &client.path, &headers, body);
    let answer = client.connection.exchange(&request).expect("the server runs");
    assert_eq!((answer.status, &answer.json()["items"][0]["n"]), (200, &json!(20)));
}

fn the_first_start_alone_shows_the_key(driver: Driver) {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut first = Options::new(driver, &data).start();
    let secrets = ["app", "apiKey", "developmentToken"];
    for name in secrets {
        assert!(first.ready[name].is_null(), "printed where no terminal is: {}", first.ready);
        assert!(first_start(&first.ready)[name].is_string());
    }
    let file = data.join("first-start.json");
    assert_eq!(first.ready["firstStart"], json!(file.canonicalize().expect("it is there")));
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner's alone");
    let key = first.key.clone();
    let (_, log) = first.terminate();
    assert!(!log.contains(&key), "a key is never logged");
    std::fs::remove_file(&file).expect("ours");
    let second = first.restart();
    assert!(second.ready["firstStart"].is_null(), "{}", second.ready);
    assert!(!file.exists());
    second.client().run("SELECT * FROM cars", &json!({}));
}
