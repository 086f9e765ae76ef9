//! What tables the database has: columns with their types, keys, foreign keys, triggers, policies, estimates.
//!
//! Read from `pg_catalog` with few queries, however many tables there are: `load` asks, `queries` has the statements, and
//! `pg_types` puts types together. Neighbours: the source announces it, the sink compares with it.

mod load;
mod pg_types;
mod queries;
#[cfg(test)]
mod tests;

pub(crate) use load::{answer_columns, load};

use crate::names::TableName;

/// A type of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PgType {
    /// Its number in this database.
    pub(crate) oid: u32,
    /// The schema that it lives in.
    pub(crate) schema: String,
    /// Its name there, such as `int4` or `_text`.
    pub(crate) name: String,
    /// As `format_type` writes it with the column's modifier, such as `numeric(12,2)`; types of other schemas than
    /// `pg_catalog` always with their schema.
    pub(crate) formatted: String,
    /// The column's type modifier; -1 if there is none.
    pub(crate) modifier: i32,
    /// What kind of type it is.
    pub(crate) kind: PgTypeKind,
}

/// What kind of type it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PgTypeKind {
    /// A scalar.
    Base,
    /// One of these labels.
    Enum(Vec<String>),
    /// Another type with constraints; the innermost base type, with the domain's modifier.
    Domain(Box<PgType>),
    /// An array of these.
    Array(Box<PgType>),
    /// A row type.
    Composite,
    /// A range or multirange.
    Range,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) pg_type: PgType,
    /// How many dimensions an array was declared with; nothing holds the database to it.
    pub(crate) dimensions: u32,
    pub(crate) is_not_null: bool,
    pub(crate) has_default: bool,
    pub(crate) identity: Identity,
    /// Computed by the database.
    pub(crate) is_generated: bool,
    /// The sequence that gives its values (`serial` or identity), as a qualified and quoted name.
    pub(crate) sequence: Option<String>,
}

/// Whether the database numbers records itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Identity {
    #[default]
    None,
    ByDefault,
    Always,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) to: TableName,
    pub(crate) to_columns: Vec<String>,
    /// Whether all records were checked against it.
    pub(crate) is_validated: bool,
    pub(crate) is_deferrable: bool,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) kind: TableKind,
    pub(crate) columns: Vec<Column>,
    /// A part of a partitioned table, whose records are read through that one.
    pub(crate) is_partition: bool,
    /// Other tables inherit from it; their records are not its own.
    pub(crate) has_children: bool,
    /// Columns of the primary key, in its order.
    pub(crate) primary_key: Vec<String>,
    /// Columns of each valid unique index over plain columns without a condition, the primary key's among them. Those that
    /// are looked at only on commit are not: `ON CONFLICT` takes none of them. The columns may be null unless they say no.
    pub(crate) unique_keys: Vec<Vec<String>>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// Names of the enabled triggers that are not the database's own.
    pub(crate) triggers: Vec<String>,
    /// Row-level security is on for whoever connects here (not for its owner, a superuser or `BYPASSRLS`).
    pub(crate) has_row_security: bool,
    /// Records, as the database estimates; `None` if it was never analysed.
    pub(crate) record_estimate: Option<u64>,
    pub(crate) size_bytes: u64,
    /// What whoever connects may do.
    pub(crate) may_select: bool,
    pub(crate) may_insert: bool,
    pub(crate) may_update: bool,
    pub(crate) may_delete: bool,
    pub(crate) is_owner: bool,
}

impl Table {
    /// The column called `name`.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Which tables are wanted.
#[derive(Debug, Clone)]
pub(crate) enum Wanted<'a> {
    /// Everything in these schemas, but for parts of partitioned tables and what belongs to extensions.
    Schemas(&'a [String]),
    /// These, as far as they exist; parts of partitioned tables among them.
    Tables(&'a [TableName]),
    /// Everything but the database's own schemas, these schemas, parts of partitioned tables and what belongs to extensions.
    AllBut(&'a [String]),
}
