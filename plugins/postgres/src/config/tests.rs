//! Which database a config names, and what is refused before anything is connected to.
//! Nothing here needs a server.

use serde_json::json;
use whimbrel_plugin_api::config::{parse, schema};
use whimbrel_plugin_api::docs;
use whimbrel_plugin_api::serde_json;

use super::{Pooler, PostgresConfig};

fn fault(json: serde_json::Value) -> (String, String) {
    let error = parse::<PostgresConfig>(json).unwrap().address().unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    (error.code, error.place.unwrap_or_default())
}

fn address(json: serde_json::Value) -> String {
    let config = parse::<PostgresConfig>(json).unwrap();
    let address = config.address().unwrap();
    assert!(!format!("{config:?} {address:?}").contains("hunter2"));
    assert_eq!(address.password.as_ref().unwrap().reveal(), "hunter2");
    let pooler = match address.pooler {
        Pooler::Auto => "?",
        Pooler::Session => "session",
        Pooler::Transaction => "transaction",
        Pooler::None => "none",
    };
    format!(
        "{} {} {} {pooler} {}",
        address.name(),
        address.user,
        address.database,
        address.is_supabase
    )
}

#[test]
fn each_way_of_naming_a_database_names_it() {
    let project = "abcdefghijklmnopqrst";
    let pooler = "aws-0-eu-central-1.pooler.supabase.com";
    for (json, expected) in [
        (
            json!({ "url": "postgres://me:hunter2@h/db" }),
            "h:5432 me db ? false".to_owned(),
        ),
        (
            json!({ "host": "::1", "port": 1, "user": "me", "database": "db", "password": "hunter2" }),
            "[::1]:1 me db ? false".to_owned(),
        ),
        (
            json!({ "supabase": { "project_ref": project, "password": "hunter2" } }),
            format!("db.{project}.supabase.co:5432 postgres postgres none true"),
        ),
        (
            json!({ "supabase": { "project_ref": project, "password": "hunter2", "pooler_host": pooler } }),
            format!("{pooler}:5432 postgres.{project} postgres session true"),
        ),
        (
            json!({ "supabase": { "api_url": format!("https://{project}.supabase.co/"), "password": "hunter2",
                "pooler_host": pooler, "mode": "transaction", "user": "mover" } }),
            format!("{pooler}:6543 mover.{project} postgres transaction true"),
        ),
        (
            json!({ "url": format!("postgres://postgres.{project}:hunter2@{pooler}:6543/postgres") }),
            format!("{pooler}:6543 postgres.{project} postgres transaction true"),
        ),
        (
            json!({ "default_url": "postgres://other:x@o/o", "supabase": { "project_ref": project, "password": "hunter2" } }),
            format!("db.{project}.supabase.co:5432 postgres postgres none true"),
        ),
        // What stems from the environment gives way, so that it never hides what the job says.
        (
            json!({ "default_url": "postgres://other:x@o/o", "url": "postgres://me:hunter2@h/db?pgbouncer=true" }),
            "h:5432 me db transaction false".to_owned(),
        ),
        (
            json!({ "default_url": "postgres://me:hunter2@h/db", "supabase": { "api_url": "https://x.supabase.co",
                "service_role_key": "k" } }),
            "h:5432 me db ? false".to_owned(),
        ),
    ] {
        assert_eq!(address(json), expected);
    }
}

#[test]
fn a_database_is_named_once_and_completely() {
    for (json, code, place) in [
        (json!({}), "postgres.unnamed", "config"),
        (json!({ "user": "me" }), "postgres.no_host", "config.user"),
        (
            json!({ "url": "postgres://a:hunter2@h/d", "password": "hunter2" }),
            "postgres.no_host",
            "config.password",
        ),
        (
            json!({ "url": "postgres://a:hunter2@h/d", "host": "h" }),
            "postgres.named_twice",
            "config.host",
        ),
        (
            json!({ "url": "postgres://a:hunter2@h/d", "supabase": { "project_ref": "a" } }),
            "postgres.named_twice",
            "config.supabase",
        ),
        (
            json!({ "host": "h", "user": "me" }),
            "postgres.incomplete",
            "config.database",
        ),
        (
            json!({ "host": "h", "database": "db" }),
            "postgres.incomplete",
            "config.user",
        ),
        (
            json!({ "supabase": { "service_role_key": "hunter2" } }),
            "postgres.supabase_password",
            "config.supabase",
        ),
        (
            json!({ "default_url": "postgres://o:hunter2@o/o", "supabase": { "project_ref": "abc" } }),
            "postgres.supabase_password",
            "config.supabase",
        ),
        (
            json!({ "supabase": { "password": "hunter2" } }),
            "postgres.incomplete",
            "config.supabase",
        ),
        (
            json!({ "supabase": { "password": "hunter2", "project_ref": "x.example.org/" } }),
            "postgres.bad_project",
            "config.supabase.project_ref",
        ),
        (
            json!({ "supabase": { "password": "hunter2", "project_ref": "x", "mode": "session" } }),
            "postgres.incomplete",
            "config.supabase.mode",
        ),
        (
            json!({ "host": "h", "user": "a\0", "database": "d" }),
            "postgres.nul_in_config",
            "config.user",
        ),
        (
            json!({ "url": "postgres://a:hunter2@h/d", "state_schema": "public" }),
            "postgres.state_schema",
            "config.state_schema",
        ),
    ] {
        assert_eq!(fault(json), (code.to_owned(), place.to_owned()));
    }
}

#[test]
fn a_service_role_key_alone_is_explained() {
    let json = json!({ "supabase": { "service_role_key": "hunter2", "api_url": "https://x.supabase.co" } });
    let error = parse::<PostgresConfig>(json).unwrap().address().unwrap_err();
    assert!(error.message.contains("service-role key"), "{}", error.message);
    assert!(error.help.unwrap().contains("SUPABASE_DB_PASSWORD"));
}

#[test]
fn unknown_keys_are_refused() {
    for json in [
        json!({ "url": "x", "urll": 1 }),
        json!({ "url": "x", "tls": { "verify": false } }),
        json!({ "url": "x", "tls": { "mode": "allow" } }),
        json!({ "supabase": { "key": 1 } }),
    ] {
        assert_eq!(parse::<PostgresConfig>(json).unwrap_err().code, "config.invalid");
    }
}

#[test]
fn the_table_of_the_readme_is_that_of_the_fields() {
    let table = docs::config_table(&schema::<PostgresConfig>());
    let written = docs::section(include_str!("../../README.md"), "config").unwrap();
    assert_eq!(written, table.trim_end(), "write this into the README:\n{table}");
}
