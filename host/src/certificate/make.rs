//! From the report of a task to a certificate, or to the reason why there is none.
//!
//! There is one whenever every collection that took part was compared record by record, whatever that came to: a
//! certificate of differences says which ones there are. Anything less than all records certifies nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::manifest::Role;

use super::body::{
    Body, CollectionSection, FORMAT, GoneOnSection, JobSection, LossSection, PartitionSection, PlaceSection,
    PlacesSection, PluginSection, ReferenceSection, RuleSection, RunSection, SnapshotsSection, Verdict,
};
use super::canonical;
use super::file::{CertificateFile, FILE_NAME};
use super::key::SigningKey;
use crate::config::VerificationLevel;
use crate::events::{
    CollectionDigests, CollectionResult, Comparison, PlaceDigest, ReferenceResult, SnapshotsRead,
    VerificationResult,
};
use crate::report::TaskReport;
use crate::report::figures::counted;
use crate::workspace::{fault, write_whole};

/// What a report does not say.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The run or verification.
    pub run_id: &'a str,
    /// Whether only a sample was moved.
    pub is_sample: bool,
    /// When it began.
    pub begun_at: DateTime<Utc>,
    /// What it has gone on with.
    pub goes_on: Option<&'a GoesOn>,
    /// When the comparison had ended.
    pub verified_at: DateTime<Utc>,
    /// SHA-256 of the job file, 64 hexadecimal digits.
    pub job_sha256: &'a str,
    /// The libraries that took part.
    pub libraries: &'a [Library],
    /// What signs, if anything does.
    pub key: Option<&'a SigningKey>,
}

/// An earlier comparison that was interrupted: what it has read is not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoesOn {
    /// When its first record was read, or a little earlier.
    pub begun_at: DateTime<Utc>,
    /// When it noted for the last time what it had read.
    pub read_until: DateTime<Utc>,
    /// When it was gone on with.
    pub gone_on_at: DateTime<Utc>,
}

/// The file of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// As what it was loaded.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issued {
    /// A certificate.
    Certificate {
        /// Its file.
        path: PathBuf,
        /// The digest of all collections.
        root: String,
        /// Whether it is signed.
        is_signed: bool,
        /// What it says.
        verdict: Verdict,
    },
    /// None, for this reason.
    None {
        /// In one sentence.
        reason: String,
    },
}

/// Writes the certificate of `report` into `folder`, if it is worth one.
///
/// # Errors
/// `certificate.unsigned`, `workspace.disk_full` or `workspace.unwritable`.
pub fn write(folder: &Path, report: &TaskReport, facts: &Facts<'_>) -> Result<Issued, Error> {
    let body = match body(report, facts) {
        Ok(body) => body,
        Err(reason) => return Ok(Issued::None { reason }),
    };
    let (root, verdict) = (body.root.clone(), body.verdict);
    let file = match facts.key {
        Some(key) => key.sign(body)?,
        None => CertificateFile::unsigned(body),
    };
    let path = folder.join(FILE_NAME);
    write_whole(&path, file.to_text().as_bytes()).map_err(|error| fault(&path, &error))?;
    Ok(Issued::Certificate {
        path,
        root,
        is_signed: facts.key.is_some(),
        verdict,
    })
}

/// What is certified, or why nothing is.
pub fn body(report: &TaskReport, facts: &Facts<'_>) -> Result<Body, String> {
    let collections = collections(report, facts)?;
    let root = canonical::root(&collections).ok_or("a digest of the comparison cannot be read")?;
    let mut body = Body {
        format: FORMAT,
        whimbrel_version: env!("CARGO_PKG_VERSION").to_owned(),
        verdict: Verdict::Undecided,
        root,
        run: RunSection {
            id: facts.run_id.to_owned(),
            command: report.command.clone(),
            begun_at: moment(begun_at(facts)),
            verified_at: moment(facts.verified_at),
            gone_on_with: facts.goes_on.map(|earlier| GoneOnSection {
                read_until: moment(earlier.read_until),
                gone_on_at: moment(earlier.gone_on_at),
            }),
        },
        job: JobSection {
            name: report.job.clone(),
            sha256: facts.job_sha256.to_owned(),
        },
        plugins: plugins(report, facts)?,
        collections,
        rules: rules(report),
        references: report.summary.sink_references.iter().map(reference).collect(),
    };
    body.format = body.format_written();
    // The task may know of more that differs than there are sections.
    let of_task = match report.outcome {
        "done" => Verdict::Equal,
        _ => Verdict::Different,
    };
    body.verdict = body.verdict_of_sections().max(of_task);
    Ok(body)
}

/// When the first record may have been read.
fn begun_at(facts: &Facts<'_>) -> DateTime<Utc> {
    let earlier = facts.goes_on.map(|earlier| earlier.begun_at);
    earlier.map_or(facts.begun_at, |earlier| earlier.min(facts.begun_at))
}

fn collections(report: &TaskReport, facts: &Facts<'_>) -> Result<Vec<CollectionSection>, String> {
    if !matches!(report.outcome, "done" | "differences") {
        return Err("the comparison did not come to its end".to_owned());
    }
    if facts.is_sample {
        return Err("mode `test` moves a sample".to_owned());
    }
    let summary = &report.summary;
    if summary.verification.is_empty() {
        return Err("nothing was compared".to_owned());
    }
    let compared: BTreeSet<(&str, &str)> = summary
        .verification
        .iter()
        .map(|result| (result.source.as_str(), result.sink.as_str()))
        .collect();
    let mut copied: BTreeMap<(&str, &str), &CollectionResult> = BTreeMap::new();
    for collection in &summary.collections {
        let names = (collection.source.as_str(), collection.sink.as_str());
        if !compared.contains(&names) {
            return Err(format!("`{}` was not compared", collection.source));
        }
        copied.insert(names, collection);
    }
    summary
        .verification
        .iter()
        .map(|result| {
            let own = copied.get(&(result.source.as_str(), result.sink.as_str()));
            collection(report, result, own.copied())
        })
        .collect()
}

fn collection(
    report: &TaskReport,
    result: &VerificationResult,
    copied: Option<&CollectionResult>,
) -> Result<CollectionSection, String> {
    let name = &result.source;
    if result.level != VerificationLevel::Comprehensive || !result.every_record {
        return Err(format!(
            "not every record of `{name}` was compared: that takes the level `comprehensive`"
        ));
    }
    if result.settled_count > 0 {
        return Err(format!(
            "{} of `{name}` differed at first and no more a moment later: the sink was written to while it was compared, so compare again",
            counted(result.settled_count, "record")
        ));
    }
    let digests = result
        .digests
        .as_ref()
        .filter(|digests| digests.transformed.is_some() && digests.read_back.is_some())
        .ok_or_else(|| format!("there are no digests of `{name}`"))?;
    let codes: BTreeSet<&str> = report
        .summary
        .rejected
        .iter()
        .filter(|(collection, _)| collection == name)
        .map(|(_, record)| record.code.as_str())
        .collect();
    let mut section = CollectionSection {
        source: name.clone(),
        sink: result.sink.clone(),
        level: word(&result.level),
        verdict: Verdict::Undecided,
        fields: digests.fields.clone(),
        key: digests.key.clone(),
        source_count: result.source_count,
        source_unreadable_count: result.source_unreadable_count,
        sink_count: result.sink_count,
        compared_count: result.compared_count,
        duplicate_key_count: result.duplicate_key_count,
        left_out_count: result.left_out_count,
        rejected_count: copied.map_or(0, |copied| copied.rejected_count),
        rejected_codes: codes.into_iter().map(str::to_owned).collect(),
        changed_since_count: result.changed_since_count,
        mismatch_count: result.mismatch_count,
        equal_after_loss_count: result.equal_after_loss_count,
        losses: losses(result, copied),
        digests: PlacesSection {
            extracted: digests.extracted.as_ref().map(place),
            transformed: digests.transformed.as_ref().map(place),
            read_back: digests.read_back.as_ref().map(place),
        },
        snapshots: snapshots(copied, digests),
    };
    section.verdict = match result.comparison {
        Comparison::Equal | Comparison::Undecided => section.verdict_of_counts(),
        // The counts leave out what is no record: a field that the sink lacks.
        Comparison::Different => Verdict::Different,
    };
    Ok(section)
}

fn snapshots(copied: Option<&CollectionResult>, digests: &CollectionDigests) -> Option<SnapshotsSection> {
    let several = |read: &SnapshotsRead| match read.are_several() {
        true => read.names().to_vec(),
        false => Vec::new(),
    };
    let section = SnapshotsSection {
        // Those of one collection are named too where others were read at another one.
        copied: copied
            .map(|copied| copied.snapshots.names().to_vec())
            .unwrap_or_default(),
        compared: several(&digests.snapshots),
    };
    (section != SnapshotsSection::default()).then_some(section)
}

/// All that were declared, each with the number of records that it has changed.
fn losses(result: &VerificationResult, copied: Option<&CollectionResult>) -> Vec<LossSection> {
    let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for declared in copied.iter().flat_map(|copied| &copied.losses) {
        counts.insert((&declared.field, loss_name(declared.loss)), 0);
    }
    for counted in &result.losses {
        *counts
            .entry((&counted.field, loss_name(counted.loss)))
            .or_default() += counted.record_count;
    }
    counts
        .into_iter()
        .map(|((field, loss), record_count)| LossSection {
            field: field.to_owned(),
            loss,
            record_count,
        })
        .collect()
}

fn loss_name(loss: Loss) -> String {
    match loss {
        Loss::TruncateTimestamp { unit } => format!("{}({})", loss.name(), word(&unit)),
        other => other.name().to_owned(),
    }
}

fn place(digest: &PlaceDigest) -> PlaceSection {
    let part_count = digest.partitions.len();
    // By numbers: what a reader calls its parts may hold the values of keys between which they lie.
    let partitions = (1_u64..)
        .zip(&digest.partitions)
        .map(|(number, part)| PartitionSection {
            partition: format!("{number} of {part_count}"),
            record_count: part.record_count,
            sum: part.sum.clone(),
            xor: part.xor.clone(),
        });
    PlaceSection {
        record_count: digest.record_count,
        sum: digest.sum.clone(),
        xor: digest.xor.clone(),
        root: digest.root.clone(),
        partitions: partitions.collect(),
    }
}

fn plugins(report: &TaskReport, facts: &Facts<'_>) -> Result<Vec<PluginSection>, String> {
    let section = |used: &crate::report::PluginUsed| {
        let library = facts
            .libraries
            .iter()
            .find(|library| library.role == used.role && library.name == used.name);
        let library = library.ok_or_else(|| format!("the file of plugin `{}` is not known", used.name))?;
        Ok(PluginSection {
            role: used.role.name().to_owned(),
            name: used.name.clone(),
            version: used.version.clone(),
            sha256: library.sha256.clone(),
        })
    };
    report.plugins.iter().map(section).collect()
}

fn rules(report: &TaskReport) -> Vec<RuleSection> {
    let rules = report.summary.rules.iter().map(|rule| RuleSection {
        name: rule.name.clone(),
        moment: word(&rule.moment),
        state: word(&rule.state),
        violation_count: rule.violation_count,
    });
    rules.collect()
}

fn reference(result: &ReferenceResult) -> ReferenceSection {
    ReferenceSection {
        collection: result.collection.clone(),
        fields: result.fields.clone(),
        parent: result.parent.clone(),
        state: word(&result.state),
        orphan_count: result.orphan_count,
    }
}

/// The name of a unit of an enum, as everywhere in JSON.
fn word(unit: &impl Serialize) -> String {
    match serde_json::to_value(unit) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
