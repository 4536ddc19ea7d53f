//! The processes that are measured, seen from outside: started, asked for their counters, ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bigpeer_core::value::{Object, Value, json};

use crate::request::Access;

/// A child that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Where it takes requests.
    pub(crate) address: SocketAddr,
}

/// A server of ours.
#[derive(Debug)]
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Process,
    /// What a request needs beside its statement.
    pub(crate) access: Access,
    admin: SocketAddr,
}

/// The counters of a server, by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<String, f64>);

impl Process {
    /// Starts the bare responder: this program in another role.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(crate) fn bare_responder(threads: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let (child, line) = start(command.arg("--bare-responder").arg(threads.to_string()))?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address })
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end in order, and waits until it has.
    ///
    /// # Errors
    ///
    /// If there is no program `kill`.
    pub(crate) fn end(mut self) -> io::Result<()> {
        Command::new("kill").arg(self.id().to_string()).status()?;
        self.child.wait().map(drop)
    }

    /// The CPU time of all its threads so far, those that ended included.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu_of(&format!("/proc/{}/stat", self.id()))
    }

    /// The memory that is its own, in bytes.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS in /proc"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on an empty directory.
    ///
    /// # Errors
    ///
    /// When it does not become ready: its own words are on standard error.
    pub(crate) fn start(
        bigpeer: &Path,
        data: &Path,
        driver: &str,
        shards: usize,
    ) -> io::Result<Self> {
        Self::start_by(Command::new(bigpeer), data, driver, shards)
    }

    /// As [`Server::start`], by a command that may be another program's with the server behind it.
    ///
    /// # Errors
    ///
    /// Those of [`Server::start`], and if the other program is not there.
    pub(crate) fn start_by(
        command: Command,
        data: &Path,
        driver: &str,
        shards: usize,
    ) -> io::Result<Self> {
        let (child, line) = start(&mut serve(command, data, driver, shards))?;
        let ready = json::parse(line.as_bytes(), json::Limits::default()).map_err(|error| {
            io::Error::other(format!("the server did not say that it is ready: {error:?}"))
        })?;
        let ready =
            ready.as_object().ok_or_else(|| io::Error::other("not the line of a server"))?;
        if text(ready, "driver")? != driver {
            let chosen = text(ready, "driver")?;
            return Err(io::Error::other(format!("asked for {driver}, runs on {chosen}")));
        }
        let address = text(ready, "listen")?.parse().map_err(io::Error::other)?;
        let admin = text(ready, "admin")?.parse().map_err(io::Error::other)?;
        let access = match ready.get("firstStart").and_then(Value::as_str) {
            Some(file) => access(file)?,
            // Earlier builds say it themselves, and may be rivals.
            None => access_in(ready)?,
        };
        Ok(Self { process: Process { child, address }, access, admin })
    }

    /// Starts a server on a directory that has served, ends it, and says how long it took to answer.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub(crate) fn reopen(
        bigpeer: &Path,
        data: &Path,
        driver: &str,
        shards: usize,
    ) -> io::Result<Duration> {
        let begun = Instant::now();
        let (mut child, line) = start(&mut serve(Command::new(bigpeer), data, driver, shards))?;
        let time = begun.elapsed();
        child.kill()?;
        child.wait()?;
        let is_ready = json::parse(line.as_bytes(), json::Limits::default()).is_ok();
        is_ready.then_some(time).ok_or_else(|| io::Error::other("the server did not open its log"))
    }

    /// What the server counts.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let lines = answer.lines().filter_map(|line| line.split_once(' '));
        let pairs = lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok(Counters(pairs.collect()))
    }
}

impl Counters {
    /// The value of a counter, zero when it has none.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }
}

/// The CPU time of a process or thread, from its `stat` file: user and system, in hundredths of a second.
///
/// # Errors
///
/// When it is gone.
pub(crate) fn cpu_of(stat: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(stat)?;
    // The name in parentheses may hold anything; what follows it is regular.
    let (_, after) = stat.rsplit_once(')').ok_or_else(|| io::Error::other("not a stat file"))?;
    let ticks =
        after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

fn serve(mut command: Command, data: &Path, driver: &str, shards: usize) -> Command {
    command.args(["serve", "--json", "--bench-empty-handler", "--driver", driver]);
    command.args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--shards", &shards.to_string()]);
    command.arg("--data").arg(data);
    command
}

fn start(command: &mut Command) -> io::Result<(Child, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
    Ok((child, line))
}

/// What a first start wrote down for its owner.
fn access(file: &str) -> io::Result<Access> {
    let written = json::parse(&fs::read(file)?, json::Limits::default())
        .map_err(|error| io::Error::other(format!("{file} is no JSON: {error:?}")))?;
    let written = written.as_object().ok_or_else(|| io::Error::other("not a first start's"))?;
    access_in(written)
}

fn access_in(object: &Object) -> io::Result<Access> {
    Ok(Access { app: text(object, "app")?.into(), key: text(object, "apiKey")?.into() })
}

fn text<'a>(object: &'a Object, name: &str) -> io::Result<&'a str> {
    let value = object.get(name).and_then(Value::as_str);
    value.ok_or_else(|| io::Error::other(format!("the server did not say `{name}`")))
}
