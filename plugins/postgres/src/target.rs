//! Where one collection goes: the table, the column of each field, and how its values travel there.
//!
//! `prepare` makes it, `write` follows it. Field names are those of batches, column names those of the table; the
//! two differ only by fields that have no column and are members of the rest column instead.

use std::collections::BTreeSet;

use whimbrel_plugin_api::record_type::Field;

use crate::names::TableName;
use crate::type_mapping::Writing;

/// The column of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    /// The field, as the collection was prepared with.
    pub(crate) field: Field,
    /// The column's name; `None` if the field goes into the rest column.
    pub(crate) column: Option<String>,
    /// How its values travel; `None` exactly for fields of the rest column.
    pub(crate) writing: Option<Writing>,
    /// Whether records may lack the field and the rest column says so.
    pub(crate) may_be_absent: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: an INSERT must override it.
    pub(crate) is_identity_always: bool,
}

/// Where one collection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) table: TableName,
    /// One for each field, in the order of the schema; after a change of schema also the fields that were there before it.
    pub(crate) columns: Vec<TargetColumn>,
    /// The key fields, in order; empty if there is no key. Each has a column, and these columns have a unique index of their
    /// own that `ON CONFLICT (..)` can name.
    pub(crate) key: Vec<String>,
    /// The field whose higher value is newer, for `keep-newest` and `keep-oldest`.
    pub(crate) version: Option<String>,
    /// Whether the table has the rest column, a nullable `json`.
    pub(crate) has_rest: bool,
    /// The fields of which the rest column of stored records is known to say something: its members, and fields that may
    /// be absent. A batch that lacks one of them must leave what is said of it.
    pub(crate) rest_fields: BTreeSet<String>,
    /// Whether rows may be copied straight into the table: no column needs a cast, no row-level security, no triggers.
    pub(crate) takes_copy: bool,
    /// Whether the table held nothing when the run prepared it.
    pub(crate) was_empty: bool,
    /// Whether triggers run with every record; they may change it or drop it.
    pub(crate) has_triggers: bool,
    /// Whether the table has constraints that are only looked at on commit.
    pub(crate) has_deferred_constraints: bool,
}

impl Target {
    /// Where the field called `name` goes.
    pub(crate) fn column_of(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.field.name == name)
    }
}
