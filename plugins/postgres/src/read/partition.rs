//! How a table is divided: ranges of its key, or of the blocks of its file.
//!
//! Bounds of key ranges are found by looking at some blocks of the table. They are kept in the descriptor, so a range means
//! the same in a later process, and the outer ranges are open, so that what comes later belongs to one of them. Ranges
//! of blocks hold while nothing moves the records, which is to say within one snapshot.

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::collection::Estimate;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Partition, Result};

use crate::catalog::TableKind;
use crate::connection::Connection;

use super::literals::{cast_type, typed};
use super::query::{from, qualified};
use super::stored::Stored;

/// Octets that a part should have at least: below, a further connection costs more than it gains.
const PART_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Blocks that are looked at to find the bounds of key ranges.
const BLOCKS_SAMPLED: u64 = 600;
/// Parts that a table is divided into at most.
const PARTS_MAX: u32 = 256;

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The columns from some values on to before others, as texts.
    Key {
        columns: Vec<String>,
        from: Option<Vec<String>>,
        to: Option<Vec<String>>,
    },
    /// Blocks of the file from one on to before another one.
    Block {
        file: u32,
        snapshot: String,
        from: Option<u32>,
        to: Option<u32>,
    },
}

impl Part {
    /// The part that a descriptor means.
    ///
    /// # Errors
    /// `postgres.bad_partition` for octets that are no descriptor of this plugin.
    pub(crate) fn of(partition: Option<&Partition>) -> Result<Self> {
        match partition.map(|partition| &partition.descriptor) {
            None => Ok(Self::Whole),
            Some(descriptor) if descriptor.is_start() => Ok(Self::Whole),
            Some(descriptor) => serde_json::from_slice(&descriptor.0).map_err(|_| {
                Error::invalid_data(
                    "postgres.bad_partition",
                    "the partition is not one of this plugin",
                )
            }),
        }
    }

    fn to_partition(&self, label: String, estimate: Estimate) -> Result<Partition> {
        let descriptor = serde_json::to_vec(self)
            .map_err(|error| Error::internal("a partition could not be written").with_cause(&error))?;
        Ok(Partition {
            descriptor: Cursor(descriptor),
            label,
            estimate,
        })
    }

    /// What holds of its records. `file` is given if the table is read by place.
    pub(super) fn conditions(
        &self,
        stored: &Stored,
        file: Option<u32>,
        snapshot: &str,
    ) -> Result<Vec<String>> {
        match self {
            Self::Whole => Ok(Vec::new()),
            Self::Key { columns, from, to } => {
                let key = stored.key_columns();
                let is_same = key.iter().map(|(_, column, _)| &column.name).eq(columns);
                let fits =
                    |bound: &Option<Vec<String>>| bound.as_ref().is_none_or(|bound| bound.len() == key.len());
                if !is_same || !fits(from) || !fits(to) {
                    return Err(lost("the key of the table is another one now"));
                }
                let expressions: Vec<String> = columns.iter().map(|column| qualified(column)).collect();
                let expressions = expressions.join(", ");
                let bound = |bound: &Option<Vec<String>>, comparison| {
                    let bound = bound.as_ref()?;
                    let values = key.iter().zip(bound);
                    let values =
                        values.map(|((_, column, _), value)| typed(value, &cast_type(&column.pg_type)));
                    let values: Vec<String> = values.collect();
                    Some(format!("({expressions}) {comparison} ({})", values.join(", ")))
                };
                Ok(bound(from, ">=").into_iter().chain(bound(to, "<")).collect())
            }
            Self::Block {
                file: of,
                snapshot: at,
                from,
                to,
            } => {
                if at != snapshot {
                    return Err(lost("a range of blocks holds within one snapshot only"));
                }
                if file != Some(*of) {
                    return Err(lost("the table was rewritten, or has a key now"));
                }
                let bound = |bound: &Option<u32>, comparison| {
                    bound.map(|block| format!("t.ctid {comparison} '({block},0)'::pg_catalog.tid"))
                };
                Ok(bound(from, ">=").into_iter().chain(bound(to, "<")).collect())
            }
        }
    }
}

fn lost(why: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "postgres.partition_lost",
        format!("the partition no longer means the same: {why}"),
    )
    .with_help("divide and read the collection anew")
}

/// Divides a table into about `wanted` parts. `file` is the number of its file.
pub(crate) async fn divide(
    connection: &mut Connection,
    stored: &Stored,
    wanted: u32,
    file: u32,
    snapshot: Option<&str>,
) -> Result<Vec<Partition>> {
    let table = &stored.table;
    let whole = Partition {
        estimate: Estimate {
            record_count: table.record_estimate,
            size_bytes: Some(table.size_bytes),
            exact: false,
        },
        ..Partition::whole()
    };
    let count = u64::from(wanted.min(PARTS_MAX)).min(table.size_bytes / PART_BYTES_MIN);
    let is_stored = !matches!(table.kind, TableKind::View | TableKind::Foreign);
    if count < 2 || !is_stored {
        return Ok(vec![whole]);
    }
    let blocks = block_count(connection, table.oid).await?;
    let key: Vec<String> = stored
        .key_columns()
        .iter()
        .map(|(_, column, _)| column.name.clone())
        .collect();
    let parts = match key.first() {
        Some(_) => {
            let bounds = key_bounds(connection, &from(table), &key, blocks, count).await?;
            key_parts(&key, &bounds)
        }
        None if table.kind == TableKind::Partitioned => Vec::new(),
        None => match snapshot {
            Some(snapshot) => block_parts(file, snapshot, blocks, count),
            // Each range would be read at an instant of its own, and a record that is changed in between moves: it would be met twice,
            // or not at all. One statement reads all of the table at one instant.
            None => Vec::new(),
        },
    };
    if parts.len() < 2 {
        return Ok(vec![whole]);
    }
    let share = parts.len() as u64;
    let estimate = Estimate {
        record_count: table.record_estimate.map(|records| records / share),
        size_bytes: Some(table.size_bytes / share),
        exact: false,
    };
    parts
        .into_iter()
        .map(|(part, label)| part.to_partition(label, estimate))
        .collect()
}

/// Blocks of the table and its parts, without what is stored aside.
async fn block_count(connection: &mut Connection, oid: u32) -> Result<u64> {
    let sql = format!(
        "SELECT (coalesce(pg_catalog.pg_relation_size({oid}), 0) + coalesce((SELECT \
         pg_catalog.sum(pg_catalog.pg_relation_size(t.relid)) FROM pg_catalog.pg_partition_tree({oid}) t \
         WHERE t.isleaf AND t.relid <> {oid}), 0))::pg_catalog.int8 \
         / pg_catalog.current_setting('block_size')::pg_catalog.int8"
    );
    let count = connection.value(&sql).await?.and_then(|count| count.parse().ok());
    count.ok_or_else(|| Error::internal("the size of a table has an unexpected form"))
}

/// Keys that divide the table into `count` ranges of about the same number of records, by a look at some blocks.
async fn key_bounds(
    connection: &mut Connection,
    from: &str,
    key: &[String],
    blocks: u64,
    count: u64,
) -> Result<Vec<Vec<String>>> {
    let percent = (BLOCKS_SAMPLED as f64 * 100.0 / blocks.max(1) as f64).min(100.0);
    let columns: Vec<String> = key.iter().map(|column| qualified(column)).collect();
    let texts: Vec<String> = columns
        .iter()
        .map(|column| format!("{column}::pg_catalog.text"))
        .collect();
    let places: Vec<String> = (1..count)
        .map(|number| format!("n.total * {number} / {count} + 1"))
        .collect();
    // The same blocks each time, so that the same table is divided in the same way.
    let sql = format!(
        "SELECT n.texts FROM (SELECT pg_catalog.json_build_array({})::pg_catalog.text AS texts, \
         pg_catalog.row_number() OVER (ORDER BY {}) AS place, pg_catalog.count(*) OVER () AS total \
         FROM {from} AS t TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)) AS n WHERE n.place IN ({}) ORDER BY n.place",
        texts.join(", "),
        columns.join(", "),
        places.join(", ")
    );
    let bounds = connection.rows(&sql).await?.into_iter().flatten().flatten();
    bounds
        .map(|bound| {
            serde_json::from_str(&bound).map_err(|_| Error::internal("a key has an unexpected form"))
        })
        .collect()
}

fn key_parts(columns: &[String], bounds: &[Vec<String>]) -> Vec<(Part, String)> {
    let ends = bounds.iter().cloned().map(Some).chain([None]);
    let starts = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    starts
        .zip(ends)
        .map(|(from, to)| {
            let text = |bound: &Option<Vec<String>>| bound.as_ref().map(|bound| bound.join(", "));
            let label = label(&columns.join(", "), text(&from).as_deref(), text(&to).as_deref());
            let columns = columns.to_vec();
            (Part::Key { columns, from, to }, label)
        })
        .collect()
}

fn block_parts(file: u32, snapshot: &str, blocks: u64, count: u64) -> Vec<(Part, String)> {
    let count = count.min(blocks);
    let bound = |number: u64| {
        let is_inner = number > 0 && number < count;
        is_inner.then(|| u32::try_from(blocks * number / count).unwrap_or(u32::MAX))
    };
    (0..count)
        .map(|number| {
            let (from, to) = (bound(number), bound(number + 1));
            let text = |block: Option<u32>| block.map(|block| block.to_string());
            let label = label("block", text(from).as_deref(), text(to).as_deref());
            let part = Part::Block {
                file,
                snapshot: snapshot.to_owned(),
                from,
                to,
            };
            (part, format!("{label} (of this snapshot)"))
        })
        .collect()
}

fn label(what: &str, from: Option<&str>, to: Option<&str>) -> String {
    match (from, to) {
        (None, None) => "all".to_owned(),
        (None, Some(to)) => format!("{what} below {to}"),
        (Some(from), None) => format!("{what} from {from}"),
        (Some(from), Some(to)) => format!("{what} from {from} to below {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_without_gaps_and_are_open_at_both_ends() {
        let text = |text: &str| text.to_owned();
        let (columns, bounds) = (
            [text("id"), text("n")],
            [vec![text("b"), text("1")], vec![text("d"), text("0")]],
        );
        let parts: Vec<Part> = key_parts(&columns, &bounds)
            .into_iter()
            .map(|(part, _)| part)
            .collect();
        let part = |from: Option<usize>, to: Option<usize>| Part::Key {
            columns: columns.to_vec(),
            from: from.map(|from| bounds[from].clone()),
            to: to.map(|to| bounds[to].clone()),
        };
        assert_eq!(
            parts,
            [part(None, Some(0)), part(Some(0), Some(1)), part(Some(1), None)]
        );
        let parts = block_parts(7, "s", 10, 3);
        let ends: Vec<_> = parts
            .iter()
            .map(|(part, _)| match part {
                Part::Block { from, to, .. } => (*from, *to),
                _ => panic!("no range of blocks"),
            })
            .collect();
        assert_eq!(ends, [(None, Some(3)), (Some(3), Some(6)), (Some(6), None)]);
    }

    #[test]
    fn descriptors_survive_and_others_are_refused() {
        let (part, label) = key_parts(&["a \"b".to_owned()], &[vec!["x'y".to_owned()]]).remove(1);
        let partition = part.to_partition(label, Estimate::default()).unwrap();
        assert_eq!(Part::of(Some(&partition)).unwrap(), part);
        assert_eq!(Part::of(Some(&Partition::whole())).unwrap(), Part::Whole);
        assert_eq!(Part::of(None).unwrap(), Part::Whole);
        let foreign = Partition {
            descriptor: Cursor(b"{\"by\":\"moon\"}".to_vec()),
            ..Partition::whole()
        };
        assert_eq!(
            Part::of(Some(&foreign)).unwrap_err().code,
            "postgres.bad_partition"
        );
    }
}
