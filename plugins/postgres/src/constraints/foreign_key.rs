//! Foreign keys for the references of collections.
//!
//! A key is added for the writes to come first (`NOT VALID`) and is then held against the records that are there, so that
//! nobody has to wait for long. If some point nowhere it stays as it is, and a finding says how many.

use std::sync::Arc;

use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::{Finding, Result};

use super::{Targets, in_transaction};
use crate::catalog::{ForeignKey, Table, TableKind};
use crate::connection::Connection;
use crate::names::{literal, quote};
use crate::prepare::{IDENTIFIER_BYTES_MAX, column_list, from_table};
use crate::target::Target;

/// SQLSTATE: records point to others that are not there.
const POINTS_NOWHERE: &str = "23503";

/// What a collection's references are looked at with.
pub(super) struct Scene<'a> {
    pub(super) target: &'a Arc<Target>,
    pub(super) table: &'a Table,
    pub(super) targets: &'a Targets,
    pub(super) tables: &'a [Table],
}

/// A foreign key that is to be there.
pub(super) struct NewKey<'a> {
    table: &'a Table,
    columns: Vec<String>,
    to: &'a Table,
    to_columns: Vec<String>,
    /// The one that is there already, but was not held against all records.
    existing: Option<String>,
}

impl<'a> NewKey<'a> {
    /// What a reference asks for; otherwise nothing, or why there can be none.
    pub(super) fn of(reference: &Reference, scene: &Scene<'a>) -> std::result::Result<Self, Option<Finding>> {
        // What is not part of the run is not ours to tie.
        let to_target = scene.targets.get(&reference.collection).ok_or(None)?;
        let to = scene
            .tables
            .iter()
            .find(|table| table.name == to_target.table)
            .ok_or(None)?;
        let to_fields = if reference.to_fields.is_empty() {
            &to_target.key
        } else {
            &reference.to_fields
        };
        let skip = |reason: String| {
            let message = format!(
                "no foreign key from ({}) of {} to {}: {reason}",
                reference.fields.join(", "),
                scene.table.name.sql(),
                to.name.sql()
            );
            Some(Finding::info("postgres.reference_without_key", message))
        };
        let from_columns = columns(scene.target, &reference.fields)
            .ok_or_else(|| skip("a field has no column of its own".to_owned()))?;
        let to_columns = columns(to_target, to_fields)
            .ok_or_else(|| skip("a field there has no column of its own".to_owned()))?;
        if from_columns.is_empty() || from_columns.len() != to_columns.len() {
            return Err(skip(format!(
                "{} fields point to {}",
                from_columns.len(),
                to_columns.len()
            )));
        }
        let mut key = Self {
            table: scene.table,
            columns: from_columns,
            to,
            to_columns,
            existing: None,
        };
        let unique = |unique: &Vec<String>| {
            unique.len() == key.to_columns.len()
                && unique.iter().all(|column| key.to_columns.contains(column))
        };
        if !to.unique_keys.iter().any(unique) {
            return Err(skip(format!(
                "({}) there is not unique",
                column_list(&key.to_columns)
            )));
        }
        match scene
            .table
            .foreign_keys
            .iter()
            .find(|existing| key.equals(existing))
        {
            Some(existing) if existing.is_validated => return Err(None),
            Some(existing) => key.existing = Some(existing.name.clone()),
            None => {}
        }
        if !scene.table.is_owner {
            let help = format!("as its owner: `{}`", key.statement("..", ""));
            return Err(skip("only the owner of a table may add one".to_owned())
                .map(|finding| finding.with_help(help)));
        }
        Ok(key)
    }

    fn equals(&self, existing: &ForeignKey) -> bool {
        let pairs = |columns: &[String], to: &[String]| {
            let mut pairs: Vec<(String, String)> = columns.iter().cloned().zip(to.iter().cloned()).collect();
            pairs.sort();
            pairs
        };
        existing.to == self.to.name
            && pairs(&existing.columns, &existing.to_columns) == pairs(&self.columns, &self.to_columns)
    }

    fn statement(&self, name: &str, suffix: &str) -> String {
        format!(
            "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){suffix}",
            self.table.name.sql(),
            quote(name),
            column_list(&self.columns),
            self.to.name.sql(),
            column_list(&self.to_columns)
        )
    }

    /// Adds the key and holds it against the records that are there.
    pub(super) async fn add(self, connection: &mut Connection) -> Result<Vec<Finding>> {
        // A partitioned table takes none that is not held against all records at once.
        let is_whole = self.table.kind == TableKind::Partitioned;
        let mut findings = Vec::new();
        let name = match &self.existing {
            Some(name) => name.clone(),
            None => {
                let name = self.free_name(connection).await?;
                let suffix = if is_whole { "" } else { " NOT VALID" };
                if let Err(fault) = in_transaction(connection, &self.statement(&name, suffix)).await? {
                    if is_whole && fault.sqlstate.as_deref() == Some(POINTS_NOWHERE) {
                        return Ok(vec![self.orphans(connection, None).await?]);
                    }
                    let message = format!(
                        "no foreign key from ({}) of {} to {}: {}",
                        column_list(&self.columns),
                        self.table.name.sql(),
                        self.to.name.sql(),
                        fault.error.message
                    );
                    return Ok(vec![
                        Finding::warning("postgres.reference_without_key", message)
                            .with_help(format!("`{}`", self.statement(&name, ""))),
                    ]);
                }
                findings.extend(self.index_advice(connection).await?);
                name
            }
        };
        let validate = format!(
            "ALTER TABLE {} VALIDATE CONSTRAINT {}",
            self.table.name.sql(),
            quote(&name)
        );
        if !is_whole && let Err(fault) = in_transaction(connection, &validate).await? {
            findings.push(match fault.sqlstate.as_deref() {
                Some(POINTS_NOWHERE) => self.orphans(connection, Some(&validate)).await?,
                _ => {
                    let message = format!(
                        "the foreign key {} of {} was not held against the records that are there: {}",
                        quote(&name),
                        self.table.name.sql(),
                        fault.error.message
                    );
                    Finding::warning("postgres.not_validated", message).with_help(format!("`{validate}`"))
                }
            });
        }
        Ok(findings)
    }

    /// How many records point nowhere, and how to list them.
    async fn orphans(&self, connection: &mut Connection, validate: Option<&str>) -> Result<Finding> {
        let pairs = self.columns.iter().zip(&self.to_columns);
        let points: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("c.{} IS NOT NULL", quote(column)))
            .collect();
        let same: Vec<String> = pairs
            .map(|(column, to)| format!("p.{} = c.{}", quote(to), quote(column)))
            .collect();
        let from = format!(
            "FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
            from_table(self.table),
            points.join(" AND "),
            self.to.name.sql(),
            same.join(" AND ")
        );
        let count = match in_transaction(connection, &format!("SELECT count(*) {from}")).await? {
            Ok(rows) => rows.into_iter().flatten().next().flatten().unwrap_or_default(),
            Err(_) => "some".to_owned(),
        };
        let message = format!(
            "{count} records of {} point to records of {} that are not there, by ({}){}",
            self.table.name.sql(),
            self.to.name.sql(),
            column_list(&self.columns),
            if validate.is_some() {
                "; the foreign key holds for new records only"
            } else {
                "; no foreign key was added"
            }
        );
        let then = match validate {
            Some(validate) => format!("`{validate}`"),
            None => format!("`{}`", self.statement("..", "")),
        };
        Ok(Finding::warning("postgres.orphans", message).with_help(format!(
            "to list them: `SELECT c.* {from}`; once they are mended: {then}"
        )))
    }

    /// A name of at most 63 octets that no constraint of the table has.
    async fn free_name(&self, connection: &mut Connection) -> Result<String> {
        let sql = format!(
            "SELECT conname FROM pg_catalog.pg_constraint WHERE conrelid = {} ORDER BY conname",
            self.table.oid
        );
        let taken: Vec<String> = connection
            .rows(&sql)
            .await?
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let mut names = (0_u32..).map(|number| name(&self.table.name.name, &self.columns, number));
        Ok(names.find(|name| !taken.contains(name)).unwrap_or_default())
    }

    /// Deleting or changing a record that is pointed to looks through the whole table if no index begins with the key.
    async fn index_advice(&self, connection: &mut Connection) -> Result<Option<Finding>> {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = {} AND i.indpred IS NULL AND i.indisvalid \
             AND (SELECT count(*) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE k.place <= {} AND a.attname IN ({})) = {})",
            self.table.oid,
            self.columns.len(),
            self.columns
                .iter()
                .map(|column| literal(column))
                .collect::<Vec<_>>()
                .join(", "),
            self.columns.len()
        );
        if connection.value(&sql).await?.as_deref() == Some("t") {
            return Ok(None);
        }
        let message = format!(
            "no index of {} begins with ({}), so that deleting from {} looks through all of it",
            self.table.name.sql(),
            column_list(&self.columns),
            self.to.name.sql()
        );
        let index = format!(
            "CREATE INDEX ON {} ({})",
            self.table.name.sql(),
            column_list(&self.columns)
        );
        Ok(Some(
            Finding::info("postgres.reference_without_index", message).with_help(format!("`{index}`")),
        ))
    }
}

/// The columns of these fields; `None` if one has none.
fn columns(target: &Target, fields: &[String]) -> Option<Vec<String>> {
    fields
        .iter()
        .map(|field| target.column_of(field)?.column.clone())
        .collect()
}

/// A name for a foreign key over `columns`, the `number`-th try. What is too long is cut, with a sum of all of it behind.
fn name(table: &str, columns: &[String], number: u32) -> String {
    let stem = format!("{table}_{}", columns.join("_"));
    let ending = match number {
        0 => "_fkey".to_owned(),
        number => format!("_fkey{number}"),
    };
    if stem.len() + ending.len() <= IDENTIFIER_BYTES_MAX {
        return format!("{stem}{ending}");
    }
    // FNV-1a, 32 bits.
    let sum = stem.bytes().fold(0x811c_9dc5_u32, |sum, octet| {
        (sum ^ u32::from(octet)).wrapping_mul(0x0100_0193)
    });
    let ending = format!("_{sum:08x}{ending}");
    let kept = stem.floor_char_boundary(IDENTIFIER_BYTES_MAX - ending.len());
    format!("{}{ending}", &stem[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_fit_and_differ() {
        let columns = |name: &str| vec![name.to_owned()];
        assert_eq!(name("orders", &columns("user"), 0), "orders_user_fkey");
        assert_eq!(name("orders", &columns("user"), 2), "orders_user_fkey2");
        let (a, b) = ("🦆".repeat(20) + "a", "🦆".repeat(20) + "b");
        let (first, second) = (name("t", &columns(&a), 0), name("t", &columns(&b), 0));
        assert!(
            first.len() <= 63 && second.len() <= 63 && first != second,
            "{first} {second}"
        );
    }
}
