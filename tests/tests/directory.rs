//! A data directory that is not as it was left: what is missing is named and never made anew, what is unfinished is
//! finished, and what belongs to somebody else is left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use bigpeer_tests::binary::{bigpeer, printed};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Options, Server};
use bigpeer_tests::suite;
use bigpeer_tests::suite::Driver;
use serde_json::json;

suite!(
    "the file system of temporary files",
    a_part_that_is_missing_is_named_and_not_made_anew,
    a_log_of_another_directory_is_refused,
    a_first_start_that_was_cut_short_is_begun_anew,
    a_format_of_an_earlier_build_is_completed,
    a_directory_of_somebody_else_is_left_alone,
    a_lock_that_is_deleted_lets_nobody_in,
    a_device_names_what_is_missing,
);

/// A server with one document that has ended in order.
fn stopped(options: &Options) -> Server {
    let mut server = options.start();
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": "kept"}}));
    assert!(server.terminate().0.success());
    server
}

fn check_kept(server: Server) -> Server {
    let server = server.restart();
    let rows = server.client().select("SELECT * FROM cars", &json!({}));
    assert_eq!(rows, [json!({"_id": "kept"})]);
    server
}

/// The start is refused, and says this.
fn check_refused(options: &Options, part: &str) {
    let refused = options.try_start().expect_err("a start that must be refused");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains(part), "`{part}` is not in: {}", refused.stderr);
    assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
}

/// The names in a directory, sorted.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("it is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn a_part_that_is_missing_is_named_and_not_made_anew(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.join("data"));
    let mut server = stopped(&options);
    let away = scratch.join("away");
    for (part, named) in [
        ("log", "log is missing"),
        ("identity", "identity is missing"),
        ("FORMAT", "FORMAT is missing"),
    ] {
        let path = options.data.join(part);
        fs::rename(&path, &away).expect("it was there");
        let before = names(&options.data);
        check_refused(&options, named);
        assert!(!path.exists(), "{part} was made anew");
        assert_eq!(names(&options.data), before, "without {part}");
        fs::rename(&away, &path).expect("ours");
        server = check_kept(server);
        assert!(server.terminate().0.success());
    }

    // Both files of the identity at once: what is in the log still shows whose directory it is.
    for part in ["identity", "FORMAT"] {
        fs::rename(options.data.join(part), scratch.join(part)).expect("it was there");
    }
    check_refused(&options, "FORMAT is missing");
    assert!(!options.data.join("identity").exists(), "no new identity meets the old log");
    for part in ["identity", "FORMAT"] {
        fs::rename(scratch.join(part), options.data.join(part)).expect("ours");
    }

    // The segments alone: the directory is there, and empty.
    fs::rename(options.data.join("log"), &away).expect("it was there");
    fs::create_dir(options.data.join("log")).expect("ours");
    check_refused(&options, "log/0000000000000001.seg is missing");
    fs::remove_dir(options.data.join("log")).expect("nothing was made in it");
    fs::rename(&away, options.data.join("log")).expect("ours");
    check_kept(server);
}

fn a_log_of_another_directory_is_refused(driver: Driver) {
    let scratch = Scratch::new();
    let (one, two) = (scratch.join("one"), scratch.join("two"));
    stopped(&Options::new(driver, &one));
    stopped(&Options::new(driver, &two));
    fs::rename(one.join("log"), scratch.join("away")).expect("it was there");
    fs::rename(two.join("log"), one.join("log")).expect("it was there");
    check_refused(&Options::new(driver, &one), "files of two directories were mixed");
    fs::rename(one.join("log"), two.join("log")).expect("ours");
    fs::rename(scratch.join("away"), one.join("log")).expect("ours");
    fs::copy(two.join("identity"), one.join("identity")).expect("ours");
    check_refused(&Options::new(driver, &one), "of another store");
}

fn a_first_start_that_was_cut_short_is_begun_anew(driver: Driver) {
    // What a start makes one after the other; it was killed behind each.
    for made in [
        &["identity.new"][..],
        &["identity.new", "log/spare.tmp"],
        &["log/spare.tmp"],
        &["log/spare.tmp", "first-start.pending", "first-start.pending.new"],
    ] {
        let scratch = Scratch::new();
        let options = Options::new(driver, scratch.join("data"));
        for name in made {
            let path = options.data.join(name);
            fs::create_dir_all(path.parent().expect("in the directory")).expect("temporary");
            fs::write(path, "half").expect("temporary");
        }
        let server = options.start();
        assert!(!server.app.is_empty(), "it is a first start: {}", server.ready);
    }
}

fn a_format_of_an_earlier_build_is_completed(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.join("data"));
    let server = stopped(&options);
    let format = options.data.join("FORMAT");
    let whole = fs::read_to_string(&format).expect("a start writes it");
    let earlier: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(earlier, "bigpeer 1\npartitions 16\n");
    fs::write(&format, &earlier).expect("ours");
    check_kept(server);
    assert_eq!(fs::read_to_string(&format).expect("it is there"), whole);

    // Without a log it was no first start either: an earlier build wrote the file before any log.
    fs::write(&format, &earlier).expect("ours");
    fs::rename(options.data.join("log"), scratch.join("away")).expect("it was there");
    check_refused(&options, "log is missing");
}

fn a_directory_of_somebody_else_is_left_alone(driver: Driver) {
    for foreign in [&["lock"][..], &["lock", "holiday.jpg"], &["log/app.log"], &["checkpoint"]] {
        let scratch = Scratch::new();
        let data = scratch.join("data");
        for name in foreign {
            let path = data.join(name);
            fs::create_dir_all(path.parent().expect("in the directory")).expect("temporary");
            fs::write(path, "theirs").expect("temporary");
        }
        let before = names(&data);
        check_refused(&Options::new(driver, &data), "choose an empty one with --data");
        assert_eq!(names(&data), before);
        if let Ok(text) = fs::read_to_string(data.join("lock")) {
            assert_eq!(text, "theirs");
        }
    }
}

fn a_lock_that_is_deleted_lets_nobody_in(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.join("data"));
    let server = options.start();
    fs::remove_file(options.data.join("lock")).expect("a running server has one");
    check_refused(&options, &format!("in use by process {}", server.pid()));
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
}

fn a_device_names_what_is_missing(_: Driver) {
    let scratch = Scratch::new();
    let data = scratch.join("device");
    let run = |statement: &str| {
        let mut command = Command::new(bigpeer());
        command.args(["peer", "--app", "00000000-0000-0000-0000-000000000001", "--data"]);
        command.arg(&data).args(["--execute", statement, "--args", r#"{"doc":{"_id":"kept"}}"#]);
        command.output().expect("the binary was just built")
    };
    let made = run("INSERT INTO cars DOCUMENTS (:doc)");
    assert!(made.status.success(), "{}", printed(&made));
    let away = scratch.join("away");
    for part in ["log", "identity", "FORMAT"] {
        let path = data.join(part);
        fs::rename(&path, &away).expect("it was there");
        let refused = run("SELECT * FROM cars");
        let text = printed(&refused);
        assert!(
            !refused.status.success() && text.contains(&format!("{part} is missing")),
            "{text}"
        );
        assert!(!path.exists(), "{part} was made anew");
        fs::rename(&away, &path).expect("ours");
        let text = printed(&run("SELECT * FROM cars"));
        assert!(text.contains("kept"), "{text}");
    }
}
