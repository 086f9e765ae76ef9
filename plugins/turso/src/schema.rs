//! What the database says of its tables: columns, keys, references and whether something else has a name.
//!
//! Only looks; `prepare` makes tables. What a table cannot say of itself is in `column_memory`.

use rusqlite::Connection;
use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::collection::Reference;

use crate::error::Doing as _;
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

/// The tables of the file, in the order of their names. Views and virtual tables are not among them.
pub(crate) fn table_names(connection: &Connection) -> Result<Vec<String>> {
    let doing = "list the tables";
    let mut statement = connection
        .prepare_cached(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name",
        )
        .doing(doing)?;
    let names = statement.query_map([], |row| row.get(0)).doing(doing)?;
    names.collect::<rusqlite::Result<_>>().doing(doing)
}

/// What has `name`, as the database compares names: its own spelling and `table`, `view`, `index`..
pub(crate) fn holder_of(connection: &Connection, name: &str) -> Result<Option<(String, String)>> {
    let doing = "look for a table";
    let mut statement = connection
        .prepare_cached(
            "SELECT name, CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 'virtual table' ELSE type END FROM sqlite_master \
             WHERE name = ?1 COLLATE NOCASE AND type <> 'trigger' ORDER BY name <> ?1, type <> 'table'",
        )
        .doing(doing)?;
    let mut rows = statement.query([name]).doing(doing)?;
    match rows.next().doing(doing)? {
        Some(row) => Ok(Some((row.get(0).doing(doing)?, row.get(1).doing(doing)?))),
        None => Ok(None),
    }
}

/// Triggers of the table.
pub(crate) fn trigger_count(connection: &Connection, table: &str) -> Result<u64> {
    connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1",
            [table],
            |row| row.get(0),
        )
        .doing("look for triggers")
}

impl Table {
    /// The table of exactly this name.
    pub(crate) fn load(connection: &Connection, name: &str) -> Result<Option<Self>> {
        let doing = "look at a table";
        let mut statement = connection
            .prepare_cached("SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1")
            .doing(doing)?;
        let flags = statement
            .query_map([name], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?)))
            .doing(doing)?
            .next()
            .transpose()
            .doing(doing)?;
        let Some((without_row_numbers, is_strict)) = flags else {
            return Ok(None);
        };
        let (unique, has_key_index) = indexes(connection, name)?;
        Ok(Some(Self {
            name: name.to_owned(),
            columns: columns(connection, name, is_strict)?,
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

fn columns(connection: &Connection, table: &str, is_strict: bool) -> Result<Vec<Column>> {
    let doing = "look at the columns of a table";
    let mut statement = connection
        .prepare_cached("SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")
        .doing(doing)?;
    let columns = statement
        .query_map([table], |row| {
            let declared: String = row.get(1)?;
            Ok(Column {
                name: row.get(0)?,
                affinity: Affinity::of(&declared, is_strict),
                declared,
                is_not_null: row.get(2)?,
                has_default: row.get(3)?,
                key_position: row.get(4)?,
                is_generated: row.get::<_, u32>(5)? > 0,
            })
        })
        .doing(doing)?;
    columns.collect::<rusqlite::Result<_>>().doing(doing)
}

/// The unique column sets, and whether the primary key has an index of its own.
fn indexes(connection: &Connection, table: &str) -> Result<(Vec<Vec<String>>, bool)> {
    let doing = "look at the indexes of a table";
    let mut statement = connection
        .prepare_cached("SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial")
        .doing(doing)?;
    let found: Vec<(String, String)> = statement
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .doing(doing)?
        .collect::<rusqlite::Result<_>>()
        .doing(doing)?;
    let mut unique = Vec::with_capacity(found.len());
    let mut members = connection
        .prepare_cached("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")
        .doing(doing)?;
    for (index, _) in &found {
        // An index over an expression has no name there.
        let names: Vec<Option<String>> = members
            .query_map([index], |row| row.get(0))
            .doing(doing)?
            .collect::<rusqlite::Result<_>>()
            .doing(doing)?;
        unique.extend(names.into_iter().collect::<Option<Vec<String>>>());
    }
    Ok((unique, found.iter().any(|(_, origin)| origin == "pk")))
}

/// The foreign keys of the table: its columns, the table pointed to, and the columns there (empty means its key).
pub(crate) fn references(connection: &Connection, table: &str) -> Result<Vec<Reference>> {
    let doing = "look at the foreign keys of a table";
    let mut statement = connection
        .prepare_cached(
            "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        )
        .doing(doing)?;
    let mut rows = statement.query([table]).doing(doing)?;
    let mut references: Vec<(i64, Reference)> = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let id: i64 = row.get(0).doing(doing)?;
        if references.last().is_none_or(|(last, _)| *last != id) {
            let reference = Reference {
                fields: Vec::new(),
                collection: row.get(1).doing(doing)?,
                to_fields: Vec::new(),
            };
            references.push((id, reference));
        }
        if let Some((_, reference)) = references.last_mut() {
            reference.fields.push(row.get(2).doing(doing)?);
            reference
                .to_fields
                .extend(row.get::<_, Option<String>>(3).doing(doing)?);
        }
    }
    Ok(references.into_iter().map(|(_, reference)| reference).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
