//! The suite of the sink role: what every sink's tests run. See the [module page](super) for how.
//!
//! Here are the case and the list of checks. Most checks write, and read back by the sink's reading half, each into a
//! target of its own.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::reading::QuietHost;
use super::report::{Checked, Report, ensure, fail, skip};
use super::sink_checks as checks;
use super::sink_fence_checks as fences;
use super::sink_flush_checks as flushed;
use super::sink_lane_checks as lanes;
use super::sink_remove_checks as removing;
use super::sink_target::Target;
use super::sink_value_checks as stored;
use super::source::{READING_CHECKS, describes_config_and_types, honest, refuses};
use super::values::edge_cases;
use crate::abi::Validation;
use crate::abi::root_module::ForeignPlugin;
use crate::check::FindingLevel;
use crate::manifest::Role;
use crate::sink::{ConflictPolicy, Sink as _};

/// A sink with room for as many targets as the suite needs.
#[derive(Clone)]
pub struct SinkCase {
    /// The config of a target. Each name that it is given stands for one target, empty at first; the same name must
    /// give the same config.
    pub target: Arc<dyn Fn(&str) -> Json + Send + Sync>,
    /// Configs that must be refused with kind config, over and above those that the suite makes up.
    pub bad_configs: Vec<Json>,
    /// Configs of systems that cannot be reached or written: `open` fails, or `check` finds a blocker.
    pub unreachable: Vec<Json>,
    /// Edge values that the sink rejects: record type as in messages, name of the value (see [`super::values`]).
    pub rejected_values: Vec<(String, String)>,
    /// Collection names that the sink refuses in `prepare`.
    pub refused_names: Vec<String>,
    /// Field names that the sink refuses in `prepare`.
    pub refused_field_names: Vec<String>,
}

impl fmt::Debug for SinkCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkCase").finish_non_exhaustive()
    }
}

impl SinkCase {
    /// A sink whose targets are made by `target`.
    pub fn new(target: impl Fn(&str) -> Json + Send + Sync + 'static) -> Self {
        Self {
            target: Arc::new(target),
            bad_configs: Vec::new(),
            unreachable: Vec::new(),
            rejected_values: Vec::new(),
            refused_names: Vec::new(),
            refused_field_names: Vec::new(),
        }
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

    /// Adds to [`Self::rejected_values`].
    #[must_use]
    pub fn with_rejected_value(mut self, record_type: impl Into<String>, value: impl Into<String>) -> Self {
        self.rejected_values.push((record_type.into(), value.into()));
        self
    }

    /// Adds to [`Self::refused_names`].
    #[must_use]
    pub fn with_refused_name(mut self, name: impl Into<String>) -> Self {
        self.refused_names.push(name.into());
        self
    }

    /// Adds to [`Self::refused_field_names`].
    #[must_use]
    pub fn with_refused_field_name(mut self, name: impl Into<String>) -> Self {
        self.refused_field_names.push(name.into());
        self
    }
}

type SinkCheck = fn(&Target) -> Checked;

const SINK_CHECKS: [(&str, SinkCheck); 40] = [
    (
        "check_finds_no_blocker_and_writes_nothing",
        checks::check_writes_nothing,
    ),
    ("dry_prepare_changes_nothing", checks::dry_prepare_changes_nothing),
    (
        "prepare_answers_each_collection",
        checks::prepare_answers_each_collection,
    ),
    ("prepare_twice_is_the_same", checks::prepare_twice_is_the_same),
    (
        "what_is_committed_is_read_back",
        checks::what_is_committed_is_read_back,
    ),
    (
        "commit_is_durable_without_finalize",
        checks::commit_is_durable_without_finalize,
    ),
    ("abort_leaves_nothing", checks::abort_leaves_nothing),
    (
        "close_without_commit_leaves_nothing",
        checks::close_without_commit_leaves_nothing,
    ),
    (
        "cancelled_session_leaves_nothing",
        checks::cancelled_session_leaves_nothing,
    ),
    ("abort_without_begin_is_fine", checks::abort_without_begin_is_fine),
    ("empty_batch_is_fine", checks::empty_batch_is_fine),
    ("large_batches_are_kept", checks::large_batches_are_kept),
    (
        "unknown_collection_is_refused",
        checks::unknown_collection_is_refused,
    ),
    (
        "several_collections_in_one_transaction",
        checks::several_collections_in_one_transaction,
    ),
    ("changed_schema_is_followed", checks::changed_schema_is_followed),
    ("lanes_are_kept", lanes::lanes_are_kept),
    (
        "lane_of_another_run_starts_anew",
        lanes::lane_of_another_run_starts_anew,
    ),
    (
        "commit_without_writes_moves_the_lane",
        lanes::commit_without_writes_moves_the_lane,
    ),
    (
        "lanes_are_claimed_together_or_not_at_all",
        lanes::lanes_are_claimed_together_or_not_at_all,
    ),
    ("lanes_are_kept_apart", lanes::lanes_are_kept_apart),
    (
        "stale_checkpoints_are_fenced",
        fences::stale_checkpoints_are_fenced,
    ),
    (
        "another_session_commits_what_one_has_claimed",
        fences::another_session_commits_what_one_has_claimed,
    ),
    ("replaced_session_is_fenced", fences::replaced_session_is_fenced),
    (
        "open_transaction_of_a_replaced_session_is_lost",
        fences::open_transaction_of_a_replaced_session_is_lost,
    ),
    ("undo_takes_back_a_commit", checks::undo_takes_back_a_commit),
    (
        "clear_empties_exactly_the_named",
        checks::clear_empties_exactly_the_named,
    ),
    (
        "remove_is_offered_if_declared",
        removing::remove_is_offered_if_declared,
    ),
    (
        "remove_takes_exactly_the_keys",
        removing::remove_takes_exactly_the_keys,
    ),
    (
        "removed_records_are_back_after_abort",
        removing::removed_records_are_back_after_abort,
    ),
    (
        "remove_follows_the_order_of_calls",
        removing::remove_follows_the_order_of_calls,
    ),
    ("remove_by_composite_keys", removing::remove_by_composite_keys),
    (
        "flush_without_deferred_records_is_harmless",
        flushed::flush_without_deferred_records_is_harmless,
    ),
    (
        "deferred_records_are_judged_by_flush",
        flushed::deferred_records_are_judged_by_flush,
    ),
    (
        "deferred_records_can_be_taken_back",
        flushed::deferred_records_can_be_taken_back,
    ),
    (
        "same_batch_twice_is_the_same",
        stored::same_batch_twice_is_the_same,
    ),
    ("last_record_of_a_key_wins", stored::last_record_of_a_key_wins),
    (
        "presence_is_kept_or_loss_declared",
        stored::presence_is_kept_or_loss_declared,
    ),
    ("hostile_collection_names", stored::hostile_collection_names),
    ("hostile_field_names", stored::hostile_field_names),
    (
        "case_twins_are_kept_apart_or_refused",
        stored::case_twins_are_kept_apart_or_refused,
    ),
];

/// Every policy with the name of its check.
const POLICIES: [(ConflictPolicy, &str); 7] = [
    (ConflictPolicy::Skip, "policy_skip"),
    (ConflictPolicy::Overwrite, "policy_overwrite"),
    (ConflictPolicy::Merge, "policy_merge"),
    (ConflictPolicy::KeepNewest, "policy_keep_newest"),
    (ConflictPolicy::KeepOldest, "policy_keep_oldest"),
    (ConflictPolicy::Fail, "policy_fail"),
    (ConflictPolicy::Append, "policy_append"),
];

/// Runs every check of the sink role, and those of a source on its reading half.
pub fn run(plugin: ForeignPlugin, case: SinkCase) -> Report {
    let mut report = Report::default();
    report.run("describes_itself", move || describes_itself(plugin));
    let description = plugin.describe(Role::Sink).unwrap_or_default();
    let target = Target::new(plugin, case.clone(), description);
    let mut run = |name: String, check: Box<dyn FnOnce(&Target) -> Checked + Send>| {
        let target = target.named(&name);
        report.run(name, move || check(&target));
    };
    for (name, check) in SINK_CHECKS {
        run(name.to_owned(), Box::new(check));
    }
    for (policy, name) in POLICIES {
        run(
            name.to_owned(),
            Box::new(move |target| stored::policy(target, policy)),
        );
    }
    for edge in edge_cases() {
        run(
            format!("type_{}", edge.name()),
            Box::new(move |target| stored::type_is_kept_or_loss_declared(target, &edge)),
        );
    }
    for (name, check) in READING_CHECKS {
        run(
            format!("reader_{name}"),
            Box::new(move |target| check(&checks::reader_with_records(target)?)),
        );
    }
    let of = case.clone();
    report.run("bad_config_is_refused", move || {
        refuses(&(of.target)("bad_config"), &of.bad_configs, |config| {
            plugin
                .open_sink(config, Arc::new(QuietHost), Validation::Full)
                .map(drop)
        })
    });
    report.run("unreachable_system_is_found", move || {
        unreachable_system_is_found(plugin, &case)
    });
    report
}

fn describes_itself(plugin: ForeignPlugin) -> Checked {
    let description = plugin.describe(Role::Sink)?;
    let Some(capabilities) = &description.sink else {
        return fail("the description has no capabilities of a sink");
    };
    ensure(!capabilities.policies.is_empty(), || {
        "no conflict policy is declared".to_owned()
    })?;
    ensure(!description.type_mappings.is_empty(), || {
        "no type mapping is declared".to_owned()
    })?;
    describes_config_and_types(&description)
}

fn unreachable_system_is_found(plugin: ForeignPlugin, case: &SinkCase) -> Checked {
    if case.unreachable.is_empty() {
        return skip("the case names no config of a system that cannot be reached");
    }
    for config in &case.unreachable {
        match plugin.open_sink(config, Arc::new(QuietHost), Validation::Full) {
            Err(error) => honest(config, &error)?,
            Ok(mut sink) => match sink.check() {
                Err(error) => honest(config, &error)?,
                Ok(findings) => {
                    let blocked = findings
                        .iter()
                        .any(|finding| finding.level == FindingLevel::Blocker);
                    ensure(blocked, || {
                        format!("`check` finds no blocker with the config `{config}`")
                    })?;
                }
            },
        }
    }
    Ok(())
}
