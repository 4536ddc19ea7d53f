//! `bigpeer app` and `bigpeer key`: through the admin listener of the server that runs on a data directory.

mod expiry;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bigpeer_core::ident::Uuid;
use bigpeer_core::value::{Object, Value, json};
use bytes::Bytes;

use self::expiry::Expiry;
use super::api::Refusal;
use super::error::{CliError, finish, print};
use super::http::{Method, Request, TcpTransport, Transport, Url};
use super::table;
use super::text::{compact, visible};

/// The longest answer taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The file in a data directory that holds the token of its admin listener.
const TOKEN_FILE: &str = "admin.token";

/// Create, list and delete apps.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the server.
#[derive(Debug, clap::Args)]
pub struct AppArgs {
    #[command(subcommand)]
    command: AppCommand,
}

/// Create, list and revoke API keys.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the server.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

/// Which server is meant, and how to answer.
#[derive(Debug, clap::Args)]
struct AdminArgs {
    /// The address of the server's admin listener.
    #[arg(
        long,
        env = "BIGPEER_ADMIN",
        hide_env_values = true,
        default_value = "http://127.0.0.1:9464"
    )]
    admin: Url,
    /// The server's data directory; the token is read from there.
    #[arg(long, env = "BIGPEER_DATA", default_value = "./bigpeer-data", value_name = "DIR")]
    data: PathBuf,
    /// The file of the admin token, where the server was given one.
    #[arg(long, env = "BIGPEER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Print the server's answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum AppCommand {
    /// Create an app, and print its id and its development token.
    Create {
        /// What people call it.
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List the apps.
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Delete an app with its keys: from then on nobody reaches its documents.
    ///
    /// Its requests are refused and its sessions end. The documents are not erased: they stay in the data directory, and
    /// nothing brings them back within reach, for a new app has another id.
    Delete {
        /// The app's id.
        #[arg(value_name = "UUID")]
        app: Uuid,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Create a key, and print it this one time.
    Create {
        /// The key's name: small letters, digits and hyphens.
        name: String,
        #[command(flatten)]
        app: KeyApp,
        /// When it ends: a moment (RFC 3339), or a number of days as in `90d`.
        #[arg(long, value_name = "WHEN", default_value = "365d")]
        expires: Expiry,
        /// What it may do: the permission object as JSON. By default everything.
        #[arg(long, value_name = "JSON", value_parser = parse_permissions)]
        permissions: Option<Object>,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List an app's keys. Their secrets are not known to the server.
    List {
        #[command(flatten)]
        app: KeyApp,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Revoke a key: from then on it opens nothing.
    Revoke {
        /// The key's name.
        name: String,
        #[command(flatten)]
        app: KeyApp,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// The app whose keys are meant.
#[derive(Debug, clap::Args)]
struct KeyApp {
    /// The app's id.
    #[arg(long = "app", env = "BIGPEER_APP", hide_env_values = true, value_name = "UUID")]
    id: Uuid,
}

impl AppArgs {
    /// Does it.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.command.run())
    }
}

impl KeyArgs {
    /// Does it.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.command.run())
    }
}

impl AppCommand {
    fn run(self) -> Result<(), CliError> {
        match self {
            Self::Create { name, admin } => {
                let body = [("name", Value::from(name))].into_iter().collect();
                let answer = admin.call(Method::Post, "/admin/apps", Some(body))?;
                admin.show(&answer, &["appId", "name", "developmentToken"])
            }
            Self::List { admin } => {
                let answer = admin.call(Method::Get, "/admin/apps", None)?;
                admin.show_list(&answer)
            }
            Self::Delete { app, yes, admin } => {
                if !yes {
                    confirm(app)?;
                }
                let answer = admin.call(Method::Delete, &format!("/admin/apps/{app}"), None)?;
                let done = format!("app {app} deleted; its documents are out of reach, not erased");
                admin.show_done(&answer, &done)
            }
        }
    }
}

impl KeyCommand {
    fn run(self) -> Result<(), CliError> {
        match self {
            Self::Create { name, app, expires, permissions, description, admin } => {
                let body = key_request(name, &expires, permissions, description)?;
                let path = format!("/admin/apps/{}/keys", app.id);
                let answer = admin.call(Method::Post, &path, Some(body))?;
                admin.show(&answer, &["apiKey", "name"])
            }
            Self::List { app, admin } => {
                let path = format!("/admin/apps/{}/keys", app.id);
                admin.show_list(&admin.call(Method::Get, &path, None)?)
            }
            Self::Revoke { name, app, admin } => {
                let path = format!("/admin/apps/{}/keys/{}", app.id, encode_segment(&name));
                let answer = admin.call(Method::Delete, &path, None)?;
                admin.show_done(&answer, &format!("key {} revoked", visible(&name)))
            }
        }
    }
}

fn key_request(
    name: String,
    expires: &Expiry,
    permissions: Option<Object>,
    description: Option<String>,
) -> Result<Object, CliError> {
    let mut body = Object::new();
    body.insert("name", Value::from(name));
    body.insert("expiresAt", Value::from(expires.moment()));
    body.insert("permissions", Value::Object(permissions.unwrap_or_else(everything)));
    if let Some(description) = description {
        body.insert("description", Value::from(description));
    }
    Ok(body)
}

/// The permission object that allows everything.
fn everything() -> Object {
    let all = || Value::Object([("everything", true)].into_iter().collect());
    [("qlVersion", Value::Int(1)), ("remoteQuery", true.into()), ("read", all()), ("write", all())]
        .into_iter()
        .collect()
}

fn parse_permissions(text: &str) -> Result<Object, String> {
    match json::parse(text.as_bytes(), json::Limits::default()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("{} is no object", other.type_name())),
        Err(error) => Err(error.to_string()),
    }
}

/// A name as one segment of a path.
fn encode_segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte.into()),
            // A dot is encoded too: `..` would be another path.
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn confirm(app: Uuid) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "nobody reaches the documents of a deleted app any more: give --yes".into(),
        ));
    }
    print(&format!(
        "Delete app {app} with its keys? Nobody will reach its documents any more; they are not erased from the \
         server's directory. Type yes: "
    ))?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == "yes" => Ok(()),
        _ => Err(CliError::Usage("nothing was deleted".into())),
    }
}

impl AdminArgs {
    fn call(&self, method: Method, path: &str, body: Option<Object>) -> Result<Value, CliError> {
        let token = self.token()?;
        let mut transport = TcpTransport::connect(&self.admin).map_err(|error| match error {
            CliError::Unreachable { url, cause } => self.not_running(&format!("{url}: {cause}")),
            other => other,
        })?;
        call(&mut transport, &self.admin.base, token, method, path, body)
    }

    fn token(&self) -> Result<String, CliError> {
        let path = self.admin_token_file.clone().unwrap_or_else(|| self.data.join(TOKEN_FILE));
        match std::fs::read_to_string(&path) {
            Ok(token) if token.trim().bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(token.trim().to_owned())
            }
            Ok(_) => Err(CliError::Failed(format!("{} holds no token", path.display()))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.admin_token_file.is_none() =>
            {
                Err(self.not_running(&format!(
                    "there is no {}; a server that was started with --admin-token-file has none: \
                     give the same file here",
                    path.display()
                )))
            }
            Err(error) => {
                let advice = "run this as the user who runs the server";
                Err(CliError::Failed(format!(
                    "{} cannot be read: {error}: {advice}",
                    path.display()
                )))
            }
        }
    }

    fn not_running(&self, cause: &str) -> CliError {
        let data = self.data.display();
        CliError::Failed(format!(
            "no server runs on {data} ({cause}). Start one with `bigpeer serve --data {data}`; if one runs, \
             name its directory with --data and its admin listener with --admin"
        ))
    }

    /// Prints these members of an answer, one per line.
    fn show(&self, answer: &Value, names: &[&str]) -> Result<(), CliError> {
        let mut out = Vec::new();
        if self.json {
            json::write(answer, &mut out);
            out.push(b'\n');
        } else {
            let object = answer.as_object().cloned().unwrap_or_default();
            for name in names {
                if let Some(value) = object.get(name) {
                    let text = value.as_str().map_or_else(|| compact(value), str::to_owned);
                    // Writing to memory does not fail.
                    let _ = writeln!(out, "{name:17} {}", visible(&text));
                }
            }
        }
        print(&String::from_utf8_lossy(&out))
    }

    /// Prints a list as a table.
    fn show_list(&self, answer: &Value) -> Result<(), CliError> {
        if self.json {
            return print(&format!("{}\n", compact(answer)));
        }
        let rows = list(answer)?;
        match rows.is_empty() {
            true => print("none\n"),
            false => print(&table::render(rows, None).text),
        }
    }

    fn show_done(&self, answer: &Value, done: &str) -> Result<(), CliError> {
        match self.json {
            true => print(&format!("{}\n", compact(answer))),
            false => print(&format!("{done}\n")),
        }
    }
}

/// Asks the admin listener, and reads its answer; an empty one is an empty object.
fn call(
    transport: &mut impl Transport,
    base: &str,
    token: String,
    method: Method,
    path: &str,
    body: Option<Object>,
) -> Result<Value, CliError> {
    let body = body.map_or(Bytes::new(), |body| compact(&Value::Object(body)).into());
    let request = Request { method, target: format!("{base}{path}"), token, body };
    let answer = transport.request(request, ANSWER_BYTES_MAX)?;
    if !(200..300).contains(&answer.status) {
        return Err(Refusal::from_body(answer.status, &answer.body).into_error());
    }
    if answer.body.trim_ascii().is_empty() {
        return Ok(Value::Object(Object::new()));
    }
    json::parse(&answer.body, json::Limits::default())
        .map_err(|error| CliError::Failed(format!("the server's answer cannot be read: {error}")))
}

/// The rows of a list: the answer itself, or the one array among its members.
fn list(answer: &Value) -> Result<&[Value], CliError> {
    let members = answer.as_object().into_iter().flat_map(Object::iter);
    answer
        .as_array()
        .or_else(|| members.filter_map(|(_, value)| value.as_array()).next())
        .ok_or_else(|| CliError::Failed("the server's answer holds no list".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Scripted;

    #[test]
    fn a_call_bears_the_token_and_reads_the_answer() {
        let (mut transport, sent) = Scripted::new([(200, r#"{"apiKey":"K"}"#), (204, "")]);
        let body = key_request("n".into(), &"2100-01-01T00:00:00Z".parse().unwrap(), None, None);
        let mut call = |method, path: &str, body| {
            call(&mut transport, "/b", "T".into(), method, path, body)
                .map(|answer| compact(&answer))
        };
        assert_eq!(call(Method::Post, "/admin/x", body.ok()).unwrap(), r#"{"apiKey":"K"}"#);
        assert_eq!(call(Method::Delete, "/admin/y", None).unwrap(), "{}");
        let sent = sent.borrow();
        assert_eq!((&*sent[0].target, &*sent[0].token), ("/b/admin/x", "T"));
        let expected = r#"{"expiresAt":"2100-01-01T00:00:00Z","name":"n","permissions":{"qlVersion":1,"read":{"everything":true},"remoteQuery":true,"write":{"everything":true}}}"#;
        assert_eq!(str::from_utf8(&sent[0].body), Ok(expected));
        assert!(sent[1].body.is_empty());
    }

    #[test]
    fn a_refusal_is_the_servers() {
        let (mut transport, _) = Scripted::new([(409, r#"{"message":"the name is taken"}"#)]);
        let error = call(&mut transport, "", String::new(), Method::Get, "/", None).unwrap_err();
        assert_eq!(error.to_string(), "the name is taken (409)");
        assert!(matches!(error, CliError::Refused(_)));
    }

    #[test]
    fn a_list_is_found_bare_or_wrapped() {
        let parse = |text: &str| json::parse(text.as_bytes(), json::Limits::default()).unwrap();
        assert_eq!(list(&parse("[1]")).unwrap().len(), 1);
        assert_eq!(list(&parse(r#"{"apps":[1,2],"meta":{}}"#)).unwrap().len(), 2);
        assert!(list(&parse("{}")).is_err());
    }

    #[test]
    fn a_directory_without_a_server_says_how_to_start_one() {
        let data = std::env::temp_dir().join("bigpeer-there-is-no-such-directory");
        let admin = AdminArgs {
            admin: "http://127.0.0.1:1".parse().unwrap(),
            data,
            admin_token_file: None,
            json: false,
        };
        let message = admin.call(Method::Get, "/", None).unwrap_err().to_string();
        assert!(message.contains("bigpeer serve --data"), "{message}");
        assert!(message.contains("--admin-token-file"), "{message}");
    }

    #[test]
    fn a_token_file_that_is_missing_is_no_server_that_is_missing() {
        let file = std::env::temp_dir().join("bigpeer-there-is-no-such-file");
        let admin = AdminArgs {
            admin: "http://127.0.0.1:1".parse().unwrap(),
            data: std::env::temp_dir(),
            admin_token_file: Some(file),
            json: false,
        };
        let message = admin.call(Method::Get, "/", None).unwrap_err().to_string();
        assert!(message.contains("no-such-file cannot be read"), "{message}");
        assert!(!message.contains("no server runs"), "{message}");
    }

    #[test]
    fn the_help_of_app_delete_promises_no_more_than_is_done() {
        let mut app = <AppArgs as clap::Args>::augment_args(clap::Command::new("app"));
        let delete = app.find_subcommand_mut("delete").expect("it is there");
        let help = delete.render_long_help().to_string();
        assert!(help.contains("not erased") && !help.contains("with its documents"), "{help}");
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(encode_segment("a-b_1"), "a-b_1");
        assert_eq!(encode_segment("../x y"), "%2E%2E%2Fx%20y");
    }
}
