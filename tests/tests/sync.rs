//! Devices that were offline and come back, as `bigpeer peer` on the command line.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bigpeer_tests::binary::{bigpeer, printed, run};
use bigpeer_tests::data::{cars, cars_file};
use bigpeer_tests::random::Random;
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Client, Options, Server};
use bigpeer_tests::suite;
use bigpeer_tests::suite::Driver;
use serde_json::{Value, json};

suite!(
    "the file system of temporary files",
    a_device_that_was_offline_and_the_server_agree,
    two_devices_that_were_offline_and_the_server_agree,
    a_server_that_is_killed_while_devices_sync_agrees_with_them,
    what_a_device_wrote_reads_the_same_everywhere,
    a_device_with_a_wrong_token_hears_why,
    a_device_whose_key_was_narrowed_is_told_so_and_widened_gets_what_was_there,
);

/// What every device asks for.
const SUBSCRIPTION: &str = "SELECT * FROM cars WHERE Origin = 'Japan'";

/// How long a device may take to agree with the server: much longer than it does.
const SYNC_SECONDS: &str = "60";

/// A device: a directory, and a process for as long as each command.
struct Device {
    data: PathBuf,
    app: String,
    token: String,
}

impl Device {
    fn new(server: &Server, scratch: &Scratch, name: &str) -> Self {
        Self { data: scratch.join(name), app: server.app.clone(), token: server.token.clone() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(bigpeer());
        command.args(["peer", "--json", "--app", &self.app, "--data"]).arg(&self.data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The command that connects, and leaves when both sides agree.
    fn syncing(&self, server: &Server) -> Command {
        self.syncing_within(SYNC_SECONDS, server)
    }

    fn syncing_within(&self, seconds: &str, server: &Server) -> Command {
        let mut command = self.command();
        command.args(["--url", &format!("ws://{}", server.address()), "--token", &self.token]);
        command.args(["--subscribe", SUBSCRIPTION, "--wait-synced", seconds]);
        command
    }

    fn sync(&self, server: &Server) {
        let output = self.syncing(server).output().expect("the binary was just built");
        assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    }

    /// Runs statements without a connection; returns what each answered.
    fn offline(&self, statements: &[&str]) -> Vec<Value> {
        let mut command = self.command();
        for statement in statements {
            command.args(["--execute", statement]);
        }
        let output = command.output().expect("the binary was just built");
        assert!(output.status.success(), "{}", printed(&output));
        answers(&output)
    }

    fn rows(&self, statement: &str) -> Vec<Value> {
        sorted(self.offline(&[statement])[0]["items"].as_array().expect("rows").clone())
    }
}

fn answers(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("an answer per line")).collect()
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| row["_id"].to_string());
    rows
}

fn server_rows(server: &Server, statement: &str) -> Vec<Value> {
    sorted(server.client().select(statement, &json!({})))
}

/// A server with the cars, numbered from 0.
fn server_with_cars(driver: Driver, scratch: &Scratch) -> Server {
    let server = Options::new(driver, scratch.join("server")).start();
    let file = scratch.join("cars.ndjson");
    let lines: Vec<_> = cars()
        .into_iter()
        .enumerate()
        .map(|(number, mut car)| {
            car["number"] = json!(number);
            car.to_string()
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).expect("temporary files can be written");
    assert!(cars_file().exists());
    let url = server.url();
    let output = run(
        &[
            "import",
            "--collection",
            "cars",
            "--id",
            "number",
            file.to_str().expect("a path of ours"),
        ],
        &[("BIGPEER_URL", &url), ("BIGPEER_APP", &server.app), ("BIGPEER_KEY", &server.key)],
    );
    assert!(output.status.success(), "{}", printed(&output));
    server
}

/// The numbers of the Japanese cars, computed from the file.
fn japanese() -> Vec<usize> {
    let cars = cars();
    (0..cars.len()).filter(|&number| cars[number]["Origin"] == "Japan").collect()
}

/// What device `name` does offline to the same six cars as everybody else.
fn edit_offline(device: &Device, name: &str, ids: &[usize]) {
    device.offline(&[
        &format!("UPDATE cars SET by_{name} = 'edited' WHERE _id IN ({}, {})", ids[0], ids[1]),
        &format!("UPDATE cars SET Name = 'name from {name}' WHERE _id = {}", ids[0]),
        &format!("UPDATE cars APPLY visits INCREMENT BY 2 WHERE _id = {}", ids[2]),
        &format!("DELETE FROM cars WHERE _id = {}", ids[3]),
        &format!("DELETE FROM cars WHERE _id = {}", ids[4]),
        &format!(
            "INSERT INTO cars DOCUMENTS ({{'_id': 'of {name}', 'Origin': 'Japan', 'new': true}})"
        ),
        &format!(
            "INSERT INTO cars DOCUMENTS ({{'_id': 'of all', 'Origin': 'Japan', 'by_{name}': true}}) \
             ON ID CONFLICT DO UPDATE"
        ),
    ]);
}

/// The same at the server, which also lets a car leave what the devices ask for.
fn edit_at_server(client: &mut Client, ids: &[usize]) {
    for statement in [
        format!("UPDATE cars SET by_server = 'edited' WHERE _id IN ({}, {})", ids[0], ids[1]),
        format!("UPDATE cars SET Name = 'name from server' WHERE _id = {}", ids[0]),
        format!("UPDATE cars APPLY visits INCREMENT BY 3 WHERE _id = {}", ids[2]),
        format!("DELETE FROM cars WHERE _id = {}", ids[3]),
        format!("UPDATE cars SET Horsepower = 1 WHERE _id = {}", ids[4]),
        format!("UPDATE cars SET Origin = 'Elsewhere' WHERE _id = {}", ids[5]),
        "INSERT INTO cars DOCUMENTS ({'_id': 'of server', 'Origin': 'Japan', 'new': true})"
            .to_owned(),
        "INSERT INTO cars DOCUMENTS ({'_id': 'of all', 'Origin': 'Japan', 'by_server': true}) \
         ON ID CONFLICT DO UPDATE"
            .to_owned(),
    ] {
        client.run(&statement, &json!({}));
    }
}

/// All hold the same Japanese cars, and each of them what everybody did to it.
fn check_agreed(server: &Server, devices: &[(&str, &Device)], ids: &[usize]) {
    let expected = server_rows(server, SUBSCRIPTION);
    for (name, device) in devices {
        assert_eq!(device.rows(SUBSCRIPTION), expected, "device {name} and the server");
    }
    let find = |id: Value| expected.iter().find(|row| row["_id"] == id);
    let writers: Vec<_> = devices.iter().map(|device| device.0).chain(["server"]).collect();
    for id in &ids[..2] {
        let car = find(json!(id)).expect("it was only edited");
        for writer in &writers {
            assert_eq!(car[format!("by_{writer}")], "edited", "{car}");
        }
    }
    let name = find(json!(ids[0])).expect("it was only edited")["Name"].clone();
    assert!(writers.iter().any(|writer| name == format!("name from {writer}")), "{name}");
    let visits = find(json!(ids[2])).expect("it was only edited")["visits"].clone();
    assert_eq!(visits, 2 * devices.len() + 3, "every increment counts once");
    assert_eq!(find(json!(ids[3])), None, "deleted by all");
    assert!(find(json!(ids[5])).is_none(), "it has left");
    for writer in &writers {
        assert!(find(json!(format!("of {writer}"))).is_some(), "of {writer}");
        assert_eq!(find(json!("of all")).expect("all made it")[format!("by_{writer}")], true);
    }
    let met = find(json!(ids[4]));
    assert!(
        met.is_none_or(|car| car["Horsepower"] == 1),
        "what is left of it is the edit: {met:?}"
    );
}

fn a_device_that_was_offline_and_the_server_agree(driver: Driver) {
    let scratch = Scratch::new();
    let server = server_with_cars(driver, &scratch);
    let ids = japanese();
    let device = Device::new(&server, &scratch, "device");
    device.sync(&server);
    assert_eq!(device.rows("SELECT * FROM cars").len(), ids.len(), "all that it asked for");
    assert_eq!(device.rows("SELECT * FROM cars"), server_rows(&server, SUBSCRIPTION));
    edit_offline(&device, "one", &ids);
    edit_at_server(&mut server.client(), &ids);
    device.sync(&server);
    check_agreed(&server, &[("one", &device)], &ids);
}

fn two_devices_that_were_offline_and_the_server_agree(driver: Driver) {
    let scratch = Scratch::new();
    let server = server_with_cars(driver, &scratch);
    let ids = japanese();
    let one = Device::new(&server, &scratch, "one");
    let two = Device::new(&server, &scratch, "two");
    one.sync(&server);
    two.sync(&server);
    edit_offline(&one, "one", &ids);
    edit_offline(&two, "two", &ids);
    edit_at_server(&mut server.client(), &ids);
    one.sync(&server);
    two.sync(&server);
    // What the second brought, the first hears when it comes back.
    one.sync(&server);
    check_agreed(&server, &[("one", &one), ("two", &two)], &ids);
}

fn a_server_that_is_killed_while_devices_sync_agrees_with_them(driver: Driver) {
    const KILLS: usize = 5;
    let mut random = Random::announced("kill -9 while devices sync");
    let scratch = Scratch::new();
    let mut server = server_with_cars(driver, &scratch);
    let ids = japanese();
    let one = Device::new(&server, &scratch, "one");
    let two = Device::new(&server, &scratch, "two");
    one.sync(&server);
    two.sync(&server);
    edit_offline(&one, "one", &ids);
    edit_offline(&two, "two", &ids);
    edit_at_server(&mut server.client(), &ids);
    for round in 0..KILLS {
        // More to send each time, so that the kill has something to strike.
        let more = format!("UPDATE cars SET round = {round} WHERE Origin = 'Japan' AND _id > 100");
        one.offline(&[&more]);
        let mut syncing: Vec<Child> =
            [&one, &two].map(|device| device.syncing(&server).spawn().expect("built")).into();
        let time = random.duration(Duration::ZERO, Duration::from_millis(60));
        std::thread::sleep(time);
        server.kill();
        for device in &mut syncing {
            // A device that waits for a server tries for as long as it may: this one has heard enough.
            device.kill().expect("it is our child");
            device.wait().expect("it is our child");
        }
        server = server.restart();
    }
    one.sync(&server);
    two.sync(&server);
    one.sync(&server);
    check_agreed(&server, &[("one", &one), ("two", &two)], &ids);
}

fn what_a_device_wrote_reads_the_same_everywhere(driver: Driver) {
    let scratch = Scratch::new();
    let server = server_with_cars(driver, &scratch);
    let one = Device::new(&server, &scratch, "one");
    let two = Device::new(&server, &scratch, "two");
    one.offline(&[
        "INSERT INTO cars DOCUMENTS ({'_id': 'nested', 'Origin': 'Japan', \
         'engine': {'fuel': {'kind': 'petrol', 'litres': 40.5}, 'cylinders': 4}})",
        "UPDATE cars APPLY owners INCREMENT BY 3 WHERE _id = 'nested'",
        "UPDATE cars SET engine.fuel.kind = 'diesel' WHERE _id = 'nested'",
    ]);
    one.sync(&server);
    two.sync(&server);
    server.client().run("UPDATE cars APPLY owners INCREMENT BY 4 WHERE _id = 'nested'", &json!({}));
    two.offline(&["UPDATE cars SET engine.cylinders = 6 WHERE _id = 'nested'"]);
    two.sync(&server);
    one.sync(&server);
    let expected = [json!({
        "_id": "nested", "Origin": "Japan", "owners": 7,
        "engine": {"fuel": {"kind": "diesel", "litres": 40.5}, "cylinders": 6},
    })];
    let statement = "SELECT * FROM cars WHERE _id = 'nested'";
    assert_eq!(server.client().select(statement, &json!({})), expected, "version 5");
    assert_eq!(server.client().strict().select(statement, &json!({})), expected, "version 4");
    assert_eq!(one.rows(statement), expected, "the device that wrote it");
    assert_eq!(two.rows(statement), expected, "another device");
    let inner = "SELECT * FROM cars WHERE engine.fuel.kind = 'diesel' AND owners = 7";
    assert_eq!(server_rows(&server, inner), expected);
    assert_eq!(two.rows(inner), expected);
}

fn a_device_with_a_wrong_token_hears_why(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.join("server")).start();
    let mut device = Device::new(&server, &scratch, "device");
    device.token = "wrong".to_owned();
    let output = device.syncing_within("1", &server).output().expect("the binary was just built");
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("are the app and the token right?"), "{text}");
    device.token.clone_from(&server.token);
    device.sync(&server);
}

fn a_device_whose_key_was_narrowed_is_told_so_and_widened_gets_what_was_there(driver: Driver) {
    let scratch = Scratch::new();
    let server = server_with_cars(driver, &scratch);
    let key = |name: &str, read: Value| {
        let permissions = json!({"read": read, "write": {"everything": true}});
        server.new_key(&json!({"name": name, "permissions": permissions}))
    };
    let none = key("none", json!({"queriesByCollection": {"tills": ["true"]}}));
    let some = key("some", json!({"queriesByCollection": {"cars": ["_id < 100"]}}));
    let count = "SELECT * FROM cars";
    let mut device = Device::new(&server, &scratch, "device");
    let sync = |device: &Device, code: i32| {
        let output = device.syncing(&server).output().expect("the binary was just built");
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.contains("not readable: cars"), code == 3, "{text}");
    };
    device.token.clone_from(&none);
    sync(&device, 3);
    assert_eq!(device.rows(count).len(), 0);
    device.token.clone_from(&some);
    sync(&device, 0);
    let part = device.rows(count).len();
    device.token.clone_from(&server.token);
    sync(&device, 0);
    let all = device.rows(count).len();
    assert!(0 < part && part < all, "{part} of {all}");
    device.token.clone_from(&some);
    sync(&device, 3);
    assert_eq!(device.rows(count).len(), all, "it keeps what it has");
}
