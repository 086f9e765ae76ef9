//! What a run leaves in the sink before its first record: which collections it copies, in which parts, and from what.
//!
//! It is the cursor of a lane of its own, the run's lane, so that a later run finds it wherever it is started, and a run that lost its
//! lanes is fenced off as a whole. The host alone reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::sink::LaneId;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Partition};

/// The newest version of the manifest's form: collections whose lanes were begun anew by themselves. Any other one is written as
/// version 1, which programs read that know of no such collections.
pub const LANE_FORMAT: u32 = 2;
/// The version without such collections.
const FIRST_FORMAT: u32 = 1;

/// How the run's lane is called in reports.
pub const RUN_LANE_LABEL: &str = "run";

/// The name of the run's own lane: that of no collection.
pub fn run_lane(job: &str, source: &str) -> LaneId {
    LaneId {
        job: job.to_owned(),
        source: source.to_owned(),
        collection: String::new(),
        partition: Cursor::start(),
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// At most [`LANE_FORMAT`].
    pub format: u32,
    /// The run that began the copy, or the one that it goes back to if that had copied nothing.
    pub run_id: String,
    /// The run that began its lanes.
    pub begun_by: String,
    /// When, RFC 3339.
    pub begun_at: String,
    /// What the copy depends on, by name, each as a digest or a version: the job's parts, the source, the plugins.
    pub made_from: BTreeMap<String, String>,
    /// The id of the stage that its records come from; empty if they come from the source at once. The cursors of its lanes mean
    /// something there alone.
    pub stage: String,
    /// The collections, in the order of the plan.
    pub collections: Vec<ManifestCollection>,
}

/// A collection of the copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestCollection {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// Digest of the schema that the sink was prepared for.
    pub schema: String,
    /// Its parts.
    pub partitions: Vec<Partition>,
    /// Whether each part is gone over twice.
    pub has_second_pass: bool,
    /// Digest of what decides whether its records, written once more, replace those that this copy has written: their key above all.
    /// Empty if that is not known, as of a copy that a program has begun that did not keep it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub written_by: String,
    /// In whose name its lanes were begun, if they were begun anew since the others were; empty if not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub begun_by: String,
}

/// Something that is not as it was when the copy began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What, as in [`Manifest::made_from`], or a collection.
    pub what: String,
    /// As it was; empty if it was not there.
    pub before: String,
    /// As it is; empty if it is gone.
    pub now: String,
}

impl Manifest {
    /// In whose name the lanes of `collection` were begun.
    pub fn begun_by<'a>(&'a self, collection: &'a ManifestCollection) -> &'a str {
        match collection.begun_by.as_str() {
            "" => &self.begun_by,
            own => own,
        }
    }

    /// As the cursor of the run's lane, in the oldest form that has room for it.
    ///
    /// # Errors
    /// `plugin.internal` if it cannot be written, which is a defect.
    pub fn to_cursor(&self) -> Result<Cursor, Error> {
        let is_first = self.collections.iter().all(|of| of.begun_by.is_empty());
        let current = Self {
            format: if is_first { FIRST_FORMAT } else { LANE_FORMAT },
            ..self.clone()
        };
        serde_json::to_vec(&current).map(Cursor).map_err(|error| {
            Error::internal("the manifest of the copy could not be written").with_cause(&error)
        })
    }

    /// From the cursor of the run's lane; `None` if the lane is new.
    ///
    /// # Errors
    /// `resume.damaged` if it is not one of ours, `resume.newer` if a newer program wrote it.
    pub fn of_cursor(cursor: &Cursor) -> Result<Option<Self>, Error> {
        if cursor.is_start() {
            return Ok(None);
        }
        // The number alone comes first: what a newer program wrote may have any form beside it.
        let numbered: Numbered =
            serde_json::from_slice(&cursor.0).map_err(|error| damaged().with_cause(&error))?;
        if numbered.format > LANE_FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "resume.newer",
                format!(
                    "what the sink keeps of the earlier run has format {}, this program knows formats up to {LANE_FORMAT}",
                    numbered.format
                ),
            )
            .with_help("resume with the newer program"));
        }
        if numbered.format == 0 {
            return Err(damaged());
        }
        let manifest = serde_json::from_slice(&cursor.0).map_err(|error| damaged().with_cause(&error))?;
        Ok(Some(manifest))
    }

    /// What differs between the copy that was begun and the one that would be begun now; parts are not compared, since the old
    /// ones hold.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut names: Vec<&String> = self.made_from.keys().chain(now.made_from.keys()).collect();
        names.sort();
        names.dedup();
        let value = |of: &Self, name: &str| of.made_from.get(name).cloned().unwrap_or_default();
        for name in names {
            let (before, after) = (value(self, name), value(now, name));
            if before != after {
                differences.push(Difference {
                    what: name.clone(),
                    before,
                    now: after,
                });
            }
        }
        let of =
            |manifest: &Self, name: &str| manifest.collections.iter().find(|of| of.source == name).cloned();
        let names = self.collections.iter().chain(&now.collections);
        let mut names: Vec<&String> = names.map(|of| &of.source).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (before, after) = (of(self, name), of(now, name));
            let compared = |of: &Option<ManifestCollection>| {
                of.as_ref()
                    .map(|of| (of.sink.clone(), of.schema.clone(), of.has_second_pass))
            };
            if compared(&before) != compared(&after) {
                let described =
                    |of: &Option<ManifestCollection>| of.as_ref().map(described).unwrap_or_default();
                differences.push(Difference {
                    what: format!("collection `{name}`"),
                    before: described(&before),
                    now: described(&after),
                });
            }
        }
        differences
    }
}

/// As much of a manifest as every version has.
#[derive(Deserialize)]
struct Numbered {
    #[serde(default)]
    format: u32,
}

fn damaged() -> Error {
    Error::new(
        ErrorKind::Integrity,
        "resume.damaged",
        "what the sink keeps of the earlier run cannot be read",
    )
    .with_help("start the job anew with `whimbrel run`")
}

/// Digits of a schema's digest that people see; two that differ are told apart by as many.
const SCHEMA_DIGITS: usize = 12;

fn described(collection: &ManifestCollection) -> String {
    format!(
        "into {}, schema {}{}",
        collection.sink,
        collection
            .schema
            .get(..SCHEMA_DIGITS)
            .unwrap_or(&collection.schema),
        if collection.has_second_pass {
            ", in two passes"
        } else {
            ""
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(source: &str) -> ManifestCollection {
        ManifestCollection {
            source: source.to_owned(),
            sink: format!("{source}_copy"),
            schema: "0123456789abcdef".to_owned(),
            partitions: vec![
                Partition::whole(),
                Partition {
                    descriptor: Cursor(vec![0, 255, 7]),
                    label: "id 1..\u{1f426}".to_owned(),
                    estimate: Default::default(),
                },
            ],
            has_second_pass: source == "tree",
            written_by: "fedcba9876543210".to_owned(),
            begun_by: String::new(),
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            format: FIRST_FORMAT,
            run_id: "20260102T030405Z-0011aabb".to_owned(),
            begun_by: "20260103T030405Z-0011aabb".to_owned(),
            begun_at: "2026-01-02T03:04:05Z".to_owned(),
            made_from: BTreeMap::from([
                ("job".to_owned(), "aa".to_owned()),
                ("plugin `x`".to_owned(), "1.2.0".to_owned()),
            ]),
            stage: "20260102T030405Z-0011aabb-00".to_owned(),
            collections: vec![collection("people"), collection("tree")],
        }
    }

    #[test]
    fn comes_back_from_the_lane_as_it_was() {
        let cursor = manifest().to_cursor().unwrap();
        assert_eq!(Manifest::of_cursor(&cursor).unwrap(), Some(manifest()));
        assert_eq!(Manifest::of_cursor(&Cursor::start()).unwrap(), None);
        // Whoever makes one need not name the format.
        let unnumbered = Manifest {
            format: 0,
            ..manifest()
        };
        assert_eq!(unnumbered.to_cursor().unwrap(), cursor);
    }

    #[test]
    fn a_collection_that_was_begun_anew_by_itself_is_read_by_no_older_program() {
        let mut anew = manifest();
        anew.collections[0].begun_by = "20260104T030405Z-0011aabb/7".to_owned();
        let cursor = anew.to_cursor().unwrap();
        let found = Manifest::of_cursor(&cursor).unwrap().unwrap();
        assert_eq!((found.format, &found.collections), (2, &anew.collections));
        assert_eq!(
            found.begun_by(&found.collections[0]),
            "20260104T030405Z-0011aabb/7"
        );
        assert_eq!(found.begun_by(&found.collections[1]), found.begun_by);
    }

    #[test]
    fn what_is_not_one_is_damaged() {
        let whole = manifest().to_cursor().unwrap().0;
        let cut = whole[..whole.len() - 9].to_vec();
        let other = b"cursor of a source".to_vec();
        let wrong = br#"{"format":1,"collections":7}"#.to_vec();
        for octets in [
            cut,
            other,
            wrong,
            b"{}".to_vec(),
            b"7".to_vec(),
            vec![0xff],
            b"[]".to_vec(),
        ] {
            let error = Manifest::of_cursor(&Cursor(octets)).unwrap_err();
            assert_eq!(
                (error.code.as_ref(), error.kind),
                ("resume.damaged", ErrorKind::Integrity)
            );
            assert!(error.help.is_some());
        }
    }

    #[test]
    fn one_of_a_newer_program_is_named_as_such_whatever_its_form() {
        for text in [
            r#"{"format":3}"#,
            r#"{"format":9,"collections":{"as":"a map"},"run_id":7}"#,
        ] {
            let error = Manifest::of_cursor(&Cursor(text.as_bytes().to_vec())).unwrap_err();
            assert_eq!(
                (error.code.as_ref(), error.kind),
                ("resume.newer", ErrorKind::Unsupported)
            );
        }
        // Members that this program does not know are passed over.
        let text = r#"{"format":1,"run_id":"r","colour":"grey"}"#;
        let found = Manifest::of_cursor(&Cursor(text.as_bytes().to_vec()))
            .unwrap()
            .unwrap();
        assert_eq!(found.run_id, "r");
        // Those that an older program did not write are not known.
        let text = r#"{"format":2,"collections":[{"source":"a","schema":"s","begun_by":"r/1"}]}"#;
        let found = Manifest::of_cursor(&Cursor(text.as_bytes().to_vec()))
            .unwrap()
            .unwrap();
        assert_eq!(found.collections[0].written_by, "");
    }

    #[test]
    fn each_difference_is_named_once_and_parts_are_none() {
        let before = manifest();
        let mut now = manifest();
        now.run_id = "another".to_owned();
        now.begun_at = "later".to_owned();
        now.collections.reverse();
        now.collections[0].partitions.clear();
        // The schema's digest tells of another key already; of an older program's copy nothing is known.
        now.collections[0].written_by.clear();
        assert_eq!(before.differences(&now), []);

        now.made_from.insert("job".to_owned(), "bb".to_owned());
        now.made_from.remove("plugin `x`");
        now.made_from.insert("source".to_owned(), "cc".to_owned());
        now.collections[0].schema = "ba98765432100000".to_owned();
        now.collections[1].source = "places".to_owned();
        let found: Vec<_> = before
            .differences(&now)
            .into_iter()
            .map(|found| (found.what, found.before, found.now))
            .collect();
        let schema = "schema 0123456789ab";
        let expected = [
            ("job", "aa".to_owned(), "bb".to_owned()),
            ("plugin `x`", "1.2.0".to_owned(), String::new()),
            ("source", String::new(), "cc".to_owned()),
            (
                "collection `people`",
                format!("into people_copy, {schema}"),
                String::new(),
            ),
            (
                "collection `places`",
                String::new(),
                format!("into people_copy, {schema}"),
            ),
            (
                "collection `tree`",
                format!("into tree_copy, {schema}, in two passes"),
                "into tree_copy, schema ba9876543210, in two passes".to_owned(),
            ),
        ];
        assert_eq!(
            found,
            expected.map(|(what, before, now)| (what.to_owned(), before, now))
        );
    }

    #[test]
    fn the_lane_of_the_run_is_that_of_no_collection() {
        let lane = run_lane("job", "source");
        assert_eq!((lane.job.as_str(), lane.source.as_str()), ("job", "source"));
        assert!(lane.collection.is_empty() && lane.partition.is_start());
    }
}
