//! The instructions that a server spends on one request, counted by Valgrind; those of the kernel are not among them.
//! Times of two builds differ by chance more than the builds do, and these counts repeat within one or two of a hundred on
//! a machine that others use.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Plan;
use crate::client::is_whole;
use crate::process::Server;
use crate::request::{Target, Template};

/// Instructions of one request to a server that does nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    /// To the empty handler.
    pub(crate) empty: f64,
    /// A read of one document by its id.
    pub(crate) read: f64,
    /// A durable INSERT of one document.
    pub(crate) insert: f64,
}

/// The difference between two runs is what the requests cost: a start costs as much in both.
const REQUESTS: [u64; 2] = [200, 2_200];

/// Requests go to so many connections in turn, one after the other.
const CONNECTIONS: usize = 4;

/// Counts for one build of the server.
///
/// # Errors
///
/// If Valgrind is missing, a server does not start or end in order, or a request fails.
pub(crate) fn measure(
    plan: &Plan,
    bigpeer: &Path,
    driver: &str,
    data: &Path,
) -> io::Result<Instructions> {
    let per_request = |workload| {
        let [few, many] = REQUESTS.map(|requests| {
            Ok::<_, io::Error>(count(plan, bigpeer, driver, data, workload, requests)? as f64)
        });
        Ok::<_, io::Error>((many? - few?) / (REQUESTS[1] - REQUESTS[0]) as f64)
    };
    Ok(Instructions {
        empty: per_request(Workload::Empty)?,
        read: per_request(Workload::Read)?,
        insert: per_request(Workload::Insert)?,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    Empty,
    Read,
    Insert,
}

/// All instructions of a server from its start to its end.
fn count(
    plan: &Plan,
    bigpeer: &Path,
    driver: &str,
    data: &Path,
    workload: Workload,
    requests: u64,
) -> io::Result<u64> {
    let directory = data.join("server");
    // The server counted before has left it.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(data)?;
    let counts = data.join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    // Valgrind says much about system calls that it does not know, and the server about its ends.
    valgrind.arg(bigpeer).stderr(Stdio::null());
    let server = Server::start_by(valgrind, &directory, driver, plan.shards).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let remedy = if missing { ": install valgrind, it counts the instructions" } else { "" };
        io::Error::other(format!("valgrind: {error}{remedy}"))
    })?;
    let connect = |_| TcpStream::connect(server.process.address);
    let mut connections = (0..CONNECTIONS).map(connect).collect::<io::Result<Vec<_>>>()?;
    connections.iter().try_for_each(|connection| connection.set_nodelay(true))?;
    // The document that is read has another id than those that are inserted.
    let mut insert = Template::insert(&server.access, Target::Execute);
    exchange(&mut connections[0], insert.with_id(0))?;
    let mut template = match workload {
        Workload::Empty => Template::read(&server.access, Target::Empty),
        Workload::Read => Template::read(&server.access, Target::Execute),
        Workload::Insert => insert,
    };
    for (request, connection) in (1..=requests).zip((0..CONNECTIONS).cycle()) {
        let id = if workload == Workload::Insert { request } else { 0 };
        exchange(&mut connections[connection], template.with_id(id))?;
    }
    drop(connections);
    server.process.end()?;
    total(&fs::read_to_string(counts)?)
}

/// Sends a request and waits for the whole answer.
fn exchange(connection: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    connection.write_all(request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !is_whole(&answer)? {
        let count = connection.read(&mut part)?;
        if count == 0 {
            return Err(io::Error::other("the server closed the connection"));
        }
        answer.extend_from_slice(&part[..count]);
    }
    Ok(())
}

/// The sum in what Valgrind has written.
fn total(counts: &str) -> io::Result<u64> {
    let line = counts.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = line.and_then(|total| total.trim().parse().ok());
    total.ok_or_else(|| io::Error::other("Valgrind wrote no totals: did the server end in order?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_found_among_what_valgrind_writes() {
        assert_eq!(total("events: Ir\nfn=(1)\n1 5\n\ntotals: 1234\n").expect("a sum"), 1234);
        assert!(total("events: Ir\n").is_err());
    }
}
