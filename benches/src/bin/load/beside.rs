//! What large answers do to others: point reads beside a scan, and a client that never reads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::client::Load;
use crate::figures::median;
use crate::process::Server;
use crate::request::{self, Ids, Target, Template};
use crate::rounds::fill;

/// Point reads without and with a scan on the same thread, and the memory that an unread answer takes.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Documents in the scanned collection.
    pub(crate) documents: usize,
    /// How long a scan takes while nothing else runs, in milliseconds.
    pub(crate) scan_ms: f64,
    /// For 1 and 16 reading connections.
    pub(crate) reads: Vec<ReadsBeside>,
    /// The bytes of the answer that nobody reads.
    pub(crate) answer_bytes: u64,
    /// What the server grew by, for each client that does not read.
    pub(crate) unread_bytes: u64,
    /// How many such clients there were.
    pub(crate) unread_clients: u64,
}

/// Medians over the pairs, and of the ratios within a pair.
#[derive(Debug)]
pub(crate) struct ReadsBeside {
    /// How many connections read.
    pub(crate) connections: usize,
    /// The 99th percentile while nothing else runs.
    pub(crate) idle_p99_us: f64,
    /// The same while one connection scans without a pause.
    pub(crate) busy_p99_us: f64,
    /// The second over the first.
    pub(crate) ratio: f64,
    /// Scans per second meanwhile.
    pub(crate) scans_per_second: f64,
}

/// Counts all, and looks at each to do so.
const SCAN: &str = "SELECT COUNT(*) AS n FROM big WHERE number >= 0 AND text != 'x'";

/// The answer of some 100 MB.
const EVERYTHING: &str = "SELECT * FROM big";

/// Point reads choose from these.
const DOCUMENTS_READ: u64 = 1_000;

const UNREAD_CLIENTS: u64 = 4;

/// Measures on a server with one thread.
///
/// # Errors
///
/// When the server does not start, or a request fails.
pub(crate) fn measure(plan: &Plan, driver: &str, data: &Path) -> io::Result<Beside> {
    let server = Server::start(&plan.bigpeer, data, driver, 1)?;
    fill(&server, "bench", DOCUMENTS_READ, request::small_document)?;
    fill(&server, "big", plan.documents as u64, request::large_document)?;
    let (answer_bytes, unread_bytes) = unread(&server)?;
    let scan_ms = {
        let begun = Instant::now();
        scan(&server, &mut TcpStream::connect(server.process.address)?)?;
        begun.elapsed().as_secs_f64() * 1e3
    };
    let reads = [1, 16].into_iter().map(|connections| reads(plan, &server, connections));
    Ok(Beside {
        documents: plan.documents,
        scan_ms,
        reads: reads.collect::<io::Result<_>>()?,
        answer_bytes,
        unread_bytes,
        unread_clients: UNREAD_CLIENTS,
    })
}

fn reads(plan: &Plan, server: &Server, connections: usize) -> io::Result<ReadsBeside> {
    let (mut idle, mut busy, mut scans) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        idle.push(p99(plan, server, connections)?);
        let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let scanner = scope.spawn(|| -> io::Result<()> {
                let mut stream = TcpStream::connect(server.process.address)?;
                while !is_over.load(Ordering::Relaxed) {
                    scan(server, &mut stream)?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let measured = p99(plan, server, connections);
            scans.push(count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
            is_over.store(true, Ordering::Relaxed);
            scanner.join().expect("scanning does not panic")?;
            busy.push(measured?);
            Ok::<_, io::Error>(())
        })?;
    }
    let ratio = median(busy.iter().zip(&idle).map(|(busy, idle)| busy / idle));
    let (idle_p99_us, busy_p99_us) = (median(idle), median(busy));
    Ok(ReadsBeside {
        connections,
        idle_p99_us,
        busy_p99_us,
        ratio,
        scans_per_second: median(scans),
    })
}

fn p99(plan: &Plan, server: &Server, connections: usize) -> io::Result<f64> {
    let mut template = Template::read(&server.access, Target::Execute);
    let mut ids = Ids::Known { below: DOCUMENTS_READ, state: 88_172_645_463_325_252 };
    let load = Load {
        address: server.process.address,
        connections,
        time: plan.time,
        template: &mut template,
        ids: &mut ids,
    };
    let (answered, ..) = load.run(|| Ok(()))?;
    Ok(answered.latencies.quantile_us(0.99))
}

/// One scan, to its end.
fn scan(server: &Server, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&request::statement(&server.access, SCAN))?;
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer[..count]);
    Err(io::Error::other(format!("the scan failed: {text}")))
}

/// The size of an answer, and how much memory each client takes that asks for it and never reads.
fn unread(server: &Server) -> io::Result<(u64, u64)> {
    let request = request::statement(&server.access, EVERYTHING);
    let before = server.process.resident_bytes()?;
    let mut clients = Vec::new();
    for _ in 0..UNREAD_CLIENTS {
        let mut stream = TcpStream::connect(server.process.address)?;
        stream.write_all(&request)?;
        clients.push(stream);
    }
    let most = most_resident(server)?;
    drop(clients);
    Ok((answer_bytes(server, &request)?, most.saturating_sub(before) / UNREAD_CLIENTS))
}

/// The greatest memory, until a second has passed in which nothing was sent.
fn most_resident(server: &Server) -> io::Result<u64> {
    let (mut most, mut sent, mut quiet_since) = (0, -1.0, Instant::now());
    while quiet_since.elapsed() < Duration::from_secs(1) {
        most = most.max(server.process.resident_bytes()?);
        let now = server.counters()?;
        // Each look at the counters sends a few KiB itself.
        let moved = now.get("bigpeer_sent_bytes_total");
        if moved - sent > 64e3 {
            quiet_since = Instant::now();
        }
        sent = moved;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(most)
}

fn answer_bytes(server: &Server, request: &[u8]) -> io::Result<u64> {
    let mut stream = TcpStream::connect(server.process.address)?;
    stream.write_all(request)?;
    // The server closes once the last request is answered.
    stream.shutdown(Shutdown::Write)?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => bytes += count as u64,
        }
    }
}
