//! The program as its users run it.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_bigpeer-sim");
    Command::new(program).args(arguments).output().expect("the program was built with this test")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the program prints text")
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    let (one, two, other) = (sim(&["--seed", "3"]), sim(&["--seed", "3"]), sim(&["--seed", "4"]));
    assert!(one.status.success(), "{}", text(&one));
    assert!(text(&one).contains("\ntrace "), "{}", text(&one));
    assert_eq!(text(&one), text(&two));
    assert_ne!(text(&one), text(&other));
}

#[test]
fn a_run_that_meets_a_state_too_rarely_fails_and_names_it() {
    let output = sim(&["--seeds", "0..1", "--coverage", "1000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("occurred fewer than 1000000 times: [PowerCut"));
}

#[test]
fn a_wrong_range_is_a_wrong_use() {
    for arguments in [["--seeds", "5..5"], ["--seeds", "5"], ["--seed", "x"]] {
        assert_eq!(sim(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}
