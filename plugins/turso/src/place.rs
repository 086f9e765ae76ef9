//! Where one collection goes: which column holds each field, what the table lacks, and the statements that make it.
//!
//! Neighbours: `prepare` asks for all collections of a request, `compare` finds what an existing table cannot take.

use std::collections::HashSet;

use whimbrel_plugin_api::record_type::Field;
use whimbrel_plugin_api::sink::{PreparedCollection, PreparedField};
use whimbrel_plugin_api::{Collection, Finding, Loss, Result};

use crate::column_memory::{self, Remembered};
use crate::compare::Comparison;
use crate::database::{self, Database};
use crate::names::{REST_COLUMN, ROW_NUMBERS, quote, same};
use crate::prepare::{COLUMNS_MAX, Growth, Plan, Settings};
use crate::schema::{self, Column, Table};
use crate::type_mapping::{Affinity, StorageClass, losses, stored_as};
use crate::write_plan::Target;

/// Where a collection goes.
pub(crate) struct Place {
    table: String,
    existing: Option<Table>,
    /// What was remembered of the existing table.
    previous: Vec<Remembered>,
    has_triggers: bool,
    findings: Vec<Finding>,
}

impl Place {
    pub(crate) fn of(database: Option<&dyn Database>, name: String, collection: &Collection) -> Result<Self> {
        let mut place = Self {
            table: name,
            existing: None,
            previous: Vec::new(),
            has_triggers: false,
            findings: Vec::new(),
        };
        if place.table.contains('\0') {
            place.block(
                "turso.bad_name",
                "the collection's name holds a NUL character, which no table name can",
                "name it otherwise in the sink",
            );
        } else if let Some(database) = database
            && let Some((name, kind)) = schema::holder_of(database, &place.table)?
        {
            if kind == "table" {
                place.existing = Table::load(database, &name)?;
                place.table = name;
                place.look_for_triggers(database)?;
            } else {
                place.block(
                    "turso.name_taken",
                    format!("the name `{name}` belongs to something that is no table ({kind})"),
                    "name the collection otherwise in the sink, or set `table_prefix`",
                );
            }
        }
        if let (Some(database), Some(table)) = (database, &place.existing) {
            place.previous = column_memory::load(database, table)?;
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

    fn look_for_triggers(&mut self, database: &dyn Database) -> Result<()> {
        let count = schema::trigger_count(database, &self.table)?;
        self.has_triggers = count > 0;
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

    pub(crate) fn into_plan(
        mut self,
        database: Option<&dyn Database>,
        settings: &Settings,
        collection: &Collection,
        growth: Growth,
        plan: &mut Plan,
    ) -> Result<()> {
        self.check_key(collection);
        let mut fields = self.arrange(collection);
        let wants_absent = settings.keeps_absent && collection.schema.presence;
        let mut ddl = self.grow(&mut fields, wants_absent, growth);
        let may_be_absent =
            |field: &Remembered| field.field.nullable && !collection.key.contains(&field.field.name);
        let has_rest = match &self.existing {
            Some(table) => table.column(REST_COLUMN).is_some(),
            None => {
                let has_absent = wants_absent && fields.iter().any(may_be_absent);
                has_absent || fields.is_empty() || fields.iter().any(Remembered::is_in_rest)
            }
        };
        for field in &mut fields {
            let was = self
                .previous
                .iter()
                .find(|previous| previous.field.name == field.field.name);
            // Records that are stored already may have null there, whatever those that come have.
            field.field.nullable |= was.is_some_and(|previous| previous.field.nullable);
            field.may_be_absent = (wants_absent && has_rest && may_be_absent(field))
                || was.is_some_and(|previous| previous.may_be_absent && field.field.nullable);
        }
        let record_count = self.compare(database, collection, &fields)?;
        if self.existing.is_none() {
            ddl.push(create_table(&self.table, &fields, &collection.key, has_rest));
        }
        plan.report.ddl.extend(ddl);
        if self.existing.is_none() || fields.iter().any(|field| !self.previous.contains(field)) {
            plan.memory.extend(
                self.existing
                    .is_none()
                    .then(|| column_memory::forget(&self.table)),
            );
            plan.memory.extend(column_memory::store(&self.table, &fields)?);
        }
        plan.report.collections.push(PreparedCollection {
            name: collection.name.clone(),
            existed: self.existing.is_some(),
            record_count,
            fields: fields
                .iter()
                .map(|field| prepared(field, collection.schema.presence))
                .collect(),
            ..PreparedCollection::default()
        });
        plan.report.findings.extend(
            self.findings
                .into_iter()
                .map(|finding| finding.with_collection(&collection.name)),
        );
        let known = || self.previous.iter().chain(&fields);
        let rest_fields = known().filter(|field| field.is_in_rest() || field.may_be_absent);
        let target = Target {
            table: self.table.clone(),
            rest_fields: rest_fields.map(|field| field.field.name.clone()).collect(),
            has_absent: has_rest && known().any(|field| field.may_be_absent),
            has_triggers: self.has_triggers,
            key: collection.key.clone(),
            has_rest,
            fields,
        };
        plan.targets.push((collection.name.clone(), target));
        Ok(())
    }

    /// Adds what an existing table lacks, as columns or in the rest column: statements, and `existing` as it will be.
    fn grow(&mut self, fields: &mut [Remembered], wants_absent: bool, growth: Growth) -> Vec<String> {
        let Some(table) = self.existing.as_mut().filter(|_| growth != Growth::Refused) else {
            return Vec::new();
        };
        let mut ddl = Vec::new();
        let mut add = |table: &mut Table, name: &str, class: StorageClass| {
            ddl.push(format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                quote(&table.name),
                quote(name),
                class.sql()
            ));
            table.columns.push(Column {
                name: name.to_owned(),
                declared: class.sql().to_owned(),
                affinity: Affinity::of(class.sql(), false),
                is_not_null: false,
                has_default: false,
                key_position: 0,
                is_generated: false,
            });
        };
        for field in &mut *fields {
            if field.is_in_rest() || table.column(&field.column).is_some() {
                continue;
            }
            // Records that are stored already have no value there.
            field.field.nullable = true;
            if growth == Growth::Rest || table.columns.len() >= COLUMNS_MAX {
                field.column = REST_COLUMN.to_owned();
            } else {
                add(table, &field.column, StorageClass::of(&field.field.record_type));
            }
        }
        let needs_rest = wants_absent || fields.iter().any(Remembered::is_in_rest);
        if needs_rest && table.column(REST_COLUMN).is_none() {
            add(table, REST_COLUMN, StorageClass::Text);
        }
        ddl
    }

    /// Compares with the table that is there, and counts its records.
    fn compare(
        &mut self,
        database: Option<&dyn Database>,
        collection: &Collection,
        fields: &[Remembered],
    ) -> Result<Option<u64>> {
        let (Some(database), Some(table)) = (database, &self.existing) else {
            return Ok(None);
        };
        let count = format!("SELECT count(*) FROM {}", quote(&table.name));
        let record_count = database::count(database, "count the records of a table", &count, &[])?;
        let comparison = Comparison {
            table,
            fields,
            previous: &self.previous,
            key: &collection.key,
            is_empty: record_count == 0,
            findings: Vec::new(),
        };
        let findings = comparison.findings();
        self.findings.extend(findings);
        Ok(Some(record_count))
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
            may_be_absent: false,
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
    if has_presence && stored.field.nullable && !stored.may_be_absent {
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
