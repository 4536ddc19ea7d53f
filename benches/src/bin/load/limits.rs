//! What the machine itself can do: a round trip, a sync, a copy.

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::figures::Latencies;

/// The limits of the machine.
#[derive(Debug)]
pub(crate) struct Limits {
    /// A request of 512 bytes and an answer of 256 over loopback TCP, one at a time.
    pub(crate) round_trip: Latencies,
    /// Writing 4 KiB into a file that has all its blocks, and syncing its data.
    pub(crate) sync: Latencies,
    /// Copying 64 MiB in memory.
    pub(crate) copy_bytes_per_second: f64,
}

/// How long each limit is measured.
const TIME: Duration = Duration::from_millis(500);

/// Measures the limits; the disk is the one below `data`.
///
/// # Errors
///
/// When sockets or files cannot be made.
pub(crate) fn measure(data: &Path) -> io::Result<Limits> {
    Ok(Limits { round_trip: round_trips()?, sync: syncs(data)?, copy_bytes_per_second: copies() })
}

fn round_trips() -> io::Result<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut request = [0; 512];
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&[1; 256])?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let latencies = repeat(|| {
        stream.write_all(&[2; 512])?;
        stream.read_exact(&mut [0; 256])
    })?;
    drop(stream);
    echo.join().expect("the echo does not panic")?;
    Ok(latencies)
}

fn syncs(data: &Path) -> io::Result<Latencies> {
    const BLOCK: usize = 4096;
    const BLOCKS: u64 = 4096;
    let path = data.join("sync-limit");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    for block in 0..BLOCKS {
        file.write_all_at(&[0; BLOCK], block * BLOCK as u64)?;
    }
    file.sync_all()?;
    let mut block = 0;
    let latencies = repeat(|| {
        block = (block + 1) % BLOCKS;
        file.write_all_at(&[3; BLOCK], block * BLOCK as u64)?;
        file.sync_data()
    });
    fs::remove_file(&path)?;
    latencies
}

fn repeat(mut act: impl FnMut() -> io::Result<()>) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    let mut last = begun;
    while last.duration_since(begun) < TIME {
        act()?;
        let now = Instant::now();
        latencies.push(now.duration_since(last));
        last = now;
    }
    Ok(latencies)
}

fn copies() -> f64 {
    const BYTES: usize = 64 << 20;
    let (from, mut to) = (vec![5_u8; BYTES], vec![0_u8; BYTES]);
    let (begun, mut copied) = (Instant::now(), 0.0);
    while begun.elapsed() < TIME {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        copied += BYTES as f64;
    }
    copied / begun.elapsed().as_secs_f64()
}
