//! The table of faults, `host/docs/faults.md`: which test shows what whimbrel survives. It is made from the names of the tests, which begin
//! with the ids of the faults that they inject, and fails if an id has none.
//!
//! `UPDATE_EXPECT=1` writes the table anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::program::repository;

/// Ids and faults, in the order of the table, with what is expected.
const FAULTS: [(&str, &str, &str); 39] = [
    (
        "K1",
        "SIGKILL at any moment of any phase",
        "`resume` goes on at the sink's cursor; nothing is lost, nothing twice",
    ),
    (
        "K2",
        "SIGKILL between the sink's commit and the host's state",
        "the lane is ahead; nothing is sent twice",
    ),
    (
        "K3",
        "SIGKILL of the process that holds the plugins",
        "started again up to three times, under a new epoch",
    ),
    (
        "K4",
        "SIGSTOP, another run takes over, SIGCONT",
        "the first run ends with exit code 7 and changes nothing",
    ),
    (
        "K5",
        "SIGTERM or SIGINT, and a second one",
        "drains within 10 s and can be resumed; the second ends at once",
    ),
    (
        "K6",
        "SIGHUP to the daemon, with good and with bad files",
        "all of them are taken over, or none, and it says why",
    ),
    (
        "K7",
        "emergency stop while the sink hangs",
        "writers are gone within 15 s, the state is kept",
    ),
    (
        "K8",
        "the state is torn or cut short",
        "noticed, refused, and rebuilt from the sink",
    ),
    (
        "S1",
        "the connection is reset in mid-copy",
        "the transaction is gone; its batches are sent once",
    ),
    (
        "S2",
        "the connection is cut between COMMIT and its answer",
        "the lane's seq decides; no duplicate, no gap",
    ),
    (
        "S3",
        "the sink takes next to nothing",
        "reading waits; memory stays bounded",
    ),
    (
        "S4",
        "disk full, read-only, out of connections",
        "the run pauses, tells somebody, and goes on after the repair",
    ),
    (
        "S5",
        "serialization failure, deadlock, busy database",
        "the whole transaction is tried again, a bounded number of times",
    ),
    (
        "S6",
        "a right or a schema is missing",
        "found beforehand; nothing is written",
    ),
    (
        "S7",
        "the server restarts in mid-run",
        "reconnected, taken over, whole",
    ),
    (
        "S8",
        "the server takes a write transaction away",
        "it is poisoned and written again as a whole; no row outside of it",
    ),
    (
        "R1",
        "the source times out or falls silent",
        "a deadline, then reading goes on at the cursor",
    ),
    (
        "R2",
        "the source's schema changes in mid-run",
        "as the policy says; never silently",
    ),
    (
        "R3",
        "the source changes while it is compared",
        "neither equal nor different: changed since",
    ),
    (
        "F1",
        "RESOURCE_EXHAUSTED",
        "the rate halves, then climbs; the service's wish is heard",
    ),
    (
        "F2",
        "ABORTED, UNAVAILABLE, DEADLINE_EXCEEDED",
        "what became of a write is found out, not guessed",
    ),
    (
        "F3",
        "some writes of a request fail",
        "these alone are tried again or rejected",
    ),
    (
        "F4",
        "a document that cannot be stored",
        "rejected before it is sent, with the reason",
    ),
    (
        "P1",
        "a plugin panics",
        "a typed error with plugin, role, call and place",
    ),
    (
        "P2",
        "a plugin crashes or exits",
        "the run ends as crashed, with the signal named",
    ),
    ("P3", "a plugin hangs", "deadline, cancel, kill; said so"),
    (
        "P5",
        "a library that is none of ours",
        "refused before its code runs",
    ),
    (
        "P7",
        "records that are not what they say",
        "refused; the batch is not committed",
    ),
    ("P8", "a plugin prints to standard output", "kept as its log"),
    (
        "D1",
        "one poison record in a batch of a thousand",
        "999 are written, one is rejected with its data",
    ),
    (
        "D2",
        "too many rejected records",
        "the run stops with its state kept, and says which limit",
    ),
    (
        "D3",
        "duplicate keys in the source",
        "as the policy says; counted",
    ),
    (
        "D4",
        "a record that points to nothing; a circle of references",
        "reported before; two passes for the circle",
    ),
    (
        "D5",
        "values at the edges of their types",
        "exact, a declared loss, or rejected",
    ),
    ("D6", "hostile names", "quoted; names that collide are refused"),
    (
        "H1",
        "a checkpoint with flipped bits or cut short",
        "refused before anything is touched",
    ),
    (
        "H2",
        "the disk of the working folder is full",
        "the last state is written all the same; the sink is consistent",
    ),
    ("H3", "two runs of one job", "one runs, the other says who does"),
    (
        "H4",
        "a job file that is wrong",
        "exit code 2 with place and help; nothing is touched",
    ),
];

/// The tests by id, each as its place and its name.
fn tests() -> BTreeMap<String, Vec<(String, String)>> {
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for folder in ["tests/suite", "plugins", "host/src", "plugin-api/src"] {
        look_into(&repository().join(folder), &mut found);
    }
    found
}

fn look_into(folder: &Path, found: &mut BTreeMap<String, Vec<(String, String)>>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path
                .file_name()
                .is_none_or(|name| name != "target" && name != "node_modules")
            {
                look_into(&path, found);
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let place = path.strip_prefix(repository()).unwrap().display().to_string();
        for name in names(&text) {
            for id in ids(name) {
                found
                    .entry(id)
                    .or_default()
                    .push((place.clone(), name.to_owned()));
            }
        }
    }
}

/// The names of the tests in a file: functions whose attribute says so.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while let Some(line) = lines.next() {
            if line.trim() != "#[test]" {
                continue;
            }
            while lines
                .next_if(|next| next.trim_start().starts_with("#["))
                .is_some()
            {}
            let declared = lines.next()?.trim_start();
            let name = declared.strip_prefix("fn ").expect("a function after `#[test]`");
            return name.split('(').next();
        }
        None
    })
}

/// The ids that a name begins with.
fn ids(name: &str) -> impl Iterator<Item = String> {
    let is_id = |part: &&str| {
        let mut letters = part.chars();
        let letter = letters.next().is_some_and(|letter| "ksrfpdh".contains(letter));
        letter && letters.clone().count() == 1 && letters.all(|digit| digit.is_ascii_digit())
    };
    name.split('_')
        .take_while(is_id)
        .map(str::to_uppercase)
        .collect::<Vec<_>>()
        .into_iter()
}

fn table() -> String {
    let tests = tests();
    let mut text = String::from(
        "# What whimbrel survives\n\n\
         Each test injects the fault into the real program or plugin, with a real system behind it, and looks at the end state. This table is made from\n\
         the names of the tests (`UPDATE_EXPECT=1 cargo nextest run -p whimbrel-tests faults`); the suite fails if a fault has no test, and a change is only\n\
         taken if all of them pass. `cargo x soak` runs the long version; its last result is in [soak.md](soak.md).\n\n\
         | fault | what happens | what is expected | tests |\n|---|---|---|---|\n",
    );
    for (id, fault, expected) in FAULTS {
        let of = tests.get(id).map(Vec::as_slice).unwrap_or_default();
        let shown: Vec<String> = of
            .iter()
            .map(|(place, name)| format!("`{name}` ({place})"))
            .collect();
        writeln!(text, "| {id} | {fault} | {expected} | {} |", shown.join("<br>")).unwrap();
    }
    text
}

#[test]
fn every_fault_has_a_test() {
    let tests = tests();
    let missing: Vec<&str> = FAULTS
        .iter()
        .map(|(id, ..)| *id)
        .filter(|id| !tests.contains_key(*id))
        .collect();
    assert!(
        missing.is_empty(),
        "no test has a name that begins with {missing:?}"
    );
}

#[test]
fn the_table_of_faults_is_that_of_the_tests() {
    let path = repository().join("host/docs/faults.md");
    let wanted = table();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "host/docs/faults.md is not what the tests say; `UPDATE_EXPECT=1` writes it anew"
    );
}

#[test]
fn ids_are_read_off_the_beginning_of_a_name() {
    let of = |name: &str| ids(name).collect::<Vec<_>>();
    assert_eq!(of("k1_k2_killed"), ["K1", "K2"]);
    assert_eq!(of("a_k1_thing"), Vec::<String>::new());
    assert_eq!(of("s10_thing"), Vec::<String>::new());
    let text = "#[test]\nfn k1_a() {\n}\nfn k2_b() {}\n    #[test]\n    #[cfg(unix)]\n    fn s1_c() {";
    assert_eq!(names(text).collect::<Vec<_>>(), ["k1_a", "s1_c"]);
}
