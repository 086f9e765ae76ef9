//! From documents to Arrow columns.
//!
//! A document's fields come in any order; each is put into its column by name. A document that does not fit leaves no trace:
//! all columns are cut back to the record before it. Neighbours: `column` keeps the values, `fill` takes them from a document,
//! `kinds` names what does not fit.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::SchemaRef;
use gcloud_sdk::google::firestore::v1::Value;
use whimbrel_plugin_api::source::OTHER_FIELDS;
use whimbrel_plugin_api::{RecordType, Result, Schema};

use crate::error::RowFault;
use crate::path::{PATH_FIELD, Pattern, Root};

use super::Seen;
use super::column::Column;
use super::fill::{Filler, Refusal, push_part};

/// Fills the columns of a schema.
#[derive(Debug)]
pub(crate) struct Decoder {
    arrow: SchemaRef,
    pattern: Pattern,
    root: Root,
    ignores_others: bool,
    columns: Vec<Field>,
    /// The places of the fields that come from the document, by name.
    places: HashMap<String, usize>,
    /// For each part of the path, in its order, the column that has it.
    parts: Vec<Option<usize>>,
    /// The column that has the whole path.
    whole_path: Option<usize>,
    /// The column with the names of fields that the schema lacks, if somebody wants them.
    others: Option<usize>,
    presence: Option<Presence>,
    row_count: usize,
    /// Where texts are made.
    scratch: String,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It has a field that the schema lacks.
    NewField(String),
    /// A value is not of its column's type, or is none that a column can hold.
    Value(RowFault),
}

#[derive(Debug)]
struct Field {
    name: String,
    record_type: RecordType,
    nullable: bool,
    column: Column,
}

/// The presence masks of the records so far.
#[derive(Debug)]
struct Presence {
    /// Octets of one mask.
    width: usize,
    /// A mask with the bits of all fields that come from the path, and of those alone.
    of_path: Box<[u8]>,
    masks: Vec<u8>,
}

impl Decoder {
    /// For records of `schema` out of collection `pattern`: fields of [`Pattern::key`] and [`crate::path::PATH_FIELD`] come
    /// from the path, the others from the document. References within `root` become paths. With `ignores_others` fields that
    /// the schema lacks are passed over, or named in [`OTHER_FIELDS`] if the schema has it, else they are a misfit.
    pub(crate) fn new(
        schema: &Arc<Schema>,
        pattern: &Pattern,
        root: &Root,
        ignores_others: bool,
    ) -> Result<Self> {
        schema.validate()?;
        let key = pattern.key();
        let is_of_path = |name: &str| name == PATH_FIELD || key.iter().any(|part| part == name);
        let mut columns = Vec::with_capacity(schema.fields.len());
        let mut places = HashMap::with_capacity(schema.fields.len());
        for (index, field) in schema.fields.iter().enumerate() {
            let column = if is_of_path(&field.name) || field.name == OTHER_FIELDS {
                Column::of_texts(&field.record_type)?
            } else {
                places.insert(field.name.clone(), index);
                Column::new(&field.record_type)?
            };
            columns.push(Field {
                name: field.name.clone(),
                record_type: field.record_type.clone(),
                nullable: field.nullable,
                column,
            });
        }
        let of_path = |index: &usize| is_of_path(&schema.fields[*index].name);
        let presence = schema
            .presence
            .then(|| Presence::new(schema.fields.len(), (0..columns.len()).filter(of_path)));
        Ok(Self {
            arrow: schema.to_arrow(),
            root: root.clone(),
            ignores_others,
            columns,
            places,
            parts: match pattern {
                Pattern::Nested(_) => key.iter().map(|name| schema.index_of(name)).collect(),
                Pattern::Group(_) => Vec::new(),
            },
            whole_path: schema.index_of(PATH_FIELD),
            others: schema.index_of(OTHER_FIELDS),
            pattern: pattern.clone(),
            presence,
            row_count: 0,
            scratch: String::new(),
        })
    }

    /// Adds a document; a misfit leaves no trace.
    pub(crate) fn push(&mut self, path: &str, fields: &HashMap<String, Value>) -> Result<(), Misfit> {
        match self.take(path, fields) {
            Ok(()) => {
                self.row_count += 1;
                Ok(())
            }
            Err(misfit) => {
                self.cut_back();
                Err(misfit)
            }
        }
    }

    /// Records since the last [`Self::finish`].
    pub(crate) const fn len(&self) -> usize {
        self.row_count
    }

    /// Octets of them, about.
    pub(crate) fn bytes(&self) -> usize {
        let presence = self.presence.as_ref().map_or(0, |presence| presence.masks.len());
        self.columns
            .iter()
            .map(|field| field.column.bytes())
            .sum::<usize>()
            + presence
    }

    /// The records so far, with the presence column if the schema says so; the decoder is then empty.
    ///
    /// # Errors
    /// `plugin.internal` if Arrow refuses the columns, which would be a defect here.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.row_count);
        let mut columns = Vec::with_capacity(self.columns.len() + 1);
        for field in &mut self.columns {
            columns.push(field.column.finish()?);
        }
        if let Some(presence) = &mut self.presence {
            columns.push(presence.finish(rows)?);
        }
        // A schema without fields has rows all the same.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.arrow),
            columns,
            &options,
        )?)
    }

    fn take(&mut self, path: &str, fields: &HashMap<String, Value>) -> Result<(), Misfit> {
        self.take_path(path)?;
        if let Some(presence) = &mut self.presence {
            presence.masks.extend_from_slice(&presence.of_path);
        }
        let mut filled = 0;
        let mut others: Vec<&str> = Vec::new();
        for (name, value) in fields {
            match self.places.get(name).copied() {
                Some(index) => {
                    if self.put(index, value).is_err() {
                        return Err(self.first_misfit(fields));
                    }
                    filled += 1;
                    if let Some(presence) = &mut self.presence {
                        presence.set(self.row_count, index);
                    }
                }
                None if self.ignores_others => others.push(name),
                None => return Err(self.first_misfit(fields)),
            }
        }
        self.name_others(others)?;
        if filled < self.places.len() {
            self.put_absent()?;
        }
        Ok(())
    }

    /// Fills the column with the names of `others`, if there is one.
    fn name_others(&mut self, mut others: Vec<&str>) -> Result<(), Misfit> {
        let Some(index) = self.others else { return Ok(()) };
        let column = &mut self.columns[index].column;
        if others.is_empty() {
            column.push_null();
            return Ok(());
        }
        others.sort_unstable();
        let names = serde_json::Value::from(others).to_string();
        push_part(column, &names).map_err(|_| {
            Misfit::Value(RowFault::new(
                "firestore.does_not_fit",
                format!("the column `{OTHER_FIELDS}` cannot hold the names of a document's other fields"),
            ))
        })?;
        if let Some(presence) = &mut self.presence {
            presence.set(self.row_count, index);
        }
        Ok(())
    }

    /// Fills the columns that come from the path.
    fn take_path(&mut self, path: &str) -> Result<(), Misfit> {
        let mut values = self.pattern.key_values(path);
        let parts = self.parts.iter().map(|index| (*index, values.next()));
        let whole = self.whole_path.map(|index| (Some(index), Some(path)));
        for (index, part) in parts.chain(whole) {
            let Some(index) = index else { continue };
            let field = &mut self.columns[index];
            let taken = part.map_or(Err(Refusal::Value), |part| push_part(&mut field.column, part));
            taken.map_err(|_| {
                Misfit::Value(RowFault::new(
                    "firestore.does_not_fit",
                    format!(
                        "the path of a document has no value of the type `{}` for the field `{}`",
                        field.record_type, field.name
                    ),
                ))
            })?;
        }
        Ok(())
    }

    fn put(&mut self, index: usize, value: &Value) -> Result<(), Refusal> {
        let field = &mut self.columns[index];
        let mut filler = Filler {
            root: &self.root,
            scratch: &mut self.scratch,
        };
        if field.nullable {
            filler.push(&mut field.column, value)
        } else {
            filler.push_required(&mut field.column, value)
        }
    }

    /// Adds a null to each column that the document has no field for.
    fn put_absent(&mut self) -> Result<(), Misfit> {
        for field in &mut self.columns {
            if field.column.len() > self.row_count {
                continue;
            }
            if !field.nullable {
                return Err(Misfit::Value(RowFault::new(
                    "firestore.does_not_fit",
                    format!(
                        "the field `{}` is missing, and its type says that it never is",
                        field.name
                    ),
                )));
            }
            field.column.push_null();
        }
        Ok(())
    }

    /// The misfit of a document that has one: the same one whatever the order of its fields. A new field goes first, since with
    /// a column of its own for it the document may be tried again.
    fn first_misfit(&mut self, fields: &HashMap<String, Value>) -> Misfit {
        let new = fields
            .keys()
            .filter(|name| !self.places.contains_key(*name))
            .min();
        if let Some(name) = new.filter(|_| !self.ignores_others) {
            return Misfit::NewField(name.clone());
        }
        self.cut_back();
        for index in 0..self.columns.len() {
            let Some(value) = fields.get(&self.columns[index].name) else {
                continue;
            };
            if self.places.contains_key(&self.columns[index].name)
                && let Err(refusal) = self.put(index, value)
            {
                return Misfit::Value(self.columns[index].fault(refusal, value));
            }
        }
        Misfit::Value(RowFault::new("firestore.does_not_fit", "a document does not fit"))
    }

    /// Forgets what a document that failed left in the columns.
    fn cut_back(&mut self) {
        for field in &mut self.columns {
            field.column.truncate(self.row_count);
        }
        if let Some(presence) = &mut self.presence {
            presence.masks.truncate(self.row_count * presence.width);
        }
    }
}

impl Field {
    /// Why the column did not take `value`: its kind, never the value.
    fn fault(&self, refusal: Refusal, value: &Value) -> RowFault {
        let Self {
            name, record_type, ..
        } = self;
        match refusal {
            Refusal::TooLarge => RowFault::new(
                "firestore.does_not_fit",
                format!("the column `{name}` holds at most 2 GiB in one batch"),
            ),
            Refusal::Value => RowFault::new(
                "firestore.does_not_fit",
                format!(
                    "the field `{name}` holds {}, which is no value of its type `{record_type}`",
                    Seen::of(value).names()
                ),
            ),
        }
    }
}

impl Presence {
    fn new(field_count: usize, of_path: impl Iterator<Item = usize>) -> Self {
        let mut mask = vec![0; field_count.div_ceil(8)];
        for index in of_path {
            mask[index / 8] |= 1 << (index % 8);
        }
        Self {
            width: mask.len(),
            of_path: mask.into(),
            masks: Vec::new(),
        }
    }

    fn set(&mut self, row: usize, index: usize) {
        self.masks[row * self.width + index / 8] |= 1 << (index % 8);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        let masks = Buffer::from(std::mem::take(&mut self.masks));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(self.width, rows));
        Ok(Arc::new(BinaryArray::try_new(offsets, masks, None)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::cell::{null, value};
    use arrow_array::cast::AsArray as _;
    use gcloud_sdk::google::firestore::v1::ArrayValue;
    use gcloud_sdk::google::firestore::v1::value::ValueType;
    use gcloud_sdk::prost_types::Timestamp;
    use whimbrel_plugin_api::acceptance::records::records;
    use whimbrel_plugin_api::acceptance::{Record, Value as Plain};
    use whimbrel_plugin_api::{Batch, Field as SchemaField};

    type Fields = HashMap<String, Value>;

    fn document<const N: usize>(fields: [(&str, Value); N]) -> Fields {
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn integer(number: i64) -> Value {
        value(ValueType::IntegerValue(number))
    }

    fn text(text: &str) -> Value {
        value(ValueType::StringValue(text.to_owned()))
    }

    fn list(values: Vec<Value>) -> Value {
        value(ValueType::ArrayValue(ArrayValue { values }))
    }

    fn schema(fields: Vec<SchemaField>, presence: bool) -> Arc<Schema> {
        Arc::new(Schema {
            presence,
            ..Schema::new(fields)
        })
    }

    fn decoder(schema: &Arc<Schema>, pattern: &str, ignores_others: bool) -> Decoder {
        let pattern = Pattern::parse(pattern).unwrap();
        Decoder::new(schema, &pattern, &Root::new("p", "d"), ignores_others).unwrap()
    }

    fn finish(decoder: &mut Decoder, schema: &Arc<Schema>) -> Vec<Record> {
        records(&Batch::new(Arc::clone(schema), decoder.finish().unwrap()).unwrap())
    }

    fn record<const N: usize>(fields: [(&str, Plain); N]) -> Record {
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    }

    #[test]
    fn fields_that_the_schema_lacks_are_named_if_somebody_wants_them() {
        for presence in [false, true] {
            let fields = vec![
                SchemaField::new("name", RecordType::Text),
                SchemaField::new(OTHER_FIELDS, RecordType::Text),
            ];
            let wanted = schema(fields, presence);
            let mut columns = decoder(&wanted, "users", true);
            let document = |names: &[&str]| -> Fields {
                names.iter().map(|name| ((*name).to_owned(), text("x"))).collect()
            };
            for names in [&["name"][..], &["name", "b", "a\"c"], &["z"], &[]] {
                columns.push("users/1", &document(names)).unwrap();
            }
            let absent = if presence { Plain::Absent } else { Plain::Null };
            let record = |name: Option<&str>, others: Option<&str>| {
                let value = |of: Option<&str>| of.map_or(absent.clone(), Plain::text);
                record([("name", value(name)), (OTHER_FIELDS, value(others))])
            };
            assert_eq!(
                finish(&mut columns, &wanted),
                [
                    record(Some("x"), None),
                    record(Some("x"), Some("[\"a\\\"c\",\"b\"]")),
                    record(None, Some("[\"z\"]")),
                    record(None, None),
                ]
            );
        }
    }

    #[test]
    fn the_key_comes_from_the_path() {
        let key = |names: &[&str]| {
            let fields = names
                .iter()
                .map(|name| SchemaField::required(*name, RecordType::Text));
            schema(fields.collect(), true)
        };
        let nested = key(&["__users_id__", "__id__", "__path__"]);
        let mut columns = decoder(&nested, "users/*/orders", false);
        columns.push("users/ann/orders/7", &Fields::new()).unwrap();
        let text = |text| Plain::text(text);
        assert_eq!(
            finish(&mut columns, &nested),
            [record([
                ("__users_id__", text("ann")),
                ("__id__", text("7")),
                ("__path__", text("users/ann/orders/7")),
            ])]
        );
        let group = key(&["__path__"]);
        let mut columns = decoder(&group, "**/orders", false);
        columns.push("users/ann/orders/7", &Fields::new()).unwrap();
        assert_eq!(
            finish(&mut columns, &group),
            [record([("__path__", text("users/ann/orders/7"))])]
        );
        // Of an id of another type, as a transform makes it, and of no key field at all.
        let number = schema(vec![SchemaField::required("__id__", RecordType::INT64)], false);
        let mut columns = decoder(&number, "users", false);
        columns.push("users/7", &Fields::new()).unwrap();
        assert!(matches!(
            columns.push("users/ann", &Fields::new()),
            Err(Misfit::Value(RowFault {
                code: "firestore.does_not_fit",
                ..
            }))
        ));
        assert_eq!(
            finish(&mut columns, &number),
            [record([("__id__", Plain::Int(7))])]
        );
        let none = schema(vec![], false);
        let mut columns = decoder(&none, "users", true);
        columns.push("users/7", &Fields::new()).unwrap();
        assert_eq!(columns.finish().unwrap().num_rows(), 1);
    }

    #[test]
    fn absent_is_not_null_where_the_schema_says_so() {
        let fields = vec![
            SchemaField::new("a", RecordType::INT64),
            SchemaField::new("b", RecordType::Text),
        ];
        for presence in [true, false] {
            let schema = schema(fields.clone(), presence);
            let mut columns = decoder(&schema, "c", false);
            columns.push("c/1", &document([("a", integer(1))])).unwrap();
            columns.push("c/2", &document([("b", null())])).unwrap();
            columns.push("c/3", &Fields::new()).unwrap();
            let absent = if presence { Plain::Absent } else { Plain::Null };
            assert_eq!(
                finish(&mut columns, &schema),
                [
                    record([("a", Plain::Int(1)), ("b", absent.clone())]),
                    record([("a", absent.clone()), ("b", Plain::Null)]),
                    record([("a", absent.clone()), ("b", absent)]),
                ]
            );
        }
    }

    #[test]
    fn a_misfit_leaves_no_trace() {
        let schema = schema(
            vec![
                SchemaField::new("a", RecordType::INT64),
                SchemaField::new("b", RecordType::list(RecordType::Text)),
                SchemaField::new("c", RecordType::Variant),
                SchemaField::required("d", RecordType::Text),
                SchemaField::new("e", RecordType::Date),
            ],
            true,
        );
        let good = || {
            document([
                ("a", integer(1)),
                ("b", list(vec![text("x")])),
                ("c", list(vec![integer(1)])),
                ("d", text("d")),
                ("e", text("2024-12-31")),
            ])
        };
        let with = |name: &str, value: Value| {
            let mut document = good();
            document.insert(name.to_owned(), value);
            document
        };
        let mut without = good();
        without.remove("d");
        let mut expected = decoder(&schema, "c", false);
        expected.push("c/1", &good()).unwrap();
        expected.push("c/2", &good()).unwrap();
        let expected = expected.finish().unwrap();
        let mut columns = decoder(&schema, "c", false);
        columns.push("c/1", &good()).unwrap();
        let bytes = columns.bytes();
        assert!(bytes > 0);
        for (bad, fault) in [
            (
                with("a", text("1")),
                "the field `a` holds text, which is no value of its type `int64`",
            ),
            (
                with("b", list(vec![text("y"), integer(1)])),
                "the field `b` holds array (of integer, text), which is no value of its type `list(text)`",
            ),
            (
                with("c", list(vec![integer(1), Value::default()])),
                "the field `c` holds array (of integer, unknown kind), which is no value of its type `variant`",
            ),
            (
                with("d", null()),
                "the field `d` holds null, which is no value of its type `text`",
            ),
            (
                with("e", text("soon")),
                "the field `e` holds text, which is no value of its type `date`",
            ),
            (
                without,
                "the field `d` is missing, and its type says that it never is",
            ),
        ] {
            // The order of a document's fields is another one each time.
            for _ in 0..10 {
                let bad: Fields = bad.clone().into_iter().collect();
                assert_eq!(
                    columns.push("c/x", &bad),
                    Err(Misfit::Value(RowFault::new("firestore.does_not_fit", fault)))
                );
            }
            assert_eq!((columns.len(), columns.bytes()), (1, bytes), "{fault}");
        }
        let mut new = with("z", null());
        new.insert("y".to_owned(), null());
        new.insert("a".to_owned(), text("1"));
        assert_eq!(columns.push("c/x", &new), Err(Misfit::NewField("y".to_owned())));
        columns.push("c/2", &good()).unwrap();
        assert_eq!(columns.finish().unwrap(), expected);
        assert_eq!((columns.len(), columns.finish().unwrap().num_rows()), (0, 0));
    }

    #[test]
    fn fields_that_the_schema_lacks_are_passed_over_if_told_so() {
        let schema = schema(vec![SchemaField::new("a", RecordType::INT64)], true);
        let mut columns = decoder(&schema, "c", true);
        columns
            .push("c/1", &document([("a", integer(1)), ("z", text("z"))]))
            .unwrap();
        columns.push("c/2", &document([("z", text("z"))])).unwrap();
        assert_eq!(
            finish(&mut columns, &schema),
            [record([("a", Plain::Int(1))]), record([("a", Plain::Absent)])]
        );
    }

    #[test]
    fn no_two_stored_values_read_alike() {
        let takes = |record_type: RecordType, value: Value| {
            let schema = schema(vec![SchemaField::new("a", record_type)], false);
            decoder(&schema, "c", false)
                .push("c/1", &document([("a", value)]))
                .is_ok()
        };
        let timestamp = |nanos| value(ValueType::TimestampValue(Timestamp { seconds: 0, nanos }));
        let double = |number| value(ValueType::DoubleValue(number));
        let cents = RecordType::Decimal {
            precision: 9,
            scale: 2,
        };
        for (record_type, stored, other) in [
            (RecordType::TimestampTz, timestamp(1_000), timestamp(1)),
            (
                RecordType::TimestampTz,
                text("infinity"),
                text("2024-12-31T00:00:00.000000Z"),
            ),
            (RecordType::Reference, text("no path"), text("users/ann")),
            (RecordType::Numeric, text("1.50"), text("1.5")),
            (RecordType::Numeric, double(0.0), double(-0.0)),
            (RecordType::FLOAT64, double(1.0), integer(1)),
            (RecordType::Float { bits: 32 }, double(0.5), double(0.1)),
            (cents.clone(), double(1.25), double(1.255)),
            (cents, double(0.0), double(-0.0)),
            (RecordType::Int { bits: 8 }, integer(127), integer(128)),
            (RecordType::Json, integer(1), timestamp(0)),
        ] {
            assert!(takes(record_type.clone(), stored), "{record_type}");
            assert!(!takes(record_type.clone(), other), "{record_type}");
        }
    }

    #[test]
    fn a_required_json_field_keeps_its_null() {
        let schema = schema(vec![SchemaField::required("a", RecordType::Json)], false);
        let mut columns = decoder(&schema, "c", false);
        columns.push("c/1", &document([("a", null())])).unwrap();
        let batch = columns.finish().unwrap();
        assert_eq!(batch.column(0).as_string::<i32>().value(0), "null");
    }
}
