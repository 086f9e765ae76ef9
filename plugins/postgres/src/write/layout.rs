//! How the records of one schema go into one table under one policy: which column of a batch into which of the table.
//!
//! Made once per collection, schema and policy. Neighbours: `statement` writes the SQL for it, `rows` the octets.

use std::sync::Arc;

use whimbrel_plugin_api::record_type::{RecordType, Schema};
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind, ErrorScope, Result};

use crate::codec::{Wire, WireColumn};
use crate::target::{Target, TargetColumn};
use crate::type_mapping::TypeSettings;

/// A field that has a column of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayoutColumn {
    /// The field's place in the schema.
    pub(super) index: usize,
    /// The column's name.
    pub(super) name: String,
    /// How its values travel.
    pub(super) wire: WireColumn,
    /// Its type in the staging table.
    pub(super) staged_as: String,
    /// The type to cast the staged value to.
    pub(super) cast: Option<String>,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub(super) is_identity_always: bool,
}

/// How records go into a table.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) target: Arc<Target>,
    pub(super) schema: Arc<Schema>,
    pub(super) policy: ConflictPolicy,
    pub(super) columns: Vec<LayoutColumn>,
    /// Places of the key in `columns`; empty if there is no key.
    pub(super) key: Vec<usize>,
    /// Place of the version field in `columns`.
    pub(super) version: Option<usize>,
    /// Fields that are members of the rest column: places in the schema.
    pub(super) members: Vec<usize>,
    /// Fields whose absence the rest column marks: places in the schema.
    pub(super) may_be_absent: Vec<usize>,
    /// Whether the rest column of stored records may say something of fields that these records do not know.
    pub(super) has_partial_rest: bool,
}

impl Layout {
    /// # Errors
    /// Of scope write: the schema is not the one that the table was prepared for, or the policy cannot be followed.
    pub(super) fn new(
        collection: &str,
        target: &Arc<Target>,
        schema: &Arc<Schema>,
        policy: ConflictPolicy,
        settings: TypeSettings,
    ) -> Result<Self> {
        let mut layout = Self {
            target: Arc::clone(target),
            schema: Arc::clone(schema),
            policy,
            columns: Vec::with_capacity(schema.fields.len()),
            key: Vec::with_capacity(target.key.len()),
            version: None,
            members: Vec::new(),
            may_be_absent: Vec::new(),
            has_partial_rest: target
                .rest_fields
                .iter()
                .any(|name| schema.index_of(name).is_none()),
        };
        for index in 0..schema.fields.len() {
            layout.place(collection, index, settings)?;
        }
        for name in &target.key {
            let place = layout.place_of(name).ok_or_else(|| {
                refusal(
                    "postgres.key_missing",
                    format!("a batch of `{collection}` lacks the key field `{name}`"),
                )
            })?;
            layout.key.push(place);
        }
        layout.version = target.version.as_deref().and_then(|name| layout.place_of(name));
        match policy {
            ConflictPolicy::Merge if layout.key.is_empty() => Err(refusal(
                "postgres.merge_without_key",
                format!("`{collection}` has no key to merge by"),
            )),
            ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest if layout.version.is_none() => {
                Err(refusal(
                    "postgres.no_version_field",
                    format!("`{collection}` has no version field in a column of its own"),
                )
                .with_help("name the field that tells newer records from older ones"))
            }
            _ => Ok(layout),
        }
    }

    /// Whether this is also the layout of such records.
    pub(super) fn serves(&self, target: &Arc<Target>, schema: &Arc<Schema>, policy: ConflictPolicy) -> bool {
        self.policy == policy
            && (Arc::ptr_eq(&self.target, target) || self.target == *target)
            && (Arc::ptr_eq(&self.schema, schema) || self.schema == *schema)
    }

    /// The column types of a row: those of the table, then the rest column.
    pub(super) fn wires(&self) -> Vec<WireColumn> {
        let mut wires: Vec<_> = self.columns.iter().map(|column| column.wire.clone()).collect();
        if self.target.has_rest {
            wires.push(wire("rest", RecordType::Text, Wire::Text));
        }
        wires
    }

    /// Those of a row of the staging table: as above, then the presence mask, then the row's number.
    pub(super) fn staged_wires(&self) -> Vec<WireColumn> {
        let mut wires = self.wires();
        if self.is_masked() {
            wires.push(wire("presence", RecordType::Bytes, Wire::Bytea));
        }
        wires.push(wire("number", RecordType::INT64, Wire::Int8));
        wires
    }

    /// Whether the staging table needs to know which fields each record has.
    pub(super) fn is_masked(&self) -> bool {
        self.policy == ConflictPolicy::Merge && self.schema.presence
    }

    fn place_of(&self, field: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.wire.name == field)
    }

    fn place(&mut self, collection: &str, index: usize, settings: TypeSettings) -> Result<()> {
        let field = &self.schema.fields[index];
        let column: &TargetColumn = self.target.column_of(&field.name).ok_or_else(|| {
            refusal(
                "postgres.unknown_field",
                format!(
                    "the table of `{collection}` was not prepared for the field `{}`",
                    field.name
                ),
            )
        })?;
        if column.field.record_type != field.record_type {
            return Err(refusal(
                "postgres.changed_field",
                format!(
                    "the field `{}` of `{collection}` is `{}`, its column was prepared for `{}`",
                    field.name, field.record_type, column.field.record_type
                ),
            ));
        }
        if column.may_be_absent && self.target.has_rest && self.schema.presence {
            self.may_be_absent.push(index);
        }
        let (Some(name), Some(writing)) = (&column.column, &column.writing) else {
            self.members.push(index);
            return Ok(());
        };
        self.columns.push(LayoutColumn {
            index,
            name: name.clone(),
            wire: WireColumn {
                name: field.name.clone(),
                record_type: field.record_type.clone(),
                wire: writing.wire.clone(),
                removes_nul: settings.removes_nul,
            },
            staged_as: writing.staged_as.clone(),
            cast: writing.cast.clone(),
            is_identity_always: column.is_identity_always,
        });
        Ok(())
    }
}

fn wire(name: &str, record_type: RecordType, wire: Wire) -> WireColumn {
    WireColumn {
        name: name.to_owned(),
        record_type,
        wire,
        removes_nul: false,
    }
}

fn refusal(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::InvalidData, code, message).with_scope(ErrorScope::Write)
}
