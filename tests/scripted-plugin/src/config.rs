//! The config of all roles, with the script.
//!
//! Every key has a default, so a job names only what its test is about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the plugin holds, and how it misbehaves.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptedConfig {
    /// Records of each collection of the source.
    pub records: u32,
    /// Names of the source's collections.
    pub collections: Vec<String>,
    /// Collections of the source whose records refer to those of another one, each by its own key.
    pub references: BTreeMap<String, String>,
    /// Fields that point to records, one for each entry.
    pub links: Vec<Link>,
    /// What the source bills: nothing if it is left out, else one unit for each record that it delivers, for each that it
    /// describes, and for each thousand that it counts. Each `billed` line of the file of calls says how many units.
    pub billed: Option<Billed>,
    /// Whether the source says that its numbers of records are exact.
    pub exact_counts: bool,
    /// Whether the source counts when it is asked to.
    pub counts: bool,
    /// Whether the source describes its collections although only their names are asked for.
    pub describes_always: bool,
    /// Octets of the text of each record.
    pub text_bytes: u32,
    /// Name of the store in this process that sinks write and readers read; calls are counted per store.
    pub store: String,
    /// A file to which each commit appends what it made durable, one JSON line per record.
    pub committed_path: Option<PathBuf>,
    /// A file that keeps the store of the sink for later processes, and for others at the same time: collections, records and lanes,
    /// each change one line that is synced before the call returns. What `committed_path` has is made anew from it when the
    /// sink is opened. All processes with this file name the same `store`.
    pub lanes_path: Option<PathBuf>,
    /// A file to which the notifier appends what it delivers, one JSON line per notification.
    pub notified_path: Option<PathBuf>,
    /// A file to which each call appends one JSON line: the store, the call, and what it is about.
    pub calls_path: Option<PathBuf>,
    /// What errors, panics and printed lines say besides; a text as anybody may see it.
    pub says: Option<String>,
    /// What they say besides that; a text that nobody may see.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Option<String>,
    /// Where a system would be; what `check` says names it if it is given.
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_URL"))]
    pub address: Option<String>,
    /// What a system would ask for; as `address`.
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_SERVICE_ROLE_KEY", "writeOnly" = true))]
    pub service_key: Option<String>,
    /// A file that a system would ask for; as `address`.
    #[schemars(extend("x-whimbrel-env" = "GOOGLE_APPLICATION_CREDENTIALS", "x-whimbrel-path" = true))]
    pub credentials_path: Option<PathBuf>,
    /// Whether the sink judges records when it is flushed, and not when they are written.
    pub defers: bool,
    /// Records that the sink refuses, by their `id`.
    pub refused_ids: Vec<i64>,
    /// A file whose presence means that the disk of the sink is full.
    pub full_while: Option<PathBuf>,
    /// What goes wrong, and when.
    pub misbehave: Vec<Misbehaviour>,
    /// Whether a hanging call hangs on after it was cancelled.
    pub hang_ignores_cancel: bool,
    /// Milliseconds that a slow call takes.
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub slow_ms: u64,
}

impl Default for ScriptedConfig {
    fn default() -> Self {
        Self {
            records: 100,
            collections: vec!["records".to_owned()],
            references: BTreeMap::new(),
            links: Vec::new(),
            billed: None,
            exact_counts: false,
            counts: true,
            describes_always: false,
            text_bytes: 10,
            store: "default".to_owned(),
            committed_path: None,
            lanes_path: None,
            notified_path: None,
            calls_path: None,
            says: None,
            secret: None,
            address: None,
            service_key: None,
            credentials_path: None,
            defers: false,
            refused_ids: Vec::new(),
            full_while: None,
            misbehave: Vec::new(),
            hang_ignores_cancel: false,
            slow_ms: 100,
        }
    }
}

/// A field whose values are the `id` of records.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// The collection whose records point.
    pub from: String,
    /// Its field.
    pub field: String,
    /// The collection pointed to.
    pub to: String,
    /// A record points to its own number plus this.
    pub shift: i64,
    /// No value is null; otherwise each fourth one is.
    pub required: bool,
    /// Source: nobody is told of it.
    pub unknown: bool,
    /// Source: it says that all records pointed to are there.
    pub guaranteed: bool,
    /// Sink: it refuses records that point to nothing.
    pub enforced: bool,
}

/// What is billed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Billed {
    /// The unit, in the plural.
    pub unit: String,
    /// US dollars for a million of them.
    pub usd_per_million: f64,
    /// What a run may take of them.
    #[serde(default)]
    pub units_max: Option<u64>,
    /// The part of these that is used.
    #[serde(default = "all_units")]
    #[schemars(extend("x-whimbrel-setting" = "limits.quota_safety"))]
    pub units_part: f64,
}

const fn all_units() -> f64 {
    1.0
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Misbehaviour {
    /// The call that goes wrong.
    pub call: Call,
    /// The occurrence of the call in this process at which it goes wrong, from 1.
    #[serde(default = "one")]
    pub at: u64,
    /// How many occurrences go wrong; 0 means all from then on.
    #[serde(default = "one")]
    pub times: u64,
    /// How it goes wrong.
    pub how: How,
}

const fn one() -> u64 {
    1
}

/// A call of the contract. Those of a source are also those of a sink's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Call {
    Open,
    Close,
    Check,
    Collections,
    OpenSnapshot,
    CloseSnapshot,
    Partitions,
    Read,
    Next,
    Count,
    Lookup,
    Acknowledge,
    Prepare,
    Alter,
    TakeOver,
    Begin,
    Write,
    Flush,
    Commit,
    Abort,
    AddConstraints,
    Finalize,
    Clear,
    Reader,
    Plan,
    Apply,
    Rule,
    Send,
}

/// A way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Panics.
    Panic,
    /// Fails for good: kind internal, code `scripted.error`.
    Error,
    /// Fails for now: kind unavailable, code `scripted.unavailable`, scope transaction.
    TransientError,
    /// Fails until somebody repairs the system: as `transient_error`, code `scripted.full`.
    Full,
    /// Does not return.
    Hang,
    /// Takes its time and goes on.
    Slow,
    /// As `slow`, and says that it waits of its own will.
    Wait,
    /// Ends the process with status 0.
    #[serde(rename = "exit0")]
    Exit0,
    /// Writes where nothing is.
    Segfault,
    /// Calls itself for ever.
    StackOverflow,
    /// Aborts the process.
    Abort,
    /// Prints to standard output, also what looks like an event, and goes on.
    PrintStdout,
    /// Prints to standard error, and goes on.
    PrintStderr,
    /// `next`, `apply`: a text column whose last offset is beyond its text.
    WrongLength,
    /// `next`, `apply`: a column of another type than the schema says.
    WrongSchema,
    /// `next`, `apply`: says that there are more records than the columns have. `count`: one too many.
    WrongRecordCount,
    /// `next`, `apply`: a null in a field that must not be null.
    NullInRequired,
    /// `next`: text that is not UTF-8, which only a full validation sees.
    NotUtf8,
    /// `next`: a batch before any schema, if it is the first call.
    BatchWithoutSchema,
    /// `next`: the schema again, with the same version.
    SchemaTwice,
    /// `next`: ends before all records are delivered.
    EndEarly,
    /// `next`: the records of the batch before again.
    Repeat,
    /// `write`, `flush`: accepts one more than there are.
    WrongReceipt,
    /// `write`: takes half of the batch and fails with scope transaction.
    ErrorHalfWay,
    /// `write`, `next`: rejects the first record of the batch. `flush`: rejects the first record that was deferred.
    Reject,
    /// `flush`: accepts what was deferred, and keeps nothing of it.
    LoseRecords,
    /// `abort`: what was deferred comes with the next transaction.
    KeepDeferred,
    /// `commit`: answers `not_committed`, and keeps nothing.
    NotCommitted,
    /// `commit`: answers `fenced`, and keeps nothing.
    Fenced,
    /// `commit`: answers `unknown`, and keeps nothing.
    UnknownLost,
    /// `commit`: answers `unknown`, and keeps everything.
    UnknownKept,
    /// `commit`: answers that it is durable, and keeps nothing.
    LostCommit,
    /// `take_over`: grants a lane whatever epoch the claim says is held.
    IgnoreHeld,
    /// `take_over`: grants the claims that stand before one that it refuses.
    GrantSome,
    /// `take_over`: lets a lane go on whoever began it.
    NeverAnew,
    /// `take_over`: starts a lane anew also for the run that began it.
    AlwaysAnew,
    /// `take_over`: answers the last claim first.
    OtherOrder,
    /// `commit`: makes it durable whatever commit it says is the one before.
    IgnoreGuard,
    /// `commit`: makes it durable whatever epoch it has.
    IgnoreEpoch,
    /// `commit`: answers that it is fenced where it is, and keeps it all the same.
    WriteFenced,
    /// `commit`: keeps no extensions.
    LoseExtensions,
    /// `apply`: an output for a collection that is not in the plan.
    UnplannedOutput,
    /// `check` of the notifier: sends something.
    SendInCheck,
    /// `send`: answers that it is delivered, and delivers nothing.
    LoseNotification,
    /// `send`: delivers when the notifier is closed.
    DeliverAtClose,
    /// `send`: delivers a repetition, too.
    ForgetKeys,
    /// `send`: panics if the title is empty.
    PanicOnEmpty,
    /// `send`: delivers each line of the body as a notification.
    SplitLines,
    /// `send`: delivers the first letters of the body only.
    CutText,
    /// `send`: delivers everything as good to know.
    WrongSeverity,
    /// `send`: delivers no facts.
    LoseFacts,
    /// `send`: a NUL in the body is an internal error of scope session.
    RefuseForGood,
    /// `send`: an outage of the service is overcome in secret.
    SendInOutage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_written_in_few_words() {
        let text =
            r#"{"misbehave":[{"call":"next","at":3,"how":"exit0"},{"call":"take_over","how":"hang"}]}"#;
        let config: ScriptedConfig = serde_json::from_str(text).unwrap();
        assert_eq!(
            (config.misbehave[0].call, config.misbehave[0].at),
            (Call::Next, 3)
        );
        assert_eq!((config.misbehave[1].how, config.misbehave[1].at), (How::Hang, 1));
        serde_json::from_str::<ScriptedConfig>(r#"{"misbehave":[{"call":"next","how":"explode"}]}"#)
            .unwrap_err();
    }
}
