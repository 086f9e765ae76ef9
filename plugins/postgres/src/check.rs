//! What can be found out before a run without knowing the collections: whether the server answers, what it is, what
//! whoever connects may do there, and what stands in between.
//!
//! Neighbours: the source and the sink add what concerns their collections.

use std::time::Duration;

use whimbrel_plugin_api::{Error, ErrorKind, Finding, FindingLevel, Result};

use crate::client::Client;
use crate::config::{Pooler, PostgresConfig, TlsMode};
use crate::connection::Connection;
use crate::error::Fault;
use crate::names::{literal, quote};
use crate::{lanes, supabase, tls};

/// The oldest release that is supported, and tested by its successors 15 and 18.
const OLDEST_VERSION: u32 = 13;

/// What is in the way of reading.
pub(crate) async fn check_source(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look_at_source(client, &mut findings).await {
        findings.push(Finding::of_error(&error));
    }
    findings
}

/// What is in the way of writing.
pub(crate) async fn check_sink(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look_at_sink(client, &mut findings).await {
        findings.push(Finding::of_error(&error));
    }
    findings
}

async fn look_at_source(client: &Client, findings: &mut Vec<Finding>) -> Result<()> {
    let mut connection = client.connect().await?;
    let facts = Facts::load(&mut connection).await?;
    facts.say(client, findings);
    if facts.is_in_recovery {
        findings.push(
            Finding::info(
                "postgres.standby",
                "the server is a standby, which may cancel long reads",
            )
            .with_help("see `max_standby_streaming_delay` and `hot_standby_feedback` of the server"),
        );
    }
    let wanted = client.config().schemas.clone().unwrap_or_default();
    for schema in schemas(&mut connection, &wanted).await? {
        if !schema.is_there {
            findings.push(missing(
                &schema.name,
                "name one that is there in `schemas`",
                "config.schemas",
            ));
        } else if !schema.may_use {
            findings.push(no_right(&facts, "USAGE", &schema.name, "config.schemas"));
        }
    }
    connection.close().await;
    look_for_pooler(client, findings).await;
    Ok(())
}

async fn look_at_sink(client: &Client, findings: &mut Vec<Finding>) -> Result<()> {
    let mut connection = client.connect().await?;
    let facts = Facts::load(&mut connection).await?;
    facts.say(client, findings);
    if facts.is_in_recovery || facts.is_read_only {
        let message = if facts.is_in_recovery {
            "the server is a standby, which takes no writes"
        } else {
            "transactions only read here unless they say otherwise"
        };
        findings.push(
            Finding::blocker("postgres.read_only", message)
                .with_help("use the address of the primary server, or end its read-only mode (`default_transaction_read_only`)"),
        );
    }
    let config = client.config();
    if client.address().is_supabase && supabase::SYSTEM_SCHEMAS.contains(&config.schema.as_str()) {
        let message = format!("the schema `{}` is Supabase's own", config.schema);
        findings.push(Finding::warning("postgres.system_schema", message));
    }
    look_at_rooms(&mut connection, config, &facts, findings).await?;
    connection.close().await;
    look_for_pooler(client, findings).await;
    Ok(())
}

/// The schema of the tables, and that of whimbrel's own.
async fn look_at_rooms(
    connection: &mut Connection,
    config: &PostgresConfig,
    facts: &Facts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let wanted = [config.schema.clone(), config.state_schema.clone()];
    let found = schemas(connection, &wanted).await?;
    let [schema, state_schema] = found.as_slice() else {
        return Err(Error::internal("the server does not list what it is asked for"));
    };
    let place = "config.schema";
    if !schema.is_there && !config.create_schemas {
        let help = "make it, or set `create_schemas: true`";
        findings.push(missing(&schema.name, help, place));
    } else if !schema.is_there && !facts.may_create_schemas {
        findings.push(not_to_be_made(facts, &schema.name, place));
    } else if schema.is_there && !schema.may_use {
        findings.push(no_right(facts, "USAGE", &schema.name, place));
    }
    let place = "config.state_schema";
    let lanes = lanes::standing(connection, &config.state_schema).await?;
    // Nothing is written without a checkpoint, which needs no more than its table.
    if !state_schema.is_there {
        if !facts.may_create_schemas {
            findings.push(not_to_be_made(facts, &state_schema.name, place));
        }
    } else if !state_schema.may_use {
        findings.push(no_right(facts, "USAGE", &state_schema.name, place));
    } else if lanes.exists && !lanes.may_change {
        findings.push(no_right_to_lanes(facts, &config.state_schema));
    }
    if state_schema.is_there && state_schema.may_use && !state_schema.may_create {
        let finding = no_right(facts, "CREATE", &state_schema.name, place);
        // Whether anything else must be remembered there only the plan knows.
        findings.push(match lanes.exists {
            true => as_warning(finding),
            false => finding,
        });
    }
    Ok(())
}

/// What the server says of itself and of us.
struct Facts {
    major: u32,
    version: String,
    is_in_recovery: bool,
    is_read_only: bool,
    encoding: String,
    user: String,
    may_create_schemas: bool,
}

impl Facts {
    async fn load(connection: &mut Connection) -> Result<Self> {
        let sql = "SELECT current_setting('server_version_num'), current_setting('server_version'), pg_is_in_recovery(), \
                   current_setting('transaction_read_only'), pg_encoding_to_char(encoding), current_user, \
                   has_database_privilege(oid, 'CREATE') FROM pg_database WHERE datname = current_database()";
        let rows = connection.rows(sql).await?;
        let texts: Vec<String> = rows
            .into_iter()
            .flatten()
            .map(Option::unwrap_or_default)
            .collect();
        let [
            number,
            version,
            is_in_recovery,
            is_read_only,
            encoding,
            user,
            may_create,
        ] = <[String; 7]>::try_from(texts)
            .map_err(|_| Error::internal("the server does not list its own database"))?;
        Ok(Self {
            major: number.parse::<u32>().unwrap_or(0) / 10_000,
            version,
            is_in_recovery: is_in_recovery == "t",
            is_read_only: is_read_only == "on",
            encoding,
            user,
            may_create_schemas: may_create == "t",
        })
    }

    /// What concerns reading and writing alike.
    fn say(&self, client: &Client, findings: &mut Vec<Finding>) {
        if self.major < OLDEST_VERSION {
            let message = format!(
                "the server is PostgreSQL {}; {OLDEST_VERSION} is the oldest that is supported",
                self.version
            );
            findings.push(Finding::blocker("postgres.version", message));
        }
        if self.encoding != "UTF8" {
            let message = format!(
                "the encoding of the database is `{}`: texts are converted, and those that it lacks are refused",
                self.encoding
            );
            findings.push(
                Finding::warning("postgres.encoding", message)
                    .with_help("make the database with `ENCODING 'UTF8'`"),
            );
        }
        let address = client.address();
        let told = match tls::mode(&client.config().tls, address) {
            _ if address.is_local() => None,
            TlsMode::Disable | TlsMode::Prefer => Some((
                "postgres.no_tls",
                "the password and the records may travel in clear",
            )),
            TlsMode::Require => Some(("postgres.tls_unverified", "the server need not prove who it is")),
            TlsMode::VerifyCa | TlsMode::VerifyFull => None,
        };
        if let Some((code, message)) = told {
            findings.push(placed(
                Finding::warning(code, message)
                    .with_help("use `tls.mode: verify-full`, with `tls.ca_file` if need be"),
                "config.tls.mode",
            ));
        }
    }
}

/// A schema and what we may do there.
struct Schema {
    name: String,
    is_there: bool,
    may_use: bool,
    may_create: bool,
}

async fn schemas(connection: &mut Connection, names: &[String]) -> Result<Vec<Schema>, Fault> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let sql = format!(
        "SELECT wanted.name, n.oid IS NOT NULL, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE') \
         FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY AS wanted(name, place) \
         LEFT JOIN pg_catalog.pg_namespace n ON n.nspname::text = wanted.name ORDER BY wanted.place",
        list.join(", ")
    );
    let is_true = |text: Option<&Option<String>>| text.is_some_and(|text| text.as_deref() == Some("t"));
    let schema = |row: Vec<Option<String>>| Schema {
        is_there: is_true(row.get(1)),
        may_use: is_true(row.get(2)),
        may_create: is_true(row.get(3)),
        name: row.into_iter().next().flatten().unwrap_or_default(),
    };
    Ok(connection.rows(&sql).await?.into_iter().map(schema).collect())
}

fn as_warning(finding: Finding) -> Finding {
    Finding {
        level: FindingLevel::Warning,
        ..finding
    }
}

fn missing(name: &str, help: &str, place: &str) -> Finding {
    let finding = Finding::blocker("postgres.no_schema", format!("there is no schema `{name}`"));
    placed(finding.with_help(help), place)
}

fn not_to_be_made(facts: &Facts, name: &str, place: &str) -> Finding {
    let help = format!(
        "let its owner run `CREATE SCHEMA {} AUTHORIZATION {}`",
        quote(name),
        quote(&facts.user)
    );
    let message = format!(
        "there is no schema `{name}`, and user `{}` may not make it",
        facts.user
    );
    let finding = Finding {
        kind: Some(ErrorKind::Permission),
        ..Finding::blocker("postgres.no_schema", message).with_help(help)
    };
    placed(finding, place)
}

fn no_right_to_lanes(facts: &Facts, state_schema: &str) -> Finding {
    let table = lanes::table(state_schema).sql();
    let message = format!(
        "user `{}` lacks rights on the table {table}, which keeps the checkpoints: SELECT, INSERT, UPDATE",
        facts.user
    );
    let help = format!(
        "`GRANT SELECT, INSERT, UPDATE ON {table} TO {}`",
        quote(&facts.user)
    );
    let finding = Finding {
        kind: Some(ErrorKind::Permission),
        ..Finding::blocker("postgres.no_permission", message).with_help(help)
    };
    placed(finding, "config.state_schema")
}

fn no_right(facts: &Facts, right: &str, name: &str, place: &str) -> Finding {
    let message = format!(
        "user `{}` lacks the right `{right}` on the schema `{name}`",
        facts.user
    );
    let help = format!(
        "`GRANT {right} ON SCHEMA {} TO {}`",
        quote(name),
        quote(&facts.user)
    );
    let finding = Finding {
        kind: Some(ErrorKind::Permission),
        ..Finding::blocker("postgres.no_permission", message).with_help(help)
    };
    placed(finding, place)
}

fn placed(finding: Finding, place: &str) -> Finding {
    Finding {
        place: Some(place.to_owned()),
        ..finding
    }
}

async fn look_for_pooler(client: &Client, findings: &mut Vec<Finding>) {
    let is_transactional = match client.pooler() {
        Pooler::Auto => {
            // Nobody but a pooler lets a client wait that is connected already. What fails otherwise, such as a second
            // connection, is no obstacle by itself, and nothing depends on what is found out.
            let limit = Duration::from_millis(client.config().connect_timeout_ms.into());
            match tokio::time::timeout(limit, is_transaction_pooler(client)).await {
                Ok(outcome) => outcome.unwrap_or(false),
                Err(_) => true,
            }
        }
        Pooler::Transaction => true,
        Pooler::Session | Pooler::None => false,
    };
    if is_transactional {
        findings.push(Finding::info(
            "postgres.transaction_pooler",
            "a pooler stands in between, which may use another connection to the server for each transaction; \
             nothing is kept in sessions, so this is no obstacle",
        ));
    }
}

/// Whether what looks like one connection is served by several of the server: then another client can be given the
/// process that has just answered us, or another process answers us the second time.
async fn is_transaction_pooler(client: &Client) -> Result<bool> {
    let ask = "SELECT pg_backend_pid()";
    let mut first = client.connect().await?;
    let mut second = client.connect().await?;
    let before = first.value(ask).await?;
    second.begin("READ ONLY").await?;
    // A pooler that has but one connection to the server would let the second question wait, so the other client's
    // answer comes first.
    let is_pooled = second.value(ask).await? == before || first.value(ask).await? != before;
    second.run("ROLLBACK").await?;
    first.close().await;
    second.close().await;
    Ok(is_pooled)
}

#[cfg(test)]
mod tests;
