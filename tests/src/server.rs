//! A server process: started, spoken to, stopped, killed, started again.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary;
use crate::http::{Answer, Connection, request};
use crate::suite::Driver;
use crate::system;

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The word behind `--driver`.
    pub driver: String,
    /// The number behind `--shards`, if that is given.
    pub shards: Option<u16>,
    /// Whether io_uring is forbidden to the process, as a container's seccomp profile does.
    pub without_io_uring: bool,
    /// The weight of the log at which a checkpoint is made, if not the server's own choice.
    pub checkpoint_after_bytes: Option<u64>,
    /// Further words of the command line.
    pub arguments: Vec<String>,
    /// How many descriptors the process may have, if not as many as this one.
    pub descriptors: Option<u64>,
    /// Whether the process ends when its log has failed.
    pub exits_on_log_failure: bool,
}

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    options: Options,
    child: Child,
    stderr: Option<JoinHandle<String>>,
    /// The line that says that the server is ready.
    pub ready: Value,
    /// From the start of the process to that line.
    pub start_time: Duration,
    /// An app.
    pub app: String,
    /// A key that may do everything in that app.
    pub key: String,
    /// The token with which a device syncs that app.
    pub token: String,
}

/// A process that did not become ready.
#[derive(Debug)]
pub struct NotStarted {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub stderr: String,
}

impl Options {
    /// A server with this driver on this directory.
    #[must_use]
    pub fn new(driver: Driver, data: impl Into<PathBuf>) -> Self {
        let driver = driver.name().to_owned();
        Self {
            data: data.into(),
            driver,
            shards: None,
            without_io_uring: false,
            checkpoint_after_bytes: None,
            arguments: Vec::new(),
            descriptors: None,
            exits_on_log_failure: false,
        }
    }

    /// The same with this number of threads.
    #[must_use]
    pub fn shards(self, shards: u16) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// The same with a checkpoint whenever the log weighs so much more.
    #[must_use]
    pub fn checkpoint_after(self, bytes: u64) -> Self {
        Self { checkpoint_after_bytes: Some(bytes), ..self }
    }

    /// The same with further words on the command line.
    #[must_use]
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// The same with so many descriptors.
    #[must_use]
    pub fn descriptors(self, count: u64) -> Self {
        Self { descriptors: Some(count), ..self }
    }

    /// The same that ends when its log has failed.
    #[must_use]
    pub fn exits_on_log_failure(self) -> Self {
        Self { exits_on_log_failure: true, ..self }
    }

    /// The command line, with free ports.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary::bigpeer());
        command.args(["serve", "--json", "--driver", &self.driver]);
        command.arg("--data").arg(&self.data);
        for option in ["--listen", "--peer-listen", "--admin-listen"] {
            command.args([option, "127.0.0.1:0"]);
        }
        if let Some(shards) = self.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        if let Some(bytes) = self.checkpoint_after_bytes {
            command.args(["--checkpoint-after", &bytes.to_string()]);
        }
        command.args(&self.arguments);
        if self.exits_on_log_failure {
            command.arg("--exit-on-log-failure");
        }
        if let Some(count) = self.descriptors {
            system::limit_descriptors(&mut command, count);
        }
        if self.without_io_uring {
            system::forbid_io_uring(&mut command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`NotStarted`] when it ends before.
    ///
    /// # Panics
    ///
    /// When the process says something else than that it is ready.
    pub fn try_start(&self) -> Result<Server, NotStarted> {
        let started = Instant::now();
        let mut child = self.command().spawn().expect("the binary was just built");
        let stderr = child.stderr.take().expect("it is piped");
        let stderr = std::thread::spawn(move || read_to_end(stderr));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        if line.is_empty() {
            let status = child.wait().expect("it is our child");
            let stderr = stderr.join().expect("reading does not panic");
            return Err(NotStarted { status, stderr });
        }
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        assert_eq!(ready["event"], "ready", "{line}");
        let first = first_start(&ready);
        let text = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
        let (app, key, token) = (text("app"), text("apiKey"), text("developmentToken"));
        let start_time = started.elapsed();
        let (options, stderr) = (self.clone(), Some(stderr));
        Ok(Server { options, child, stderr, ready, start_time, app, key, token })
    }

    /// Starts a server.
    ///
    /// # Panics
    ///
    /// When it does not start, or runs another driver than the one asked for.
    #[must_use]
    pub fn start(&self) -> Server {
        let server = self.try_start().unwrap_or_else(|NotStarted { status, stderr }| {
            let driver = &self.driver;
            panic!(
                "`bigpeer serve --driver {driver}` did not start ({status}). If this machine cannot run that driver, \
                 leave it out with BIGPEER_TEST_DRIVERS. It said:\n{stderr}"
            )
        });
        if self.driver != "auto" {
            assert_eq!(server.ready["driver"], *self.driver, "another driver runs");
        }
        server
    }
}

impl Server {
    /// Where the HTTP API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address_of("listen")
    }

    /// Where the admin routes listen.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.address_of("admin")
    }

    /// The base of the API for the commands, `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.options.data
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds, in bytes.
    ///
    /// # Panics
    ///
    /// When the process is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()));
        let text = text.expect("the server runs");
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("statm has its fields") * 4096
    }

    /// A client with the key of the first app.
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn try_client(&self) -> io::Result<Client> {
        let connection = Connection::open(self.address())?;
        let path = format!("/{}/api/v5/store/execute", self.app);
        Ok(Client { connection, path, authorization: format!("Bearer {}", self.key) })
    }

    /// As [`Server::try_client`], of a server that must be there.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[must_use]
    pub fn client(&self) -> Client {
        self.try_client().expect("the server takes connections")
    }

    /// A request to the admin listener, with its token.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[must_use]
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let token = std::fs::read_to_string(self.data().join("admin.token"));
        let bearer = format!("Bearer {}", token.expect("the server wrote it").trim());
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let bytes = request(method, path, &[("Authorization", &bearer)], &bytes);
        let mut connection = Connection::open(self.admin_address()).expect("the server runs");
        connection.exchange(&bytes).expect("an answer")
    }

    /// A new key of the first app.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    #[must_use]
    pub fn new_key(&self, description: &Value) -> String {
        let answer = self.admin("POST", &format!("/admin/apps/{}/keys", self.app), description);
        assert_eq!(answer.status, 201, "{}", answer.complaint());
        answer.json()["apiKey"].as_str().expect("the key is shown once").to_owned()
    }

    /// Ends it without a word, as `kill -9` does.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
    }

    /// Asks it to stop, as a service manager does, and waits; returns how it ended and what it had logged.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn terminate(&mut self) -> (ExitStatus, String) {
        system::terminate(self.pid());
        self.wait()
    }

    /// Waits until it ends by itself; returns how, and what it had logged.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it is our child");
        let stderr = self.stderr.take().expect("a server ends once");
        (status, stderr.join().expect("reading does not panic"))
    }

    /// Waits until it ends by itself; returns how.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        crate::wait_until("the server ends", || self.child.try_wait().expect("it is our child"))
    }

    /// True while the process runs.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Starts it again on the same directory, after it has ended. App and keys are those of before.
    #[must_use]
    pub fn restart(self) -> Self {
        let options = self.options.clone();
        self.restart_with(&options)
    }

    /// As [`Server::restart`], with other options.
    #[must_use]
    pub fn restart_with(mut self, options: &Options) -> Self {
        self.kill();
        let mut next = options.start();
        next.app = std::mem::take(&mut self.app);
        next.key = std::mem::take(&mut self.key);
        next.token = std::mem::take(&mut self.token);
        next
    }

    fn address_of(&self, name: &str) -> SocketAddr {
        let text = self.ready[name].as_str().expect("the ready line names every listener");
        text.parse().expect("an address")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Some(stderr) = self.stderr.take()
            && let Ok(text) = stderr.join()
        {
            eprintln!("the server of the failed test had said:\n{text}");
        }
    }
}

/// Speaks DQL over one connection.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub connection: Connection,
    /// The path of the API, with the app.
    pub path: String,
    /// The value of the header field.
    pub authorization: String,
}

impl Client {
    /// The same client in API version 4, which is strict.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.path = self.path.replace("/v5/", "/v4/");
        self
    }

    /// The bytes of a request.
    #[must_use]
    pub fn request(&self, statement: &str, args: &Value) -> Vec<u8> {
        self.request_of_body(json!({"statement": statement, "args": args}).to_string().as_bytes())
    }

    /// The bytes of a request with any body.
    #[must_use]
    pub fn request_of_body(&self, body: &[u8]) -> Vec<u8> {
        let headers =
            [("Authorization", &*self.authorization), ("Content-Type", "application/json")];
        request("POST", &self.path, &headers, body)
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn execute(&mut self, statement: &str, args: &Value) -> io::Result<Answer> {
        let bytes = self.request(statement, args);
        self.connection.exchange(&bytes)
    }

    /// Runs a statement that must succeed.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn run(&mut self, statement: &str, args: &Value) -> Value {
        let answer = self.execute(statement, args).expect("the server runs");
        let json = answer.json();
        assert_eq!(answer.status, 200, "{statement}: {json}");
        assert_eq!(json["error"], json!({}), "{statement}");
        json
    }

    /// The rows of a SELECT.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn select(&mut self, statement: &str, args: &Value) -> Vec<Value> {
        match self.run(statement, args)["items"].take() {
            Value::Array(rows) => rows,
            other => panic!("items are an array: {other}"),
        }
    }
}

/// What the first start of a directory made, from the file that its ready line names; null of a later start.
///
/// # Panics
///
/// When the file is not there.
#[must_use]
pub fn first_start(ready: &Value) -> Value {
    let Some(path) = ready["firstStart"].as_str() else { return Value::Null };
    let text = std::fs::read_to_string(path).expect("the server wrote it before it was ready");
    serde_json::from_str(&text).expect("the file is JSON")
}

fn read_to_end(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
