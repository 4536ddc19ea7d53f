//! Where the kernel refuses io_uring, as in a container: `auto` serves on epoll, and a ring driver says why not.

use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::Options;
use bigpeer_tests::suite::{Driver, conclude};
use libtest_mimic::Trial;
use serde_json::json;

type Claim = (&'static str, fn());

fn main() {
    let claims: [Claim; 3] = [
        ("auto_serves_on_epoll_and_says_so_in_one_line", auto_serves_on_epoll),
        ("a_ring_driver_that_was_asked_for_says_why_not", ring_drivers_say_why_not),
        ("epoll_needs_no_ring", epoll_needs_no_ring),
    ];
    let trials = claims.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    conclude(trials.collect(), &[Driver::Epoll], "io_uring forbidden by a seccomp filter");
}

fn without_io_uring(driver: &str, scratch: &Scratch) -> Options {
    let mut options = Options::new(Driver::Epoll, scratch.path());
    options.driver = driver.to_owned();
    options.without_io_uring = true;
    options
}

fn auto_serves_on_epoll() {
    let scratch = Scratch::new();
    let mut server = without_io_uring("auto", &scratch).start();
    assert_eq!(server.ready["driver"], "epoll");
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
    let (status, log) = server.terminate();
    assert!(status.success(), "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("epoll") && lines[0].contains("seccomp"), "{}", lines[0]);
}

fn ring_drivers_say_why_not() {
    for driver in ["glommio", "tokio-uring"] {
        let scratch = Scratch::new();
        let refused = without_io_uring(driver, &scratch).try_start().expect_err("there is no ring");
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
        assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
        let lines: Vec<_> = refused.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{}", refused.stderr);
        for part in [driver, "needs io_uring", "seccomp", "--driver epoll"] {
            assert!(lines[0].contains(part), "`{part}` is not in: {}", lines[0]);
        }
    }
}

fn epoll_needs_no_ring() {
    let scratch = Scratch::new();
    let server = without_io_uring("epoll", &scratch).start();
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
}
