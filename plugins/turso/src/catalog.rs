//! What can be read: the collections of the file and the fields of each.
//!
//! A field comes from what is remembered of its table, or from the declaration of its column and the kinds of value that
//! are really in it. Neighbours: `schema` says what the database says, `read` reads what is found here.

use rusqlite::{Connection, OptionalExtension as _};
use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::record_type::{Field, Schema};

use crate::column_memory::{self, Remembered};
use crate::error::Doing as _;
use crate::names::{REST_COLUMN, collection_name, quote, same, table_name};
use crate::schema::{self, Column, Table};
use crate::type_mapping::Classes;

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

/// A collection of the file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) table: Table,
    pub(crate) fields: Vec<StoredField>,
    /// Names of the key fields; empty if the table has no key that tells all records apart.
    pub(crate) key: Vec<String>,
}

/// The tables that are collections, each with the collection's name.
pub(crate) fn collections(connection: &Connection, prefix: &str) -> Result<Vec<(String, String)>> {
    let tables = schema::table_names(connection)?;
    let named = |table: String| {
        collection_name(prefix, &table)
            .map(str::to_owned)
            .map(|name| (name, table))
    };
    Ok(tables.into_iter().filter_map(named).collect())
}

/// The table of a collection: of exactly its name, or one that the database takes for the same.
pub(crate) fn table_of(connection: &Connection, prefix: &str, collection: &str) -> Result<Option<String>> {
    let name = table_name(prefix, collection);
    let holder = schema::holder_of(connection, &name)?;
    Ok(holder.filter(|(_, kind)| kind == "table").map(|(table, _)| table))
}

/// Looks at a table. The types of `expected` are believed without looking at values.
pub(crate) fn describe(
    connection: &Connection,
    table: &str,
    expected: Option<&Schema>,
) -> Result<Option<Stored>> {
    let Some(table) = Table::load(connection, table)? else {
        return Ok(None);
    };
    let remembered = column_memory::load(connection, &table)?;
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
    let mut classes = look(connection, &table.name, &looked_at)?.into_iter();
    let mut fields: Vec<StoredField> = remembered.into_iter().map(StoredField::from).collect();
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
        });
    }
    let key = key_fields(connection, &table, &mut fields)?;
    Ok(Some(Stored { table, fields, key }))
}

impl From<Remembered> for StoredField {
    fn from(remembered: Remembered) -> Self {
        Self {
            origin: if remembered.is_in_rest() {
                Origin::Rest
            } else {
                Origin::Remembered
            },
            field: remembered.field,
            column: remembered.column,
        }
    }
}

impl Stored {
    /// All fields as a schema.
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.fields.iter().map(|stored| stored.field.clone()).collect())
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
fn key_fields(connection: &Connection, table: &Table, fields: &mut [StoredField]) -> Result<Vec<String>> {
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
        if connection
            .query_row(&sql, [], |_| Ok(()))
            .optional()
            .doing("look at the key of a table")?
            .is_some()
        {
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
fn look(connection: &Connection, table: &str, columns: &[&Column]) -> Result<Vec<Classes>> {
    let doing = "look at the values of a table";
    let mut found = Vec::with_capacity(columns.len());
    for columns in columns.chunks(COLUMNS_PER_LOOK) {
        let parts: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = format!("t.{}", quote(&column.name));
                format!(
                    "max(typeof({name}) = 'integer'), max(typeof({name}) = 'real'), max(typeof({name}) = 'text'), \
                     max(typeof({name}) = 'blob'), \
                     max(typeof({name}) = 'integer' AND ({name} > {FLOAT_EXACT_MAX} OR {name} < -{FLOAT_EXACT_MAX}))"
                )
            })
            .collect();
        let sql = format!("SELECT {} FROM {} AS t", parts.join(", "), quote(table));
        let classes = connection
            .query_row(&sql, [], |row| {
                let has = |index: usize| row.get::<_, Option<bool>>(index).map(Option::unwrap_or_default);
                (0..columns.len())
                    .map(|column| column * 5)
                    .map(|first| {
                        Ok(Classes {
                            integer: has(first)?,
                            real: has(first + 1)?,
                            text: has(first + 2)?,
                            blob: has(first + 3)?,
                            wide_integer: has(first + 4)?,
                        })
                    })
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .doing(doing)?;
        found.extend(classes);
    }
    Ok(found)
}
