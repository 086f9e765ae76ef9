//! Makes room for collections: where each field goes, what is in the way, and the statements that make the tables.
//!
//! [`plan`] only looks and says; [`apply`] does what was planned, in one transaction. Nothing is changed while there is
//! a blocker. Existing tables are compared, never altered.

use std::collections::HashSet;

use rusqlite::Connection;
use whimbrel_plugin_api::record_type::Field;
use whimbrel_plugin_api::sink::{PrepareReport, PrepareRequest, PreparedCollection, PreparedField};
use whimbrel_plugin_api::{Collection, Finding, FindingLevel, Loss, Result};

use crate::column_memory::{self, Remembered};
use crate::compare::Comparison;
use crate::error::Doing as _;
use crate::names::{REST_COLUMN, ROW_NUMBERS, quote, same, table_name};
use crate::query::QUERY_COLUMNS_MAX;
use crate::schema::{self, Table};
use crate::type_mapping::{StorageClass, losses, stored_as};
use crate::write_plan::Target;

/// Columns that a table of ours may have: one less than a query may ask for, so that it can also ask for the row number.
pub(crate) const COLUMNS_MAX: usize = QUERY_COLUMNS_MAX - 1;

/// What is to be done for a request.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) report: PrepareReport,
    /// The collections with their places, in the order of the request.
    pub(crate) targets: Vec<(String, Target)>,
    /// Tables whose columns are to be remembered, with whether the table is new.
    memory: Vec<(String, Vec<Remembered>, bool)>,
}

impl Plan {
    /// Whether something is in the way.
    pub(crate) fn is_blocked(&self) -> bool {
        self.report
            .findings
            .iter()
            .any(|finding| finding.level == FindingLevel::Blocker)
    }

    /// Whether the database is as it should be already.
    pub(crate) fn is_done(&self) -> bool {
        self.report.ddl.is_empty() && self.memory.is_empty()
    }
}

/// Looks at what is there; `connection` is missing if there is no file yet.
pub(crate) fn plan(connection: Option<&Connection>, prefix: &str, request: &PrepareRequest) -> Result<Plan> {
    let mut plan = Plan::default();
    for (index, collection) in request.collections.iter().enumerate() {
        let name = table_name(prefix, &collection.name);
        let twin = request.collections[..index]
            .iter()
            .find(|earlier| same(&table_name(prefix, &earlier.name), &name));
        if let Some(twin) = twin {
            plan.report.findings.push(
                Finding::blocker(
                    "turso.same_table",
                    format!("the collections `{}` and `{}` would go into the same table", twin.name, collection.name),
                )
                .with_help("give one of them another name in the sink: table names differ in more than the case of ASCII letters")
                .with_collection(&collection.name),
            );
        }
        let place = Place::of(connection, name, collection)?;
        place.into_plan(connection, collection, &mut plan)?;
    }
    let has_memory = match connection {
        Some(connection) => schema::holder_of(connection, column_memory::TABLE)?.is_some(),
        None => false,
    };
    if !has_memory && !plan.memory.is_empty() {
        plan.report.ddl.insert(0, column_memory::DDL.to_owned());
    }
    Ok(plan)
}

/// Does what was planned; the caller holds the transaction.
pub(crate) fn apply(connection: &Connection, plan: &Plan) -> Result<()> {
    for statement in &plan.report.ddl {
        connection.execute_batch(statement).doing("make a table")?;
    }
    for (table, fields, is_new) in &plan.memory {
        if *is_new {
            column_memory::forget(connection, table)?;
        }
        column_memory::store(connection, table, fields)?;
    }
    Ok(())
}

/// Where a collection goes.
struct Place {
    table: String,
    existing: Option<Table>,
    /// What was remembered of the existing table.
    previous: Vec<Remembered>,
    findings: Vec<Finding>,
}

impl Place {
    fn of(connection: Option<&Connection>, name: String, collection: &Collection) -> Result<Self> {
        let mut place = Self {
            table: name,
            existing: None,
            previous: Vec::new(),
            findings: Vec::new(),
        };
        if place.table.contains('\0') {
            place.block(
                "turso.bad_name",
                "the collection's name holds a NUL character, which no table name can",
                "name it otherwise in the sink",
            );
        } else if let Some(connection) = connection
            && let Some((name, kind)) = schema::holder_of(connection, &place.table)?
        {
            if kind == "table" {
                place.existing = Table::load(connection, &name)?;
                place.table = name;
                place.look_for_triggers(connection)?;
            } else {
                place.block(
                    "turso.name_taken",
                    format!("the name `{name}` belongs to something that is no table ({kind})"),
                    "name the collection otherwise in the sink, or set `table_prefix`",
                );
            }
        }
        if let (Some(connection), Some(table)) = (connection, &place.existing) {
            place.previous = column_memory::load(connection, table)?;
        }
        if place.table != collection.name {
            place.findings.push(Finding::info(
                "turso.stored_name",
                format!(
                    "the collection `{}` is stored in the table `{}`",
                    collection.name, place.table
                ),
            ));
        }
        Ok(place)
    }

    fn look_for_triggers(&mut self, connection: &Connection) -> Result<()> {
        let count = schema::trigger_count(connection, &self.table)?;
        if count > 0 {
            self.findings.push(
                Finding::warning(
                    "turso.triggers",
                    format!("the table `{}` has {count} triggers, which will run", self.table),
                )
                .with_help("what they change is not part of the migration and may show up as mismatches"),
            );
        }
        Ok(())
    }

    fn block(&mut self, code: &str, message: impl Into<String>, help: &str) {
        self.findings
            .push(Finding::blocker(code, message).with_help(help));
    }

    fn into_plan(
        mut self,
        connection: Option<&Connection>,
        collection: &Collection,
        plan: &mut Plan,
    ) -> Result<()> {
        self.check_key(collection);
        let fields = self.arrange(collection);
        let mut record_count = None;
        if let (Some(connection), Some(table)) = (connection, self.existing.clone()) {
            let count = format!("SELECT count(*) FROM {}", quote(&table.name));
            record_count = Some(
                connection
                    .query_row(&count, [], |row| row.get(0))
                    .doing("count the records of a table")?,
            );
            let comparison = Comparison {
                table: &table,
                fields: &fields,
                previous: &self.previous,
                key: &collection.key,
                is_empty: record_count == Some(0),
                findings: Vec::new(),
            };
            self.findings.extend(comparison.findings());
        }
        let needs_rest = fields.iter().any(Remembered::is_in_rest) || fields.is_empty();
        let has_rest = match &self.existing {
            Some(table) => table.column(REST_COLUMN).is_some(),
            None => needs_rest,
        };
        if self.existing.is_none() {
            plan.report
                .ddl
                .push(create_table(&self.table, &fields, &collection.key, has_rest));
        }
        if self.existing.is_none() || fields.iter().any(|field| !self.previous.contains(field)) {
            plan.memory
                .push((self.table.clone(), fields.clone(), self.existing.is_none()));
        }
        plan.report.collections.push(PreparedCollection {
            name: collection.name.clone(),
            existed: self.existing.is_some(),
            record_count,
            fields: fields
                .iter()
                .map(|field| prepared(field, collection.schema.presence))
                .collect(),
        });
        plan.report.findings.extend(
            self.findings
                .into_iter()
                .map(|finding| finding.with_collection(&collection.name)),
        );
        let known_rest = self
            .previous
            .iter()
            .chain(&fields)
            .filter(|field| field.is_in_rest());
        let target = Target {
            table: self.table,
            rest_fields: known_rest.map(|field| field.field.name.clone()).collect(),
            fields,
            key: collection.key.clone(),
            has_rest,
        };
        plan.targets.push((collection.name.clone(), target));
        Ok(())
    }

    fn check_key(&mut self, collection: &Collection) {
        for (index, name) in collection.key.iter().enumerate() {
            let twin = collection.key[..index].iter().find(|earlier| same(earlier, name));
            if collection.schema.index_of(name).is_none() {
                self.block(
                    "turso.key_missing",
                    format!("the key field `{name}` is not in the schema"),
                    "correct `key`",
                );
            } else if let Some(twin) = twin {
                let message = format!("the key fields `{twin}` and `{name}` would be one column");
                self.block("turso.bad_key_name", message, "rename one of them");
            } else if name.contains('\0') || same(name, REST_COLUMN) {
                let message = format!(
                    "the key field `{}` cannot be a column",
                    name.replace('\0', "\u{2400}")
                );
                self.block("turso.bad_key_name", message, "rename the field");
            }
        }
    }

    /// Gives each field its column, or the rest column where it can have none. Where a field went before is where it
    /// goes again; key fields come first.
    fn arrange(&self, collection: &Collection) -> Vec<Remembered> {
        let fields = &collection.schema.fields;
        let is_key = |field: &Field| collection.key.contains(&field.name);
        let lacks_row_number = !is_integer_key(collection)
            && ROW_NUMBERS
                .iter()
                .all(|name| fields.iter().any(|field| same(&field.name, name)));
        let mut columns: Vec<Option<String>> = vec![None; fields.len()];
        let mut taken: HashSet<String> = HashSet::new();
        let previous = |field: &Field| {
            self.previous
                .iter()
                .find(|previous| previous.field.name == field.name)
        };
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by_key(|index| {
            (
                !is_key(&fields[*index]),
                previous(&fields[*index]).is_none(),
                *index,
            )
        });
        for index in &order {
            let field = &fields[*index];
            if previous(field).is_some_and(Remembered::is_in_rest) && !is_key(field) {
                continue;
            }
            let wanted = previous(field).map_or(&field.name, |previous| &previous.column);
            let column = self
                .existing
                .as_ref()
                .and_then(|table| table.column(wanted))
                .map_or(wanted, |column| &column.name);
            // The last name by which a query could ask for the row number stays free.
            let hides_row_number = lacks_row_number && !is_key(field) && same(column, ROW_NUMBERS[2]);
            if !column.contains('\0')
                && !same(column, REST_COLUMN)
                && !hides_row_number
                && taken.insert(column.to_ascii_lowercase())
            {
                columns[*index] = Some(column.clone());
            }
        }
        let mut surplus = taken.len().saturating_sub(COLUMNS_MAX);
        if surplus > 0 || (taken.len() == COLUMNS_MAX && taken.len() < fields.len()) {
            surplus += 1;
        }
        for index in order.iter().rev().filter(|index| !is_key(&fields[**index])) {
            if surplus > 0 && columns[*index].take().is_some() {
                surplus -= 1;
            }
        }
        let remembered = |(field, column): (&Field, Option<String>)| Remembered {
            field: field.clone(),
            column: column.unwrap_or_else(|| REST_COLUMN.to_owned()),
        };
        fields.iter().zip(columns).map(remembered).collect()
    }
}

/// Whether the key is one integer, which then is the row number.
fn is_integer_key(collection: &Collection) -> bool {
    let is_integer = |name: &String| {
        let field = collection.schema.fields.iter().find(|field| field.name == *name);
        field.is_some_and(|field| StorageClass::of(&field.record_type) == StorageClass::Integer)
    };
    matches!(collection.key.as_slice(), [only] if is_integer(only))
}

fn create_table(table: &str, fields: &[Remembered], key: &[String], has_rest: bool) -> String {
    let mut parts: Vec<String> = fields
        .iter()
        .filter(|field| !field.is_in_rest())
        .map(|stored| {
            let required = !stored.field.nullable || key.contains(&stored.field.name);
            let class = StorageClass::of(&stored.field.record_type).sql();
            format!(
                "{} {class}{}",
                quote(&stored.column),
                if required { " NOT NULL" } else { "" }
            )
        })
        .collect();
    if has_rest {
        parts.push(format!("{} TEXT", quote(REST_COLUMN)));
    }
    let key: Vec<String> = key
        .iter()
        .filter_map(|name| fields.iter().find(|field| field.field.name == *name))
        .map(|field| quote(&field.column))
        .collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} (\n  {}\n)", quote(table), parts.join(",\n  "))
}

fn prepared(stored: &Remembered, has_presence: bool) -> PreparedField {
    let mut lost = Vec::new();
    // A required field that a record lacks is refused, not lost.
    if has_presence && stored.field.nullable {
        lost.push(Loss::AbsentToNull);
    }
    if stored.is_in_rest() {
        return PreparedField {
            name: stored.field.name.clone(),
            // Read back as a field of its own, so that is its name in the sink.
            stored_name: stored.field.name.clone(),
            stored_as: format!("JSON in `{REST_COLUMN}`"),
            losses: lost,
        };
    }
    lost.extend(losses(&stored.field.record_type));
    PreparedField {
        name: stored.field.name.clone(),
        stored_name: stored.column.clone(),
        stored_as: stored_as(&stored.field.record_type).to_owned(),
        losses: lost,
    }
}
