//! What can be read: the collections of the database and the fields of each.
//!
//! A field comes from what is remembered of its table, or from the declaration of its column and the kinds of value that
//! are really in it. Neighbours: `schema` says what the database says, `read` reads what is found here.

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::record_type::{Field, Schema};

use crate::column_memory::{self, Remembered};
use crate::database::{self, Cells, Database, flag};
use crate::names::{REST_COLUMN, collection_name, quote, same, table_name};
use crate::schema::{self, Column, Table};
pub(crate) use crate::type_mapping::Classes;

/// Columns of one query that looks at all values: five results each, of at most 2,000 in all.
const COLUMNS_PER_LOOK: usize = 300;
/// From here on a 64-bit float skips integers.
const FLOAT_EXACT_MAX: i64 = 1 << 53;

/// A field and where it is.
#[derive(Debug, Clone)]
pub(crate) struct StoredField {
    pub(crate) field: Field,
    pub(crate) column: String,
    /// How its values are to be read.
    pub(crate) origin: Origin,
    /// Whether the rest column says which records lack it.
    pub(crate) may_be_absent: bool,
}

/// How sure the type of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The sink wrote it as this type.
    Remembered,
    /// The sink wrote it into the rest column.
    Rest,
    /// Found by looking.
    Found,
}

/// A collection of the database.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) table: Table,
    pub(crate) fields: Vec<StoredField>,
    /// Names of the key fields; empty if the table has no key that tells all records apart.
    pub(crate) key: Vec<String>,
}

/// The tables that are collections, each with the collection's name.
pub(crate) fn collections(database: &dyn Database, prefix: &str) -> Result<Vec<(String, String)>> {
    let tables = schema::table_names(database)?;
    let named = |table: String| {
        collection_name(prefix, &table)
            .map(str::to_owned)
            .map(|name| (name, table))
    };
    Ok(tables.into_iter().filter_map(named).collect())
}

/// The table of a collection: of exactly its name, or one that the database takes for the same.
pub(crate) fn table_of(database: &dyn Database, prefix: &str, collection: &str) -> Result<Option<String>> {
    let name = table_name(prefix, collection);
    let holder = schema::holder_of(database, &name)?;
    Ok(holder.filter(|(_, kind)| kind == "table").map(|(table, _)| table))
}

/// Looks at a table. The types of `expected` are believed without looking at values.
pub(crate) fn describe(
    database: &dyn Database,
    table: &str,
    expected: Option<&Schema>,
) -> Result<Option<Stored>> {
    let Some(table) = Table::load(database, table)? else {
        return Ok(None);
    };
    let remembered = column_memory::load(database, &table)?;
    let is_known = |column: &Column| {
        remembered.iter().any(|known| same(&known.column, &column.name))
            || (!remembered.is_empty() && column.name == REST_COLUMN)
    };
    let unknown: Vec<&Column> = table.columns.iter().filter(|column| !is_known(column)).collect();
    let is_expected = |column: &Column| {
        expected
            .and_then(|schema| schema.index_of(&column.name))
            .is_some()
    };
    let looked_at: Vec<&Column> = unknown
        .iter()
        .copied()
        .filter(|column| !is_expected(column))
        .collect();
    let mut classes = look(database, &table.name, &looked_at)?.into_iter();
    let has_rest = table.column(REST_COLUMN).is_some();
    let stored = |remembered| StoredField::of(remembered, has_rest);
    let mut fields: Vec<StoredField> = remembered.into_iter().map(stored).collect();
    for column in unknown {
        let believed =
            expected.and_then(|schema| schema.index_of(&column.name).map(|index| &schema.fields[index]));
        let field = match believed {
            Some(field) => field.clone(),
            None => {
                let found = classes.next().unwrap_or_default();
                let record_type = found.record_type(&column.declared, column.affinity);
                let is_required = column.is_not_null || is_row_number(&table, column);
                Field {
                    nullable: !is_required,
                    ..Field::new(&column.name, record_type)
                }
            }
        };
        fields.push(StoredField {
            field,
            column: column.name.clone(),
            origin: Origin::Found,
            may_be_absent: false,
        });
    }
    let key = key_fields(database, &table, &mut fields)?;
    Ok(Some(Stored { table, fields, key }))
}

impl StoredField {
    fn of(remembered: Remembered, has_rest: bool) -> Self {
        Self {
            origin: if remembered.is_in_rest() {
                Origin::Rest
            } else {
                Origin::Remembered
            },
            may_be_absent: remembered.may_be_absent && has_rest,
            field: remembered.field,
            column: remembered.column,
        }
    }
}

impl Stored {
    /// All fields as a schema.
    pub(crate) fn schema(&self) -> Schema {
        Schema {
            presence: self.has_absent(),
            ..Schema::new(self.fields.iter().map(|stored| stored.field.clone()).collect())
        }
    }

    /// Whether absent fields are told from null.
    pub(crate) fn has_absent(&self) -> bool {
        self.fields.iter().any(|stored| stored.may_be_absent)
    }

    /// The field called `name`, or else the one whose column has that name.
    pub(crate) fn field(&self, name: &str) -> Option<&StoredField> {
        let by_column = |stored: &&StoredField| stored.origin != Origin::Rest && same(&stored.column, name);
        self.fields
            .iter()
            .find(|stored| stored.field.name == name)
            .or_else(|| self.fields.iter().find(by_column))
    }

    /// The columns of the key.
    pub(crate) fn key_columns(&self) -> Vec<&str> {
        self.key
            .iter()
            .filter_map(|name| self.field(name))
            .map(|stored| stored.column.as_str())
            .collect()
    }
}

fn is_row_number(table: &Table, column: &Column) -> bool {
    table
        .row_number_column()
        .is_some_and(|own| own.name == column.name)
}

/// The primary key as fields. A table may hold several records without a value in their key; then it is none.
fn key_fields(database: &dyn Database, table: &Table, fields: &mut [StoredField]) -> Result<Vec<String>> {
    let key = table.key();
    let may_be_null =
        |column: &&&Column| !column.is_not_null && table.has_row_numbers && !is_row_number(table, column);
    let unsure: Vec<String> = key
        .iter()
        .filter(may_be_null)
        .map(|column| format!("t.{} IS NULL", quote(&column.name)))
        .collect();
    if !unsure.is_empty() {
        let sql = format!(
            "SELECT 1 FROM {} AS t WHERE {} LIMIT 1",
            quote(&table.name),
            unsure.join(" OR ")
        );
        if database::first(database, "look at the key of a table", &sql, &[], |_| Ok(()))?.is_some() {
            return Ok(Vec::new());
        }
    }
    let mut names = Vec::with_capacity(key.len());
    for column in key {
        let field = fields
            .iter_mut()
            .find(|stored| stored.origin != Origin::Rest && same(&stored.column, &column.name));
        if let Some(stored) = field {
            if stored.origin == Origin::Found {
                stored.field.nullable = false;
            }
            names.push(stored.field.name.clone());
        }
    }
    Ok(names)
}

/// Which kinds of value each column holds, by reading all of them.
fn look(database: &dyn Database, table: &str, columns: &[&Column]) -> Result<Vec<Classes>> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    look_at(database, "look at the values of a table", &quote(table), &names)
}

/// The same for columns of `from`, a table or a statement in brackets.
pub(crate) fn look_at(
    database: &dyn Database,
    doing: &str,
    from: &str,
    columns: &[&str],
) -> Result<Vec<Classes>> {
    let mut found = Vec::with_capacity(columns.len());
    for columns in columns.chunks(COLUMNS_PER_LOOK) {
        let parts: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = format!("t.{}", quote(column));
                format!(
                    "max(typeof({name}) = 'integer'), max(typeof({name}) = 'real'), max(typeof({name}) = 'text'), \
                     max(typeof({name}) = 'blob'), \
                     max(typeof({name}) = 'integer' AND ({name} > {FLOAT_EXACT_MAX} OR {name} < -{FLOAT_EXACT_MAX}))"
                )
            })
            .collect();
        let sql = format!("SELECT {} FROM {from} AS t", parts.join(", "));
        let classes = database::first(database, doing, &sql, &[], |row| {
            (0..columns.len())
                .map(|column| classes_at(row, column * 5))
                .collect::<Result<Vec<_>>>()
        })?;
        found.extend(classes.unwrap_or_default());
    }
    Ok(found)
}

fn classes_at(row: &dyn Cells, first: usize) -> Result<Classes> {
    Ok(Classes {
        integer: flag(row, first)?,
        real: flag(row, first + 1)?,
        text: flag(row, first + 2)?,
        blob: flag(row, first + 3)?,
        wide_integer: flag(row, first + 4)?,
    })
}
