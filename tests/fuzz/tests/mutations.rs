//! Every target over the committed vectors, over mutations of them, and over what once crashed it.

use std::fs;
use std::path::{Path, PathBuf};

use bigpeer_core::rng::Rng;
use bigpeer_fuzz::{TARGETS, Target};

/// Mutations of each target in one test run; `BIGPEER_MUTATIONS` asks for more.
const MUTATIONS: u64 = 20_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The byte strings of a file of vectors: `# name`, then lines of hexadecimal digits or `zeros N`.
fn read_vectors(name: &str) -> Vec<Vec<u8>> {
    let path = root().join(format!("core/tests/vectors/{name}.hex"));
    let text = fs::read_to_string(&path).expect("the vectors are committed");
    let mut vectors: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("# ") {
            vectors.push(Vec::new());
            continue;
        }
        let vector = vectors.last_mut().expect("a name comes first");
        if let Some(count) = line.strip_prefix("zeros ") {
            vector.resize(vector.len() + count.parse::<usize>().expect("a number"), 0);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
        vector.extend(line.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
    }
    vectors
}

/// Frames as the target `session` takes them.
fn with_lengths(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames.iter().filter(|frame| frame.len() < 1 << 16) {
        bytes.extend_from_slice(&(frame.len() as u16).to_le_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn beginnings(target: &Target) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
    for name in target.vectors {
        let vectors = read_vectors(name);
        if target.name == "session" {
            found.push(with_lengths(&vectors));
        } else {
            found.extend(vectors);
        }
    }
    found
}

/// One small change: a bit, a byte, a run cut out, doubled or taken from another beginning, or a number at an edge.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let end = (at + rng.below(9) as usize).min(bytes.len());
    match rng.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let run = bytes[at..end].to_vec();
            bytes.splice(at..at, run);
        }
        4 => bytes.truncate(at),
        5 if !other.is_empty() => {
            let from = rng.below(other.len() as u64) as usize;
            let to = (from + 1 + rng.below(32) as usize).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            let edge = [0, 1, 0x7F, 0x80, 0xFF][rng.below(5) as usize];
            let count = 1 + rng.below(10) as usize;
            bytes.splice(at..end, std::iter::repeat_n(edge, count));
        }
    }
}

#[test]
fn no_target_panics_on_what_is_near_the_good() {
    let count = std::env::var("BIGPEER_MUTATIONS").ok().and_then(|count| count.parse().ok());
    for target in TARGETS {
        let beginnings = beginnings(target);
        assert!(!beginnings.is_empty(), "{} has something to begin with", target.name);
        beginnings.iter().for_each(|bytes| (target.run)(bytes));
        let mut rng = Rng::new(&[1; 32], target.name);
        for _ in 0..count.unwrap_or(MUTATIONS) {
            let mut pick = || &beginnings[rng.below(beginnings.len() as u64) as usize];
            let (mut bytes, other) = (pick().clone(), pick().clone());
            for _ in 0..1 + rng.below(4) {
                mutate(&mut bytes, &other, &mut rng);
            }
            (target.run)(&bytes);
        }
    }
}

#[test]
fn what_once_crashed_a_target_is_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for target in TARGETS {
        let Ok(files) = fs::read_dir(folder.join(target.name)) else { continue };
        for file in files {
            let path = file.expect("the folder can be read").path();
            (target.run)(&fs::read(path).expect("the file can be read"));
        }
    }
}

#[test]
fn each_target_has_a_libfuzzer_binary() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("it is committed");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
