//! What the checks find: logins that fail, servers that are none, rights that are missing, poolers.
//! Each is asked of real servers, through a pooler as well.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::{FindingLevel, Services, config};

use super::{check_sink, check_source};
use crate::client::Client;
use crate::servers::{PASSWORD, PORTER, PgBouncer, PoolMode, Server, Version, servers};

/// Level, code and place of each finding of the source and of the sink. No finding shows a password.
fn found(json: Value) -> [Vec<String>; 2] {
    let client = Client::new(config::parse(json).unwrap(), Services::detached()).unwrap();
    let findings = client
        .block_on(async { Ok([check_source(&client).await, check_sink(&client).await]) })
        .unwrap();
    findings.map(|findings| {
        findings
            .into_iter()
            .map(|finding| {
                assert!(!format!("{finding:?}").contains(PASSWORD), "{finding:?}");
                assert!(!format!("{finding:?}").contains("hunter2"), "{finding:?}");
                let level = match finding.level {
                    FindingLevel::Info => "info",
                    FindingLevel::Warning => "warning",
                    FindingLevel::Blocker => "blocker",
                };
                let place = finding.place.unwrap_or_default();
                format!("{level} {} {place}", finding.code).trim_end().to_owned()
            })
            .collect()
    })
}

fn both(line: &str) -> [Vec<String>; 2] {
    [vec![line.to_owned()], vec![line.to_owned()]]
}

const NONE: [Vec<String>; 2] = [Vec::new(), Vec::new()];

#[test]
fn a_good_server_leaves_nothing_to_say() {
    for server in servers() {
        let database = server.database();
        assert_eq!(found(json!({ "url": database.password_url() })), NONE);
        let by_parts = json!({ "host": "localhost", "port": server.endpoint().port(), "user": PORTER, "password": PASSWORD,
            "database": database.name() });
        assert_eq!(found(by_parts), NONE);
    }
}

#[test]
fn logins_that_fail_say_why() {
    for server in servers() {
        let port = server.endpoint().port();
        let database = server.database();
        let name = database.name();
        let url =
            |login: &str, name: &str| json!({ "url": format!("postgres://{login}@127.0.0.1:{port}/{name}") });
        assert_eq!(
            found(url("porter:hunter2", name)),
            both("blocker postgres.wrong_password")
        );
        assert_eq!(
            found(url("porter", name)),
            both("blocker postgres.wrong_password")
        );
        assert_eq!(
            found(url("nobody_here:hunter2", name)),
            both("blocker postgres.refused_login")
        );
        assert_eq!(
            found(url("postgres", "hunter3")),
            both("blocker postgres.no_database")
        );
        server.sql(&format!("ALTER DATABASE {name} CONNECTION LIMIT 0"));
        assert_eq!(
            found(json!({ "url": database.password_url() })),
            both("blocker postgres.too_many_connections")
        );
    }
}

#[test]
fn what_is_no_server_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = |more: &str| format!("postgres://me:hunter2@127.0.0.1:{port}/db{more}");
    let silent = json!({ "url": url(""), "connect_timeout_ms": 50 });
    assert_eq!(found(silent), both("blocker postgres.connect_timeout"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut octets = [0; 64];
            drop(client.read(&mut octets));
            drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    // To PostgreSQL's protocol "HTTP" is the head of a long message, of which the rest never comes.
    assert_eq!(
        found(json!({ "url": url("") })),
        both("blocker postgres.connection_lost")
    );
    assert_eq!(
        found(json!({ "url": url("?sslmode=verify-full") })),
        both("blocker postgres.not_postgres")
    );

    let Some(mut server) = Server::own(Version::V15, &[]) else {
        return;
    };
    let json = json!({ "url": server.endpoint().url("postgres") });
    assert_eq!(found(json.clone()), NONE);
    server.stop_fast();
    assert_eq!(found(json), both("blocker postgres.unreachable"));
    let nowhere = json!({ "url": "postgres://me:hunter2@nowhere.invalid/db", "tls": { "mode": "disable" } });
    assert_eq!(found(nowhere), both("blocker postgres.unknown_host"));
}

#[test]
fn missing_rights_and_schemas_stop_a_run() {
    for server in servers() {
        let database = server.database();
        server.sql(&format!("ALTER DATABASE {} OWNER TO postgres", database.name()));
        database.sql("CREATE SCHEMA closed; CREATE SCHEMA half; GRANT USAGE ON SCHEMA half TO porter");
        let url = database.password_url();
        let json = json!({ "url": url, "schemas": ["public", "closed", "missing"] });
        let [source, sink] = found(json);
        assert_eq!(
            source,
            [
                "blocker postgres.no_permission config.schemas",
                "blocker postgres.no_schema config.schemas"
            ]
        );
        assert_eq!(sink, ["blocker postgres.no_schema config.state_schema"]);
        let [_, sink] = found(
            json!({ "url": url, "schema": "missing", "create_schemas": false, "state_schema": "half" }),
        );
        assert_eq!(
            sink,
            [
                "blocker postgres.no_schema config.schema",
                "blocker postgres.no_permission config.state_schema"
            ]
        );
        let [_, sink] = found(json!({ "url": url, "schema": "closed", "state_schema": "half" }));
        assert_eq!(
            sink,
            [
                "blocker postgres.no_permission config.schema",
                "blocker postgres.no_permission config.state_schema"
            ]
        );
        let [_, sink] = found(json!({ "url": database.url(), "schema": "missing" }));
        assert_eq!(sink, Vec::<String>::new());
        // The table of checkpoints is enough, since more need not be remembered.
        database.sql("CREATE TABLE half.lane(); GRANT SELECT, UPDATE ON half.lane TO porter");
        let without = |lane| {
            vec![
                format!("{lane} postgres.no_permission config.state_schema"),
                "warning postgres.no_permission config.state_schema".to_owned(),
            ]
        };
        let [_, sink] = found(json!({ "url": url, "state_schema": "half" }));
        assert_eq!(sink, without("blocker"));
        database.sql("GRANT INSERT ON half.lane TO porter");
        let [_, sink] = found(json!({ "url": url, "state_schema": "half" }));
        assert_eq!(sink, without("blocker")[1..]);
    }
}

#[test]
fn servers_that_only_read_are_no_sinks() {
    for server in servers() {
        let database = server.database();
        server.sql(&format!(
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            database.name()
        ));
        let [source, sink] = found(json!({ "url": database.url() }));
        assert_eq!(
            (source, sink),
            (vec![], vec!["blocker postgres.read_only".to_owned()])
        );
    }
    let Some(server) = Server::own_with_files(Version::V18, &[], &[("standby.signal", "")]) else {
        return;
    };
    let [source, sink] = found(json!({ "url": server.endpoint().url("postgres") }));
    assert_eq!(source, ["info postgres.standby"]);
    assert_eq!(sink, ["blocker postgres.read_only"]);
}

#[test]
fn another_encoding_is_a_warning() {
    for server in servers() {
        let name = format!("latin_{}", std::process::id());
        server.sql(&format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        ));
        let outcome = found(json!({ "url": server.endpoint().url(&name) }));
        server.sql(&format!("DROP DATABASE {name}"));
        assert_eq!(outcome, both("warning postgres.encoding"));
    }
}

#[test]
fn a_pooler_for_transactions_is_noticed() {
    for server in servers() {
        for (mode, expected) in [
            (PoolMode::Transaction, both("info postgres.transaction_pooler")),
            (PoolMode::Session, NONE),
        ] {
            let Some(pooler) = PgBouncer::in_front_of(server.endpoint(), mode) else {
                return;
            };
            let database = server.database();
            let url = pooler.endpoint().url(database.name());
            assert_eq!(found(json!({ "url": url })), expected);
            assert_eq!(found(json!({ "url": url, "pooler": "none" })), NONE);
            let told = found(json!({ "url": url, "pooler": "transaction" }));
            assert_eq!(told, both("info postgres.transaction_pooler"));
        }
    }
}
