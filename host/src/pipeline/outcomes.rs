//! What all writers of a run have met with: rejected records and failed collections.
//! It counts and keeps the first ones; what follows from them is decided by writers and orchestrator.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Field};

use super::refused::Refused;
use crate::events::{Emitter, Event, Failure, Phase, RefusedBefore};
use crate::verification::LeftOut;
use crate::verification::side::Digest;

/// Rejected records that are kept for the summary.
pub const REJECTED_SHOWN_MAX: usize = 50;

/// In place of a commit, for records that were refused on the way into a stage: no commit of the sink decides about them.
pub const NO_COMMIT: u64 = 0;

/// Where records were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The phase that refused them.
    pub stage: Phase,
    /// Their partition, as a person reads it.
    pub partition: String,
    /// The commit of the partition's lane that will leave them out: one more than the lane has. Or [`NO_COMMIT`].
    pub seq: u64,
}

/// A lane as a run has found it.
#[derive(Debug, Clone, Copy)]
pub struct ReachedLane<'a> {
    /// The collection, in the source.
    pub collection: &'a str,
    /// Its partition, as a person reads it.
    pub partition: &'a str,
    /// The commits of it so far.
    pub seq: u64,
}

/// Shared by all writers of a run.
#[derive(Debug, Default)]
pub struct Outcomes {
    errors_max: u64,
    pass: Pass,
    state: Arc<Mutex<State>>,
}

/// Which pass over the records this is; some collections are written in two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pass {
    #[default]
    Only,
    First,
    Second,
}

#[derive(Debug, Default)]
struct State {
    rejected_count: u64,
    rejected: Vec<(String, RejectedRecord)>,
    failed: BTreeMap<usize, (String, Failure)>,
    grown: BTreeMap<usize, Collection>,
    left_out: BTreeMap<usize, LeftOut>,
    /// Digests of the records that the first of two passes has rejected.
    seen: HashSet<[u8; 32]>,
}

impl State {
    fn count(&mut self, collection: &str, record: RejectedRecord) {
        self.rejected_count += 1;
        if self.rejected.len() < REJECTED_SHOWN_MAX {
            let record = RejectedRecord { data: None, ..record };
            self.rejected.push((collection.to_owned(), record));
        }
    }
}

impl Outcomes {
    /// Up to `errors_max` rejected records do not end the run.
    pub fn new(errors_max: u64) -> Self {
        Self {
            errors_max,
            ..Self::default()
        }
    }

    /// The same for the first of two passes: it remembers what it rejects.
    pub fn first_of_two(&self) -> Self {
        self.of_pass(Pass::First)
    }

    /// The same for the second of two passes: what the first one has rejected is not told again.
    pub fn second_of_two(&self) -> Self {
        self.of_pass(Pass::Second)
    }

    fn of_pass(&self, pass: Pass) -> Self {
        Self {
            errors_max: self.errors_max,
            pass,
            state: Arc::clone(&self.state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces records of `collection`, by number and name, that were rejected; how many of them were not told before.
    pub fn reject(
        &self,
        emitter: &Emitter,
        (index, collection): (usize, &str),
        refusal: &Refusal,
        records: Vec<impl Into<Refused>>,
    ) -> u64 {
        let mut told = 0;
        for refused in records {
            let Refused { record, digest } = refused.into();
            if !self.is_new(collection, &record.record) {
                continue;
            }
            told += 1;
            emitter.emit(&Event::Rejected {
                collection: collection.to_owned(),
                record: record.clone(),
                stage: refusal.stage,
                partition: refusal.partition.clone(),
                seq: refusal.seq,
                digest: digest.map(|digest| digits(&digest)),
            });
            let mut state = self.state();
            state.count(collection, record);
            if digest.is_none() {
                state.left_out.entry(index).or_default().add_unseen();
            }
        }
        told
    }

    /// Takes back what [`Self::reject`] has announced; how many records these are. What is announced instead says that they are not
    /// rejected.
    pub fn take_back(&self, (index, collection): (usize, &str), refused: &[Refused]) -> u64 {
        let mut taken = 0;
        for one in refused {
            let digest = label_digest(collection, &one.record.record);
            let mut state = self.state();
            let was_told = match self.pass {
                Pass::Second => !state.seen.contains(&digest),
                Pass::First => state.seen.remove(&digest),
                Pass::Only => true,
            };
            if !was_told {
                continue;
            }
            taken += 1;
            state.rejected_count = state.rejected_count.saturating_sub(1);
            let is_it = |(of, shown): &(String, RejectedRecord)| {
                of == collection && shown.record == one.record.record && shown.code == one.record.code
            };
            if let Some(place) = state.rejected.iter().position(is_it) {
                state.rejected.remove(place);
            }
            if one.digest.is_none() {
                state.left_out.entry(index).or_default().remove_unseen();
            }
        }
        taken
    }

    /// Takes over what earlier runs of a copy have refused in a partition whose lane has reached `seq`: all that is `refused` for
    /// a commit that was made. Nothing is announced. Answers how many records these are.
    pub fn restore_refused(&self, index: usize, lane: &ReachedLane<'_>, refused: &[RefusedBefore]) -> u64 {
        let made = refused.iter().filter(|one| {
            one.collection == lane.collection && one.partition == lane.partition && one.seq <= lane.seq
        });
        let (mut restored, mut digests) = (0, Vec::new());
        for one in made {
            let digest = one.digest.as_deref().and_then(of_digits);
            digests.extend(digest);
            if !self.is_new(&one.collection, &one.record) {
                continue;
            }
            restored += 1;
            if digest.is_none() {
                self.state().left_out.entry(index).or_default().add_unseen();
            }
            let record = RejectedRecord {
                record: one.record.clone(),
                row: None,
                code: one.code.clone(),
                message: one.message.clone(),
                data: None,
            };
            self.state().count(&one.collection, record);
        }
        self.leave_out(index, &digests);
        restored
    }

    fn is_new(&self, collection: &str, record: &str) -> bool {
        if self.pass == Pass::Only {
            return true;
        }
        let digest = label_digest(collection, record);
        let mut state = self.state();
        match self.pass {
            Pass::Second => !state.seen.contains(&digest),
            Pass::First | Pass::Only => {
                state.seen.insert(digest);
                true
            }
        }
    }

    /// Records of collection number `index` are not in the sink, and the commit that leaves them out is durable.
    pub fn leave_out(&self, index: usize, digests: &[Digest]) {
        if digests.is_empty() {
            return;
        }
        let mut state = self.state();
        let left_out = state.left_out.entry(index).or_default();
        digests.iter().for_each(|digest| left_out.add(*digest));
    }

    /// The records that the sink has refused, by the number of their collection.
    pub fn left_out(&self) -> BTreeMap<usize, LeftOut> {
        self.state().left_out.clone()
    }

    /// Takes over what an earlier run has counted of the same records, without announcing it again.
    pub fn restore(&self, count: u64, shown: &[(String, RejectedRecord)]) {
        let mut state = self.state();
        state.rejected_count += count;
        state.rejected.extend(shown.iter().cloned());
    }

    /// So many records of collection number `index` did not come as far as a stage that an earlier run has filled.
    pub fn restore_unseen(&self, index: usize, count: u64) {
        let mut state = self.state();
        for _ in 0..count {
            state.left_out.entry(index).or_default().add_unseen();
        }
    }

    /// The error that ends the run, if with `pending` further ones too many records are rejected.
    pub fn too_many(&self, pending: u64) -> Option<Error> {
        // Of those that are pending in a second pass nobody knows yet whether the first one has told them.
        let pending = if self.pass == Pass::Second { 0 } else { pending };
        let total = self.state().rejected_count + pending;
        (total > self.errors_max).then(|| {
            Error::new(
                ErrorKind::InvalidData,
                "run.too_many_rejected",
                format!("{total} records were rejected, {} are allowed", self.errors_max),
            )
            .with_help("the summary lists them; `import.max_errors` allows more")
        })
    }

    /// Rejected records in all, and the first of them.
    pub fn rejected(&self) -> (u64, Vec<(String, RejectedRecord)>) {
        let state = self.state();
        (state.rejected_count, state.rejected.clone())
    }

    /// Announces that collection number `index` has failed; only its first failure counts.
    pub fn fail(&self, emitter: &Emitter, index: usize, name: &str, failure: Failure) {
        let mut state = self.state();
        if state.failed.contains_key(&index) {
            return;
        }
        emitter.emit(&Event::CollectionFailed {
            collection: name.to_owned(),
            failure: Box::new(failure.clone()),
        });
        state.failed.insert(index, (name.to_owned(), failure));
    }

    /// Collection number `index` has new fields: the sink holds it like this from now on. Answers that with what other
    /// partitions have brought.
    ///
    /// # Errors
    /// `source.schema_changed` if two partitions have a field with two types.
    pub fn grow(&self, index: usize, collection: &Collection) -> Result<Collection, Error> {
        let mut state = self.state();
        let grown = state.grown.entry(index).or_insert_with(|| collection.clone());
        for field in &collection.schema.fields {
            let known = grown
                .schema
                .index_of(&field.name)
                .map(|at| &grown.schema.fields[at]);
            match known {
                None => grown.schema.fields.push(field.clone()),
                Some(known) if known.record_type != field.record_type => {
                    return Err(two_types(&collection.name, known, field));
                }
                Some(_) => {}
            }
        }
        grown.schema.version = grown.schema.version.max(collection.schema.version);
        for loss in &collection.losses {
            if !grown.losses.contains(loss) {
                grown.losses.push(loss.clone());
            }
        }
        Ok(grown.clone())
    }

    /// The collections that have new fields, as the sink holds them now.
    pub fn grown(&self) -> BTreeMap<usize, Collection> {
        self.state().grown.clone()
    }

    /// Whether collection number `index` has failed.
    pub fn has_failed(&self, index: usize) -> bool {
        self.state().failed.contains_key(&index)
    }

    /// The name of collection number `index`, if it has failed.
    pub fn name_of_failed(&self, index: usize) -> Option<String> {
        self.state().failed.get(&index).map(|(name, _)| name.clone())
    }

    /// The failure of the run as a whole, if collections have failed: the first one's, naming all.
    pub fn failure(&self) -> Option<Failure> {
        let state = self.state();
        let (_, (_, first)) = state.failed.first_key_value()?;
        let names: Vec<&str> = state.failed.values().map(|(name, _)| name.as_str()).collect();
        let mut failure = first.clone();
        failure.error.message = format!(
            "{} of the collections failed (`{}`); the first error was: {}",
            names.len(),
            names.join("`, `"),
            failure.error.message
        );
        Some(failure)
    }
}

/// By what both passes know a record.
fn label_digest(collection: &str, record: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(collection.len() as u64).to_be_bytes());
    hasher.update(collection.as_bytes());
    hasher.update(record.as_bytes());
    *hasher.finalize().as_bytes()
}

/// As the state keeps it.
fn digits(digest: &Digest) -> String {
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What [`digits`] has written; none if it is anything else.
fn of_digits(text: &str) -> Option<Digest> {
    let is_digest = text.len() == 2 * size_of::<Digest>() && text.is_ascii();
    let mut digest = Digest::default();
    for (number, octet) in digest.iter_mut().enumerate().filter(|_| is_digest) {
        *octet = u8::from_str_radix(&text[2 * number..2 * number + 2], 16).ok()?;
    }
    is_digest.then_some(digest)
}

fn two_types(collection: &str, one: &Field, other: &Field) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        "source.schema_changed",
        format!(
            "the new field `{}` of `{collection}` is `{}` in one partition and `{}` in another",
            one.name, one.record_type, other.record_type
        ),
    )
    .with_help("have the source look at all records beforehand, or read with one partition")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitter() -> Emitter {
        Emitter::new(Box::new(std::io::sink()))
    }

    fn refusal() -> Refusal {
        Refusal {
            stage: Phase::Import,
            partition: "p".into(),
            seq: 4,
        }
    }

    #[test]
    fn what_earlier_runs_refused_counts_once_its_commit_was_made() {
        let digest: Digest = std::array::from_fn(|octet| octet as u8 * 17);
        let before = |record: &str, partition: &str, seq, digest: Option<Digest>| RefusedBefore {
            collection: "c".into(),
            partition: partition.into(),
            seq,
            record: record.into(),
            code: "a.b".into(),
            message: "m".into(),
            digest: digest.as_ref().map(digits),
        };
        let refused = [
            before("made", "p", 5, Some(digest)),
            before("by the source", "p", 1, None),
            before("not made", "p", 6, Some([1; 16])),
            before("elsewhere", "q", 5, Some([2; 16])),
        ];
        let outcomes = Outcomes::new(2);
        let lane = ReachedLane {
            collection: "c",
            partition: "p",
            seq: 5,
        };
        assert_eq!(outcomes.restore_refused(3, &lane, &refused), 2);
        let (count, shown) = outcomes.rejected();
        let names: Vec<&str> = shown.iter().map(|(_, record)| record.record.as_str()).collect();
        assert_eq!((count, names), (2, vec!["made", "by the source"]));
        let mut left_out = LeftOut::default();
        left_out.add(digest);
        // That of the source is known by its number alone.
        left_out.add_unseen();
        assert_eq!(outcomes.left_out(), BTreeMap::from([(3, left_out)]));
        assert!(outcomes.too_many(0).is_none());
        assert!(
            outcomes.too_many(1).is_some(),
            "they count towards what a run bears"
        );
    }

    #[test]
    fn digests_read_back_and_nothing_else_is_one() {
        let digest: Digest = std::array::from_fn(|octet| 255 - octet as u8);
        assert_eq!(of_digits(&digits(&digest)), Some(digest));
        for text in ["", "00", &"g".repeat(32), &"é".repeat(16), &"0".repeat(33)] {
            assert_eq!(of_digits(text), None, "{text}");
        }
    }

    #[test]
    fn data_of_rejected_records_is_announced_and_not_kept_in_the_summary() {
        let outcomes = Outcomes::new(1);
        let record = RejectedRecord {
            record: "1".into(),
            row: None,
            code: "a.b".into(),
            message: "m".into(),
            data: Some("secret".into()),
        };
        outcomes.reject(&emitter(), (0, "c"), &refusal(), vec![record]);
        let (count, shown) = outcomes.rejected();
        assert_eq!((count, shown[0].1.data.clone()), (1, None));
        assert!(outcomes.too_many(0).is_none());
        assert!(outcomes.too_many(1).is_some());
    }

    #[test]
    fn partitions_that_grow_apart_are_joined_and_one_field_has_one_type() {
        use whimbrel_plugin_api::{RecordType, Schema};
        let outcomes = Outcomes::new(0);
        let with = |name: &str, record_type| {
            let fields = vec![Field::new("id", RecordType::INT64), Field::new(name, record_type)];
            Collection::new("c", Schema::new(fields))
        };
        outcomes.grow(0, &with("a", RecordType::Text)).unwrap();
        let both = outcomes.grow(0, &with("b", RecordType::Bool)).unwrap();
        let names: Vec<&str> = both
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(names, ["id", "a", "b"]);
        assert_eq!(outcomes.grown()[&0], both);
        let error = outcomes.grow(0, &with("a", RecordType::Bool)).unwrap_err();
        assert_eq!(error.code, "source.schema_changed");
        assert!(
            error
                .message
                .contains("`a` of `c` is `text` in one partition and `bool`"),
            "{}",
            error.message
        );
    }

    #[test]
    fn the_run_fails_with_the_first_failure_and_all_names() {
        let outcomes = Outcomes::new(0);
        assert!(outcomes.failure().is_none());
        let failure = |message: &str| Failure::from(Error::new(ErrorKind::Unavailable, "x.y", message));
        outcomes.fail(&emitter(), 2, "b", failure("second"));
        outcomes.fail(&emitter(), 1, "a", failure("first"));
        outcomes.fail(&emitter(), 1, "a", failure("later"));
        let message = outcomes.failure().unwrap().error.message;
        assert_eq!(
            message,
            "2 of the collections failed (`a`, `b`); the first error was: first"
        );
    }
}
