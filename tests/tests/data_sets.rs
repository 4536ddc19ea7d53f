//! Real data through `bigpeer import`; every answer is held against a computation over the file itself.

use std::collections::BTreeMap;
use std::path::Path;

use bigpeer_tests::binary::{printed, run};
use bigpeer_tests::data::{CAR_COUNT, CITY_COUNT, cars, cars_file, cities, cities_file};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Options, Server};
use bigpeer_tests::suite;
use bigpeer_tests::suite::Driver;
use serde_json::{Value, json};

suite!(
    "the file system of temporary files",
    cars_are_imported_and_found,
    cities_are_imported_and_found,
    an_export_is_what_was_imported,
);

fn import(server: &Server, collection: &str, file: &Path, options: &[&str]) -> Value {
    let file = file.to_str().expect("a path of ours");
    let mut arguments = vec!["import", "--json", "--collection", collection];
    arguments.extend_from_slice(options);
    arguments.push(file);
    let output = run(&arguments, &environment(server));
    assert!(output.status.success(), "{}", printed(&output));
    let text = String::from_utf8(output.stdout).expect("JSON");
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a summary in JSON")
}

fn environment(server: &Server) -> [(&'static str, &str); 3] {
    // Leaked once a call, for as long as a test runs.
    let url: &str = Box::leak(server.url().into_boxed_str());
    [("BIGPEER_URL", url), ("BIGPEER_APP", &server.app), ("BIGPEER_KEY", &server.key)]
}

fn count(server: &Server, statement: &str) -> usize {
    let rows = server.client().select(statement, &json!({}));
    let count = rows[0]["n"].as_u64().expect("a count");
    usize::try_from(count).expect("a small number")
}

fn cars_are_imported_and_found(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    import(&server, "cars", &cars_file(), &[]);
    assert_eq!(count(&server, "SELECT COUNT(*) AS n FROM cars"), CAR_COUNT);
    import(&server, "cars", &cars_file(), &[]);
    assert_eq!(count(&server, "SELECT COUNT(*) AS n FROM cars"), CAR_COUNT, "twice is once");

    let cars = cars();
    let is_japanese = |car: &&Value| car["Origin"] == "Japan";
    let found = count(&server, "SELECT COUNT(*) AS n FROM cars WHERE Origin = 'Japan'");
    assert_eq!(found, cars.iter().filter(is_japanese).count());

    let has_no_mileage = |car: &&Value| car["Miles_per_Gallon"].is_null();
    let found = count(&server, "SELECT COUNT(*) AS n FROM cars WHERE Miles_per_Gallon IS NULL");
    assert_eq!(found, cars.iter().filter(has_no_mileage).count());

    let rows = server.client().select(
        "SELECT Origin, COUNT(*) AS n, SUM(Weight_in_lbs) AS total FROM cars GROUP BY Origin",
        &json!({}),
    );
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for car in &cars {
        let origin = car["Origin"].as_str().expect("every car has one").to_owned();
        let entry = expected.entry(origin).or_default();
        entry.0 += 1;
        entry.1 += car["Weight_in_lbs"].as_u64().expect("an integer");
    }
    let found: BTreeMap<String, (u64, u64)> = rows.iter().map(group_of).collect();
    assert_eq!(found, expected);
}

fn group_of(row: &Value) -> (String, (u64, u64)) {
    let number = |name: &str| row[name].as_f64().expect("a number") as u64;
    (row["Origin"].as_str().expect("a name").to_owned(), (number("n"), number("total")))
}

fn cities_are_imported_and_found(driver: Driver) {
    let scratch = Scratch::new();
    let mut server = Options::new(driver, scratch.path()).start();
    import(&server, "cities", &cities_file(), &["--id", "geonameid"]);
    let cities = cities();
    check_cities(&server, &cities);
    server.kill();
    let server = server.restart();
    check_cities(&server, &cities);
}

fn check_cities(server: &Server, cities: &[Value]) {
    assert_eq!(count(server, "SELECT COUNT(*) AS n FROM cities"), CITY_COUNT);
    let mut client = server.client();

    let one = &cities[CITY_COUNT / 2];
    let rows =
        client.select("SELECT * FROM cities WHERE _id = :id", &json!({"id": one["geonameid"]}));
    let mut expected = one.clone();
    expected["_id"] = one["geonameid"].clone();
    assert_eq!(rows, [expected], "a point lookup gives back the whole document");

    let page = "SELECT name, population FROM cities WHERE countrycode = 'FR' \
                ORDER BY population DESC, name ASC LIMIT 10 OFFSET 5";
    let mut french: Vec<_> = cities.iter().filter(|city| city["countrycode"] == "FR").collect();
    french.sort_by_key(|city| {
        let population = city["population"].as_u64().expect("an integer");
        (std::cmp::Reverse(population), city["name"].as_str().expect("a name"))
    });
    let expected: Vec<_> = french[5..15].iter().map(|city| name_and_population(city)).collect();
    let rows = client.select(page, &json!({}));
    assert_eq!(rows, expected, "an ordered page");

    let large = |city: &&Value| city["population"].as_u64() > Some(5_000_000);
    let mut expected: Vec<_> =
        cities.iter().filter(large).map(|city| city["geonameid"].to_string()).collect();
    let rows =
        client.select("SELECT _id FROM cities WHERE population > :p", &json!({"p": 5_000_000}));
    let mut found: Vec<_> = rows.iter().map(|row| row["_id"].to_string()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "a filter");
}

fn name_and_population(city: &Value) -> Value {
    json!({"name": city["name"], "population": city["population"]})
}

fn an_export_is_what_was_imported(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    import(&server, "cars", &cars_file(), &[]);
    let environment = environment(&server);
    let output = run(&["export", "--collection", "cars", "--format", "ndjson"], &environment);
    assert!(output.status.success(), "{}", printed(&output));
    let text = String::from_utf8(output.stdout).expect("JSON");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let mut found: Vec<_> = lines.map(without_id).collect();
    let mut expected: Vec<_> = cars().into_iter().map(|car| car.to_string()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

fn without_id(mut document: Value) -> String {
    let members = document.as_object_mut().expect("documents are objects");
    members.remove("_id").expect("documents have ids");
    document.to_string()
}
