//! Deliberate mistakes as the measure of the tests: `cargo run -p bigpeer-mutants -- --count 5 --draw 7`.
//!
//! A *mutant* is one small change of the code: a comparison that is off by one, a condition turned round, a call
//! left out, a function that answers at once. The tool copies the workspace, writes all drawn mutants into the
//! copy behind one number each, builds the copy once, and runs its unit tests and simulated worlds for each number
//! in turn. A mutant that neither of them notices *survives*: a test or a judge is missing, or the line is.
//!
//! ```text
//! find     the places that could be changed, in document, sync, store, node and connection
//! draw     a number of them, by a seed, none inside another
//! tree     the copy with all of them in it; those that do not compile are drawn again
//! judge    each mutant against the unit tests, then against simulated worlds
//! ```
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on its standard output")]

mod draw;
mod find;
mod judge;
mod known;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Draws mistakes, makes each of them, and says which ones the unit tests and the simulator do not notice.
///
/// Survivors fail nothing unless --least says how many of a hundred must be found.
#[derive(Debug, Parser)]
#[command(name = "bigpeer-mutants")]
struct Options {
    /// Draw this many mutants.
    #[arg(long, value_name = "N", default_value_t = 5)]
    count: usize,
    /// The seed of the draw; by default the number of the day, so that each day meets others.
    #[arg(long, value_name = "SEED")]
    draw: Option<u64>,
    /// Judge each mutant by so many simulated worlds.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// Judge only the mutants of these numbers, as a former run with the same draw and count printed them.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only: Vec<usize>,
    /// Fail when fewer than so many of a hundred are found; survivors that `healed.txt` names are not counted.
    #[arg(long, value_name = "PERCENT")]
    least: Option<u64>,
    /// Print the drawn mutants and end.
    #[arg(long)]
    list: bool,
    /// Build what judges the drawn mutants, see it pass without any, and end: a later run with the same draw, count and
    /// seeds has that done.
    #[arg(long)]
    build: bool,
    /// Take it that the unchanged code passes: whoever says so has just seen its tests and worlds pass.
    #[arg(long)]
    passed: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False when fewer were found than `--least` asks for.
fn run(options: &Options) -> Result<bool, String> {
    let workspace = workspace();
    let sites = find::sites(&workspace)?;
    let seed = options.draw.unwrap_or_else(draw::day);
    let mut drawn = draw::Draw::new(seed, sites.len());
    println!("{} places, {} drawn with --draw {seed}", sites.len(), options.count);
    let mut mutants = draw::mutants(&sites, &mut drawn, options.count);
    if options.list {
        mutants.iter().for_each(|(number, site)| println!("{number:>4} {site}"));
        return Ok(true);
    }
    let tree = tree::Tree::new(&workspace, options.count)?;
    let unit_tests = tree.build(&sites, &mut mutants, &mut drawn)?;
    let known = known::Known::read(&workspace)?;
    let judge = judge::Judge::new(&tree, unit_tests, options.seeds, options.passed)?;
    if options.build {
        return Ok(true);
    }
    let (mut found, mut healed, mut survivors) = (0, 0, Vec::new());
    for (number, site) in &mutants {
        if !options.only.is_empty() && !options.only.contains(number) {
            continue;
        }
        let verdict = judge.judge(*number, site)?;
        println!("{number:>4} {verdict:<60} {site}");
        match verdict {
            judge::Verdict::Survived if known.names(site) => healed += 1,
            judge::Verdict::Survived => survivors.push((number, site)),
            _ => found += 1,
        }
    }
    let counted = found + survivors.len();
    println!("\n{found} of {counted} found, {healed} healed by a second mechanism and not counted");
    if !survivors.is_empty() {
        println!("not found:");
        survivors.iter().for_each(|(number, site)| println!("{number:>4} {site}"));
    }
    let share = (found * 100).checked_div(counted).unwrap_or(100) as u64;
    Ok(options.least.is_none_or(|least| share >= least))
}

/// The workspace that this tool was built from.
fn workspace() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package lies two folders below the workspace").into()
}
