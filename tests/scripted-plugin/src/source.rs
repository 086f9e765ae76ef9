//! The source: collections of numbered records, made up on the spot, and read by ranges of numbers.
//!
//! It also reads back what the sink has stored.

use std::ops::Range;
use std::sync::Arc;

use whimbrel_plugin_api::acceptance::records::{Record, Value, batch, records};
use whimbrel_plugin_api::collection::{Collection, Reference};
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::source::{AcknowledgeRequest, CountRequest, Predicate};
use whimbrel_plugin_api::{
    Batch, CollectionsRequest, Cost, Cursor, Error, Field, Finding, Item, OpenSource, Partition, ReadRequest,
    RecordStream, RecordType, Result, Schema, Services, Source, SourceCapabilities, TypeMapping,
};

use crate::config::{Call, How, Link, ScriptedConfig};
use crate::script::Script;
use crate::store;

/// Where the records of a source come from.
enum Content {
    /// Made up from their numbers.
    MadeUp,
    /// What a sink has stored.
    Stored,
}

/// The source role, and the reading half of the sink.
pub struct ScriptedSource {
    script: Script,
    content: Content,
}

impl ScriptedSource {
    /// Reads what the sink has stored.
    pub(crate) fn stored(script: Script) -> Self {
        Self {
            script,
            content: Content::Stored,
        }
    }

    fn find(&self, name: &str) -> Result<(Collection, Vec<Record>)> {
        match self.content {
            Content::Stored => store::committed(&self.script.config.store, name),
            Content::MadeUp if self.script.config.collections.iter().any(|known| known == name) => {
                let length = self.script.config.text_bytes as usize;
                let records = (0..self.script.config.records)
                    .map(|id| self.linked(name, made_up(id, length)))
                    .collect();
                Ok((self.describe(name), records))
            }
            Content::MadeUp => Err(Error::no_collection(name)),
        }
    }

    /// What is said of a collection if only its name is asked for.
    fn mention(&self, name: &str) -> Collection {
        let mut collection = Collection::new(name, Schema::default());
        collection.cost = self.cost();
        collection
    }

    /// A list of names takes as many units as descriptions do, as where names are found by looking at records.
    fn cost(&self) -> Option<Cost> {
        let records = u64::from(self.script.config.records);
        self.script.config.billed.as_ref().map(|billed| Cost {
            unit: billed.unit.clone(),
            description_units: records,
            read_units: records,
            count_units: match self.script.config.counts {
                true => counting_units(records),
                false => 0,
            },
            usd_per_million: billed.usd_per_million,
            units_max: billed
                .units_max
                .map(|units| (units as f64 * billed.units_part) as u64),
        })
    }

    fn describe(&self, name: &str) -> Collection {
        let mut fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new("name", RecordType::Text),
            Field::new("score", RecordType::FLOAT64),
        ];
        for link in self.links(name) {
            fields.push(match link.required {
                true => Field::required(&link.field, RecordType::INT64),
                false => Field::new(&link.field, RecordType::INT64),
            });
        }
        let mut collection = Collection::new(name, Schema::new(fields)).with_key(["id"]);
        if let Some(parent) = self.script.config.references.get(name) {
            collection.references.push(Reference {
                fields: vec!["id".to_owned()],
                collection: parent.clone(),
                ..Reference::default()
            });
        }
        for link in self.links(name).filter(|link| !link.unknown) {
            collection.references.push(Reference {
                fields: vec![link.field.clone()],
                collection: link.to.clone(),
                is_enforced: link.guaranteed,
                ..Reference::default()
            });
        }
        collection.cost = self.cost();
        collection.estimate.exact = self.script.config.exact_counts;
        collection.with_record_count(self.script.config.records.into())
    }

    fn links<'a>(&'a self, from: &'a str) -> impl Iterator<Item = &'a Link> {
        self.script
            .config
            .links
            .iter()
            .filter(move |link| link.from == from)
    }

    fn linked(&self, name: &str, mut record: Record) -> Record {
        let Some(Value::Int(id)) = record.get("id").cloned() else {
            return record;
        };
        for link in self.links(name) {
            let value = match !link.required && id % 4 == 3 {
                true => Value::Null,
                false => Value::Int(id + link.shift),
            };
            record.insert(link.field.clone(), value);
        }
        record
    }
}

/// Units of a count: one for each thousand records, and at least one.
fn counting_units(records: u64) -> u64 {
    records.div_ceil(1_000).max(1)
}

fn made_up(id: u32, text_bytes: usize) -> Record {
    let name = match id % 10 {
        9 => Value::Null,
        _ => Value::Text(format!("{id:0>text_bytes$}")),
    };
    Record::from([
        ("id".to_owned(), Value::Int(id.into())),
        ("name".to_owned(), name),
        ("score".to_owned(), Value::float(f64::from(id) / 8.0)),
    ])
}

impl OpenSource for ScriptedSource {
    type Config = ScriptedConfig;

    fn open(config: ScriptedConfig, services: Services) -> Result<Self> {
        let script = Script::new(config, services);
        script.play(Call::Open)?;
        Ok(Self {
            script,
            content: Content::MadeUp,
        })
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            snapshot: true,
            partitions: true,
            resume: true,
            lookup: true,
            ..SourceCapabilities::default()
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        Vec::new()
    }
}

impl Drop for ScriptedSource {
    fn drop(&mut self) {
        // There is nobody to hand an error to.
        drop(self.script.act(Call::Close));
    }
}

impl Source for ScriptedSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        self.script.play(Call::Check)?;
        let config = &self.script.config;
        let given: Vec<&str> = [
            ("address", config.address.is_some()),
            ("service_key", config.service_key.is_some()),
            ("credentials_path", config.credentials_path.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect();
        if given.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Finding::info(
            "scripted.given",
            format!("given: {}", given.join(", ")),
        )])
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let about = serde_json::json!({ "names": request.names, "schemas": request.schemas });
        self.script.play_about(Call::Collections, about)?;
        if matches!(self.content, Content::Stored) {
            let mut all = store::collections(&self.script.config.store)?;
            all.retain(|collection| request.wants(&collection.name));
            return Ok(all);
        }
        let config = &self.script.config;
        let wanted = config.collections.iter().filter(|name| request.wants(name));
        wanted
            .map(|name| {
                self.script.bill(name, config.records.into())?;
                Ok(match request.schemas || config.describes_always {
                    true => self.describe(name),
                    false => self.mention(name),
                })
            })
            .collect()
    }

    fn open_snapshot(&mut self) -> Result<Option<String>> {
        self.script.play(Call::OpenSnapshot)?;
        Ok(Some("now".to_owned()))
    }

    fn close_snapshot(&mut self, _: &str) -> Result<()> {
        self.script.play(Call::CloseSnapshot).map(drop)
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        self.script.play(Call::Partitions)?;
        let count = self.find(&request.collection)?.1.len();
        let step = count.div_ceil(request.wanted.max(1) as usize).max(1);
        let parts = (0..count.max(1)).step_by(step).map(|from| Partition {
            descriptor: range_to_cursor(&(from..count.min(from + step))),
            label: format!("{from}.."),
            estimate: Default::default(),
        });
        Ok(parts.collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let about = serde_json::json!({ "collection": request.collection, "limit": request.limit });
        self.script.play_about(Call::Read, about)?;
        let (collection, mut records) = self.find(&request.collection)?;
        if let Some(predicate) = &request.predicate {
            let Predicate::KeyRange { from, to } = predicate else {
                return Err(Error::unsupported("this predicate"));
            };
            let bound = |of: &Option<serde_json::Value>| of.as_ref().and_then(|key| key.get(0)?.as_i64());
            let (from, to) = (bound(from).unwrap_or(i64::MIN), bound(to).unwrap_or(i64::MAX));
            records.retain(|record| matches!(record["id"], Value::Int(id) if (from..to).contains(&id)));
        }
        let mut range = match &request.partition {
            Some(partition) if !partition.descriptor.is_start() => cursor_to_range(&partition.descriptor)?,
            _ => 0..records.len(),
        };
        if !request.cursor.is_start() {
            range.start = cursor_to_range(&request.cursor)?.start;
        }
        if let Some(limit) = request.limit {
            range.end = range.end.min(range.start.saturating_add(limit as usize));
        }
        let schema = Arc::new(collection.schema.select(&request.columns)?);
        let per_octets = request.batch.bytes_max / (self.script.config.text_bytes as usize + 64);
        Ok(Box::new(ScriptedStream {
            script: self.script.clone(),
            rest: records
                .drain(..range.end.min(records.len()))
                .skip(range.start)
                .collect::<Vec<_>>()
                .into_iter(),
            end: range.end,
            per_batch: request.batch.records_max.min(per_octets).max(1),
            next: Some(range.start),
            schema,
            announced: false,
            sequence: 0,
            billed_to: matches!(self.content, Content::MadeUp).then(|| request.collection.clone()),
        }))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let lie = self.script.play(Call::Count)? == Some(How::WrongRecordCount);
        if !self.script.config.counts {
            return Ok(None);
        }
        let count = self.find(&request.collection)?.1.len() as u64;
        if matches!(self.content, Content::MadeUp) {
            self.script.bill(&request.collection, counting_units(count))?;
        }
        Ok(Some(count + u64::from(lie)))
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        self.script.play(Call::Lookup)?;
        let (collection, mut found) = self.find(&request.collection)?;
        let wanted = records(keys);
        found.retain(|record| {
            wanted
                .iter()
                .any(|key| key.iter().all(|(field, value)| record[field] == *value))
        });
        Ok(Box::new(ScriptedStream {
            script: self.script.clone(),
            end: found.len(),
            rest: found.into_iter(),
            per_batch: request.batch.records_max.max(1),
            next: Some(0),
            schema: Arc::new(collection.schema.select(&request.columns)?),
            announced: false,
            sequence: 0,
            billed_to: matches!(self.content, Content::MadeUp).then(|| request.collection.clone()),
        }))
    }

    fn acknowledge(&mut self, _: &AcknowledgeRequest) -> Result<()> {
        self.script.play(Call::Acknowledge).map(drop)
    }
}

fn range_to_cursor(range: &Range<usize>) -> Cursor {
    Cursor([range.start.to_le_bytes(), range.end.to_le_bytes()].concat())
}

fn cursor_to_range(cursor: &Cursor) -> Result<Range<usize>> {
    let number = |from: usize| {
        Some(usize::from_le_bytes(
            cursor.0.get(from..from + 8)?.try_into().ok()?,
        ))
    };
    match (number(0), number(8)) {
        (Some(start), Some(end)) => Ok(start..end),
        _ => Err(Error::invalid_data(
            "scripted.bad_cursor",
            "a cursor of another source was handed back",
        )),
    }
}

struct ScriptedStream {
    script: Script,
    rest: std::vec::IntoIter<Record>,
    next: Option<usize>,
    end: usize,
    per_batch: usize,
    schema: Arc<Schema>,
    announced: bool,
    sequence: u64,
    /// The collection that is billed for what is read.
    billed_to: Option<String>,
}

impl RecordStream for ScriptedStream {
    fn next(&mut self) -> Result<Item> {
        let due = self.script.play(Call::Next)?;
        if due == Some(How::EndEarly) {
            return Ok(Item::End);
        }
        let again = due == Some(How::SchemaTwice);
        if (!self.announced && due != Some(How::BatchWithoutSchema)) || again {
            self.announced = true;
            return Ok(Item::Schema(Arc::clone(&self.schema)));
        }
        let mut some: Vec<Record> = self.rest.by_ref().take(self.per_batch).collect();
        if some.is_empty() {
            return Ok(Item::End);
        }
        if let Some(collection) = &self.billed_to {
            self.script.bill(collection, some.len() as u64)?;
        }
        let from = self.next.unwrap_or_default();
        self.next = Some(from + some.len());
        if due == Some(How::Repeat) {
            // The same records once more, and the cursor of the batch before.
            let mut kept = some.clone();
            kept.extend(self.rest.by_ref());
            self.rest = kept.into_iter();
            self.next = Some(from);
        }
        some.iter_mut()
            .for_each(|record| record.retain(|field, _| self.schema.index_of(field).is_some()));
        let mut made =
            batch(&self.schema, &some)?.with_cursor(range_to_cursor(&(from + some.len()..self.end)));
        made.facts.sequence = self.sequence;
        self.sequence += 1;
        match due {
            Some(How::Reject) => Ok(Item::Rejected(vec![crate::sink::rejected(0)])),
            Some(how) => Ok(Item::Batch(crate::transform::spoilt(made, how)?)),
            None => Ok(Item::Batch(made)),
        }
    }
}
