//! What a job with PostgreSQL is refused for, and that nothing was written then: logins, TLS, rights, missing and unfit
//! tables, keys that come twice. FAULTS S6, D3, ledger R2.5.
//!
//! Each against real servers of both releases. Neighbour: `postgres_faults`, for what goes wrong in mid-run.

use serde_json::{Value, json};

use crate::postgres::{Database, PASSWORD, PORTER, Server, Version, escaped, servers};
use crate::postgres_job::{Job, content, database, files, report_of, told, write_docs};
use crate::program::Stage;
use crate::running::{Running, wait_until};
use crate::secret_search::{Output, files as files_below, printed, search};
use crate::tcp_proxy::{Line, Proxy};

/// Where the URL of a job comes from in tests of passwords.
const URL: &str = "WHIMBREL_TEST_URL";

fn stage_with_docs() -> Stage {
    let stage = Stage::new();
    write_docs(&stage, 10, 8);
    stage
}

/// The job is refused with `code`, its message and help have `words`, and `check` says the same.
#[track_caller]
fn assert_refused(stage: &Stage, exit: i32, code: &str, words: &[&str]) {
    for arguments in [
        &["run", "job.yaml", "--json"][..],
        &["check", "job.yaml", "--json"],
    ] {
        let said = told(&report_of(stage.run(arguments), exit));
        assert!(said.contains(&format!("{code}: ")), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: `{word}` is not in: {said}");
        }
        assert_eq!(
            said.matches("()").count(),
            0,
            "{arguments:?}: an error without help: {said}"
        );
    }
}

/// The job is refused like that with the database as its sink and as its source.
#[track_caller]
fn assert_both_refused(url: &str, config: &Value, exit: i32, code: &str, words: &[&str]) {
    let mut side = database(url);
    for (key, value) in config.as_object().into_iter().flatten() {
        side["config"][key] = value.clone();
    }
    for job in [
        Job::new(files("docs.ndjson"), side.clone()),
        Job::new(side, files("out")),
    ] {
        let stage = stage_with_docs();
        job.write(&stage);
        assert_refused(&stage, exit, code, words);
        assert!(!stage.path("out").exists(), "something was written");
    }
}

#[test]
fn logins_that_fail_are_told_apart() {
    for server in servers() {
        let endpoint = server.endpoint();
        let there = server.database();
        let wrong = there.password_url().replace(&escaped(PASSWORD), "swordfish-9");
        assert_both_refused(&wrong, &json!({}), 3, "postgres.wrong_password", &[PORTER]);
        assert_both_refused(
            &endpoint.url("not_there"),
            &json!({}),
            2,
            "postgres.no_database",
            &["`not_there`"],
        );
        let unknown = there.url().replace("postgres@", "nobody_of_that_name@");
        assert_both_refused(
            &unknown,
            &json!({}),
            3,
            "postgres.refused_login",
            &["nobody_of_that_name"],
        );
    }
}

#[test]
fn a_server_that_is_not_there_or_silent_is_told() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    let proxy = Proxy::to_port(server.endpoint().port());
    let url = server.endpoint().at_port(proxy.port()).url("postgres");
    proxy.set(Line {
        is_dead: true,
        ..Line::default()
    });
    let hasty = json!({ "connect_timeout_ms": 300 });
    assert_both_refused(&url, &hasty, 3, "postgres.connect_timeout", &["300 ms"]);
    drop(proxy);
    assert_both_refused(&url, &json!({}), 3, "postgres.unreachable", &["127.0.0.1"]);
}

#[test]
fn tls_that_the_server_refuses_is_told() {
    for server in servers() {
        let words = ["offers no TLS", "tls.mode"];
        let tls = json!({ "tls": { "mode": "verify-full" } });
        assert_both_refused(
            &server.endpoint().url("postgres"),
            &tls,
            3,
            "postgres.tls_refused",
            &words,
        );
        let url = format!("{}?sslmode=require", server.endpoint().url("postgres"));
        assert_both_refused(&url, &json!({}), 3, "postgres.tls_refused", &words);
    }
}

/// The job is refused, and the database is afterwards what it was before.
#[track_caller]
fn assert_sink_refused(stage: &Stage, database: &Database, exit: i32, code: &str, words: &[&str]) {
    let before = content(database);
    assert_refused(stage, exit, code, words);
    assert_eq!(content(database), before, "something was written");
}

#[test]
fn s6_rights_that_are_missing_are_found_before_anything_is_written() {
    for server in servers() {
        let there = server.database();
        let stage = stage_with_docs();
        let job = Job::docs_into(&there.password_url());
        job.write(&stage);
        // Not even the schema may be looked into.
        there.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC, porter, pg_database_owner; ALTER SCHEMA public OWNER TO postgres");
        assert_sink_refused(
            &stage,
            &there,
            3,
            "postgres.no_permission",
            &["USAGE", "public", "GRANT"],
        );
        // It may, and no table may be made.
        there.sql("GRANT USAGE ON SCHEMA public TO porter");
        assert_sink_refused(&stage, &there, 3, "postgres.right_missing", &["CREATE", "public"]);
        // The table is there and may not be written.
        there.sql("CREATE TABLE docs (id bigint PRIMARY KEY, name text, n float8, pad text); GRANT SELECT ON docs TO porter");
        assert_sink_refused(&stage, &there, 3, "postgres.right_missing", &["INSERT", "GRANT"]);
        // Another collection may be written: still nothing is.
        there.sql("CREATE TABLE more (id bigint PRIMARY KEY); GRANT ALL ON more TO porter");
        std::fs::create_dir(stage.path("in")).unwrap();
        std::fs::rename(stage.path("docs.ndjson"), stage.path("in/docs.ndjson")).unwrap();
        stage.write("in/more.ndjson", "{\"id\":1}\n");
        Job::new(files("in"), database(&there.password_url()))
            .set(
                "/collections",
                json!([{ "source": "more", "key": ["id"] }, { "source": "docs", "key": ["id"] }]),
            )
            .write(&stage);
        assert_sink_refused(&stage, &there, 3, "postgres.right_missing", &["INSERT"]);
        // A source without the right to read.
        there.sql("REVOKE ALL ON docs FROM porter");
        Job::new(database(&there.password_url()), files("out"))
            .set("/collections", json!([{ "source": "docs" }]))
            .write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 2);
        assert_eq!(report["errors"][0]["code"], "plan.collection_missing", "{report}");
        let finding = &report["findings"][0];
        let help = finding["help"].as_str().unwrap();
        assert!(
            help.contains("GRANT SELECT ON") && help.contains("docs"),
            "{finding}"
        );
        assert!(!stage.path("out").exists());
    }
}

#[test]
fn s6_schemas_and_tables_that_are_missing_are_found_before_anything_is_written() {
    for server in servers() {
        let there = server.database();
        let stage = stage_with_docs();
        Job::docs_into(&there.url())
            .set("/sink/config/schema", json!("not_there"))
            .set("/sink/config/create_schemas", json!(false))
            .write(&stage);
        assert_sink_refused(&stage, &there, 2, "postgres.no_schema", &["not_there"]);
        Job::new(database(&there.url()), files("out"))
            .set("/collections", json!([{ "source": "missing_table" }]))
            .write(&stage);
        let said = told(&report_of(stage.run(&["run", "job.yaml", "--json"]), 2));
        assert!(said.contains("`missing_table`"), "{said}");
        assert!(!stage.path("out").exists());
    }
}

#[test]
fn tables_that_do_not_fit_are_refused_with_a_statement_that_helps() {
    let cases = [
        (
            "id bigint PRIMARY KEY, name text, n float8",
            "postgres.column_missing",
            "ADD COLUMN",
        ),
        (
            "id bigint PRIMARY KEY, name text, n int, pad text",
            "postgres.column_type",
            "`n`",
        ),
        (
            "id bigint PRIMARY KEY, name text, n float8, pad text, more text NOT NULL",
            "postgres.required_column",
            "more",
        ),
        (
            "id bigint, name text, n float8, pad text",
            "postgres.no_unique_key",
            "docs",
        ),
        (
            "id bigint PRIMARY KEY, name text, n float8, pad text GENERATED ALWAYS AS (name || 'x') STORED",
            "postgres.generated_column",
            "pad",
        ),
    ];
    for server in servers() {
        for (columns, code, word) in cases {
            let there = server.database();
            there.sql(&format!("CREATE TABLE docs ({columns})"));
            let stage = stage_with_docs();
            Job::docs_into(&there.url())
                .set("/import/on_conflict", json!("overwrite"))
                .write(&stage);
            assert_sink_refused(&stage, &there, 2, code, &[word]);
        }
    }
}

#[test]
fn each_helpful_statement_lets_the_job_through() {
    let Some(server) = Server::shared(Version::V18) else {
        return;
    };
    let there = server.database();
    there.sql("CREATE TABLE docs (id bigint PRIMARY KEY, name text, n int)");
    let stage = stage_with_docs();
    Job::docs_into(&there.url()).write(&stage);
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 2);
    for error in report["errors"].as_array().unwrap() {
        let help = error["help"].as_str().unwrap();
        let statement = help.split('`').nth(1).unwrap();
        assert!(statement.starts_with("ALTER TABLE"), "{help}");
        there.sql(statement);
    }
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
    assert_eq!(there.sql("SELECT count(*), sum(n) FROM docs"), "10|50");
}

/// What a policy leaves of record 1, which the table has and the source has twice (first and last), and how many records are rejected.
struct Expected {
    policy: &'static str,
    rows: &'static str,
    rejected_count: u64,
}

#[test]
fn d3_keys_that_come_twice_follow_each_policy() {
    let cases = [
        Expected {
            policy: "skip",
            rows: "1|there|5\n2|b|1\n3|c|7",
            rejected_count: 0,
        },
        Expected {
            policy: "overwrite",
            rows: "1|last|4\n2|b|1\n3|c|7",
            rejected_count: 0,
        },
        Expected {
            policy: "merge",
            rows: "1|last|4\n2|b|1\n3|c|7",
            rejected_count: 0,
        },
        Expected {
            policy: "keep-newest",
            rows: "1|first|9\n2|b|1\n3|c|7",
            rejected_count: 0,
        },
        Expected {
            policy: "keep-oldest",
            rows: "1|last|4\n2|b|1\n3|c|7",
            rejected_count: 0,
        },
        Expected {
            policy: "fail",
            rows: "1|there|5\n2|b|1\n3|c|7",
            rejected_count: 2,
        },
    ];
    for server in servers() {
        for Expected {
            policy,
            rows,
            rejected_count,
        } in &cases
        {
            let there = server.database();
            there.sql("CREATE TABLE docs (id bigint PRIMARY KEY, v text, at bigint); INSERT INTO docs VALUES (1, 'there', 5)");
            let stage = Stage::new();
            stage.write(
                "docs.ndjson",
                "{\"id\":1,\"v\":\"first\",\"at\":9}\n{\"id\":2,\"v\":\"b\",\"at\":1}\n{\"id\":3,\"v\":\"c\",\"at\":7}\n\
                 {\"id\":1,\"v\":\"last\",\"at\":4}\n",
            );
            let mut job = Job::docs_into(&there.url())
                .set("/import/on_conflict", json!(policy))
                .set("/import/max_errors", json!(5))
                .set("/verification", json!("none"));
            if policy.starts_with("keep-") {
                job = job.set("/collections/0/version", json!("at"));
            }
            job.write(&stage);
            let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
            let found = there.sql("SELECT id, v, at FROM docs ORDER BY id");
            assert_eq!(&found, rows, "{policy} on {:?}: {report}", server.version());
            assert_eq!(report["rejected_count"], *rejected_count, "{policy}: {report}");
        }
    }
}

#[test]
fn d3_a_key_that_may_not_come_twice_fails_the_run_with_nothing_written() {
    for server in servers() {
        let there = server.database();
        there.sql("CREATE TABLE docs (id bigint PRIMARY KEY, v text); INSERT INTO docs VALUES (2, 'there')");
        let stage = Stage::new();
        stage.write("docs.ndjson", "{\"id\":1,\"v\":\"a\"}\n{\"id\":2,\"v\":\"b\"}\n");
        Job::docs_into(&there.url())
            .set("/import/on_conflict", json!("fail"))
            .write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
        assert_eq!(report["rejected_count"], 1, "{report}");
        assert_eq!(report["rejected"][0][1]["record"], "2", "{report}");
        assert_eq!(there.sql("SELECT * FROM docs"), "2|there");
    }
}

#[test]
fn texts_that_a_column_is_too_narrow_for_are_told_before_and_reject_their_records() {
    for server in servers() {
        let there = server.database();
        there.sql("CREATE TABLE docs (id bigint PRIMARY KEY, name varchar(3))");
        let stage = Stage::new();
        stage.write(
            "docs.ndjson",
            "{\"id\":1,\"name\":\"abc\"}\n{\"id\":2,\"name\":\"abcd\"}\n{\"id\":3,\"name\":\"\"}\n",
        );
        let job = Job::docs_into(&there.url()).set("/verification", json!("none"));
        job.write(&stage);
        let report = report_of(stage.run(&["check", "job.yaml", "--json"]), 0);
        let finding = &report["findings"][0];
        assert_eq!(finding["level"], "warning", "{report}");
        assert!(
            finding["help"].as_str().unwrap().contains("ALTER TABLE"),
            "{finding}"
        );
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
        let rejected = &report["rejected"][0][1];
        assert_eq!(rejected["code"], "postgres.text_too_long", "{rejected}");
        assert!(
            rejected["message"].as_str().unwrap().contains("`name`"),
            "{rejected}"
        );
        assert_eq!(there.sql("SELECT count(*) FROM docs"), "0");
        job.set("/import/max_errors", json!(1)).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(report["rejected"][0][1]["record"], "2", "{report}");
        assert_eq!(there.sql("SELECT id, name FROM docs ORDER BY id"), "1|abc\n3|");
    }
}

#[test]
fn passwords_are_in_no_file_and_no_output() {
    for server in servers() {
        let there = server.database();
        let stage = stage_with_docs();
        let url = there.password_url();
        let wrong = url.replace(&escaped(PASSWORD), "another%2Fsecret-77");
        let job = Job::docs_into(&format!("${{env:{URL}}}"));
        let mut outputs = Vec::new();
        for (url, exit) in [(&wrong, 3), (&url, 0)] {
            for (command, arguments) in [
                ("check", &["check", "job.yaml", "--json"][..]),
                ("run", &["run", "job.yaml", "--json", "--verbose"]),
            ] {
                job.write(&stage);
                let answer = stage.run_with(arguments, &[(URL, url)]).expect(exit);
                outputs.extend(printed(command, &answer));
            }
        }
        outputs.extend(files_below(&stage.path("")));
        assert!(outputs.len() > 10, "reports and logs were looked at");
        let secrets = [
            ("the password", PASSWORD),
            ("the wrong password", "another/secret-77"),
        ];
        assert_eq!(search(secrets.into_iter(), &outputs), None);
        assert_eq!(there.sql("SELECT count(*) FROM docs"), "10");
    }
}

#[test]
fn passwords_are_not_in_the_arguments_of_any_process() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    // Nobody answers, so the run stands still while it is looked at.
    let proxy = Proxy::to_port(server.endpoint().port());
    proxy.set(Line {
        is_dead: true,
        ..Line::default()
    });
    let stage = stage_with_docs();
    Job::docs_into(&format!("${{env:{URL}}}")).write(&stage);
    let url = server.endpoint().at_port(proxy.port()).password_url("postgres");
    let mut running = Running::start_with(&stage, &[], &[(URL, &url)]);
    running.until_named("phase_started");
    wait_until("the sink connects", || proxy.accepted_count() > 0);
    let mut outputs = Vec::new();
    for pid in [running.pid(), running.worker()] {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        let octets = std::fs::read(&path).unwrap();
        assert!(!octets.is_empty(), "{path}");
        outputs.push(Output::new(path, &octets));
    }
    assert_eq!(search([("the password", PASSWORD)].into_iter(), &outputs), None);
    running.kill();
}
