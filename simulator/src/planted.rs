//! Planted bugs: the tester tested.

/// Runs each planted bug against seeds until one finds it.
pub(crate) fn run(_threads: usize, _only: Option<&str>) -> bool {
    println!("this build has no planted bugs: build it with --features planted-bugs");
    false
}
