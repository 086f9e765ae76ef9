//! What a connection does and survives, on real servers, directly and through a pooler.
//! Not here: what the statements mean to the roles.

use futures_util::{FutureExt as _, StreamExt as _};
use whimbrel_plugin_api::{ErrorKind, ErrorScope, Result, Services, config, serde_json::json};

use super::Connection;
use crate::client::Client;
use crate::error::Fault;
use crate::servers::{Database, PgBouncer, PoolMode, servers};

fn client(url: &str, more: whimbrel_plugin_api::serde_json::Value) -> Client {
    let mut json = json!({ "url": url });
    json.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Client::new(config::parse(json).unwrap(), Services::detached()).unwrap()
}

/// Runs `test` on a connection to each server and through a pooler in front of it.
fn everywhere(test: impl AsyncFn(&Client, &mut Connection) -> Result<()>) {
    for server in servers() {
        let pooler = PgBouncer::in_front_of(server.endpoint(), PoolMode::Transaction);
        let endpoints = std::iter::once(server.endpoint()).chain(pooler.as_ref().map(PgBouncer::endpoint));
        for endpoint in endpoints {
            let database: Database = server.database();
            let client = client(&endpoint.url(database.name()), json!({}));
            client
                .block_on(async {
                    let mut connection = client.connect().await?;
                    test(&client, &mut connection).await?;
                    connection.close().await;
                    Ok(())
                })
                .unwrap();
        }
    }
}

/// What is shown of a fault: everything but values.
fn shown(fault: &Fault) -> String {
    assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    let names = [&fault.constraint, &fault.column].map(|name| name.as_deref().unwrap_or("-").to_owned());
    format!("{} {} {:?}", fault.error.code, names.join(" "), fault.copy_row)
}

#[test]
fn texts_come_back_whatever_their_types() {
    everywhere(async |_, connection| {
        connection.run("CREATE TYPE mood AS ENUM ('ok')").await?;
        let sql = "SELECT 1::int, 'ok'::mood, NULL::json, ARRAY[1,2], ROW(1,'a'), 1.50::numeric, '2020-01-01'::date, true, 'é'";
        let rows = connection.rows(sql).await?;
        let texts: Vec<_> = rows[0]
            .iter()
            .map(|text| text.as_deref().unwrap_or("NULL"))
            .collect();
        assert_eq!(
            texts,
            [
                "1",
                "ok",
                "NULL",
                "{1,2}",
                "(1,a)",
                "1.50",
                "2020-01-01",
                "t",
                "é"
            ]
        );
        assert_eq!(connection.value("SELECT 7 WHERE false").await?, None);
        assert_eq!(
            connection
                .run("SELECT 1; SELECT * FROM generate_series(1, 3)")
                .await?,
            4
        );
        assert_eq!(connection.run("").await?, 0);
        let fault = connection.rows("SELECT 'a\0'").await.unwrap_err();
        assert_eq!(
            (fault.error.code.as_str(), connection.is_spoilt()),
            ("postgres.nul_in_text", false)
        );
        Ok(())
    });
}

#[test]
fn errors_of_the_database_leave_the_connection_in_step() {
    everywhere(async |_, connection| {
        connection.run("CREATE TABLE t (a int, b text)").await?;
        for round in 1..4 {
            let fault = connection
                .run("SELECT 1; SELECT nothing; SELECT 2")
                .await
                .unwrap_err();
            assert_eq!(fault.sqlstate.as_deref(), Some("42703"));
            let fault = connection
                .rows("SELECT 1 / (3 - x) FROM generate_series(1, 5) x")
                .await
                .unwrap_err();
            assert_eq!(fault.sqlstate.as_deref(), Some("22012"));
            let fault = connection.copy_in("COPY missing FROM STDIN").await.err().unwrap();
            assert_eq!(fault.sqlstate.as_deref(), Some("42P01"));

            let mut copy = connection.copy_in("COPY t FROM STDIN").await?;
            copy.send(b"1\tx\n2\ty\nhunter2\t").await?;
            copy.send(b"w\n").await?;
            let fault = copy.finish().await.unwrap_err();
            assert_eq!(shown(&fault), "postgres.wrong_type - a Some(2)");

            let mut copy = connection.copy_in("COPY t FROM STDIN").await?;
            copy.send(b"1\tx\n").await?;
            copy.abort().await?;
            let mut copy = connection.copy_in("COPY t FROM STDIN").await?;
            copy.send(b"1\tx\n").await?;
            assert_eq!(copy.finish().await?, 1);

            let sql = "COPY (SELECT 1 / (3 - x) FROM generate_series(1, 5) x) TO STDOUT";
            let items: Vec<_> = connection.copy_out(sql).await?.collect().await;
            assert_eq!(items.len(), 3);
            assert_eq!(items[2].as_ref().unwrap_err().sqlstate.as_deref(), Some("22012"));

            let count = connection.value("SELECT count(*) FROM t").await?.unwrap();
            assert_eq!((count, connection.is_spoilt()), (round.to_string(), false));
        }
        Ok(())
    });
}

#[test]
fn what_is_given_up_half_way_spoils_the_connection() {
    everywhere(async |client, connection| {
        connection.run("CREATE TABLE t (a int)").await?;
        let mut broken = client.connect().await?;
        let fault = broken.copy_out("COPY missing TO STDOUT").await.err().unwrap();
        assert_eq!(fault.sqlstate.as_deref(), Some("42P01"));
        assert_eq!(
            broken.run("SELECT 1").await.unwrap_err().error.code,
            "postgres.spoilt"
        );
        broken.close().await;

        let mut broken = client.connect().await?;
        let mut stream = broken
            .copy_out("COPY (SELECT generate_series(1, 1000000)) TO STDOUT")
            .await?;
        stream.next().await.unwrap()?;
        drop(stream);
        assert!(broken.is_spoilt());
        broken.close().await;

        let mut broken = client.connect().await?;
        broken.begin("").await?;
        let mut copy = broken.copy_in("COPY t FROM STDIN").await?;
        copy.send(b"1\n").await?;
        drop(copy);
        assert!(broken.is_spoilt());
        broken.close().await;

        // The server has failed it by itself before it is told to.
        let mut broken = client.connect().await?;
        let mut copy = broken.copy_in("COPY t FROM STDIN").await?;
        copy.send(b"x\n").await?;
        assert_eq!(copy.abort().await.unwrap_err().sqlstate.as_deref(), Some("22P02"));
        assert!(broken.is_spoilt());
        broken.close().await;

        let mut broken = client.connect().await?;
        assert!(broken.run("SELECT pg_sleep(30)").now_or_never().is_none());
        assert!(broken.is_spoilt());
        broken.close().await;

        assert_eq!(connection.value("SELECT count(*) FROM t").await?.unwrap(), "0");
        Ok(())
    });
}

#[test]
fn faults_of_records_name_the_place_and_no_value() {
    everywhere(async |_, connection| {
        connection
            .run(
                "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (a text NOT NULL, b varchar(3), c int CHECK (c > 0), \
                 d int UNIQUE, e int REFERENCES parent, f timestamp, CONSTRAINT \"not, line 9\" CHECK (a <> 'hunter2')); \
                 CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
                 IF NEW.a = 'raise' THEN RAISE 'hunter2 is %', NEW.b; END IF; RETURN NEW; END$$; \
                 CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no(); \
                 INSERT INTO t VALUES ('a', 'b', 1, 1, NULL, NULL)",
            )
            .await?;
        for (row, expected) in [
            (r"\N	x	1	2	\N	\N", "postgres.null_in_required - a Some(1)"),
            ("a\thunter2\t1\t2\t\\N\t\\N", "postgres.text_too_long - b Some(1)"),
            (
                "a\tx\t0\t2\t\\N\t\\N",
                "postgres.check_failed t_c_check - Some(1)",
            ),
            (
                "hunter2\tx\t1\t2\t\\N\t\\N",
                "postgres.check_failed not, line 9 - Some(1)",
            ),
            ("a\tx\t1\t1\t\\N\t\\N", "postgres.unique t_d_key - Some(1)"),
            (
                "a\tx\t99999999999\t2\t\\N\t\\N",
                "postgres.out_of_range - c Some(1)",
            ),
            ("a\tx\t1\t2\t7\t\\N", "postgres.foreign_key t_e_fkey - None"),
            ("a\tx\t1\t2\t\\N\thunter2", "postgres.invalid_value - f Some(1)"),
            ("raise\tx\t1\t2\t\\N\t\\N", "postgres.trigger_refused - - Some(1)"),
        ] {
            let mut copy = connection.copy_in("COPY \"t\" FROM STDIN").await?;
            copy.send(b"good\tx\t1\t5\t\\N\t\\N\n").await?;
            copy.send(format!("{row}\n").as_bytes()).await?;
            let fault = copy.finish().await.unwrap_err();
            assert_eq!(shown(&fault), expected);
            assert_eq!(fault.error.scope, ErrorScope::Write);
        }
        let fault = connection.run("SELECT 'hunter2").await.unwrap_err();
        assert_eq!(shown(&fault), "postgres.bad_statement - - None");
        assert_eq!(connection.value("SELECT count(*) FROM t").await?.unwrap(), "1");
        Ok(())
    });
}

#[test]
fn the_settings_of_a_transaction_end_with_it() {
    everywhere(async |client, connection| {
        let shown = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), \
                     current_setting('extra_float_digits'), current_setting('IntervalStyle')";
        connection.run("SELECT 1").await?;
        let before = connection.rows(shown).await?;
        for (modes, idle) in [("", "10min"), ("ISOLATION LEVEL REPEATABLE READ, READ ONLY", "0")] {
            connection.begin(modes).await?;
            let rows = connection.rows(shown).await?;
            let texts: Vec<_> = rows[0].iter().flatten().map(String::as_str).collect();
            assert_eq!(texts, ["1min", idle, "1", "postgres"]);
            connection.run("COMMIT").await?;
        }
        assert_eq!(connection.rows(shown).await?, before);
        assert_eq!(client.config().application_name, "whimbrel");
        Ok(())
    });
}

#[test]
fn what_passes_by_itself_is_told_from_what_does_not() {
    for server in servers() {
        let database = server.database();
        // Longer than what is meant to succeed here takes on a busy machine.
        let more = json!({ "statement_timeout_ms": 2_000, "lock_timeout_ms": 300 });
        let client = client(&database.url(), more);
        database.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        let told = |fault: Fault| {
            (
                fault.error.kind,
                fault.error.code,
                fault.error.scope,
                fault.error.pauses,
            )
        };
        client
            .block_on(async {
                let (mut one, mut two) = (client.connect().await?, client.connect().await?);
                one.begin("").await?;
                let fault = one.run("SELECT pg_sleep(30)").await.unwrap_err();
                let expected = (
                    ErrorKind::Timeout,
                    "postgres.statement_timeout".to_owned(),
                    ErrorScope::Transaction,
                    false,
                );
                assert_eq!(told(fault), expected);
                let fault = one.run("SELECT 1").await.unwrap_err();
                assert_eq!(fault.error.code, "postgres.transaction_failed");
                one.run("ROLLBACK").await?;

                one.begin("").await?;
                one.run("LOCK t").await?;
                two.begin("").await?;
                let fault = two.run("SELECT * FROM t").await.unwrap_err();
                let expected = (
                    ErrorKind::Unavailable,
                    "postgres.lock_timeout".to_owned(),
                    ErrorScope::Transaction,
                    false,
                );
                assert_eq!(told(fault), expected);
                one.run("ROLLBACK").await?;
                two.run("ROLLBACK").await?;

                one.begin("ISOLATION LEVEL REPEATABLE READ").await?;
                one.run("SELECT * FROM t").await?;
                two.run("UPDATE t SET a = 2").await?;
                let fault = one.run("UPDATE t SET a = 3").await.unwrap_err();
                let expected = (
                    ErrorKind::Unavailable,
                    "postgres.serialization".to_owned(),
                    ErrorScope::Transaction,
                    false,
                );
                assert_eq!(told(fault), expected);
                one.run("ROLLBACK").await?;

                one.begin("READ ONLY").await?;
                let fault = one.run("UPDATE t SET a = 3").await.unwrap_err();
                let expected = (
                    ErrorKind::Unavailable,
                    "postgres.read_only".to_owned(),
                    ErrorScope::Transaction,
                    true,
                );
                assert_eq!(told(fault), expected);
                one.run("ROLLBACK").await?;

                let fault = two.run("SELECT * FROM missing").await.unwrap_err();
                assert_eq!(
                    (fault.error.kind, fault.error.code.as_str()),
                    (ErrorKind::NotFound, "postgres.no_table")
                );
                Ok(())
            })
            .unwrap();
        assert_eq!(database.sql("SELECT a FROM t"), "2");
    }
}

#[test]
fn a_connection_that_the_server_ends_is_lost_and_nothing_else() {
    for server in servers() {
        let database = server.database();
        database.sql("CREATE TABLE t (a int)");
        let client = client(&database.url(), json!({}));
        let lost = |fault: Fault| {
            let error = fault.error;
            assert_eq!(
                (error.kind, error.scope),
                (ErrorKind::Unavailable, ErrorScope::Session),
                "{error:?}"
            );
            assert_eq!(error.code, "postgres.connection_lost");
        };
        client
            .block_on(async {
                for kind in ["idle", "out", "in"] {
                    let mut connection = client.connect().await?;
                    connection.begin("").await?;
                    connection.run("INSERT INTO t VALUES (1)").await?;
                    let pid = connection.value("SELECT pg_backend_pid()").await?.unwrap();
                    let end = || database.sql(&format!("SELECT pg_terminate_backend({pid}, 60000)"));
                    match kind {
                        "idle" => {
                            end();
                            lost(connection.run("SELECT 1").await.unwrap_err());
                        }
                        "out" => {
                            let sql =
                                "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT";
                            let mut stream = connection.copy_out(sql).await?;
                            stream.next().await.unwrap()?;
                            end();
                            let last = stream
                                .filter_map(|item| std::future::ready(item.err()))
                                .next()
                                .await;
                            lost(last.unwrap());
                        }
                        _ => {
                            let mut copy = connection.copy_in("COPY t FROM STDIN").await?;
                            copy.send(b"1\n").await?;
                            end();
                            lost(copy.finish().await.unwrap_err());
                        }
                    }
                    assert!(connection.is_spoilt());
                    connection.close().await;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
    }
}

#[test]
fn a_role_holds_no_more_connections_than_it_may() {
    for server in servers() {
        let client = client(
            &server.endpoint().url("postgres"),
            json!({ "pool_size": 2, "connect_timeout_ms": 1000 }),
        );
        client
            .block_on(async {
                let (one, two) = (client.connect().await?, client.connect().await?);
                assert_eq!(client.connect().await.err().unwrap().code, "postgres.pool_size");
                one.close().await;
                client.connect().await?.close().await;
                two.close().await;
                Ok(())
            })
            .unwrap();
    }
}
