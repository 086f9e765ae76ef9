//! What is said when something is not right: a code each, in `check` and in the calls themselves, and never a secret.
//! Servers here are real ones, or listeners that misbehave.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{CollectionsRequest, Error, ErrorKind, Sink as _, Source as _};
use whimbrel_turso::WhimbrelPlugin;

use crate::harness::{Host, open_sink, open_source, todos};
use crate::proxy::{Fate, Proxy};
use crate::sqld::{Sqld, free_address, tools};

/// Codes of what `check` of both roles finds, and the errors of their first calls.
fn said(config: &Json) -> (Vec<String>, Vec<Error>) {
    let (mut sink, _) = open_sink(config);
    let mut source = open_source(config);
    let mut findings = sink.check().unwrap();
    findings.extend(source.check().unwrap());
    let request = PrepareRequest {
        collections: vec![todos()],
        dry: false,
        ..PrepareRequest::default()
    };
    let errors = [
        sink.prepare(&request).err(),
        source.collections(&CollectionsRequest::default()).err(),
    ];
    let text = format!("{findings:?} {errors:?}");
    if let Some(token) = config["auth_token"].as_str() {
        assert!(!text.contains(token), "{text}");
    }
    let codes = findings.into_iter().map(|finding| finding.code).collect();
    (codes, errors.into_iter().flatten().collect())
}

/// Both roles say `code`, in every call.
fn all_say(config: &Json, code: &str, kind: ErrorKind) {
    let (found, errors) = said(config);
    assert_eq!(found, [code, code]);
    let codes: Vec<_> = errors
        .iter()
        .map(|error| (error.code.as_str(), error.kind))
        .collect();
    assert_eq!(codes, [(code, kind), (code, kind)]);
    assert!(errors.iter().all(|error| error.help.is_some()), "{errors:?}");
}

#[test]
fn tokens_that_are_missing_wrong_expired_or_only_for_reading_are_told_apart() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let tokens = server.tokens.clone().unwrap();
    let with = |token: &str| json!({ "url": server.url(), "auth_token": token });
    all_say(
        &json!({ "url": server.url() }),
        "turso.unauthenticated",
        ErrorKind::Unauthenticated,
    );
    let signature = tokens.full.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    all_say(
        &with(&signature),
        "turso.unauthenticated",
        ErrorKind::Unauthenticated,
    );
    all_say(
        &with(&tokens.expired),
        "turso.token_expired",
        ErrorKind::Unauthenticated,
    );
    // Reading goes, writing does not.
    let (found, errors) = said(&with(&tokens.read_only));
    assert_eq!(found, ["turso.forbidden"]);
    assert_eq!((errors.len(), errors[0].code.as_str()), (1, "turso.forbidden"));
    assert_eq!(errors[0].kind, ErrorKind::Permission);
    assert_eq!(said(&with(&tokens.full)), (Vec::new(), Vec::new()));
}

#[test]
fn checks_change_nothing() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let before = server.sql(&["PRAGMA schema_version", "SELECT count(*) FROM sqlite_master"]);
    let config = json!({ "url": server.url() });
    let (mut sink, _) = open_sink(&config);
    assert_eq!(sink.check().unwrap(), []);
    let request = PrepareRequest {
        collections: vec![todos()],
        dry: true,
        ..PrepareRequest::default()
    };
    assert!(!sink.prepare(&request).unwrap().ddl.is_empty());
    let without_times = |answer: String| -> String {
        let parts = answer
            .split("\"rows\":")
            .skip(1)
            .map(|part| part.split(']').next().unwrap().to_owned());
        parts.collect()
    };
    let after = server.sql(&["PRAGMA schema_version", "SELECT count(*) FROM sqlite_master"]);
    assert_eq!(without_times(before), without_times(after));
}

#[test]
fn servers_that_are_not_there_or_are_something_else_are_told_apart() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let url = |url: String| json!({ "url": url, "auth_token": "geheim" });
    all_say(
        &url(format!("http://{}", free_address())),
        "turso.unreachable",
        ErrorKind::Unavailable,
    );
    let nowhere = json!({ "url": "libsql://no-such-host.invalid", "connect_timeout_ms": 5_000 });
    let (found, _) = said(&nowhere);
    assert!(
        found
            .iter()
            .all(|code| ["turso.unreachable", "turso.timeout"].contains(&code.as_str())),
        "{found:?}"
    );
    all_say(
        &url(format!("{}/elsewhere", server.url())),
        "turso.no_database",
        ErrorKind::NotFound,
    );
    // A TLS client before a server that speaks plain HTTP.
    let plain = server.url().replace("http://", "libsql://");
    let (found, errors) = said(&url(plain));
    assert_eq!((found.len(), errors.len()), (2, 2));
    assert!(errors.iter().all(|error| error.code == "turso.tls"), "{errors:?}");
    // An HTTP server that is none of libSQL.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4_096];
            drop(client.read(&mut request));
            drop(client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"));
        }
    });
    all_say(
        &url(format!("http://{address}")),
        "turso.not_libsql",
        ErrorKind::Unsupported,
    );
}

#[test]
fn a_server_that_does_not_answer_is_left_in_time() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        json!({ "url": format!("http://{}", silent.local_addr().unwrap()), "request_timeout_ms": 100 });
    let started = Instant::now();
    let (mut sink, _) = open_sink(&config);
    assert_eq!(sink.check().unwrap()[0].code, "turso.timeout");
    assert!(started.elapsed() < Duration::from_secs(10));
    // A request that would take for ever ends when the host cancels.
    let host = std::sync::Arc::new(Host::default());
    let config = json!({ "url": format!("http://{}", silent.local_addr().unwrap()) });
    let mut sink = local::<WhimbrelPlugin>()
        .open_sink(&config, host, Validation::Full)
        .unwrap();
    let canceller = sink.canceller();
    let (done, wait) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let outcome = sink.check();
        done.send(Instant::now()).unwrap();
        outcome
    });
    // The connection is there: the request is on its way.
    let connection = silent.accept().unwrap();
    let started = Instant::now();
    canceller.cancel();
    let ended = wait.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(ended.saturating_duration_since(started) < Duration::from_secs(8));
    let outcome = waiting.join().unwrap();
    let code = outcome.map_or_else(|error| error.code, |findings| findings[0].code.clone());
    assert_eq!(code, "plugin.cancelled");
    drop((connection, server));
}

#[test]
fn a_server_that_asks_to_slow_down_is_asked_again() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let rule = |number| match number {
        0 => Fate::Answer(429),
        _ => Fate::Pass,
    };
    let proxy = Proxy::start(server.address(), "pragma_table_list", Box::new(rule));
    let mut source = open_source(&json!({ "url": proxy.url() }));
    assert_eq!(source.collections(&CollectionsRequest::default()).unwrap(), []);
    assert_eq!(proxy.seen(), 2);
}
