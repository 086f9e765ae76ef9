//! What a certificate says. These types are its form on disk: any change of them is a new format number.
//!
//! Not the types of [`crate::events`], which may grow. Texts in the place of enums where the lists are not closed. No values
//! of records, nothing of a config, and no fractions, since numbers with a point have several spellings.

use serde::{Deserialize, Serialize};

/// The number of this form. The second one has numbers in the place of the names of parts, says whether a comparison was gone
/// on with, and counts the records that the source could not deliver. The third one names the snapshots of the source if there
/// were several.
pub const FORMAT: u64 = 3;
/// What is written at least; a certificate that names no snapshots has the second form, so that older programs can check it.
const FORMAT_WRITTEN_MIN: u64 = 2;

/// All that is certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The number of the form.
    pub format: u64,
    /// The version of the program that made it.
    pub whimbrel_version: String,
    /// What both sides came to.
    pub verdict: Verdict,
    /// The digest of all collections, 64 hexadecimal digits.
    pub root: String,
    /// The run or verification that has compared.
    pub run: RunSection,
    /// The job.
    pub job: JobSection,
    /// The plugins that took part, in the order in which they were loaded.
    pub plugins: Vec<PluginSection>,
    /// The collections, in the order of the plan.
    pub collections: Vec<CollectionSection>,
    /// The job's rules.
    pub rules: Vec<RuleSection>,
    /// References within the sink.
    pub references: Vec<ReferenceSection>,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both sides have the same records.
    Equal,
    /// Records were changed meanwhile, or a rule could not be looked at.
    Undecided,
    /// Something differs.
    Different,
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Equal => "both sides are equal",
            Self::Undecided => "not all could be decided",
            Self::Different => "the sides differ",
        }
    }
}

/// The run or verification that has compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSection {
    /// Its id.
    pub id: String,
    /// `run`, `resume` or `verify`.
    pub command: String,
    /// When it began, RFC 3339 in UTC with milliseconds; if it has gone on with an earlier comparison, when that one began.
    pub begun_at: String,
    /// When the comparison had ended.
    pub verified_at: String,
    /// What it has gone on with, if it has not read all records itself. From format 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_on_with: Option<GoneOnSection>,
}

impl RunSection {
    /// When the records were read, in words, if they were not all read by one program in one go.
    pub fn gone_on_in_words(&self) -> Option<String> {
        let earlier = self.gone_on_with.as_ref()?;
        Some(format!(
            "gone on with after an interruption: some parts were read from {} to {} and not again, the others from {} to {}; \
             what was changed in a part after it was read is not in its digest",
            self.begun_at, earlier.read_until, earlier.gone_on_at, self.verified_at
        ))
    }
}

/// An earlier comparison that was interrupted, and of which this one has taken the parts that were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneOnSection {
    /// When it noted for the last time what it had read. It began when the run section says so.
    pub read_until: String,
    /// When it was gone on with.
    pub gone_on_at: String,
}

/// The job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSection {
    /// Its name.
    pub name: String,
    /// SHA-256 of the job file, 64 hexadecimal digits.
    pub sha256: String,
}

/// A plugin that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSection {
    /// As what.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the file of the library, 64 hexadecimal digits.
    pub sha256: String,
}

/// A collection and how its comparison ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSection {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// How much was compared: `comprehensive`.
    pub level: String,
    /// What it came to.
    pub verdict: Verdict,
    /// The fields whose values make a record's digest, in their order.
    pub fields: Vec<String>,
    /// Of these, the key.
    pub key: Vec<String>,
    /// Records counted in the source.
    pub source_count: u64,
    /// Records that the source could not deliver or that a transform refused, so that they are in no digest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_unreadable_count: u64,
    /// Records counted in the sink.
    pub sink_count: u64,
    /// Records whose every field was compared.
    pub compared_count: u64,
    /// Records of the source that share their key with another one.
    pub duplicate_key_count: u64,
    /// Records that are not in the sink since one side has refused them, and that were passed over.
    pub left_out_count: u64,
    /// Records that were refused while copying.
    pub rejected_count: u64,
    /// Why, as codes; of the first records of a run.
    pub rejected_codes: Vec<String>,
    /// Records that were changed meanwhile.
    pub changed_since_count: u64,
    /// Differences.
    pub mismatch_count: u64,
    /// Records with at least one value that a declared loss has changed; equal but for that.
    pub equal_after_loss_count: u64,
    /// The declared losses.
    pub losses: Vec<LossSection>,
    /// The digests.
    pub digests: PlacesSection,
    /// At which snapshots of the source its records were read, if the copy or the comparison is one of several. From format 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsSection>,
}

/// Snapshots of the source, as it names them, in the order in which they were met. Records that were changed between them may have
/// been read as they were at any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsSection {
    /// At which the copy has read the records; none unless the collections of the copy were read at several.
    pub copied: Vec<String>,
    /// At which the records were read of which the source's digests are made; none unless these were several.
    pub compared: Vec<String>,
}

/// A declared loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossSection {
    /// The field, as the sink calls it.
    pub field: String,
    /// Its stable name, such as `nan_to_null` or `truncate_timestamp(milliseconds)`.
    pub loss: String,
    /// Records of the source whose value it changes.
    pub record_count: u64,
}

/// The digests of a collection at the three places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacesSection {
    /// As the source gave the records.
    pub extracted: Option<PlaceSection>,
    /// As they were to be in the sink.
    pub transformed: Option<PlaceSection>,
    /// As they were read back from the sink.
    pub read_back: Option<PlaceSection>,
}

impl PlacesSection {
    /// Each by its name, in the order of a record's way.
    pub fn named(&self) -> [(&'static str, Option<&PlaceSection>); 3] {
        [
            ("extracted", self.extracted.as_ref()),
            ("transformed", self.transformed.as_ref()),
            ("read back", self.read_back.as_ref()),
        ]
    }
}

/// The digest of a collection at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSection {
    /// Records.
    pub record_count: u64,
    /// The sum of their digests modulo 2^128, 32 hexadecimal digits.
    pub sum: String,
    /// The digests joined by exclusive or, 32 hexadecimal digits.
    pub xor: String,
    /// BLAKE3 over all buckets, 64 hexadecimal digits.
    pub root: String,
    /// The parts that were read.
    pub partitions: Vec<PartitionSection>,
}

/// The digest of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSection {
    /// Its number, as `1 of 4`: what the reader calls it may hold values of keys. In format 1, that name.
    pub partition: String,
    /// Records.
    pub record_count: u64,
    /// As of a place.
    pub sum: String,
    /// As of a place.
    pub xor: String,
}

/// A rule of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSection {
    /// Its name.
    pub name: String,
    /// `before` or `after`.
    pub moment: String,
    /// `held`, `broken` or `unchecked`.
    pub state: String,
    /// Records that break it.
    pub violation_count: u64,
}

/// A reference within the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceSection {
    /// The collection whose records point.
    pub collection: String,
    /// Its fields that point.
    pub fields: Vec<String>,
    /// The collection pointed to.
    pub parent: String,
    /// Whether it was looked at: `searched`, `guaranteed` or `skipped`.
    pub state: String,
    /// Records that point to nothing.
    pub orphan_count: u64,
}

impl Body {
    /// The first form that has all its members.
    pub fn format_min(&self) -> u64 {
        let has_unreadable = self
            .collections
            .iter()
            .any(|collection| collection.source_unreadable_count > 0);
        let has_snapshots = self
            .collections
            .iter()
            .any(|collection| collection.snapshots.is_some());
        match self.run.gone_on_with.is_some() || has_unreadable {
            _ if has_snapshots => 3,
            true => 2,
            false => 1,
        }
    }

    /// The form that it is written in.
    pub fn format_written(&self) -> u64 {
        self.format_min().max(FORMAT_WRITTEN_MIN)
    }

    /// What the sections come to by themselves, collection by collection, and the rules.
    pub fn verdict_of_sections(&self) -> Verdict {
        let collections = self.collections.iter().map(|collection| collection.verdict);
        let rules = self.rules.iter().map(|rule| match rule.state.as_str() {
            "held" => Verdict::Equal,
            "broken" => Verdict::Different,
            _ => Verdict::Undecided,
        });
        collections.chain(rules).max().unwrap_or(Verdict::Undecided)
    }
}

/// What is not there is not written, as before there was such a count.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl CollectionSection {
    /// What its counts come to.
    pub fn verdict_of_counts(&self) -> Verdict {
        match (self.mismatch_count, self.changed_since_count) {
            (0, 0) => Verdict::Equal,
            (0, _) => Verdict::Undecided,
            _ => Verdict::Different,
        }
    }
}
