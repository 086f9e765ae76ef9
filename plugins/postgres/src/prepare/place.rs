//! Where one collection goes: which column holds each field, what the table lacks, and the statements that make it.
//!
//! Neighbours: `prepare` asks for all collections of a request, `compare` finds what an existing table cannot take,
//! `ddl` writes the statements.

use std::collections::{BTreeMap, HashSet};

use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Collection, ErrorKind, Finding};

use super::Settings;
use super::ddl::{self, NewColumn};
use crate::catalog::Table;
use crate::memory::Remembered;
use crate::names::TableName;
use crate::rest::REST_COLUMN;
use crate::type_mapping;

/// Columns of their own that fields get; some of the 1,600 of a table are left for the rest column, and for what a
/// staging table has beside.
pub(crate) const COLUMNS_MAX: usize = 1_590;
/// Octets of a name; PostgreSQL cuts longer ones.
pub(crate) const NAME_BYTES_MAX: usize = 63;
/// Names that every table has already.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// What becomes of fields that an existing table has no column for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// They are blockers.
    Refused,
    /// They get columns.
    Columns,
    /// They go into the rest column.
    Rest,
}

/// A field and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) field: Field,
    /// `None` for a member of the rest column.
    pub(crate) column: Option<String>,
    pub(crate) may_be_absent: bool,
}

/// Where a collection goes.
pub(crate) struct Place<'request> {
    pub(crate) collection: &'request Collection,
    pub(crate) name: TableName,
    /// The table as it is before anything is done.
    pub(crate) existing: Option<Table>,
    /// What is remembered of it.
    pub(crate) previous: Vec<Remembered>,
    pub(crate) fields: Vec<Placed>,
    pub(crate) has_rest: bool,
    /// What makes the table, or gives it what it lacks.
    pub(crate) ddl: Vec<String>,
    pub(crate) findings: Vec<Finding>,
}

impl<'request> Place<'request> {
    /// Decides for `collection`; `types` are the names by which the database knows opaque types.
    pub(crate) fn new(
        collection: &'request Collection,
        name: TableName,
        existing: Option<Table>,
        previous: Vec<Remembered>,
        types: &BTreeMap<String, String>,
        settings: &Settings,
        growth: Growth,
    ) -> Self {
        let mut place = Self {
            collection,
            name,
            existing,
            previous,
            fields: Vec::new(),
            has_rest: false,
            ddl: Vec::new(),
            findings: Vec::new(),
        };
        place.check_names();
        place.check_key(types, settings);
        place.fields = place.arrange();
        place.grow(types, settings, growth);
        place.mark_absent(settings);
        if place.existing.is_none() {
            place.create(types, settings);
        }
        place
    }

    pub(crate) fn block(&mut self, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.findings
            .push(Finding::blocker(code, message).with_help(help));
    }

    /// As [`Place::block`], for want of a right.
    pub(crate) fn lack(&mut self, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.block(code, message, help);
        if let Some(finding) = self.findings.last_mut() {
            finding.kind = Some(ErrorKind::Permission);
        }
    }

    pub(crate) fn is_key(&self, field: &str) -> bool {
        self.collection.key.iter().any(|key| key == field)
    }

    fn remembered(&self, field: &str) -> Option<&Remembered> {
        self.previous.iter().find(|previous| previous.field.name == field)
    }

    /// A NUL character can stand in no text of the database, nor in a name of a member that it is to look up.
    fn check_names(&mut self) {
        let collection = self.collection;
        for field in collection
            .schema
            .fields
            .iter()
            .filter(|field| field.name.contains('\0'))
        {
            let message = format!(
                "the name of the field `{}` holds a NUL character",
                shown(&field.name)
            );
            self.block(
                "postgres.bad_field_name",
                message,
                "rename the field, or leave it out",
            );
        }
    }

    fn check_key(&mut self, types: &BTreeMap<String, String>, settings: &Settings) {
        let collection = self.collection;
        for (index, name) in collection.key.iter().enumerate() {
            let Some(field) = collection.schema.fields.iter().find(|field| field.name == *name) else {
                let message = format!("the key field `{}` is not in the schema", shown(name));
                self.block("postgres.key_missing", message, "correct `key`");
                continue;
            };
            if collection.key[..index].contains(name) {
                let message = format!("the key field `{}` is named twice", shown(name));
                self.block("postgres.bad_key_name", message, "name it once");
            }
            if let Some(reason) = why_no_column(name) {
                let message = format!("the key field `{}` cannot be a column: {reason}", shown(name));
                self.block("postgres.bad_key_name", message, "rename the field");
            }
            let stored_as = new_type(&field.record_type, types, settings);
            if self.existing.is_none() && ["json", "point"].contains(&stored_as.as_str()) {
                let message = format!(
                    "the key field `{}` would be a column of the type `{stored_as}`, which cannot be a key",
                    shown(name)
                );
                self.block(
                    "postgres.key_type",
                    message,
                    "name another key, or turn the field into text",
                );
            }
        }
    }

    /// Gives each field its column, or none where it can have none. Where a field went before is where it goes again;
    /// key fields come first.
    fn arrange(&mut self) -> Vec<Placed> {
        let fields = &self.collection.schema.fields;
        let mut order: Vec<usize> = (0..fields.len()).collect();
        let is_known = |name: &str| {
            self.remembered(name).is_some()
                || self
                    .existing
                    .as_ref()
                    .is_some_and(|table| table.column(name).is_some())
        };
        order.sort_by_key(|index| {
            let name = fields[*index].name.as_str();
            (!self.is_key(name), !is_known(name), *index)
        });
        let mut columns: Vec<Option<String>> = vec![None; fields.len()];
        let mut taken = HashSet::new();
        let mut findings = Vec::new();
        for index in order {
            let name = fields[index].name.as_str();
            let previous = self.remembered(name);
            let was_in_rest = previous.is_some_and(|previous| previous.column.is_none());
            if was_in_rest && !self.is_key(name) {
                continue;
            }
            let column = previous
                .and_then(|previous| previous.column.as_deref())
                .unwrap_or(name);
            let reason = match why_no_column(column) {
                None if taken.len() >= COLUMNS_MAX => {
                    Some(format!("the table has {COLUMNS_MAX} columns already"))
                }
                reason => reason,
            };
            match reason {
                None if taken.insert(column) => columns[index] = Some(column.to_owned()),
                None => {}
                Some(reason) => findings.push(in_rest(name, &reason)),
            }
        }
        let placed = |(field, column): (&Field, Option<String>)| Placed {
            field: field.clone(),
            column,
            may_be_absent: false,
        };
        let placed = fields.iter().zip(columns).map(placed).collect();
        self.findings.extend(findings);
        placed
    }

    /// Adds what an existing table lacks, as columns or in the rest column.
    fn grow(&mut self, types: &BTreeMap<String, String>, settings: &Settings, growth: Growth) {
        let Some(table) = self.existing.as_ref().filter(|_| growth != Growth::Refused) else {
            return;
        };
        let mut column_count = table.columns.len();
        let mut new = Vec::new();
        for placed in &mut self.fields {
            let Some(column) = &placed.column else {
                continue;
            };
            if table.column(column).is_some() {
                continue;
            }
            // Records that are stored already have no value there.
            placed.field.nullable = true;
            if growth == Growth::Rest || column_count >= COLUMNS_MAX {
                placed.column = None;
            } else {
                column_count += 1;
                let stored_as = new_type(&placed.field.record_type, types, settings);
                new.push(NewColumn::nullable(column, stored_as));
            }
        }
        let needs_rest = (settings.keeps_absent && self.collection.schema.presence)
            || self.fields.iter().any(|placed| placed.column.is_none());
        if needs_rest && table.column(REST_COLUMN).is_none() {
            new.push(NewColumn::nullable(REST_COLUMN, "json".to_owned()));
        }
        self.ddl
            .extend(new.iter().map(|column| ddl::add_column(&table.name, column)));
    }

    /// Decides whether there is a rest column, and which fields it marks as absent.
    fn mark_absent(&mut self, settings: &Settings) {
        let wants_absent = settings.keeps_absent && self.collection.schema.presence;
        let key = &self.collection.key;
        let may_be_absent = |placed: &Placed| placed.field.nullable && !key.contains(&placed.field.name);
        self.has_rest = match &self.existing {
            Some(table) => table.column(REST_COLUMN).is_some() || !self.ddl.is_empty() && self.adds_rest(),
            None => {
                (wants_absent && self.fields.iter().any(may_be_absent))
                    || self.fields.is_empty()
                    || self.fields.iter().any(|placed| placed.column.is_none())
            }
        };
        for placed in &mut self.fields {
            let was = self
                .previous
                .iter()
                .find(|previous| previous.field.name == placed.field.name);
            // Records that are stored already may have null there, whatever those that come have.
            placed.field.nullable |= was.is_some_and(|previous| previous.field.nullable);
            placed.may_be_absent = (wants_absent && self.has_rest && may_be_absent(placed))
                || was.is_some_and(|previous| previous.may_be_absent && placed.field.nullable);
        }
    }

    fn adds_rest(&self) -> bool {
        let adding = ddl::add_column(&self.name, &NewColumn::nullable(REST_COLUMN, "json".to_owned()));
        self.ddl.contains(&adding)
    }

    fn create(&mut self, types: &BTreeMap<String, String>, settings: &Settings) {
        let column = |placed: &Placed| {
            let stored_as = new_type(&placed.field.record_type, types, settings);
            placed.column.as_ref().map(|name| NewColumn {
                name: name.clone(),
                stored_as,
                is_required: !placed.field.nullable || self.is_key(&placed.field.name),
            })
        };
        let mut columns: Vec<NewColumn> = self.fields.iter().filter_map(column).collect();
        if self.has_rest {
            columns.push(NewColumn::nullable(REST_COLUMN, "json".to_owned()));
        }
        let key: Vec<&str> = self.key_columns();
        self.ddl.push(ddl::create_table(&self.name, &columns, &key));
        self.name_missing_types(types);
    }

    fn name_missing_types(&mut self, types: &BTreeMap<String, String>) {
        for placed in &self.fields {
            if let RecordType::Opaque { name } = &placed.field.record_type
                && !types.contains_key(name)
                && placed.column.is_some()
            {
                let message = format!(
                    "the database has no type `{}`: the field `{}` becomes text",
                    shown(name),
                    shown(&placed.field.name)
                );
                self.findings.push(
                    Finding::info("postgres.type_missing", message)
                        .with_help("make the type first if it is to be kept: `CREATE TYPE .. AS ENUM (..)`, `CREATE EXTENSION ..`"),
                );
            }
        }
    }

    /// The columns of the key, in its order.
    pub(crate) fn key_columns(&self) -> Vec<&str> {
        let column = |name: &String| {
            let mut fields = self.fields.iter();
            fields
                .find(|placed| placed.field.name == *name)?
                .column
                .as_deref()
        };
        self.collection.key.iter().filter_map(column).collect()
    }
}

/// The type of a new column, as it stands in statements.
pub(crate) fn new_type(
    record_type: &RecordType,
    types: &BTreeMap<String, String>,
    settings: &Settings,
) -> String {
    match record_type {
        RecordType::Opaque { name } => types.get(name).cloned().unwrap_or_else(|| "text".to_owned()),
        other => type_mapping::stored_as(other, settings.types),
    }
}

/// Why a field of this name cannot have a column.
fn why_no_column(name: &str) -> Option<String> {
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "the name has {} octets, of which PostgreSQL would keep `{}`",
            name.len(),
            shown(cut(name))
        ));
    }
    if name.is_empty() {
        return Some("it has no name".to_owned());
    }
    if name == REST_COLUMN || SYSTEM_COLUMNS.contains(&name) {
        return Some("the name is that of a column with a meaning of its own".to_owned());
    }
    None
}

fn in_rest(field: &str, reason: &str) -> Finding {
    Finding::info(
        "postgres.field_in_rest",
        format!(
            "the field `{}` goes into the column `{REST_COLUMN}`: {reason}",
            shown(field)
        ),
    )
    .with_help("rename the field to give it a column of its own")
}

/// What PostgreSQL keeps of a name that is too long.
pub(crate) fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// A name as it is shown to people, where NUL would not show.
pub(crate) fn shown(name: &str) -> String {
    name.replace('\0', "\u{2400}")
}
