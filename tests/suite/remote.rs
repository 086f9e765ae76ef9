//! Migrations into and out of a real libSQL server with tokens, by the built program. What arrived is counted and hashed by npm
//! `@libsql/client`, and held against the same job into a file.
//!
//! Not here: the protocol, TLS and single requests, which the plugin's own tests show.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::{chromium, fill};
use crate::browsers::{self, WITHHELD, assert_verified};
use crate::program::Stage;
use crate::proxy::{Fate, Proxy};
use crate::running::latest_run;
use crate::secret_search::{files, printed, search};
use crate::sqld::{Sqld, TableHash, Tools, free_address, request, tools};

/// How long the server makes a second writer wait before it takes the transaction away from the first, less a second.
const PATIENCE: Duration = Duration::from_secs(4);
/// Where the sink keeps what makes a commit safe to repeat; a file needs none.
const GUARD: &str = "_whimbrel_guard";
/// The sink's checkpoints: epochs, ids and times of runs, of which no two are the same.
const LANES: &str = "_whimbrel_lane";
/// Commits of a run before the first of data: the tables, and the session's row.
const COMMITS_BEFORE: usize = 2;
/// The commands that only look.
const LOOKS: [&[&str]; 4] = [
    &["plan", "job.yaml"],
    &["check", "job.yaml"],
    &["stats", "job.yaml"],
    &["run", "job.yaml", "--dry-run"],
];
/// The variable with the token.
const TOKEN: &str = "WHIMBREL_TEST_TOKEN";

fn export() -> Value {
    json!({ "plugin": "local-storage", "config": { "path": "./export.json" } })
}

fn file(name: &str) -> Value {
    json!({ "plugin": "turso", "config": { "url": format!("file:{name}") } })
}

fn remote(url: &str) -> Value {
    json!({ "plugin": "turso", "config": { "url": url, "auth_token": format!("${{env:{TOKEN}}}") } })
}

fn write_job(stage: &Stage, source: &Value, sink: &Value) {
    let job = json!({ "name": "remote", "source": source, "sink": sink });
    stage.write("job.yaml", job.to_string());
}

/// A folder with the export of the example.
fn stage_with_export() -> Stage {
    let stage = Stage::new();
    stage.copy("examples/browser-to-turso/export.json", "export.json");
    stage
}

type Hashes = BTreeMap<String, TableHash>;

/// All tables of a database file but that of checkpoints.
fn file_hashes(tools: &Tools, stage: &Stage, name: &str) -> Hashes {
    without_lanes(tools.hashes(&format!("file:{}", stage.path(name).display()), "", &[]))
}

fn without_lanes(mut hashes: Hashes) -> Hashes {
    hashes.remove(LANES);
    hashes
}

/// All tables of a server, without the sink's own that no file has, and without that of checkpoints.
fn server_hashes(server: &Sqld) -> Hashes {
    let mut hashes = without_lanes(server.hashes(&[]));
    let guard = hashes.remove(GUARD);
    assert!(
        guard.is_none_or(|guard| guard.record_count == 0),
        "a session was left behind"
    );
    hashes
}

/// How many records the tables have that are no bookkeeping.
fn record_count(hashes: &Hashes) -> u64 {
    let data = hashes.iter().filter(|(name, _)| !name.starts_with("_whimbrel_"));
    data.map(|(_, hash)| hash.record_count).sum()
}

fn full(server: &Sqld) -> [(&str, &str); 1] {
    [(TOKEN, server.full_token())]
}

#[test]
fn an_export_arrives_at_a_server_and_comes_back_equal() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let stage = stage_with_export();
    write_job(&stage, &export(), &remote(&server.url()));
    let answer = stage.run_with(&["run", "job.yaml", "--json", "--verbose"], &full(&server));
    let mut outputs = files(&stage.path(""));
    outputs.extend(printed("run", &answer));
    assert!(outputs.len() > 8, "reports and logs were looked at");
    let secrets = [("the token", server.full_token())];
    assert_eq!(search(secrets.into_iter(), &outputs), None);
    assert_verified(answer, 0);
    write_job(&stage, &export(), &file("app.db"));
    stage.run(&["run", "job.yaml"]).expect(0);
    let wanted = file_hashes(&tools, &stage, "app.db");
    assert_eq!(record_count(&wanted), 6_446);
    assert_eq!(server_hashes(&server), wanted);

    // The server as the source.
    write_job(&stage, &remote(&server.url()), &file("back.db"));
    let answer = stage.run_with(&["run", "job.yaml", "--json"], &full(&server));
    assert_verified(answer, 0);
    let back = file_hashes(&tools, &stage, "back.db");
    let data = |hashes: &Hashes| -> Hashes {
        let own = |name: &String| name.starts_with("_whimbrel_");
        hashes
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, hash)| (name.clone(), hash.clone()))
            .collect()
    };
    assert_eq!(data(&back), data(&wanted));
    assert_eq!(server_hashes(&server), wanted);
}

#[test]
fn tokens_and_hosts_that_do_not_do_are_told_apart_and_nothing_is_written() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let tokens = server.tokens.clone().unwrap();
    let stage = stage_with_export();
    let nobody = format!("http://{}", free_address());
    let wrong_path = format!("{}/elsewhere", server.url());
    let cases = [
        (server.url(), tokens.read_only.as_str(), "turso.forbidden"),
        (server.url(), tokens.expired.as_str(), "turso.token_expired"),
        (server.url(), "no.token.at-all", "turso.unauthenticated"),
        (nobody, tokens.full.as_str(), "turso.unreachable"),
        (wrong_path, tokens.full.as_str(), "turso.no_database"),
    ];
    for (url, token, code) in cases {
        write_job(&stage, &export(), &remote(&url));
        for command in ["check", "run"] {
            let answer = stage.run_with(&[command, "job.yaml", "--json"], &[(TOKEN, token)]);
            let mut outputs = files(&stage.path(""));
            outputs.extend(printed(command, &answer));
            assert_eq!(
                search([("the token", token)].into_iter(), &outputs),
                None,
                "{code}"
            );
            // A database that is not there is a wrong job; the others are the environment's fault.
            let exit = if code == "turso.no_database" { 2 } else { 3 };
            assert_eq!(answer.code, exit, "{code}");
            let error = answer.error();
            assert_eq!(error["code"], code, "{command}: {error}");
            assert!(error["help"].is_string(), "{command}: {error}");
        }
        assert_eq!(server.hashes(&[]), Hashes::new(), "{code}: something was written");
    }
    // A server without tables can be read with that token, and is.
    write_job(&stage, &export(), &remote(&server.url()));
    stage.run_with(&["run", "job.yaml"], &full(&server)).expect(0);
    write_job(&stage, &remote(&server.url()), &file("read.db"));
    let reading = [(TOKEN, tokens.read_only.as_str())];
    stage.run_with(&["run", "job.yaml"], &reading).expect(0);
    let read = file_hashes(&tools, &stage, "read.db");
    assert_eq!(record_count(&read), 6_446);
}

#[test]
fn a_live_chromium_arrives_at_a_server_as_its_pages_say() {
    let (Some(program), Some(tools)) = (chromium(), tools()) else {
        return;
    };
    let server = Sqld::start_with_tokens(&tools);
    let stage = Stage::new();
    let profile = stage.path("profile");
    let filled = fill(&program, &profile, "first");
    let pages = filled
        .told
        .iter()
        .map(|(origin, told)| (origin.clone(), told.json.clone()))
        .collect();
    filled.browser.stop();
    stage.write("job.yaml", browsers::job(&profile, &remote(&server.url())));
    let answer = stage.run_with(&["run", "job.yaml", "--json"], &full(&server));
    assert_verified(answer, WITHHELD);
    let said = browsers::compare(&stage, &tools, &server.url(), server.full_token(), &pages);
    let [keys, _, withheld] = browsers::same(&said);
    assert!(keys > 1_060, "{said}");
    assert_eq!(withheld, WITHHELD);
}

/// Records with an `id` as their key, among them one whose text is in no other.
fn stage_with_lines() -> (Stage, Value) {
    let stage = Stage::new();
    let line = |id: usize| format!("{{\"id\":{id},\"text\":\"number {id}.\"}}\n");
    stage.write("lines.ndjson", (0..2_500).map(line).collect::<String>());
    let job = json!({
        "name": "remote",
        "source": { "plugin": "files", "config": { "path": "lines.ndjson" } },
        "collections": [{ "source": "lines", "key": ["id"] }],
    });
    (stage, job)
}

/// FAULTS S8: the server takes the transaction away, in the middle of it or just before its commit.
#[test]
fn s8_a_second_writer_that_steals_the_transaction_costs_a_retry_and_no_row() {
    let Some(tools) = tools() else { return };
    let (stage, mut job) = stage_with_lines();
    job["sink"] = file("wanted.db");
    stage.write("job.yaml", job.to_string());
    stage.run(&["run", "job.yaml"]).expect(0);
    let wanted = file_hashes(&tools, &stage, "wanted.db")["lines"].clone();
    assert_eq!(wanted.record_count, 2_500);
    for (text, number) in [("number 250.", 0), ("COMMIT", COMMITS_BEFORE)] {
        let server = Arc::new(Sqld::start_with_tokens(&tools));
        server.sql(&["CREATE TABLE thief(n)"]);
        let (sender, waited) = channel();
        // The proxy goes on after this test, the server must not.
        let thief = Arc::downgrade(&server);
        let rule = move |seen| {
            if seen == number
                && let Some(server) = thief.upgrade()
            {
                // The request waits for the thief, who waits for the server's patience to end.
                let started = Instant::now();
                let answer = server.sql(&["INSERT INTO thief VALUES (1)"]);
                assert!(!answer.contains("\"error\""), "{answer}");
                sender.send(started.elapsed()).unwrap();
            }
            Fate::Pass
        };
        let proxy = Proxy::start(server.address(), text, Box::new(rule));
        job["sink"] = remote(&proxy.url());
        stage.write("job.yaml", job.to_string());
        let answer = stage.run_with(&["run", "job.yaml", "--json"], &full(&server));
        let waited = waited.try_recv().expect("the thief came");
        assert!(
            waited > PATIENCE,
            "{text}: nothing was stolen: the thief waited {waited:?}"
        );
        assert_verified(answer, 0);
        let logged = files(&latest_run(&stage, ".whimbrel"));
        assert!(
            logged
                .iter()
                .any(|output| output.text.contains("written once more")),
            "{text}: the log tells nothing of it"
        );
        let hashes = server_hashes(&server);
        assert_eq!(
            (&hashes["lines"], hashes["thief"].record_count),
            (&wanted, 1),
            "{text}"
        );
    }
}

/// What the server itself has counted: written rows, and changes that a replica would have to follow.
fn counters(admin: SocketAddr) -> [u64; 2] {
    let (status, text) = request(admin, "GET", "/v1/namespaces/default/stats", &[], "").unwrap();
    assert_eq!(status, 200, "{text}");
    let counted: Value = serde_json::from_str(&text).unwrap();
    ["rows_written_count", "replication_index"].map(|name| counted[name].as_u64().unwrap())
}

#[test]
fn what_only_looks_changes_nothing_on_a_server_and_clear_empties_it() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_admin(&tools, Some(tools.tokens()));
    let admin = server.admin();
    let stage = stage_with_export();
    let run = |arguments: &[&str]| stage.run_with(&[arguments, &["--json"]].concat(), &full(&server));
    let look = |codes: &[i32]| {
        let (hashes, counted) = (server.hashes(&[]), counters(admin));
        for arguments in LOOKS {
            let answer = run(arguments);
            assert!(
                codes.contains(&answer.code),
                "{arguments:?}: exit {}\n{}{}",
                answer.code,
                answer.out,
                answer.err
            );
            assert_eq!(counters(admin), counted, "{arguments:?}");
        }
        assert_eq!(server.hashes(&[]), hashes);
    };
    write_job(&stage, &export(), &remote(&server.url()));
    look(&[0]);
    assert_verified(run(&["run", "job.yaml"]), 0);
    let [written, _] = counters(admin);
    assert!(written >= 6_446, "{written} rows were counted");
    look(&[0]);

    let before = (server.hashes(&[]), counters(admin));
    let refused = run(&["clear", "job.yaml"]).expect(2);
    assert_eq!(refused.error()["code"], "cli.confirmation_needed");
    assert_eq!((server.hashes(&[]), counters(admin)), before);
    let cleared = run(&["clear", "job.yaml", "--yes"]).expect(0).json();
    let cleared = cleared["cleared"].as_array().unwrap();
    let count: u64 = cleared
        .iter()
        .map(|one| one["removed_count"].as_u64().unwrap())
        .sum();
    assert_eq!(count, 6_446, "{cleared:?}");
    let after = server_hashes(&server);
    let tables = without_lanes(before.0);
    assert_eq!((record_count(&after), after.len()), (0, tables.len() - 1));
    // The tables are there as before, so the same job fills them again.
    assert_verified(run(&["run", "job.yaml"]), 0);
    assert_eq!(without_lanes(server.hashes(&[])), tables);
}
