//! The suite of the source role: what every source's tests run. See the [module page](super) for how.
//!
//! Here are the case, the list of checks, and the checks of configuration; those that read are in `reading_checks`.

use serde_json::{Value as Json, json};

use super::query_checks as queries;
use super::reading::{QuietHost, Reader};
use super::reading_checks as reading;
use super::records::Record;
use super::report::{Checked, Report, ensure, fail, skip};
use super::stream_checks as streams;
use crate::abi::Validation;
use crate::abi::root_module::ForeignPlugin;
use crate::check::FindingLevel;
use crate::error::{Error, ErrorKind};
use crate::manifest::Role;
use crate::record_type::Field;
use crate::source::Source as _;

/// A source with content that the test knows.
#[derive(Debug, Clone, Default)]
pub struct SourceCase {
    /// The config under which it is opened.
    pub config: Json,
    /// All collections that it has.
    pub expected: Vec<ExpectedCollection>,
    /// Configs that must be refused with kind config, over and above those that the suite makes up.
    pub bad_configs: Vec<Json>,
    /// Configs of systems that cannot be reached or read: `open` fails, or `check` finds a blocker.
    pub unreachable: Vec<Json>,
    /// A config under which `read` of the named collection, or its stream, blocks until it is cancelled.
    pub blocking: Option<(Json, String)>,
    /// Statements for `query`, and what they select. A source that declares `query` needs one.
    pub queries: Vec<ExpectedQuery>,
    /// Statements that `query` must refuse, as they would write. A source that declares `query` needs one.
    pub refused_statements: Vec<String>,
}

/// A statement that reads, and what it selects.
#[derive(Debug, Clone, Default)]
pub struct ExpectedQuery {
    /// In the system's own language.
    pub statement: String,
    /// Names of the columns, in order.
    pub columns: Vec<String>,
    /// The records, in any order.
    pub records: Vec<Record>,
}

/// What a collection is known to hold.
#[derive(Debug, Clone, Default)]
pub struct ExpectedCollection {
    /// Its name.
    pub name: String,
    /// Records that are delivered.
    pub record_count: u64,
    /// Records that are in the source and cannot be delivered.
    pub rejected_count: u64,
    /// The key that is announced, if the test cares.
    pub key: Option<Vec<String>>,
    /// The fields that are announced, if the test cares.
    pub fields: Option<Vec<Field>>,
    /// The records, in any order, if the test cares.
    pub records: Option<Vec<Record>>,
}

impl SourceCase {
    /// A source opened with `config`.
    pub fn new(config: Json) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// It has this collection.
    #[must_use]
    pub fn with(mut self, collection: ExpectedCollection) -> Self {
        self.expected.push(collection);
        self
    }

    /// Adds to [`Self::bad_configs`].
    #[must_use]
    pub fn with_bad_config(mut self, config: Json) -> Self {
        self.bad_configs.push(config);
        self
    }

    /// Adds to [`Self::unreachable`].
    #[must_use]
    pub fn with_unreachable(mut self, config: Json) -> Self {
        self.unreachable.push(config);
        self
    }

    /// Sets [`Self::blocking`].
    #[must_use]
    pub fn with_blocking(mut self, config: Json, collection: impl Into<String>) -> Self {
        self.blocking = Some((config, collection.into()));
        self
    }

    /// Adds to [`Self::queries`].
    #[must_use]
    pub fn with_query<S: Into<String>>(
        mut self,
        statement: impl Into<String>,
        columns: impl IntoIterator<Item = S>,
        records: Vec<Record>,
    ) -> Self {
        self.queries.push(ExpectedQuery {
            statement: statement.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            records,
        });
        self
    }

    /// Adds to [`Self::refused_statements`].
    #[must_use]
    pub fn with_refused_statement(mut self, statement: impl Into<String>) -> Self {
        self.refused_statements.push(statement.into());
        self
    }
}

impl ExpectedCollection {
    /// A collection of `record_count` records.
    pub fn new(name: impl Into<String>, record_count: u64) -> Self {
        Self {
            name: name.into(),
            record_count,
            ..Self::default()
        }
    }

    /// Sets [`Self::rejected_count`].
    #[must_use]
    pub fn with_rejected(mut self, rejected_count: u64) -> Self {
        self.rejected_count = rejected_count;
        self
    }

    /// Sets [`Self::key`].
    #[must_use]
    pub fn with_key<S: Into<String>>(mut self, key: impl IntoIterator<Item = S>) -> Self {
        self.key = Some(key.into_iter().map(Into::into).collect());
        self
    }

    /// Sets [`Self::fields`].
    #[must_use]
    pub fn with_fields(mut self, fields: Vec<Field>) -> Self {
        self.fields = Some(fields);
        self
    }

    /// Sets [`Self::records`].
    #[must_use]
    pub fn with_records(mut self, records: Vec<Record>) -> Self {
        self.records = Some(records);
        self
    }
}

type ReadingCheck = fn(&Reader) -> Checked;

/// The checks that read. Those of the second list are also run on the reading half of a sink.
const SOURCE_CHECKS: [(&str, ReadingCheck); 5] = [
    ("check_finds_no_blocker", reading::check_finds_no_blocker),
    (
        "collections_are_as_expected",
        reading::collections_are_as_expected,
    ),
    (
        "resume_continues_after_each_batch",
        reading::resume_continues_after_each_batch,
    ),
    ("snapshot_reads_the_same", reading::snapshot_reads_the_same),
    ("changes_are_followed", reading::changes_are_followed),
];

type QueryCheck = fn(&Reader, &SourceCase) -> Checked;

/// The checks of statements.
const QUERY_CHECKS: [(&str, QueryCheck); 3] = [
    (
        "query_is_offered_if_declared",
        queries::query_is_offered_if_declared,
    ),
    (
        "query_selects_what_it_should",
        queries::query_selects_what_it_should,
    ),
    (
        "query_refuses_what_is_no_reading_statement",
        queries::query_refuses_what_is_no_reading_statement,
    ),
];

/// See [`SOURCE_CHECKS`].
pub(super) const READING_CHECKS: [(&str, ReadingCheck); 16] = [
    (
        "collections_answer_is_stable",
        reading::collections_answer_is_stable,
    ),
    ("collections_are_consistent", reading::collections_are_consistent),
    ("every_record_is_read_once", reading::every_record_is_read_once),
    ("reading_twice_is_the_same", reading::reading_twice_is_the_same),
    ("batches_obey_the_bounds", reading::batches_obey_the_bounds),
    ("columns_are_projected", reading::columns_are_projected),
    ("limit_is_kept", reading::limit_is_kept),
    (
        "key_range_is_exact_or_refused",
        reading::key_range_is_exact_or_refused,
    ),
    ("count_equals_read", reading::count_equals_read),
    (
        "partitions_are_disjoint_and_complete",
        reading::partitions_are_disjoint_and_complete,
    ),
    ("lookup_finds_the_keys", reading::lookup_finds_the_keys),
    (
        "unknown_collection_is_not_found",
        reading::unknown_collection_is_not_found,
    ),
    ("stream_outlives_its_source", streams::stream_outlives_its_source),
    ("streams_run_side_by_side", streams::streams_run_side_by_side),
    (
        "close_with_an_open_stream_is_fine",
        streams::close_with_an_open_stream_is_fine,
    ),
    ("cancel_ends_a_read", streams::cancel_ends_a_read),
];

/// Runs every check of the source role.
pub fn run(plugin: ForeignPlugin, case: SourceCase) -> Report {
    let mut report = Report::default();
    report.run("describes_itself", move || describes_itself(plugin));
    let capabilities = plugin
        .describe(Role::Source)
        .ok()
        .and_then(|description| description.source)
        .unwrap_or_default();
    let reader = Reader::source(plugin, case.config.clone(), capabilities, case.expected.clone());
    for (name, check) in SOURCE_CHECKS.into_iter().chain(READING_CHECKS) {
        let reader = reader.clone();
        report.run(name, move || check(&reader));
    }
    for (name, check) in QUERY_CHECKS {
        let (reader, of) = (reader.clone(), case.clone());
        report.run(name, move || check(&reader, &of));
    }
    let of = case.clone();
    report.run("bad_config_is_refused", move || {
        refuses(&of.config, &of.bad_configs, |config| {
            plugin.open_source(config, quiet(), Validation::Full).map(drop)
        })
    });
    let of = case.clone();
    report.run("unreachable_system_is_found", move || {
        unreachable_system_is_found(plugin, &of)
    });
    report.run("cancel_ends_a_blocked_read", move || match case.blocking {
        None => skip("the case names no config under which a read blocks"),
        Some((config, collection)) => {
            let reader = Reader::source(plugin, config, Default::default(), Vec::new());
            streams::cancel_ends_a_blocked_read(&reader, &collection)
        }
    });
    report
}

fn quiet() -> std::sync::Arc<QuietHost> {
    std::sync::Arc::new(QuietHost)
}

fn describes_itself(plugin: ForeignPlugin) -> Checked {
    let description = plugin.describe(Role::Source)?;
    ensure(description.source.is_some(), || {
        "the description has no capabilities of a source".to_owned()
    })?;
    describes_config_and_types(&description)
}

/// The parts of a description that every role has.
pub(super) fn describes_config_and_types(description: &crate::export::Description) -> Checked {
    let schema = &description.config_schema;
    ensure(schema.is_object(), || "the config has no JSON Schema".to_owned())?;
    let mut seen = Vec::new();
    for mapping in &description.type_mappings {
        mapping.record_type.validate()?;
        let name = mapping.record_type.to_string();
        ensure(!seen.contains(&name), || {
            format!("the type `{name}` is mapped twice")
        })?;
        seen.push(name);
    }
    Ok(())
}

/// Opens with configs that are wrong: those of the case, one that is no object, and `good` with an unknown key.
pub(super) fn refuses(good: &Json, bad: &[Json], open: impl Fn(&Json) -> Result<(), Error>) -> Checked {
    let mut configs = bad.to_vec();
    configs.push(json!("a text"));
    if let Some(members) = good.as_object() {
        let mut members = members.clone();
        members.insert("no_plugin_has_this_key".to_owned(), json!(1));
        configs.push(Json::Object(members));
    }
    for config in configs {
        match open(&config) {
            Ok(()) => return fail(format!("it opens with the config `{config}`")),
            Err(error) if error.kind != ErrorKind::Config => {
                let (kind, code) = (error.kind.name(), error.code);
                return fail(format!(
                    "the config `{config}` gives an error of kind {kind} ({code}), not config: {}",
                    error.message
                ));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn unreachable_system_is_found(plugin: ForeignPlugin, case: &SourceCase) -> Checked {
    if case.unreachable.is_empty() {
        return skip("the case names no config of a system that cannot be reached");
    }
    for config in &case.unreachable {
        match plugin.open_source(config, quiet(), Validation::Full) {
            Err(error) => honest(config, &error)?,
            Ok(mut source) => match source.check() {
                Err(error) => honest(config, &error)?,
                Ok(findings) => ensure(
                    findings
                        .iter()
                        .any(|finding| finding.level == FindingLevel::Blocker),
                    || format!("`check` finds no blocker with the config `{config}`"),
                )?,
            },
        }
    }
    Ok(())
}

/// A defect is not an answer.
pub(super) fn honest(config: &Json, error: &Error) -> Checked {
    ensure(error.kind != ErrorKind::Internal, || {
        format!(
            "the config `{config}` gives an internal error ({}): {}",
            error.code, error.message
        )
    })
}
