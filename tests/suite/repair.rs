//! `whimbrel verify --repair`: what differs between both sides is healed, and nothing else is touched.
//! As a person would do it, by the built program; what the sinks hold is looked at by others.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::migration::sql;
use crate::postgres::{Database, servers};
use crate::postgres_job::database;
use crate::program::{Answer, Stage};
use crate::running::Running;

/// Records of the source.
const RECORDS: u64 = 2_500;
/// How many of them are damaged in the sink, a quarter of them each of the four ways.
const DAMAGED: u64 = 1_000;

/// The sink, as far as this test looks at it without whimbrel.
enum Eye {
    File,
    Server(Database),
}

/// A job with its sink.
struct Scene {
    stage: Stage,
    eye: Eye,
}

impl Scene {
    fn new(eye: Eye) -> Self {
        let stage = Stage::new();
        let people: String = (1..=RECORDS)
            .map(|id| format!("{{\"id\":{id},\"age\":{},\"name\":\"n {id}\"}}\n", id % 90))
            .collect();
        stage.write("people.ndjson", people);
        let sink = match &eye {
            Eye::File => json!({ "plugin": "turso", "config": { "url": "file:app.db" } }),
            Eye::Server(server) => database(&server.url()),
        };
        let job = json!({
            "name": "healing",
            "source": { "plugin": "files", "config": { "path": "people.ndjson" } },
            "sink": sink,
            "collections": [{ "source": "people", "key": ["id"] }],
            "import": { "on_conflict": "overwrite" },
        });
        stage.write("job.yaml", job.to_string());
        let scene = Self { stage, eye };
        scene.stage.run(&["run", "job.yaml", "--json"]).expect(0);
        scene
    }

    /// One for each server that there is.
    fn of_servers() -> Vec<Self> {
        let eyes = servers().into_iter().map(|server| Eye::Server(server.database()));
        eyes.map(Self::new).collect()
    }

    fn sql(&self, statement: &str) -> String {
        match &self.eye {
            Eye::File => sql(&self.stage.path("app.db"), statement),
            Eye::Server(server) => server.sql(statement).trim().to_owned(),
        }
    }

    /// Number and contents of all records, and whether one of the right ones differs.
    fn content(&self) -> (u64, u64) {
        let number = |statement: &str| -> u64 {
            let text = self.sql(statement);
            let digits = text.trim_matches(['[', ']', '(', ')', ',']);
            digits.parse().unwrap_or_else(|_| panic!("{statement}: {text}"))
        };
        let right = format!(
            "SELECT count(*) FROM people WHERE id BETWEEN 1 AND {RECORDS} AND age = id % 90 AND name = 'n ' || id"
        );
        (number("SELECT count(*) FROM people"), number(&right))
    }

    /// Removes, changes (two ways) and adds a quarter of [`DAMAGED`] records each, chosen by `seed`.
    fn damage(&self, seed: u64) {
        let mut ids: Vec<u64> = (1..=RECORDS).collect();
        // Any order that the seed decides will do.
        ids.sort_by_key(|id| *blake3::hash(format!("{seed} {id}").as_bytes()).as_bytes());
        let quarter = usize::try_from(DAMAGED / 4).unwrap();
        let list = |part: usize| {
            let of = &ids[part * quarter..(part + 1) * quarter];
            let texts: Vec<String> = of.iter().map(u64::to_string).collect();
            texts.join(",")
        };
        self.sql(&format!("DELETE FROM people WHERE id IN ({})", list(0)));
        self.sql(&format!(
            "UPDATE people SET name = name || ' ' WHERE id IN ({})",
            list(1)
        ));
        self.sql(&format!(
            "UPDATE people SET age = age + 90 WHERE id IN ({})",
            list(2)
        ));
        let added: Vec<String> = (0..DAMAGED / 4)
            .map(|number| format!("({}, 1, 'added')", RECORDS + 1 + number))
            .collect();
        self.sql(&format!(
            "INSERT INTO people (id, age, name) VALUES {}",
            added.join(",")
        ));
    }

    fn verify(&self, arguments: &[&str]) -> Answer {
        self.stage
            .run(&[&["verify", "job.yaml", "--json"], arguments].concat())
    }

    fn repair(&self) -> Answer {
        self.verify(&["--repair", "--yes"])
    }
}

/// The seed of this run: given, or made and said.
fn seed() -> u64 {
    let given = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = given.unwrap_or(u64::from(now.subsec_nanos()));
    eprintln!("WHIMBREL_SEED={seed}");
    seed
}

/// The kinds of the mismatches that are listed in the file of the newest verification's folder.
fn listed(stage: &Stage, folder: &str) -> BTreeMap<String, u64> {
    let mut folders: Vec<_> = std::fs::read_dir(stage.path(".whimbrel/verifications"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join(folder).join("people.ndjson"))
        .filter(|path| path.exists())
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let text = std::fs::read_to_string(folders.pop().unwrap()).unwrap();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        *kinds
            .entry(line["kind"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    kinds
}

/// Damages a thousand records and repairs them.
fn heals(scene: &Scene, seed: u64) {
    assert_eq!(scene.content(), (RECORDS, RECORDS));
    scene.damage(seed);
    assert_eq!(scene.content(), (RECORDS, RECORDS - DAMAGED / 4 * 3));
    let report = scene.repair().expect(0).json();
    assert_eq!(
        (&report["command"], &report["outcome"]),
        (&json!("repair"), &json!("done"))
    );
    let repaired = &report["repaired"][0];
    assert_eq!(repaired["copied_count"], DAMAGED / 4 * 3, "{repaired}");
    assert_eq!(repaired["removed_count"], DAMAGED / 4, "{repaired}");
    assert_eq!(repaired["left"], json!([]));
    let compared = &report["verification"][0];
    assert_eq!(
        (&compared["comparison"], &compared["level"]),
        (&json!("equal"), &json!("comprehensive"))
    );
    assert_eq!(scene.content(), (RECORDS, RECORDS));
    let quarter = DAMAGED / 4;
    let expected = [
        ("different", quarter * 2),
        ("extra", quarter),
        ("missing", quarter),
    ];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(listed(&scene.stage, "before-repair"), BTreeMap::from(expected));
    scene.verify(&["--verification-level", "comprehensive"]).expect(0);
    let runs = scene.stage.run(&["runs", "--json"]).expect(0).json();
    assert_eq!(
        (&runs["runs"][0]["command"], &runs["runs"][0]["state"]),
        (&json!("repair"), &json!("done"))
    );
}

#[test]
fn a_thousand_damaged_records_of_a_libsql_file_are_healed_and_nothing_else_is_touched() {
    heals(&Scene::new(Eye::File), seed());
}

#[test]
fn a_thousand_damaged_records_of_postgres_are_healed_and_nothing_else_is_touched() {
    let seed = seed();
    for scene in Scene::of_servers() {
        heals(&scene, seed);
    }
}

#[test]
fn a_repair_of_equal_sides_writes_nothing() {
    let scene = Scene::new(Eye::File);
    let before = std::fs::read(scene.stage.path("app.db")).unwrap();
    let report = scene.repair().expect(0).json();
    assert!(report.get("repaired").is_none(), "{report}");
    assert_eq!(std::fs::read(scene.stage.path("app.db")).unwrap(), before);
}

/// Kills two repairs, one before its first commit and one after it, and repairs.
fn is_made_good(scene: &Scene, seed: u64) {
    scene.damage(seed);
    for site in ["commit_sent:1", "committed:1"] {
        let variables = [("WHIMBREL_CRASH_AT", site), ("WHIMBREL_CRASH_ALL", "1")];
        let arguments = ["verify", "job.yaml", "--json", "--repair", "--yes"];
        let killed = scene.stage.run_with(&arguments, &variables);
        assert_eq!(killed.code, -1, "{site}: {}\n{}", killed.out, killed.err);
    }
    let (_, right) = scene.content();
    assert!(
        right > RECORDS - DAMAGED / 4 * 3 && right < RECORDS,
        "{right} are right in the middle"
    );
    let report = scene.repair().expect(0).json();
    let copied = report["repaired"][0]["copied_count"].as_u64().unwrap();
    assert_eq!(copied, RECORDS - right, "only what was left");
    assert_eq!(scene.content(), (RECORDS, RECORDS));
    scene.verify(&["--verification-level", "comprehensive"]).expect(0);
}

#[test]
fn a_repair_of_a_libsql_file_that_was_killed_is_made_good_by_the_next_one() {
    is_made_good(&Scene::new(Eye::File), seed());
}

#[test]
fn a_repair_of_postgres_that_was_killed_is_made_good_by_the_next_one() {
    let seed = seed();
    for scene in Scene::of_servers().into_iter().rev().take(1) {
        is_made_good(&scene, seed);
    }
}

#[test]
fn a_repair_without_agreement_is_refused_and_writes_nothing() {
    let scene = Scene::new(Eye::File);
    scene.damage(1);
    let before = scene.content();
    let refused = scene.verify(&["--repair"]).expect(2);
    assert_eq!(refused.error()["code"], "cli.confirmation_needed");
    assert_eq!(scene.content(), before);
    assert!(
        !scene.stage.path(".whimbrel/verifications").exists(),
        "nothing was compared for it"
    );
}

#[test]
fn a_repair_is_refused_while_a_run_of_the_job_goes_on() {
    let scene = Scene::new(Eye::File);
    scene.damage(1);
    let before = scene.content();
    let mut run = Running::start(&scene.stage, &["--on-conflict", "skip"]);
    run.until_named("started");
    run.signal(Signal::STOP);
    let refused = scene.repair().expect(3);
    assert_eq!(refused.error()["code"], "run.already_running");
    assert_eq!(scene.content().1, before.1);
    run.kill();
}

#[test]
fn what_the_sink_refuses_is_listed_and_the_rest_is_healed() {
    let scene = Scene::new(Eye::File);
    scene.sql("DELETE FROM people WHERE id IN (7, 8, 9)");
    scene.sql(
        "CREATE TRIGGER no8 BEFORE INSERT ON people WHEN NEW.id = 8 BEGIN SELECT RAISE(ABORT, 'not 8'); END",
    );
    let report = scene.repair().expect(4).json();
    let repaired = &report["repaired"][0];
    assert_eq!(repaired["copied_count"], 2, "{repaired}");
    let left = repaired["left"].as_array().unwrap();
    assert_eq!(left.len(), 1, "{repaired}");
    assert_eq!(left[0][0], "id=8", "{repaired}");
    let mismatches = report["verification"][0]["mismatches"].as_array().unwrap();
    assert_eq!(mismatches.len(), 1, "{mismatches:?}");
    assert_eq!(mismatches[0]["record"], "id=8");
    assert_eq!(
        listed(&scene.stage, "verification-results"),
        BTreeMap::from([("missing".to_owned(), 1)])
    );
}

#[test]
fn records_that_refer_to_each_other_are_healed_in_the_right_order() {
    let stage = Stage::new();
    let (mut parents, mut children) = (String::new(), String::new());
    for id in 1..=20 {
        parents.push_str(&format!("{{\"id\":{id},\"name\":\"p {id}\"}}\n"));
        children.push_str(&format!("{{\"id\":{id},\"parent\":{id}}}\n"));
    }
    std::fs::create_dir(stage.path("in")).unwrap();
    stage.write("in/parents.ndjson", parents);
    stage.write("in/children.ndjson", children);
    for server in servers() {
        let database_of_test = server.database();
        database_of_test.sql(
            "CREATE TABLE parents (id bigint PRIMARY KEY, name text);
             CREATE TABLE children (id bigint PRIMARY KEY, parent bigint REFERENCES parents (id))",
        );
        let job = json!({
            "name": "family",
            "source": { "plugin": "files", "config": { "path": "in" } },
            "sink": database(&database_of_test.url()),
            "collections": [
                { "source": "children", "key": ["id"],
                  "references": [{ "fields": ["parent"], "collection": "parents" }] },
                { "source": "parents", "key": ["id"] },
            ],
        });
        stage.write("job.yaml", job.to_string());
        stage.run(&["run", "job.yaml", "--json"]).expect(0);
        database_of_test.sql(
            "DELETE FROM children WHERE id IN (3, 4); DELETE FROM parents WHERE id IN (3, 4);
             INSERT INTO parents VALUES (50, 'extra'); INSERT INTO children VALUES (60, 50)",
        );
        let arguments = ["verify", "job.yaml", "--json", "--repair", "--yes"];
        let report = stage.run(&arguments).expect(0).json();
        let counts = |member: &str| -> u64 {
            let all = report["repaired"].as_array().unwrap().iter();
            all.map(|one| one[member].as_u64().unwrap()).sum()
        };
        assert_eq!(
            (counts("copied_count"), counts("removed_count")),
            (4, 2),
            "{}",
            report["repaired"]
        );
        assert_eq!(database_of_test.sql("SELECT count(*) FROM parents").trim(), "20");
        assert_eq!(database_of_test.sql("SELECT count(*) FROM children").trim(), "20");
        std::fs::remove_dir_all(stage.path(".whimbrel")).unwrap();
    }
}

/// The records that the one repair of a stage has kept, in order.
fn kept(stage: &Stage, collection: &str) -> Vec<Value> {
    let name = format!("before-repair/records/{collection}.ndjson");
    let mut files: Vec<_> = std::fs::read_dir(stage.path(".whimbrel/verifications"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join(&name))
        .filter(|path| path.exists())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files.pop().unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(file).unwrap();
    let mut records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    records.sort_by_key(|record| record["id"].as_i64());
    records
}

/// What is replaced and removed is kept with all that the sink has of it, also what the job does not know.
fn keeps(scene: &Scene) {
    scene.sql("ALTER TABLE people ADD COLUMN mine text");
    scene.sql("UPDATE people SET name = 'wrong', mine = 'a' WHERE id = 5");
    scene.sql("INSERT INTO people (id, age, name, mine) VALUES (9001, 7, 'extra', 'b')");
    let report = scene.repair().expect(0).json();
    let repaired = &report["repaired"][0];
    assert_eq!(
        (&repaired["copied_count"], &repaired["removed_count"]),
        (&json!(1), &json!(1)),
        "{repaired}"
    );
    assert_eq!(
        kept(&scene.stage, "people"),
        [
            json!({ "id": 5, "age": 5, "name": "wrong", "mine": "a" }),
            json!({ "id": 9001, "age": 7, "name": "extra", "mine": "b" }),
        ]
    );
}

#[test]
fn what_a_repair_of_a_libsql_file_replaces_or_removes_is_kept_whole() {
    keeps(&Scene::new(Eye::File));
}

#[test]
fn what_a_repair_of_postgres_replaces_or_removes_is_kept_whole() {
    for scene in Scene::of_servers() {
        keeps(&scene);
    }
}

/// Repairs; what only the sink has must stay, for a reason that holds `why`.
fn leaves_extra(scene: &Scene, why: &str) {
    let before = scene.content();
    let report = scene.repair().expect(4).json();
    assert_eq!(scene.content(), before);
    let repaired = &report["repaired"][0];
    assert_eq!(repaired["removed_count"], 0, "{repaired}");
    let left = repaired["left"].as_array().unwrap();
    let is_said = left.iter().any(|one| {
        let reason = one[1].as_str().unwrap();
        one[0]
            .as_str()
            .unwrap()
            .starts_with("records that only the sink has")
            && reason.contains(why)
    });
    assert!(is_said, "{repaired}");
}

#[test]
fn records_that_the_source_or_a_transform_spoils_are_not_removed_from_the_sink() {
    let scene = Scene::new(Eye::File);
    let people = std::fs::read_to_string(scene.stage.path("people.ndjson")).unwrap();
    // The line cannot be read by now.
    scene
        .stage
        .write("people.ndjson", people.replace("{\"id\":17,", "{\"id\":17,,"));
    leaves_extra(&scene, "the source has 1 records that cannot be read");
    // The line can be read, and a transform refuses what it holds.
    scene.stage.write(
        "people.ndjson",
        people.replace(
            "\"age\":17,\"name\":\"n 17\"",
            "\"age\":\"many\",\"name\":\"n 17\"",
        ),
    );
    let job = std::fs::read_to_string(scene.stage.path("job.yaml")).unwrap();
    let mut job: Value = serde_json::from_str(&job).unwrap();
    job["transforms"] = json!([
        { "plugin": "reshape", "config": { "steps": [{ "cast": { "field": "age", "to": "int64" } }] } }
    ]);
    scene.stage.write("job.yaml", job.to_string());
    leaves_extra(&scene, "a transform refuses");
    scene.stage.write("people.ndjson", people);
    scene.repair().expect(0);
}

#[test]
fn a_source_that_is_suddenly_empty_or_small_empties_no_sink() {
    let scene = Scene::new(Eye::File);
    let people = std::fs::read_to_string(scene.stage.path("people.ndjson")).unwrap();
    let few: Vec<&str> = people.lines().take(20).collect();
    scene.stage.write("people.ndjson", few.join("\n"));
    leaves_extra(&scene, "more than half of the 2500 records");
    scene.verify(&["--repair", "--yes", "--remove-most"]).expect(0);
    assert_eq!(scene.content(), (20, 20));
    // Only a repair removes anything.
    scene.verify(&["--remove-most"]).expect(2);
}

#[test]
fn records_that_others_would_follow_stay_and_are_listed() {
    for scene in Scene::of_servers() {
        scene.sql(
            "INSERT INTO people (id, age, name) SELECT id, 1, 'extra' FROM generate_series(9001, 9020) AS id",
        );
        scene.sql(
            "CREATE TABLE letters (id bigint PRIMARY KEY, person bigint REFERENCES people ON DELETE CASCADE);
             INSERT INTO letters VALUES (1, 9007), (2, 9008), (3, 1)",
        );
        let report = scene.repair().expect(4).json();
        let repaired = &report["repaired"][0];
        assert_eq!(repaired["removed_count"], 18, "{repaired}");
        let mut left: Vec<&str> = Vec::new();
        for one in repaired["left"].as_array().unwrap() {
            assert!(
                one[1].as_str().unwrap().contains("postgres.remove_cascades"),
                "{one}"
            );
            left.push(one[0].as_str().unwrap());
        }
        left.sort_unstable();
        assert_eq!(left, ["id=9007", "id=9008"]);
        assert_eq!(scene.sql("SELECT count(*) FROM letters"), "3");
        assert_eq!(scene.content(), (RECORDS + 2, RECORDS));
    }
}
