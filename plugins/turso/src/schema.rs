//! What the database says of its tables: columns, keys, references and whether something else has a name.
//!
//! Only looks; `prepare` makes tables. What a table cannot say of itself is in `column_memory`.

use rusqlite::types::Value;
use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::collection::Reference;

use crate::database::{self, Database, flag, integer, optional_text, text};
use crate::names::{ROW_NUMBERS, same};
use crate::type_mapping::Affinity;

/// One column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type as it was declared; may be empty.
    pub(crate) declared: String,
    pub(crate) affinity: Affinity,
    pub(crate) is_not_null: bool,
    pub(crate) has_default: bool,
    /// Position in the primary key, from 1; 0 if it is not part of it.
    pub(crate) key_position: u32,
    pub(crate) is_generated: bool,
}

/// One table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) has_row_numbers: bool,
    /// Column sets that are unique, the primary key apart. Partial indexes are not among them.
    unique: Vec<Vec<String>>,
    /// Whether the primary key has an index of its own, so that it is not the row number.
    has_key_index: bool,
}

/// The tables of the database, in the order of their names. Views and virtual tables are not among them.
pub(crate) fn table_names(database: &dyn Database) -> Result<Vec<String>> {
    database::rows(
        database,
        "list the tables",
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name",
        &[],
        |row| text(row, 0),
    )
}

/// What has `name`, as the database compares names: its own spelling and `table`, `view`, `index`..
pub(crate) fn holder_of(database: &dyn Database, name: &str) -> Result<Option<(String, String)>> {
    database::first(
        database,
        "look for a table",
        "SELECT name, CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 'virtual table' ELSE type END FROM sqlite_master \
         WHERE name = ?1 COLLATE NOCASE AND type <> 'trigger' ORDER BY name <> ?1, type <> 'table'",
        &[named(name)],
        |row| Ok((text(row, 0)?, text(row, 1)?)),
    )
}

/// Triggers of the table.
pub(crate) fn trigger_count(database: &dyn Database, table: &str) -> Result<u64> {
    database::count(
        database,
        "look for triggers",
        "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE",
        &[named(table)],
    )
}

fn named(name: &str) -> Value {
    Value::Text(name.to_owned())
}

impl Table {
    /// The table of exactly this name.
    pub(crate) fn load(database: &dyn Database, name: &str) -> Result<Option<Self>> {
        let flags = database::first(
            database,
            "look at a table",
            "SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1",
            &[named(name)],
            |row| Ok((flag(row, 0)?, flag(row, 1)?)),
        )?;
        let Some((without_row_numbers, is_strict)) = flags else {
            return Ok(None);
        };
        let (unique, has_key_index) = indexes(database, name)?;
        Ok(Some(Self {
            name: name.to_owned(),
            columns: columns(database, name, is_strict)?,
            has_row_numbers: !without_row_numbers,
            unique,
            has_key_index,
        }))
    }

    /// The column that the database takes for `name`.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| same(&column.name, name))
    }

    /// The columns of the primary key, in its order; empty if there is none.
    pub(crate) fn key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| column.key_position > 0)
            .collect();
        key.sort_by_key(|column| column.key_position);
        key
    }

    /// The key column that is the row number itself.
    pub(crate) fn row_number_column(&self) -> Option<&Column> {
        match self.key().as_slice() {
            [only] if self.has_row_numbers && !self.has_key_index && same(&only.declared, "integer") => {
                Some(*only)
            }
            _ => None,
        }
    }

    /// How a query asks for the row number; `None` if columns have taken every name for it, or there is none.
    pub(crate) fn row_number(&self) -> Option<&'static str> {
        let mut names = ROW_NUMBERS.into_iter().filter(|_| self.has_row_numbers);
        names.find(|name| self.column(name).is_none())
    }

    /// Whether the primary key or a unique index has exactly these columns, in any order.
    pub(crate) fn is_unique(&self, columns: &[&str]) -> bool {
        let is_same_set = |index: &[String]| {
            index.len() == columns.len()
                && columns
                    .iter()
                    .all(|column| index.iter().any(|name| same(name, column)))
        };
        let key: Vec<String> = self.key().iter().map(|column| column.name.clone()).collect();
        is_same_set(&key) || self.unique.iter().any(|index| is_same_set(index))
    }
}

fn columns(database: &dyn Database, table: &str, is_strict: bool) -> Result<Vec<Column>> {
    database::rows(
        database,
        "look at the columns of a table",
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid",
        &[named(table)],
        |row| {
            let declared = text(row, 1)?;
            Ok(Column {
                name: text(row, 0)?,
                affinity: Affinity::of(&declared, is_strict),
                declared,
                is_not_null: flag(row, 2)?,
                has_default: flag(row, 3)?,
                key_position: integer(row, 4)?.try_into().unwrap_or(u32::MAX),
                is_generated: flag(row, 5)?,
            })
        },
    )
}

/// The unique column sets, and whether the primary key has an index of its own.
fn indexes(database: &dyn Database, table: &str) -> Result<(Vec<Vec<String>>, bool)> {
    // An index over an expression has no name in one of its rows.
    let members = database::rows(
        database,
        "look at the indexes of a table",
        "SELECT i.seq, i.origin, m.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS m \
         WHERE i.\"unique\" AND NOT i.partial ORDER BY i.seq, m.seqno",
        &[named(table)],
        |row| Ok((integer(row, 0)?, text(row, 1)?, optional_text(row, 2)?)),
    )?;
    let has_key_index = members.iter().any(|(_, origin, _)| origin == "pk");
    let unique = members
        .chunk_by(|(left, ..), (right, ..)| left == right)
        .filter_map(|index| index.iter().map(|(_, _, name)| name.clone()).collect())
        .collect();
    Ok((unique, has_key_index))
}

/// The foreign keys of the table: its columns, the table pointed to, and the columns there (empty means its key).
pub(crate) fn references(database: &dyn Database, table: &str) -> Result<Vec<Reference>> {
    let columns = database::rows(
        database,
        "look at the foreign keys of a table",
        "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        &[named(table)],
        |row| {
            Ok((
                integer(row, 0)?,
                text(row, 1)?,
                text(row, 2)?,
                optional_text(row, 3)?,
            ))
        },
    )?;
    let reference = |columns: &[(i64, String, String, Option<String>)]| Reference {
        fields: columns.iter().map(|(_, _, from, _)| from.clone()).collect(),
        collection: columns
            .first()
            .map(|(_, table, ..)| table.clone())
            .unwrap_or_default(),
        to_fields: columns.iter().filter_map(|(.., to)| to.clone()).collect(),
        // Whether foreign keys hold depends on each program that has written to the file.
        is_enforced: false,
    };
    let same_key = |left: &(i64, String, String, Option<String>), right: &(i64, _, _, _)| left.0 == right.0;
    Ok(columns.chunk_by(same_key).map(reference).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn table(ddl: &str) -> Table {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(ddl).unwrap();
        Table::load(&connection, "t").unwrap().unwrap()
    }

    #[test]
    fn the_row_number_is_found_under_a_free_name() {
        assert_eq!(table("CREATE TABLE t(a)").row_number(), Some("rowid"));
        assert_eq!(table("CREATE TABLE t(ROWID, oid)").row_number(), Some("_rowid_"));
        assert_eq!(table("CREATE TABLE t(rowid, oid, _rowid_)").row_number(), None);
        assert_eq!(
            table("CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID").row_number(),
            None
        );
    }

    #[test]
    fn only_a_true_alias_is_the_row_number() {
        assert!(
            table("CREATE TABLE t(a INTEGER PRIMARY KEY)")
                .row_number_column()
                .is_some()
        );
        for ddl in [
            "CREATE TABLE t(a INT PRIMARY KEY)",
            "CREATE TABLE t(a INTEGER PRIMARY KEY DESC)",
            "CREATE TABLE t(a INTEGER PRIMARY KEY) WITHOUT ROWID",
            "CREATE TABLE t(a INTEGER, b, PRIMARY KEY(a, b))",
            "CREATE TABLE t(a TEXT PRIMARY KEY)",
        ] {
            assert!(table(ddl).row_number_column().is_none(), "{ddl}");
        }
    }

    #[test]
    fn unique_sets_count_as_keys_and_partial_ones_do_not() {
        let found = table(
            "CREATE TABLE t(a, b, c, d, PRIMARY KEY(b, a)); CREATE UNIQUE INDEX x ON t(c); \
             CREATE UNIQUE INDEX y ON t(d) WHERE d > 0; CREATE UNIQUE INDEX z ON t(lower(d))",
        );
        assert!(found.is_unique(&["A", "b"]));
        assert!(found.is_unique(&["c"]));
        assert!(!found.is_unique(&["d"]));
        assert!(!found.is_unique(&["a"]));
        assert!(!found.is_unique(&[]));
    }
}
