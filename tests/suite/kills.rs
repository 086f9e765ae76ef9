//! SIGKILL of a run at moments chosen at random: what its files say is whole and true, the worker goes too, and the next
//! run is not held up. FAULTS K1 as far as this step goes: nothing is resumed yet.
//!
//! The moments come from a seed, which is printed and can be given as `WHIMBREL_SEED`. What is in the sink is counted by
//! Python's own SQLite, or read from the file that the scripted sink syncs with each commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::{Running, json_file, wait_until};
use crate::scripted_job::{COMMITTED, ScriptedJob, lines};

/// Kills of each test; with five tests there are twenty-five.
const KILLS: u64 = 5;
/// Records of each of the two collections.
const RECORDS: u64 = 1_500;

/// Numbers that look random, the same for the same seed. Source: SplitMix64, Steele, Lea and Flood 2014.
pub struct Random(u64);

impl Random {
    /// From `WHIMBREL_SEED`, or another one each time; `test` makes tests of one seed differ.
    pub fn of_test(test: u64) -> Self {
        let given = std::env::var("WHIMBREL_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed: u64 = given.unwrap_or(now);
        println!("WHIMBREL_SEED={seed}");
        Self(seed ^ test.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// Two collections in sixteen parts each, every one of which ends with a transaction of its own.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("collections", json!(["a", "b"]))
        .source("records", json!(RECORDS))
        .source("calls_path", Value::Null)
        .sink("calls_path", Value::Null)
        .set("/limits/batch_records", json!(50))
        .set("/limits/partitions_parallel", json!(16))
}

/// The ids of each collection that are durable in the sink.
type Durable = BTreeMap<String, Vec<u64>>;

fn in_file(stage: &Stage) -> Durable {
    let mut durable = Durable::new();
    for line in lines(&stage.path(COMMITTED)) {
        let ids = durable
            .entry(line["collection"].as_str().unwrap().to_owned())
            .or_default();
        ids.push(line["record"]["id"].as_u64().unwrap());
    }
    durable
}

/// Asks each of `databases`, as far as it is there, for its integrity and the ids in its tables `a` and `b`.
fn in_database(stage: &Stage) -> Durable {
    let script = "import sqlite3,sys,json,os\n\
                  found={}\n\
                  if os.path.exists(sys.argv[1]):\n \
                   c=sqlite3.connect(sys.argv[1])\n \
                   assert c.execute('PRAGMA integrity_check').fetchall()==[('ok',)]\n \
                   there=[t for (t,) in c.execute(\"SELECT name FROM sqlite_master WHERE type='table'\")]\n \
                   found={t:[i for (i,) in c.execute('SELECT id FROM \"%s\"'%t)] for t in 'ab' if t in there}\n\
                  print(json.dumps(found))";
    let found: Value = serde_json::from_str(&python(script, &stage.path("app.db"))).unwrap();
    let ids = |value: &Value| {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap())
            .collect()
    };
    found
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, found)| (name.clone(), ids(found)))
        .collect()
}

fn python(script: &str, path: &Path) -> String {
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What the checkpoint says must be in the sink, record by record.
fn assert_true(checkpoint: &Value, durable: &Durable) {
    let mut said = 0;
    for (collection, partitions) in checkpoint["collections"].as_object().unwrap() {
        for (label, partition) in partitions.as_object().unwrap() {
            // Each partition is read in the order of the ids, and named after the first one.
            let first: u64 = label.strip_suffix("..").unwrap().parse().unwrap();
            let next = first + partition["record_count"].as_u64().unwrap();
            let ids = durable.get(collection).map_or(&[][..], Vec::as_slice);
            let there = ids.iter().filter(|id| (first..next).contains(id)).count() as u64;
            assert_eq!(there, next - first, "{collection} {label}: records up to {next}");
            said += next - first;
        }
    }
    assert_eq!(checkpoint["record_count"], said);
}

#[test]
fn a_checkpoint_that_says_too_much_would_be_noticed() {
    let checkpoint = |count: u64, sum: u64| json!({ "record_count": sum, "collections": { "a": { "50..": { "record_count": count } } } });
    let durable = Durable::from([("a".to_owned(), vec![50, 51, 53])]);
    assert_true(&checkpoint(2, 2), &durable);
    for wrong in [checkpoint(3, 3), checkpoint(2, 3)] {
        let durable = durable.clone();
        std::panic::catch_unwind(move || assert_true(&wrong, &durable)).unwrap_err();
    }
}

/// Processes that have `folder` as their own.
fn processes_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let place = |entry: &std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).ok();
    entries
        .filter(|entry| place(entry).is_some_and(|place| place == folder))
        .count()
}

/// The run that was killed, if it had begun: its files and what the program says of it.
fn look_at_killed(stage: &Stage, run_id: &str, durable: &Durable) {
    let folder = stage.path(".whimbrel/runs").join(run_id);
    let status = json_file(&folder.join("migration-status.json"));
    assert_eq!(status["run_id"], run_id);
    let there: usize = durable.values().map(Vec::len).sum();
    let written = status["totals"]["written_count"].as_u64().unwrap();
    assert!(
        written <= there as u64,
        "{written} said to be written, {there} are there"
    );
    let checkpoint = json_file(&folder.join("migration-checkpoint.json"));
    assert_eq!(checkpoint["run_id"], run_id);
    assert_true(&checkpoint, durable);
    for line in std::fs::read_to_string(folder.join("migration-log.json"))
        .unwrap()
        .split_inclusive('\n')
    {
        // The last line may be cut, since it is added to and not replaced.
        let is_whole = line.ends_with('\n');
        assert!(!is_whole || serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let told = stage.run(&["status", run_id, "--json"]).expect(0).json();
    let state = told["run"]["state"].as_str().unwrap();
    let ended = status["state"].as_str().unwrap();
    // One that had ended and only had to leave may have said so to the state, or not yet.
    assert!(
        state == "crashed" || (ended != "running" && state == ended),
        "{told}"
    );
}

fn kill_at_random_moments(test: u64, job: &ScriptedJob, durable: fn(&Stage) -> Durable) {
    let mut random = Random::of_test(test);
    let stage = job.stage();
    let begun = Instant::now();
    stage.run(&["run", "job.yaml"]).expect(0);
    let whole_run = begun.elapsed();
    for _ in 0..KILLS {
        for name in [COMMITTED, "app.db", "app.db-wal", "app.db-shm"] {
            std::fs::remove_file(stage.path(name)).unwrap_or_default();
        }
        let moment = Duration::from_micros(random.below(whole_run.as_micros() as u64));
        println!("killed after {moment:?} of {whole_run:?}");
        let running = Running::start(&stage, &[]);
        // This is the moment itself, and nothing is waited for.
        let until = Instant::now() + moment;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        running.signal(rustix::process::Signal::KILL);
        let end = running.finish();
        let folder = stage.path("").canonicalize().unwrap();
        wait_until("the worker ends with its supervisor", || {
            processes_in(&folder) == 0
        });
        let started = end.events.first().and_then(|event| event["run_id"].as_str());
        if let Some(run_id) = started {
            look_at_killed(&stage, run_id, &durable(&stage));
        }
    }
    for name in [COMMITTED, "app.db", "app.db-wal", "app.db-shm"] {
        std::fs::remove_file(stage.path(name)).unwrap_or_default();
    }
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["outcome"], "done");
    let counts: Vec<usize> = durable(&stage).values().map(Vec::len).collect();
    assert_eq!(counts, [RECORDS as usize; 2]);
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nprint(c.execute('PRAGMA integrity_check').fetchall())";
    assert_eq!(
        python(script, &stage.path(".whimbrel/state.db")).trim(),
        "[('ok',)]"
    );
}

#[test]
fn a_killed_run_into_a_database_leaves_true_files_1() {
    kill_at_random_moments(1, &job().into_database("app.db"), in_database);
}

#[test]
fn a_killed_run_into_a_database_leaves_true_files_2() {
    kill_at_random_moments(2, &job().into_database("app.db"), in_database);
}

#[test]
fn a_killed_run_into_a_database_leaves_true_files_3() {
    kill_at_random_moments(3, &job().into_database("app.db"), in_database);
}

#[test]
fn a_killed_run_leaves_true_files_1() {
    kill_at_random_moments(4, &job(), in_file);
}

#[test]
fn a_killed_staged_run_leaves_true_files() {
    kill_at_random_moments(5, &job().set("/staging", json!("disk")), in_file);
}
