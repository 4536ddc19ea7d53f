//! A directory whose owner knows what log must be in it.

use super::*;

/// A log with these records, closed, and what opening it as `expected` comes to.
fn reopened(sizes: &[&[usize]], expected: impl Fn(LogId) -> LogExpected) -> Bench {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    for sizes in sizes {
        bench.append_sizes(sizes);
        bench.settle();
    }
    let id = bench.log.log_id().expect("it is open");
    bench.disk.crash();
    bench.config.expected = expected(id);
    bench.reopen();
    bench.settle();
    bench
}

const OTHER: LogId = LogId(crate::ident::Uuid([9; 16]));

#[test]
fn a_log_that_is_known_opens_and_another_one_does_not() {
    for expected in [LogExpected::This, |_| LogExpected::Existing] {
        let bench = reopened(&[&[10]], expected);
        assert_eq!(bench.failed, None);
        assert!(bench.opened.is_some_and(|opened| !opened.created));
    }
    let bench = reopened(&[&[10]], |_| LogExpected::This(OTHER));
    let Some(LogError::Other { file, expected, .. }) = bench.failed else { panic!("refused") };
    assert_eq!((&*file, expected), ("log/0000000000000001.seg", OTHER));
}

#[test]
fn a_log_that_was_lost_is_not_made_anew() {
    for expected in [LogExpected::This(OTHER), LogExpected::Existing] {
        let mut bench = Bench::new(1, 4_096);
        bench.config.expected = expected;
        bench.disk = VirtualDisk::new(&[0; 32]);
        bench.reopen();
        bench.settle();
        let missing = LogError::Missing { file: "log/0000000000000001.seg".into() };
        assert_eq!(bench.failed, Some(missing));
        assert_eq!(bench.disk.files().count(), 0, "nothing was made");
    }
}

#[test]
fn an_unfinished_directory_opens_with_a_log_without_records_and_with_no_other() {
    let bench = reopened(&[], |_| LogExpected::Unwritten);
    assert_eq!(bench.failed, None);
    assert!(bench.opened.is_some());
    // Few enough for one segment, and so many that the first ones have gone.
    for groups in [1, 40] {
        let sizes = vec![&[500_usize][..]; groups];
        let bench = reopened(&sizes, |_| LogExpected::Unwritten);
        let Some(LogError::Unnamed { file }) = bench.failed else { panic!("refused") };
        assert!(file.ends_with(".seg"), "{file}");
    }
    let mut bench = Bench::new(1, 4_096);
    bench.config.expected = LogExpected::Unwritten;
    bench.config.replay_from = Txn(7);
    bench.disk = VirtualDisk::new(&[0; 32]);
    bench.reopen();
    bench.settle();
    let file = "checkpoint/0000000000000007.ckpt".into();
    assert_eq!(bench.failed, Some(LogError::Unnamed { file }));
}

#[test]
fn what_is_refused_is_left_as_it_was() {
    let mut bench = reopened(&[&[10]], |_| LogExpected::Unwritten);
    assert!(matches!(bench.failed, Some(LogError::Unnamed { .. })));
    bench.config.expected = LogExpected::Anything;
    bench.crash_and_open();
}
