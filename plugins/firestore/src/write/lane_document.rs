//! A lane as documents of `_whimbrel`: what is stored of it, and the writes that change it.
//!
//! One document has all of it, but for a cursor that is too long for that, which goes on in pages of its own, written by the same
//! request. No I/O here. Neighbours: `lanes` reads and takes over, `lane_commit` commits.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{Document, DocumentMask, Value, Write};
use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::sink::{LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Result};

use super::policy::condition;
use super::sending::Sending;
use crate::path::{OWN_COLLECTION, Root};

/// The form of these documents; others are refused.
const FORMAT: i64 = 1;
/// Octets of a cursor that stay in the lane's document, which with all other fields must be less than 1 MiB.
const INLINE_BYTES_MAX: usize = 400_000;
/// Octets of the other values of a document together: names, the partition and the extensions.
const OTHERS_BYTES_MAX: usize = 400_000;
/// Octets of a page; a document holds 1 MiB with its name.
const PAGE_BYTES: usize = 900_000;

/// Records that were written ahead of the checkpoint they belong to, since they did not fit into one request with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// How many, from the first of the transaction on.
    pub(super) count: u64,
    /// Digest of these.
    pub(super) digest: Vec<u8>,
}

/// Where a long cursor goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pages {
    pub(super) count: usize,
    /// Stands in each of them too, and tells them from those of another commit.
    pub(super) mark: String,
}

/// A lane as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Without the cursor where that is in pages.
    pub(super) state: LaneState,
    pub(super) ahead: Ahead,
    pub(super) sending: Sending,
    pub(super) pages: Pages,
    /// The epoch under which it started anew: whoever has a later one goes on with what another session began.
    pub(super) begun_epoch: u64,
    /// Names the call that took it over last, so that this one is known again after a lost answer.
    pub(super) holder: String,
    /// When it was written, which guards the next write.
    pub(super) update_time: Timestamp,
}

/// The path of a lane's document: names of lanes have any length and any letters, a digest has neither.
pub(super) fn path(lane: &LaneId) -> String {
    let mut hasher = blake3::Hasher::new();
    let names = [&lane.job, &lane.source, &lane.collection].map(|name| name.as_bytes());
    for part in names.into_iter().chain([&lane.partition.0[..]]) {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    format!("{OWN_COLLECTION}/lane:{}", hasher.finalize().to_hex())
}

/// The paths of its pages.
pub(super) fn page_paths(lane: &LaneId, pages: &Pages) -> Vec<String> {
    let path = path(lane);
    (0..pages.count).map(|index| page_path(&path, index)).collect()
}

fn page_path(path: &str, index: usize) -> String {
    format!("{path}:{index}")
}

/// Reads the document of `lane`.
///
/// # Errors
/// `firestore.bad_checkpoint` for what this plugin did not write, or a later one did.
pub(super) fn read(lane: &LaneId, mut document: Document) -> Result<Stored> {
    let bad = || {
        Error::new(
            ErrorKind::Integrity,
            "firestore.bad_checkpoint",
            format!(
                "the document `{}` is not the checkpoint that belongs there",
                path(lane)
            ),
        )
        .with_help("look who has changed it; without it, the next run copies everything anew")
    };
    let update_time = document.update_time.take();
    let mut fields = Fields(document.fields);
    let stored = (|| {
        let is_known = fields.int("format")? == FORMAT.unsigned_abs();
        let found = LaneId {
            job: fields.text("job")?,
            source: fields.text("source")?,
            collection: fields.text("collection")?,
            partition: Cursor(fields.bytes("partition")?),
        };
        let state = LaneState {
            begun_by: fields.text("begun_by")?,
            epoch: fields.int("epoch")?,
            seq: fields.int("seq")?,
            cursor: Cursor(fields.bytes("cursor")?),
            done: fields.bool("done")?,
            record_count: fields.int("record_count")?,
            extensions: serde_json::from_str(&fields.text("extensions")?).ok()?,
            lane: found,
        };
        let stored = Stored {
            ahead: Ahead {
                count: fields.int("ahead")?,
                digest: fields.bytes("ahead_digest")?,
            },
            sending: Sending::of(match fields.0.contains_key("sending") {
                true => Some(fields.text("sending")?),
                false => None,
            }),
            pages: Pages {
                count: usize::try_from(fields.int("pages")?).ok()?,
                mark: fields.text("pages_mark")?,
            },
            begun_epoch: fields.int("begun_epoch")?,
            holder: fields.text("holder")?,
            update_time: update_time?,
            state,
        };
        (is_known && stored.state.lane == *lane).then_some(stored)
    })();
    stored.ok_or_else(bad)
}

/// The octets of a page, if it is the one that `pages` speaks of.
pub(super) fn read_page(pages: &Pages, document: Document) -> Option<Vec<u8>> {
    let mut fields = Fields(document.fields);
    (fields.text("mark")? == pages.mark).then(|| fields.bytes("octets"))?
}

/// What a lane is now, and what it is to be.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// As it is stored; `None` if it is not there.
    pub(super) before: Option<&'a Stored>,
    pub(super) holder: &'a str,
    pub(super) begun_epoch: u64,
    /// [`Stored::sending`] from then on.
    pub(super) sending: &'a Sending,
    pub(super) after: &'a LaneState,
}

impl Change<'_> {
    /// The writes that store all of the new state, the lane's document first, and what its pages are then.
    ///
    /// # Errors
    /// `firestore.checkpoint_too_large` for names and extensions that no document holds.
    pub(super) fn whole(&self, root: &Root) -> Result<(Vec<Write>, Pages)> {
        let state = self.after;
        let lane = &state.lane;
        let extensions = serde_json::to_string(&state.extensions)
            .map_err(|error| Error::internal("extensions could not be written").with_cause(&error))?;
        let others = [
            &lane.job,
            &lane.source,
            &lane.collection,
            &state.begun_by,
            &extensions,
        ];
        let others = others.iter().map(|text| text.len()).sum::<usize>() + lane.partition.0.len();
        if others > OTHERS_BYTES_MAX {
            return Err(too_large(format!(
                "the names and extensions of a checkpoint take {others} octets, a document has room for {OTHERS_BYTES_MAX}"
            )));
        }
        let cursor = &state.cursor.0[..];
        let is_long = cursor.len() > INLINE_BYTES_MAX;
        let parts: Vec<&[u8]> = cursor.chunks(PAGE_BYTES).filter(|_| is_long).collect();
        let pages = Pages {
            count: parts.len(),
            mark: format!("{}.{}", state.epoch, state.seq),
        };
        let path = path(lane);
        let fields = vec![
            ("format", ValueType::IntegerValue(FORMAT)),
            ("job", ValueType::StringValue(lane.job.clone())),
            ("source", ValueType::StringValue(lane.source.clone())),
            ("collection", ValueType::StringValue(lane.collection.clone())),
            ("partition", ValueType::BytesValue(lane.partition.0.clone())),
            ("begun_by", ValueType::StringValue(state.begun_by.clone())),
            ("begun_epoch", int(self.begun_epoch)),
            ("epoch", int(state.epoch)),
            ("seq", int(state.seq)),
            (
                "cursor",
                ValueType::BytesValue(if is_long { Vec::new() } else { cursor.to_vec() }),
            ),
            ("pages", int(pages.count as u64)),
            ("pages_mark", ValueType::StringValue(pages.mark.clone())),
            ("done", ValueType::BooleanValue(state.done)),
            ("record_count", int(state.record_count)),
            ("extensions", ValueType::StringValue(extensions)),
            ("ahead", int(0)),
            ("ahead_digest", ValueType::BytesValue(Vec::new())),
            ("sending", ValueType::StringValue(self.sending.text().to_owned())),
            ("holder", ValueType::StringValue(self.holder.to_owned())),
            ("updated", now()),
        ];
        let mut writes = vec![self.guarded(document(root, &path, fields), None)];
        for (index, octets) in parts.into_iter().enumerate() {
            let fields = vec![
                ("mark", ValueType::StringValue(pages.mark.clone())),
                ("octets", ValueType::BytesValue(octets.to_vec())),
            ];
            writes.push(plain(Operation::Update(document(
                root,
                &page_path(&path, index),
                fields,
            ))));
        }
        let pages_before = self.before.map_or(0, |before| before.pages.count);
        for index in pages.count..pages_before {
            writes.push(plain(Operation::Delete(root.document(&page_path(&path, index)))));
        }
        Ok((writes, pages))
    }

    /// The write that stores the epoch, and what is to be known of earlier ones: who goes on with a lane leaves the rest.
    pub(super) fn epoch(&self, root: &Root) -> Write {
        self.some(
            root,
            vec![
                ("epoch", int(self.after.epoch)),
                ("sending", ValueType::StringValue(self.sending.text().to_owned())),
                ("holder", ValueType::StringValue(self.holder.to_owned())),
                ("updated", now()),
            ],
        )
    }

    /// The write that stores how many records are there ahead of the checkpoint.
    pub(super) fn ahead(&self, root: &Root, ahead: &Ahead) -> Write {
        self.some(
            root,
            vec![
                ("ahead", int(ahead.count)),
                ("ahead_digest", ValueType::BytesValue(ahead.digest.clone())),
                ("updated", now()),
            ],
        )
    }

    /// The write that notes that records are sent before their checkpoint.
    pub(super) fn sending(&self, root: &Root) -> Write {
        self.some(
            root,
            vec![
                ("sending", ValueType::StringValue(self.sending.text().to_owned())),
                ("updated", now()),
            ],
        )
    }

    fn some(&self, root: &Root, fields: Vec<(&str, ValueType)>) -> Write {
        let field_paths = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        let document = document(root, &path(&self.after.lane), fields);
        self.guarded(document, Some(DocumentMask { field_paths }))
    }

    /// With the condition that nobody has changed the lane since it was read: this is the guard.
    fn guarded(&self, document: Document, update_mask: Option<DocumentMask>) -> Write {
        let unchanged = match self.before {
            Some(before) => ConditionType::UpdateTime(before.update_time),
            None => ConditionType::Exists(false),
        };
        Write {
            update_mask,
            current_document: Some(condition(unchanged)),
            ..plain(Operation::Update(document))
        }
    }
}

/// A checkpoint that documents have no room for.
pub(super) fn too_large(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, "firestore.checkpoint_too_large", message)
        .with_help("copy fewer collections in one job")
}

fn plain(operation: Operation) -> Write {
    Write {
        operation: Some(operation),
        ..Write::default()
    }
}

fn document(root: &Root, path: &str, fields: Vec<(&str, ValueType)>) -> Document {
    let value = |value_type| Value {
        value_type: Some(value_type),
    };
    Document {
        name: root.document(path),
        fields: fields
            .into_iter()
            .map(|(name, value_type)| (name.to_owned(), value(value_type)))
            .collect(),
        ..Document::default()
    }
}

/// Counts never come near the end of what an integer of the service holds.
fn int(number: u64) -> ValueType {
    ValueType::IntegerValue(i64::try_from(number).unwrap_or(i64::MAX))
}

/// For people who look; nothing depends on it.
fn now() -> ValueType {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    ValueType::TimestampValue(Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        // The service keeps microseconds.
        nanos: i32::try_from(since.subsec_micros() * 1_000).unwrap_or(0),
    })
}

/// The fields of a document, each taken once.
struct Fields(HashMap<String, Value>);

impl Fields {
    fn int(&mut self, name: &str) -> Option<u64> {
        match self.take(name)? {
            ValueType::IntegerValue(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            ValueType::StringValue(text) => Some(text),
            _ => None,
        }
    }

    fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        match self.take(name)? {
            ValueType::BytesValue(octets) => Some(octets),
            _ => None,
        }
    }

    fn bool(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            ValueType::BooleanValue(truth) => Some(truth),
            _ => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<ValueType> {
        self.0.remove(name)?.value_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> LaneState {
        LaneState {
            lane: LaneId {
                job: "job \"; DROP".to_owned(),
                source: "of".to_owned(),
                collection: "users/*/orders".to_owned(),
                partition: Cursor(vec![0, 255, 7]),
            },
            begun_by: "run 1".to_owned(),
            epoch: 3,
            seq: 7,
            cursor: Cursor(vec![1; 10]),
            done: true,
            record_count: 12,
            extensions: [("a.b`".to_owned(), "\u{0}x".to_owned())].into(),
        }
    }

    fn stored(state: &LaneState, before: Option<&Stored>) -> (Stored, Vec<Write>) {
        let root = Root::new("p", "d");
        let change = Change {
            before,
            holder: "me",
            begun_epoch: 2,
            sending: &Sending::Earlier,
            after: state,
        };
        let (writes, _) = change.whole(&root).unwrap();
        let Some(Operation::Update(mut document)) = writes[0].operation.clone() else {
            panic!("the first write is that of the lane");
        };
        document.update_time = Some(Timestamp::default());
        (read(&state.lane, document).unwrap(), writes)
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let (stored, writes) = stored(&state(), None);
        assert_eq!((stored.state, writes.len()), (state(), 1));
        assert_eq!((stored.ahead, stored.holder.as_str()), (Ahead::default(), "me"));
        assert_eq!((stored.begun_epoch, stored.sending), (2, Sending::Earlier));
    }

    #[test]
    fn a_long_cursor_goes_on_in_pages_and_those_left_over_are_removed() {
        let mut long = state();
        long.cursor = Cursor((0..2_000_000_u32).map(|number| number as u8).collect());
        let (before, writes) = stored(&long, None);
        assert_eq!((before.pages.count, writes.len()), (3, 4));
        assert!(before.state.cursor.is_start());
        let mut octets = Vec::new();
        for write in &writes[1..] {
            let Some(Operation::Update(page)) = write.operation.clone() else {
                panic!("pages are written");
            };
            octets.extend(read_page(&before.pages, page.clone()).unwrap());
            let other = Pages {
                mark: "4.0".to_owned(),
                ..before.pages.clone()
            };
            assert_eq!(read_page(&other, page), None);
        }
        assert_eq!(octets, long.cursor.0);
        let (after, writes) = stored(&state(), Some(&before));
        assert_eq!((after.pages.count, writes.len()), (0, 4));
        assert!(
            writes[1..]
                .iter()
                .all(|write| matches!(write.operation, Some(Operation::Delete(_))))
        );
    }

    #[test]
    fn what_others_have_put_there_is_refused() {
        let root = Root::new("p", "d");
        let state = state();
        let change = Change {
            before: None,
            holder: "me",
            begun_epoch: 2,
            sending: &Sending::Nothing,
            after: &state,
        };
        let of = |edit: &dyn Fn(&mut Document)| {
            let (writes, _) = change.whole(&root).unwrap();
            let Some(Operation::Update(mut document)) = writes[0].operation.clone() else {
                panic!("the first write is that of the lane");
            };
            document.update_time = Some(Timestamp::default());
            edit(&mut document);
            read(&state.lane, document).map_err(|error| error.code)
        };
        assert_eq!(of(&|_| {}).unwrap().sending, Sending::Nothing);
        // Earlier versions had no such field.
        let earlier = of(&|document| drop(document.fields.remove("sending")));
        assert_eq!(earlier.unwrap().sending, Sending::Unnoted);
        let set = |name: &'static str, value_type: ValueType| {
            move |document: &mut Document| {
                let value = Value {
                    value_type: Some(value_type.clone()),
                };
                document.fields.insert(name.to_owned(), value);
            }
        };
        for edit in [
            set("format", int(2)),
            set("job", ValueType::StringValue("other".to_owned())),
            set("epoch", ValueType::IntegerValue(-1)),
            set("sending", int(1)),
            set("extensions", ValueType::StringValue("{".to_owned())),
        ] {
            assert_eq!(of(&edit).unwrap_err(), "firestore.bad_checkpoint");
        }
        assert!(of(&|document| drop(document.fields.remove("cursor"))).is_err());
    }

    #[test]
    fn parts_of_a_name_do_not_run_into_one_another() {
        let lane = |job: &str, source: &str| LaneId {
            job: job.to_owned(),
            source: source.to_owned(),
            ..LaneId::default()
        };
        assert_ne!(path(&lane("ab", "c")), path(&lane("a", "bc")));
    }
}
