//! Asks for tables and puts the answers together.
//! Neighbours: `queries` has the statements, `pg_types` makes sense of the types among the answers.

use std::collections::HashMap;
use std::str::FromStr;

use whimbrel_plugin_api::Error;

use crate::connection::{Connection, Row};
use crate::error::Fault;
use crate::names::TableName;

use super::pg_types::{PgTypes, changed};
use super::{Column, ForeignKey, Identity, Table, TableKind, Wanted, queries};

/// Tables that one round of queries asks for, so that no statement grows without bound.
const TABLES_PER_ROUND: usize = 2_000;

/// Loads what is there, ordered by schema and name. Works within an open transaction and outside of one.
///
/// # Errors
/// `postgres.catalog_changed` if tables are made and dropped at the same time; whatever the connection reports.
pub(crate) async fn load(connection: &mut Connection, wanted: Wanted<'_>) -> Result<Vec<Table>, Fault> {
    let rows = connection.rows(&queries::tables(&wanted)).await?;
    let mut tables: Vec<Table> = rows.into_iter().map(table).collect::<Result<_, _>>()?;
    for round in tables.chunks_mut(TABLES_PER_ROUND) {
        fill(connection, round).await?;
    }
    // A table that was dropped meanwhile has no columns any more, and rights to it are unknown.
    Ok(tables)
}

/// The columns of an answer, of which only names and numbers of types are known.
///
/// # Errors
/// As [`load`].
pub(crate) async fn answer_columns(
    connection: &mut Connection,
    columns: Vec<(String, u32)>,
) -> Result<Vec<Column>, Fault> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = columns.iter().map(|(_, oid)| *oid).collect();
    let types = PgTypes::new(connection.rows(&queries::types_by_number(&oids)).await?)?;
    let column = |(name, oid)| {
        Ok(Column {
            name,
            pg_type: types.get(oid, -1)?,
            dimensions: 0,
            is_not_null: false,
            has_default: false,
            identity: Identity::None,
            is_generated: false,
            sequence: None,
        })
    };
    columns.into_iter().map(column).collect()
}

async fn fill(connection: &mut Connection, tables: &mut [Table]) -> Result<(), Fault> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let oids = oids.join(", ");
    let places: HashMap<u32, usize> = tables
        .iter()
        .enumerate()
        .map(|(place, table)| (table.oid, place))
        .collect();
    let place = |cells: &mut Cells| -> Result<usize, Fault> {
        let oid: u32 = cells.number()?;
        places.get(&oid).copied().ok_or_else(changed)
    };
    // Columns first: a type made in between is then not missing.
    let columns = connection.rows(&queries::columns(&oids)).await?;
    let types = PgTypes::new(connection.rows(&queries::types(&oids)).await?)?;
    for row in columns {
        let mut cells = Cells::new(row);
        let table = &mut tables[place(&mut cells)?];
        table.columns.push(column(&mut cells, &types)?);
    }
    for row in connection.rows(&queries::keys(&oids)).await? {
        let mut cells = Cells::new(row);
        let table = &mut tables[place(&mut cells)?];
        let (is_primary, is_immediate) = (cells.flag()?, cells.flag()?);
        let columns = cells.names()?;
        if is_primary {
            table.primary_key.clone_from(&columns);
        }
        if is_immediate && !table.unique_keys.contains(&columns) {
            table.unique_keys.push(columns);
        }
    }
    for row in connection.rows(&queries::foreign_keys(&oids)).await? {
        let mut cells = Cells::new(row);
        let table = &mut tables[place(&mut cells)?];
        table.foreign_keys.push(ForeignKey {
            name: cells.text()?,
            columns: cells.names()?,
            to: TableName {
                schema: cells.text()?,
                name: cells.text()?,
            },
            to_columns: cells.names()?,
            is_validated: cells.flag()?,
            is_deferrable: cells.flag()?,
        });
    }
    for row in connection.rows(&queries::triggers(&oids)).await? {
        let mut cells = Cells::new(row);
        let table = &mut tables[place(&mut cells)?];
        table.triggers.push(cells.text()?);
    }
    Ok(())
}

fn table(row: Row) -> Result<Table, Fault> {
    let mut cells = Cells::new(row);
    Ok(Table {
        oid: cells.number()?,
        name: TableName {
            schema: cells.text()?,
            name: cells.text()?,
        },
        kind: match cells.letter()? {
            'p' => TableKind::Partitioned,
            'v' => TableKind::View,
            'm' => TableKind::MaterializedView,
            'f' => TableKind::Foreign,
            _ => TableKind::Table,
        },
        columns: Vec::new(),
        is_partition: cells.flag()?,
        has_children: cells.flag()?,
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        record_estimate: cells.optional_number()?,
        size_bytes: cells.optional_number()?.unwrap_or(0),
        may_select: cells.flag()?,
        may_insert: cells.flag()?,
        may_update: cells.flag()?,
        may_delete: cells.flag()?,
        is_owner: cells.flag()?,
        has_row_security: cells.flag()?,
    })
}

fn column(cells: &mut Cells, types: &PgTypes) -> Result<Column, Fault> {
    let name = cells.text()?;
    let pg_type = types.get(cells.number()?, cells.number()?)?;
    Ok(Column {
        name,
        pg_type,
        dimensions: cells.number()?,
        is_not_null: cells.flag()?,
        has_default: cells.flag()?,
        identity: match cells.next_text().as_deref() {
            Some("a") => Identity::Always,
            Some("d") => Identity::ByDefault,
            _ => Identity::None,
        },
        is_generated: cells.next_text().is_some_and(|how| !how.is_empty()),
        sequence: cells.next_text(),
    })
}

/// The texts of one row, taken one by one.
pub(super) struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    pub(super) fn new(row: Row) -> Self {
        Self(row.into_iter())
    }

    /// Null as `None`.
    pub(super) fn next_text(&mut self) -> Option<String> {
        self.0.next().flatten()
    }

    pub(super) fn text(&mut self) -> Result<String, Fault> {
        self.next_text().ok_or_else(unexpected)
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<T, Fault> {
        self.text()?.parse().map_err(|_| unexpected())
    }

    pub(super) fn optional_number(&mut self) -> Result<Option<u64>, Fault> {
        self.next_text()
            .map(|text| text.parse().map_err(|_| unexpected()))
            .transpose()
    }

    pub(super) fn letter(&mut self) -> Result<char, Fault> {
        self.text()?.chars().next().ok_or_else(unexpected)
    }

    /// Null, as the database answers of what was just dropped, is no.
    pub(super) fn flag(&mut self) -> Result<bool, Fault> {
        Ok(self.next_text().as_deref() == Some("t"))
    }

    /// A JSON array of texts; null as none.
    pub(super) fn names(&mut self) -> Result<Vec<String>, Fault> {
        self.next_text().map_or(Ok(Vec::new()), |text| {
            serde_json::from_str(&text).map_err(|_| unexpected())
        })
    }
}

fn unexpected() -> Fault {
    Fault::of_error(Error::internal(
        "the catalog of the database answers in an unexpected form",
    ))
}
