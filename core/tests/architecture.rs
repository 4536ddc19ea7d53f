//! Holds what `ARCHITECTURE.md` says about this crate: which modules may know which, and that nothing in here
//! reaches for the world.

use std::fs;
use std::path::{Path, PathBuf};

/// A module may name those before it, never those after it.
const ORDER: &[&str] = &[
    "time", "ident", "rng", "plant", "map", "seam", "disk", "disk_sim", "value", "codec",
    "document", "log", "store", "dql", "auth", "sync", "node",
];

/// What would tie the engine to a runtime, a clock or a device.
const FORBIDDEN: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime",
    "async fn",
    "async move",
    ".await",
    "tokio",
    "glommio",
    "println!",
    "unsafe {",
];

#[test]
fn modules_know_only_those_before_them() {
    let mut wrong = Vec::new();
    for (path, module, code) in sources() {
        let place = ORDER
            .iter()
            .position(|name| *name == module)
            .unwrap_or_else(|| panic!("{}: module `{module}` is not in ORDER", path.display()));
        for (line, text) in code.iter().enumerate() {
            for known in named_modules(text) {
                let allowed =
                    ORDER.iter().position(|name| *name == known).is_none_or(|at| at <= place);
                if !allowed {
                    wrong.push(format!("{}:{}: {module} knows {known}", path.display(), line + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "modules out of order:\n{}", wrong.join("\n"));
}

#[test]
fn the_document_lists_the_modules_in_this_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(path).expect("the document is there");
    // Such a line reads: 3. **`rng`** is seeded randomness.
    let listed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(". **`"))
        .filter(|(number, _)| number.parse::<usize>().is_ok())
        .filter_map(|(_, rest)| rest.split_once("`**"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(listed, ORDER);
}

/// Tests may: one is told by the environment how far to go.
#[test]
fn the_engine_does_not_reach_for_the_world() {
    let mut wrong = Vec::new();
    for (path, _, code) in sources().into_iter().filter(|(path, ..)| !is_test(path)) {
        for (line, text) in code.iter().enumerate() {
            for forbidden in FORBIDDEN {
                if text.contains(forbidden) {
                    wrong.push(format!("{}:{}: {forbidden}", path.display(), line + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the engine must stay pure:\n{}", wrong.join("\n"));
}

#[test]
fn no_source_file_is_too_long_to_read() {
    for (path, _, code) in sources() {
        assert!(
            code.len() <= 900,
            "{} has {} lines: cut it along a seam",
            path.display(),
            code.len()
        );
    }
}

/// Every source file but `lib.rs`, with its top-level module and its lines without comments.
fn sources() -> Vec<(PathBuf, String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source folder can be listed") {
            let path = entry.expect("a folder's entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
        .into_iter()
        .filter(|path| *path != root.join("lib.rs"))
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("it was found below the root");
            let first = inside.components().next().expect("a file has a name").as_os_str();
            let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let code = text
                .lines()
                .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
                .map(str::to_owned)
                .collect();
            (path, module, code)
        })
        .collect()
}

/// Files that are compiled for tests alone: `tests.rs`, and all in a folder `tests`.
fn is_test(path: &Path) -> bool {
    let inside = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    inside.ends_with("tests.rs") || inside.iter().any(|part| part == "tests")
}

fn named_modules(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, prefix)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}
