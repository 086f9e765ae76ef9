//! Puts types together from the rows of one query: arrays over their elements, domains down to their base.
//! What a type means for records is not known here but in `type_mapping`.

use std::collections::HashMap;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::connection::Row;
use crate::error::Fault;

use super::load::Cells;
use super::{PgType, PgTypeKind};

/// How deep domains and arrays may stand in one another. The database sets no bound; types cannot go round in a circle.
const DEPTH_MAX: usize = 64;

struct Entry {
    schema: String,
    name: String,
    kind: char,
    is_array: bool,
    of: (u32, i32),
    formatted: String,
    labels: Vec<String>,
}

/// The types that columns use, by number and modifier.
pub(super) struct PgTypes(HashMap<(u32, i32), Entry>);

impl PgTypes {
    /// From the rows of [`super::queries::types`].
    pub(super) fn new(rows: Vec<Row>) -> Result<Self, Fault> {
        let mut entries = HashMap::with_capacity(rows.len());
        for row in rows {
            let mut cells = Cells::new(row);
            let used = (cells.number()?, cells.number()?);
            let entry = Entry {
                schema: cells.text()?,
                name: cells.text()?,
                kind: cells.letter()?,
                is_array: cells.flag()?,
                of: (cells.number()?, cells.number()?),
                formatted: cells.text()?,
                labels: cells.names()?,
            };
            entries.insert(used, entry);
        }
        Ok(Self(entries))
    }

    /// The type with this number, used with this modifier.
    pub(super) fn get(&self, oid: u32, modifier: i32) -> Result<PgType, Fault> {
        self.at_depth(oid, modifier, 0)
    }

    fn at_depth(&self, oid: u32, modifier: i32, depth: usize) -> Result<PgType, Fault> {
        let entry = self
            .0
            .get(&(oid, modifier))
            .filter(|_| depth <= DEPTH_MAX)
            .ok_or_else(changed)?;
        let mut formatted = entry.formatted.clone();
        let kind = if entry.is_array {
            let item = self.at_depth(entry.of.0, entry.of.1, depth + 1)?;
            formatted = format!("{}[]", item.formatted);
            PgTypeKind::Array(Box::new(item))
        } else {
            match entry.kind {
                'd' => {
                    let base = self.at_depth(entry.of.0, entry.of.1, depth + 1)?;
                    PgTypeKind::Domain(match base.kind {
                        PgTypeKind::Domain(innermost) => innermost,
                        _ => Box::new(base),
                    })
                }
                'e' => PgTypeKind::Enum(entry.labels.clone()),
                'c' => PgTypeKind::Composite,
                'r' | 'm' => PgTypeKind::Range,
                _ => PgTypeKind::Base,
            }
        };
        Ok(PgType {
            oid,
            schema: entry.schema.clone(),
            name: entry.name.clone(),
            formatted,
            modifier,
            kind,
        })
    }
}

/// Somebody makes and drops tables while they are looked at.
pub(super) fn changed() -> Fault {
    Fault::of_error(
        Error::new(
            ErrorKind::Unavailable,
            "postgres.catalog_changed",
            "the tables of the database were changed while they were looked at",
        )
        .with_help("try again"),
    )
}
