//! What `check` looks at before a run: reachability, credentials, rights, and what there is.
//!
//! It reads the names of root collections and what the database is. Of the sink it asks for a deletion that cannot happen, whose
//! refusal tells whether writing is allowed. Everything that is wrong is a finding; `client` says it, `error` names it.

use gcloud_sdk::google::firestore::admin::v1::Database;
use gcloud_sdk::google::firestore::admin::v1::database::{
    DatabaseEdition, DatabaseType, PointInTimeRecoveryEnablement,
};
use gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{CommitRequest, Precondition, Write};
use gcloud_sdk::prost_types::Timestamp;
use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::{Error, ErrorKind, Finding, LogLevel, Result, Services};

use crate::client::Client;
use crate::config::{self, FirestoreConfig};
use crate::path::OWN_COLLECTION;

/// Somebody waits for the answer, so that a dead port is tried fewer times than in a run.
const RETRIES_MAX: u32 = 2;
/// No document was ever changed at this time, so that nothing depends on it.
const NEVER: Timestamp = Timestamp { seconds: 1, nanos: 0 };

/// Findings of the source role.
pub(crate) async fn source(
    client: &Client,
    config: &FirestoreConfig,
    services: &Services,
) -> Result<Vec<Finding>> {
    let client = &client.with_retries_max(RETRIES_MAX.min(config.retries_max));
    let mut findings = of_place(config)?;
    let collections = match client.collection_ids(client.root().name(), None).await {
        Ok(collections) => collections,
        Err(error) => {
            findings.push(fault(&error, client, config)?);
            return Ok(findings);
        }
    };
    if collections.iter().all(|id| id == OWN_COLLECTION) {
        let message = format!("there are no documents in `{}`", client.root().database());
        findings.push(
            Finding::info("firestore.empty", message)
                .with_help("look at `project` and `database` if there should be"),
        );
    }
    if let Some(database) = described(client, services).await {
        findings.extend(of_mode(&database));
        findings.extend(of_edition(&database));
        findings.extend(of_recovery(&database, config));
    }
    Ok(findings)
}

/// Findings of the sink role; writes nothing.
pub(crate) async fn sink(
    client: &Client,
    config: &FirestoreConfig,
    services: &Services,
) -> Result<Vec<Finding>> {
    let client = &client.with_retries_max(RETRIES_MAX.min(config.retries_max));
    let mut findings = of_place(config)?;
    // What is written is also read, to verify it and to go on after a crash.
    if let Err(error) = client.collection_ids(client.root().name(), None).await {
        findings.push(fault(&error, client, config)?);
        return Ok(findings);
    }
    if let Some(database) = described(client, services).await {
        findings.extend(of_mode(&database));
    }
    if let Err(error) = may_write(client).await {
        findings.push(fault(&error, client, config)?);
    }
    Ok(findings)
}

/// What is wrong, with the database that was asked: of a job from Firestore to Firestore both sides fail alike.
fn fault(error: &Error, client: &Client, config: &FirestoreConfig) -> Result<Finding> {
    let mut finding = Finding::of_error(error);
    let place = match config.host()? {
        Some(host) => format!("`{}` at `{host}`", client.root().database()),
        None => format!("`{}`", client.root().database()),
    };
    finding.message = format!("{}: {place}", finding.message);
    Ok(finding)
}

/// What is to be known of where the documents are.
fn of_place(config: &FirestoreConfig) -> Result<Vec<Finding>> {
    let mut findings = plain_text(config)?;
    findings.extend(from_environment(config)?);
    Ok(findings)
}

/// An emulator that the job itself does not name: whoever has set the variable may have forgotten it.
fn from_environment(config: &FirestoreConfig) -> Result<Option<Finding>> {
    if config.host.is_some() {
        return Ok(None);
    }
    Ok(config.host()?.map(|host| {
        Finding::warning(
            "firestore.emulator_from_environment",
            format!(
                "the emulator at `{host}` is used, not the service: `FIRESTORE_EMULATOR_HOST` is set (it fills `fallback_host`), and \
                 the config names neither `host` nor `credentials_file`"
            ),
        )
        .with_help("name it as `host` if it is meant; else unset the variable or say `fallback_host: null`")
    }))
}

/// An emulator elsewhere: all documents travel unprotected.
fn plain_text(config: &FirestoreConfig) -> Result<Vec<Finding>> {
    let elsewhere = config.host()?.filter(|host| !config::is_this_machine(host));
    Ok(elsewhere
        .map(|host| {
            Finding::warning(
                "firestore.plain_text",
                format!("documents travel to `{host}` in plain text: everybody on the way reads and changes them"),
            )
            .with_help("only an emulator within a closed network belongs into `host`; leave it out for the service itself")
        })
        .into_iter()
        .collect())
}

/// What the database is, if it can be seen.
async fn described(client: &Client, services: &Services) -> Option<Database> {
    match client.database().await {
        Ok(database) => Some(database),
        // Emulators have no such call, and a role may allow documents alone: neither is in the way of a run.
        Err(fault) => {
            let code = fault.status.code();
            services.log(
                LogLevel::Debug,
                format!("what the database is cannot be seen: {code:?}"),
            );
            None
        }
    }
}

fn of_mode(database: &Database) -> Option<Finding> {
    (database.r#type() == DatabaseType::DatastoreMode).then(|| {
        Finding::blocker(
            "firestore.datastore_mode",
            "the database is in Datastore mode, which speaks another language",
        )
        .with_help("name a database in native mode as `database`")
    })
}

fn of_edition(database: &Database) -> Option<Finding> {
    (database.database_edition() == DatabaseEdition::Enterprise).then(|| {
        Finding::warning(
            "firestore.enterprise_edition",
            "the database is of the Enterprise edition: finding nested collections scans all documents there",
        )
        .with_help("look at the reads that `plan` states, and name the collections that are copied")
    })
}

fn of_recovery(database: &Database, config: &FirestoreConfig) -> Option<Finding> {
    let enabled = database.point_in_time_recovery_enablement();
    match (config.point_in_time_recovery, enabled) {
        (true, PointInTimeRecoveryEnablement::PointInTimeRecoveryDisabled) => Some(
            Finding::warning(
                "firestore.no_point_in_time_recovery",
                "`point_in_time_recovery` is said, but the database keeps one instant for an hour only",
            )
            .with_help(
                "enable it: `gcloud firestore databases update --enable-pitr`, or take it out of the config",
            ),
        ),
        (false, PointInTimeRecoveryEnablement::PointInTimeRecoveryEnabled) => Some(
            Finding::info(
                "firestore.point_in_time_recovery",
                "the database has point-in-time recovery: one instant can be read for seven days",
            )
            .with_help("say `point_in_time_recovery: true` if reading may take longer than an hour"),
        ),
        _ => None,
    }
}

/// Asks for a deletion that depends on what never was.
async fn may_write(client: &Client) -> Result<()> {
    let root = client.root();
    let request = CommitRequest {
        database: root.database().to_owned(),
        writes: vec![Write {
            operation: Some(Operation::Delete(
                root.document(&format!("{OWN_COLLECTION}/check")),
            )),
            current_document: Some(Precondition {
                condition_type: Some(ConditionType::UpdateTime(NEVER)),
            }),
            ..Write::default()
        }],
        ..CommitRequest::default()
    };
    let mut attempts = client.attempts();
    loop {
        let Err(fault) = client.commit(request.clone()).await else {
            return Err(Error::new(
                ErrorKind::Integrity,
                "firestore.precondition_ignored",
                "the service does not keep to preconditions, without which nothing can be written safely",
            ));
        };
        match fault.status.code() {
            Code::NotFound | Code::FailedPrecondition | Code::Aborted => return Ok(()),
            _ => attempts.after(fault).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> FirestoreConfig {
        serde_json::from_str(json).unwrap()
    }

    fn database(
        mode: DatabaseType,
        edition: DatabaseEdition,
        recovery: PointInTimeRecoveryEnablement,
    ) -> Database {
        let mut database = Database::default();
        database.set_type(mode);
        database.set_database_edition(edition);
        database.set_point_in_time_recovery_enablement(recovery);
        database
    }

    fn codes(database: &Database, config: &FirestoreConfig) -> Vec<String> {
        [
            of_mode(database),
            of_edition(database),
            of_recovery(database, config),
        ]
        .into_iter()
        .flatten()
        .map(|finding| finding.code)
        .collect()
    }

    #[test]
    fn what_a_database_is_decides_what_is_said() {
        use DatabaseEdition::{Enterprise, Standard};
        use DatabaseType::{DatastoreMode, FirestoreNative};
        use PointInTimeRecoveryEnablement::{
            PointInTimeRecoveryDisabled as Without, PointInTimeRecoveryEnabled as With, Unspecified,
        };
        let plain = config("{}");
        let claiming = config(r#"{ "point_in_time_recovery": true }"#);
        for (database, config, expected) in [
            (database(FirestoreNative, Standard, Without), &plain, &[][..]),
            (database(FirestoreNative, Standard, With), &claiming, &[]),
            (database(FirestoreNative, Standard, Unspecified), &claiming, &[]),
            (
                database(FirestoreNative, Standard, With),
                &plain,
                &["firestore.point_in_time_recovery"],
            ),
            (
                database(FirestoreNative, Standard, Without),
                &claiming,
                &["firestore.no_point_in_time_recovery"],
            ),
            (
                database(FirestoreNative, Enterprise, Without),
                &plain,
                &["firestore.enterprise_edition"],
            ),
            (
                database(DatastoreMode, Standard, Without),
                &plain,
                &["firestore.datastore_mode"],
            ),
        ] {
            assert_eq!(codes(&database, config), expected);
        }
    }

    #[test]
    fn plain_text_beyond_this_machine_is_said() {
        assert!(plain_text(&config("{}")).unwrap().is_empty());
        assert!(
            plain_text(&config(r#"{ "host": "127.0.0.1:8080" }"#))
                .unwrap()
                .is_empty()
        );
        let findings = plain_text(&config(r#"{ "host": "http://emulator:8080" }"#)).unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code, "firestore.plain_text");
        assert!(findings[0].message.contains("`emulator:8080`"));
    }

    #[test]
    fn an_emulator_that_only_the_environment_names_is_said() {
        for silent in [
            "{}",
            r#"{ "host": "127.0.0.1:1", "fallback_host": "127.0.0.1:2" }"#,
        ] {
            assert!(of_place(&config(silent)).unwrap().is_empty());
        }
        let findings = of_place(&config(r#"{ "fallback_host": "emulator:8080" }"#)).unwrap();
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(
            codes,
            ["firestore.plain_text", "firestore.emulator_from_environment"]
        );
        for finding in findings {
            assert!(finding.message.contains("`emulator:8080`"), "{}", finding.message);
        }
    }
}
