//! The data sets: 406 cars and 34,006 cities.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::binary::printed;

/// How many cars there are.
pub const CAR_COUNT: usize = 406;

/// How many cities there are.
pub const CITY_COUNT: usize = 34_006;

/// The file of the cars: one JSON array.
#[must_use]
pub fn cars_file() -> PathBuf {
    fetched()[0].clone()
}

/// The file of the cities: one JSON object per line.
#[must_use]
pub fn cities_file() -> PathBuf {
    fetched()[1].clone()
}

/// The cars, read without any code of the server's.
///
/// # Panics
///
/// When the file is not what it should be.
#[must_use]
pub fn cars() -> Vec<Value> {
    let bytes = std::fs::read(cars_file()).expect("it was just fetched");
    let cars: Vec<Value> = serde_json::from_slice(&bytes).expect("an array of objects");
    assert_eq!(cars.len(), CAR_COUNT);
    cars
}

/// The cities, read without any code of the server's.
///
/// # Panics
///
/// When the file is not what it should be.
#[must_use]
pub fn cities() -> Vec<Value> {
    let text = std::fs::read_to_string(cities_file()).expect("it was just fetched");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("an object per line"));
    let cities: Vec<Value> = lines.collect();
    assert_eq!(cities.len(), CITY_COUNT);
    cities
}

/// The script prints the two paths.
fn fetched() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fetch-datasets.sh");
        let output = Command::new("sh").arg(script).output().expect("there is a shell");
        assert!(output.status.success(), "{}", printed(&output));
        let text = String::from_utf8(output.stdout).expect("paths are text");
        let files: Vec<_> = text.lines().map(PathBuf::from).collect();
        assert_eq!(files.len(), 2, "two files, and {text} was printed");
        files
    })
}
