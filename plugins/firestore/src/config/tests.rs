//! What a job may say, and how it is told what it may not.
//! The table of the README is compared in the integration tests.

use whimbrel_plugin_api::config::parse;

use super::*;

fn config(json: serde_json::Value) -> FirestoreConfig {
    parse(json).unwrap()
}

#[test]
fn an_empty_config_is_complete() {
    let config = config(serde_json::json!({}));
    assert_eq!(config.database().unwrap(), "(default)");
    assert_eq!(config.host().unwrap(), None);
    assert_eq!(config.connect_timeout(), Duration::from_secs(10));
    assert_eq!(config.request_timeout(), Duration::from_secs(60));
    assert_eq!(config.quota.limit_of(Some(1_000)), Some(800.0));
    assert_eq!(config.quota.limit_of(None), None);
    assert_eq!(config.inference, Inference::Full);
}

#[test]
fn unknown_keys_are_refused() {
    for json in [
        serde_json::json!({ "projekt": "p" }),
        serde_json::json!({ "quota": { "reads": 1 } }),
        serde_json::json!({ "writing": { "batch": 1 } }),
        serde_json::json!({ "writing": { "guarantee": "at_least_once" } }),
        serde_json::json!({ "inference": { "sample": "many" } }),
    ] {
        assert_eq!(parse::<FirestoreConfig>(json).unwrap_err().code, "config.invalid");
    }
}

#[test]
fn a_sample_has_one_document_at_least() {
    let schema = whimbrel_plugin_api::config::schema::<FirestoreConfig>();
    let minimum = schema.pointer("/$defs/Inference/oneOf/1/properties/sample/minimum");
    assert_eq!(minimum, Some(&serde_json::json!(1)), "{schema}");
}

#[test]
fn the_config_names_the_project_before_the_credentials_do() {
    let named = config(serde_json::json!({ "project": "mine" }));
    assert_eq!(named.project(Some("theirs")).unwrap(), "mine");
    let unnamed = config(serde_json::json!({}));
    assert_eq!(unnamed.project(Some("theirs")).unwrap(), "theirs");
    assert_eq!(unnamed.project(None).unwrap_err().code, "firestore.no_project");
}

#[test]
fn a_project_is_an_id() {
    for project in ["my-project", "example.com:my-project", "demo_1", "p"] {
        assert_eq!(names::project(project).unwrap(), project);
    }
    for project in [
        "",
        "a/b",
        "projects/a",
        "My Project",
        "a\nb",
        "ü",
        "a?b=c",
        &"a".repeat(301),
    ] {
        assert_eq!(
            names::project(project).unwrap_err().code,
            "firestore.bad_project",
            "{project}"
        );
    }
}

#[test]
fn a_database_is_an_id() {
    for database in ["(default)", "orders", "a-1", "d"] {
        assert_eq!(names::database(database).unwrap(), database);
    }
    for database in [
        "",
        "default)",
        "(Default)",
        "Orders",
        "1a",
        "a-",
        "a/b",
        "a_b",
        "ü",
        &"a".repeat(64),
    ] {
        assert_eq!(
            names::database(database).unwrap_err().code,
            "firestore.bad_database",
            "{database}"
        );
    }
}

#[test]
fn a_host_is_a_machine_and_a_port() {
    for (given, taken) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:1", "localhost:1"),
        ("http://emulator:8080", "emulator:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ] {
        assert_eq!(names::host("host", given).unwrap(), taken);
    }
    for given in [
        "",
        "localhost",
        ":8080",
        "localhost:",
        "localhost:0",
        "localhost:70000",
        "localhost:+80",
        "https://a:443",
        "http://",
        "a/b:80",
        "user@a:80",
        "a b:80",
        "[::1:80",
        "[x]:80",
        "::1:80",
        "a:80/path",
        "ftp://a:80",
    ] {
        assert_eq!(
            names::host("host", given).unwrap_err().code,
            "firestore.bad_host",
            "{given}"
        );
    }
}

#[test]
fn the_emulator_of_the_environment_counts_only_where_the_config_names_no_place() {
    let place = |json| {
        let config: FirestoreConfig = config(json);
        let of_text = config.emulator().map(str::to_owned);
        config.host().map(|host| (host.clone(), host == of_text))
    };
    let emulator = |host: &str| Ok((Some(host.to_owned()), true));
    let variable = "127.0.0.1:2";
    assert_eq!(
        place(serde_json::json!({ "fallback_host": variable })),
        emulator(variable)
    );
    assert_eq!(
        place(serde_json::json!({ "fallback_host": variable, "host": "127.0.0.1:1" })),
        emulator("127.0.0.1:1")
    );
    let named =
        serde_json::json!({ "fallback_host": variable, "host": "127.0.0.1:1", "credentials_file": "/key" });
    assert_eq!(place(named), emulator("127.0.0.1:1"));
    // The key says the service, the variable an emulator.
    let both = serde_json::json!({ "fallback_host": variable, "credentials_file": "/key" });
    let error = place(both).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("firestore.two_places", Some("config.fallback_host"))
    );
    let passed_over = serde_json::json!({ "fallback_host": null, "credentials_file": "/key" });
    assert_eq!(place(passed_over), Ok((None, true)));
    let error = place(serde_json::json!({ "fallback_host": "emulator" })).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("firestore.bad_host", Some("config.fallback_host"))
    );
}

#[test]
fn only_this_machine_is_this_machine() {
    for host in [
        "localhost:80",
        "LOCALHOST:80",
        "127.0.0.1:80",
        "127.8.9.1:80",
        "[::1]:80",
        "0.0.0.0:80",
    ] {
        assert!(names::is_this_machine(host), "{host}");
    }
    for host in [
        "emulator:80",
        "10.0.0.1:80",
        "[2001:db8::1]:80",
        "localhost.example.org:80",
    ] {
        assert!(!names::is_this_machine(host), "{host}");
    }
}

#[test]
fn writing_begins_slowly_for_the_service_only_unless_told_otherwise() {
    for (ramp_up, of_service, of_emulator) in
        [("auto", true, false), ("on", true, true), ("off", false, false)]
    {
        let config = config(serde_json::json!({ "writing": { "ramp_up": ramp_up } }));
        assert_eq!(config.writing.has_ramp(false), of_service, "{ramp_up}");
        assert_eq!(config.writing.has_ramp(true), of_emulator, "{ramp_up}");
    }
}

#[test]
fn each_record_is_written_once_unless_the_config_says_otherwise() {
    for (json, expected) in [
        (serde_json::json!({}), Guarantee::ExactlyOnce),
        (
            serde_json::json!({ "guarantee": "exactly_once" }),
            Guarantee::ExactlyOnce,
        ),
        (
            serde_json::json!({ "guarantee": "idempotent" }),
            Guarantee::Idempotent,
        ),
    ] {
        let config = config(serde_json::json!({ "writing": json }));
        assert_eq!(config.writing.guarantee, expected);
    }
}
