//! The plugin's part of the job file. The doc comments of the fields are the tables in the README.
//!
//! Both roles have the same keys; those of one role say so. What says how is read, and not which records there are, is marked: it may
//! change before a run is gone on with. Neighbours: `client` uses what is said of the connection,
//! `discovery` and `read` what is said of reading, `write` what is said of writing. What may be a project, a database or a host
//! is in `names`.

mod names;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Result};

pub(crate) use names::is_this_machine;

/// Which database, and how it is read and written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirestoreConfig {
    /// The project, such as `my-project`. Left out: what `GOOGLE_CLOUD_PROJECT` says, then what the credentials say.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "GOOGLE_CLOUD_PROJECT", "x-whimbrel-place" = "needed"))]
    pub project: Option<String>,
    /// The database within the project.
    #[serde(default = "default_database")]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub database: String,
    /// An emulator, as `127.0.0.1:8080`: plain text, without credentials. Left out: `fallback_host`, then the service itself.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub host: Option<String>,
    /// An emulator for jobs that name neither `host` nor `credentials_file`, of which the check says that it is used; beside
    /// `credentials_file` alone it is refused. Left out: what `FIRESTORE_EMULATOR_HOST` says; `null` passes that over.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "FIRESTORE_EMULATOR_HOST", "x-whimbrel-place" = true))]
    pub fallback_host: Option<String>,
    /// The key file of a service account, JSON; refused if others may read it. Left out: what `GOOGLE_APPLICATION_CREDENTIALS`
    /// says, then the application default credentials.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "GOOGLE_APPLICATION_CREDENTIALS"))]
    pub credentials_file: Option<PathBuf>,
    /// How long a connection may take, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    #[schemars(range(min = 1, max = 600_000))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub connect_timeout_ms: u32,
    /// How long the service may be silent within a request, in milliseconds.
    #[serde(default = "request_timeout_ms")]
    #[schemars(range(min = 1, max = 3_600_000))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub request_timeout_ms: u32,
    /// How often a request is tried again after an error that may pass; the wait grows from 0.2 s to 30 s.
    #[serde(default = "retries_max")]
    #[schemars(range(max = 100))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub retries_max: u32,
    /// What is looked at before fields and types are fixed (source).
    #[serde(default)]
    pub inference: Inference,
    /// Whether records have their full path as the field `__path__` too (source). Collection groups always have it.
    #[serde(default)]
    pub path_field: bool,
    /// Documents of one request (source); no more than `quota` allows in a second.
    #[serde(default = "page_documents_max")]
    #[schemars(range(min = 1, max = 100_000))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub page_documents_max: u32,
    /// Whether the database has point-in-time recovery: then one instant can be read for seven days, not for an hour (source).
    #[serde(default)]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub point_in_time_recovery: bool,
    /// How long one instant is read without point-in-time recovery, in seconds; the service keeps it for an hour (source).
    #[serde(default = "snapshot_secs_max")]
    #[schemars(range(min = 1, max = 3_600))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub snapshot_secs_max: u32,
    /// What happens when one instant can no longer be read (source).
    #[serde(default)]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub on_snapshot_expiry: OnSnapshotExpiry,
    /// What the project may use of the service.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub quota: Quota,
    /// What 100,000 document reads cost, in US dollars, for the estimate of `plan`; it depends on the region.
    #[serde(default = "price_per_100k_reads")]
    #[schemars(range(min = 0.0))]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub price_per_100k_reads: f64,
    /// How documents are written (sink).
    #[serde(default)]
    #[schemars(extend("x-whimbrel-may-change" = true))]
    pub writing: Writing,
}

/// What is looked at before fields and types are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    /// every document, which reads the collection twice.
    #[default]
    Full,
    /// so many documents of each collection, those that come first by name. A later value of another type is a rejected
    /// record; a field that comes later follows `import.on_new_field`. Where the job names no collections every document is
    /// read to find nested ones, so all are looked at all the same.
    Sample(#[schemars(range(min = 1))] u32),
}

/// What happens when one instant can no longer be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSnapshotExpiry {
    /// the run ends and says so.
    #[default]
    Fail,
    /// the rest is read as it then is, which the log and the report say.
    Continue,
}

/// What the project may use of the service; what is not said is not limited.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Document reads a second.
    #[schemars(range(min = 1))]
    pub reads_per_second: Option<u32>,
    /// Document reads a day; a run that would need more than its part of them is refused.
    #[schemars(range(min = 1))]
    pub reads_per_day: Option<u64>,
    /// Document writes a second.
    #[schemars(range(min = 1))]
    pub writes_per_second: Option<u32>,
    /// How much of these is used. Left out: `limits.quota_safety` of the job, if it is set.
    #[schemars(range(min = 0.01, max = 1.0))]
    #[schemars(extend("x-whimbrel-setting" = "limits.quota_safety"))]
    pub safety_factor: f64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            reads_per_second: None,
            reads_per_day: None,
            writes_per_second: None,
            // Requirement R3.5.
            safety_factor: 0.8,
        }
    }
}

/// How documents are written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Writing {
    /// What a commit promises.
    pub guarantee: Guarantee,
    /// Which request carries them with `guarantee: idempotent`.
    pub request: WriteRequest,
    /// Documents of one request, whimbrel's own among them.
    #[schemars(range(min = 1, max = 500))]
    pub writes_max: u32,
    /// Octets of one request. Left out: 9 MiB, and 3.5 MiB for an emulator.
    #[schemars(range(min = 65_536, max = 10_000_000))]
    pub bytes_max: Option<u32>,
    /// Requests under way at the same time for each session (`guarantee: idempotent`).
    #[schemars(range(min = 1, max = 64))]
    pub in_flight_max: u32,
    /// Whether writing begins with 500 documents a second and grows by half every five minutes.
    pub ramp_up: RampUp,
    /// What happens to a record whose document is not there.
    pub on_missing: OnMissing,
    /// Whether the record types of fields that Firestore has no type for are kept in documents of `_whimbrel`.
    pub keep_types: bool,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::default(),
            request: WriteRequest::default(),
            writes_max: 500,
            bytes_max: None,
            in_flight_max: 4,
            ramp_up: RampUp::default(),
            on_missing: OnMissing::default(),
            keep_types: true,
        }
    }
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// the records of a transaction and its checkpoint are written by one request, all or nothing, and by one run alone.
    #[default]
    ExactlyOnce,
    /// records are written as they come, several requests at a time, and the checkpoint after them; after a crash some are
    /// written again.
    Idempotent,
}

/// Which request carries writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteRequest {
    /// each write succeeds or fails for itself.
    #[default]
    BatchWrite,
    /// the writes of a request succeed or fail together; a failed one is divided until the record at fault is found.
    Commit,
}

/// Whether writing begins slowly, as the service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RampUp {
    /// for the service, not for an emulator.
    #[default]
    Auto,
    /// always.
    On,
    /// never.
    Off,
}

/// What happens to a record whose document is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// the document is made.
    #[default]
    Create,
    /// the record is rejected: only documents that are there are changed.
    Reject,
}

impl FirestoreConfig {
    /// The emulator's address as `host:port`.
    ///
    /// # Errors
    /// `firestore.bad_host`, `firestore.two_places`.
    pub(crate) fn host(&self) -> Result<Option<String>> {
        if let Some(host) = &self.host {
            return names::host("host", host).map(Some);
        }
        let Some(host) = &self.fallback_host else {
            return Ok(None);
        };
        // Which of both is meant nobody can know: each is a database that the other one's operator does not want to touch.
        if self.credentials_file.is_some() {
            return Err(Error::config(
                "firestore.two_places",
                "`FIRESTORE_EMULATOR_HOST` (as `fallback_host`) names an emulator, and `credentials_file` is for the service itself",
            )
            .with_help(
                "for the emulator, name it as `host`; for the service, unset the variable or say `fallback_host: null`",
            )
            .with_place("config.fallback_host"));
        }
        names::host("fallback_host", host).map(Some)
    }

    /// The emulator as the config names it; what is wrong with it [`Self::host`] says.
    pub(crate) fn emulator(&self) -> Option<&str> {
        self.host.as_deref().or(self.fallback_host.as_deref())
    }

    /// The project: this config's, or else the one that the credentials name.
    ///
    /// # Errors
    /// `firestore.no_project`, `firestore.bad_project`.
    pub(crate) fn project(&self, of_credentials: Option<&str>) -> Result<String> {
        match self.project.as_deref().or(of_credentials) {
            Some(project) => names::project(project),
            None => Err(Error::config(
                "firestore.no_project",
                "neither the config nor the credentials name a project",
            )
            .with_help("say `project: my-project`, or set `GOOGLE_CLOUD_PROJECT`")
            .with_place("config.project")),
        }
    }

    /// The database within the project.
    ///
    /// # Errors
    /// `firestore.bad_database`.
    pub(crate) fn database(&self) -> Result<&str> {
        names::database(&self.database)
    }

    /// The same, with pages of no more documents than may be read in a second.
    pub(crate) fn in_pages(mut self) -> Self {
        let limit = self.quota.limit_of(self.quota.reads_per_second);
        self.page_documents_max = in_a_second(limit, self.page_documents_max);
        self
    }

    /// How long a connection may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.into())
    }

    /// How long the service may be silent within a request.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.into())
    }
}

impl Quota {
    /// The part of `limit` that is used.
    pub(crate) fn limit_of(&self, limit: Option<u32>) -> Option<f64> {
        limit.map(|limit| f64::from(limit) * self.safety_factor)
    }

    /// The document reads that a run may take of the day's.
    pub(crate) fn reads_of_a_day(&self) -> Option<u64> {
        // Beyond 2^53 nobody counts reads.
        self.reads_per_day
            .map(|reads| (reads as f64 * self.safety_factor) as u64)
    }
}

impl Writing {
    /// Whether writing begins slowly.
    pub(crate) fn has_ramp(&self, is_emulator: bool) -> bool {
        match self.ramp_up {
            RampUp::Auto => !is_emulator,
            RampUp::On => true,
            RampUp::Off => false,
        }
    }
}

/// How many of `most` documents one request may ask for where so many may be used in a second: not more than these, so that the
/// service does not get a hundred seconds' worth at once, and one at least.
pub(crate) fn in_a_second(limit: Option<f64>, most: u32) -> u32 {
    // Cut off, never negative, and at most what fits.
    limit.map_or(most, |limit| most.min((limit as u32).max(1)))
}

fn default_database() -> String {
    "(default)".to_owned()
}

const fn connect_timeout_ms() -> u32 {
    10_000
}

const fn request_timeout_ms() -> u32 {
    60_000
}

const fn retries_max() -> u32 {
    8
}

const fn page_documents_max() -> u32 {
    10_000
}

const fn snapshot_secs_max() -> u32 {
    55 * 60
}

const fn price_per_100k_reads() -> f64 {
    0.06
}

#[cfg(test)]
mod tests;
