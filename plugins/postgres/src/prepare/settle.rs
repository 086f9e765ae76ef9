//! What a request comes to once the tables are there: targets for the writer, and the answer for the host.
//!
//! Works on tables as the catalog has them after they were made, so that nothing about types is guessed twice.

use std::collections::BTreeMap;

use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::sink::{PreparedCollection, PreparedField};
use whimbrel_plugin_api::{ErrorKind, Finding, Loss, Result};

use super::facts::{self, TableFacts};
use super::place::{Place, Placed, new_type};
use super::remember::remember;
use super::{Draft, Plan, Settings, Wish, changed_meanwhile, is_blocked};
use crate::catalog::{Column, Identity, Table, TableKind};
use crate::connection::Connection;
use crate::names::{TableName, quote};
use crate::rest::REST_COLUMN;
use crate::target::{Target, TargetColumn};
use crate::type_mapping::{self, TypeSettings, Writing};

/// Ends a draft.
pub(super) async fn settle(
    connection: &mut Connection,
    settings: &Settings,
    wish: &Wish<'_>,
    mut draft: Draft<'_>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    if !draft.is_blocked() {
        look_at_new(connection, &mut draft).await?;
        remember(connection, settings, &mut draft).await?;
    }
    let blocked = draft.is_blocked();
    let names: BTreeMap<TableName, String> = draft
        .places
        .iter()
        .map(|place| (place.name.clone(), place.collection.name.clone()))
        .collect();
    let fields: BTreeMap<&TableName, &[Placed]> = draft
        .places
        .iter()
        .map(|place| (&place.name, place.fields.as_slice()))
        .collect();
    for place in &draft.places {
        let table = draft
            .tables
            .iter()
            .find(|table| table.name == place.name && !blocked);
        let writings = match table {
            Some(table) => Some(writings(table, place, settings)?),
            None => None,
        };
        let facts = table.and_then(|table| draft.facts.get(&table.oid)).copied();
        plan.report.collections.push(PreparedCollection {
            name: place.collection.name.clone(),
            existed: place.existing.is_some(),
            record_count: record_count(&draft, place),
            fields: prepared_fields(table, place, writings.as_deref(), &draft.types, settings),
            enforced: enforced(place, &names, &fields),
            required: required(place),
            ..PreparedCollection::default()
        });
        if let (Some(table), Some(writings)) = (table, writings) {
            let target = target(table, place, writings, facts.unwrap_or_default(), wish.before);
            plan.targets.push((place.collection.name.clone(), target));
        }
    }
    plan.report.findings = draft.places.iter().flat_map(found).collect();
    plan.report
        .findings
        .extend(temporary_tables(&draft, &plan.targets));
    plan.report.ddl = draft.ddl;
    if is_blocked(&plan.report.findings) {
        plan.targets.clear();
    }
    Ok(plan)
}

fn found(place: &Place<'_>) -> Vec<Finding> {
    let of_place = |finding: &Finding| finding.clone().with_collection(&place.collection.name);
    place.findings.iter().map(of_place).collect()
}

/// The facts of tables that have just been made.
async fn look_at_new(connection: &mut Connection, draft: &mut Draft<'_>) -> Result<()> {
    let is_new = |table: &&Table| !draft.facts.contains_key(&table.oid);
    let new: Vec<Table> = draft.tables.iter().filter(is_new).cloned().collect();
    let facts = facts::tables(connection, &new).await?;
    for table in &new {
        let is_exposed = facts.get(&table.oid).is_some_and(|facts| facts.is_exposed);
        let place = draft.places.iter_mut().find(|place| place.name == table.name);
        if let (true, Some(place)) = (is_exposed, place) {
            let message = format!(
                "the new table {} can be read by everybody who reaches the project's API: `anon` or `authenticated` has the right",
                table.name.sql()
            );
            let help = format!(
                "`ALTER TABLE {} ENABLE ROW LEVEL SECURITY` after the run, with policies for those who may read",
                table.name.sql()
            );
            place
                .findings
                .push(Finding::warning("postgres.exposed_table", message).with_help(help));
        }
    }
    draft.facts.extend(facts);
    Ok(())
}

fn record_count(draft: &Draft<'_>, place: &Place<'_>) -> Option<u64> {
    let table = place.existing.as_ref()?;
    draft.facts.get(&table.oid)?.record_count
}

/// How the values of each field with a column travel.
fn writings(table: &Table, place: &Place<'_>, settings: &Settings) -> Result<Vec<Option<Writing>>> {
    let writing = |placed: &Placed| {
        let Some(name) = &placed.column else {
            return Ok(None);
        };
        let column = table.column(name);
        column
            .and_then(|column| fit(&placed.field.record_type, column, settings.types))
            .map(Some)
            .ok_or_else(|| changed_meanwhile(&table.name))
    };
    place.fields.iter().map(writing).collect()
}

/// How values go into a column; also if it refuses some of them.
pub(crate) fn fit(record_type: &RecordType, column: &Column, types: TypeSettings) -> Option<Writing> {
    match type_mapping::writing(record_type, column, types) {
        Ok(writing) => Some(writing),
        Err(misfit) => misfit.refusing.map(|writing| *writing),
    }
}

fn prepared_fields(
    table: Option<&Table>,
    place: &Place<'_>,
    writings: Option<&[Option<Writing>]>,
    types: &BTreeMap<String, String>,
    settings: &Settings,
) -> Vec<PreparedField> {
    let of = |(index, placed): (usize, &Placed)| {
        let mut losses = Vec::new();
        // A required field that a record lacks is refused, not lost.
        if place.collection.schema.presence && placed.field.nullable && !placed.may_be_absent {
            losses.push(Loss::AbsentToNull);
        }
        let name = placed.field.name.clone();
        let Some(column) = &placed.column else {
            return PreparedField {
                // Read back as a field of its own, so that is its name in the sink.
                stored_name: name.clone(),
                name,
                stored_as: format!("member of `{REST_COLUMN}`"),
                losses,
            };
        };
        let writing = writings.and_then(|writings| writings.get(index)?.as_ref());
        losses.extend(
            writing
                .into_iter()
                .flat_map(|writing| writing.losses.iter().copied()),
        );
        let existing = table
            .or(place.existing.as_ref())
            .and_then(|table| table.column(column));
        PreparedField {
            name,
            stored_name: column.clone(),
            stored_as: match existing {
                Some(column) => column.pg_type.formatted.clone(),
                None => new_type(&placed.field.record_type, types, settings),
            },
            losses,
        }
    };
    place.fields.iter().enumerate().map(of).collect()
}

/// Foreign keys that were there before, between collections of the request.
fn enforced(
    place: &Place<'_>,
    names: &BTreeMap<TableName, String>,
    fields: &BTreeMap<&TableName, &[Placed]>,
) -> Vec<Reference> {
    let field_names = |table: &TableName, columns: &[String]| -> Option<Vec<String>> {
        let placed = fields.get(table)?;
        let name = |column: &String| {
            let mut placed = placed.iter();
            placed
                .find(|placed| placed.column.as_ref() == Some(column))
                .map(|placed| placed.field.name.clone())
        };
        columns.iter().map(name).collect()
    };
    let Some(table) = &place.existing else {
        return Vec::new();
    };
    let reference = |key: &crate::catalog::ForeignKey| {
        Some(Reference {
            fields: field_names(&place.name, &key.columns)?,
            collection: names.get(&key.to)?.clone(),
            to_fields: field_names(&key.to, &key.to_columns)?,
            is_enforced: key.is_validated,
        })
    };
    table.foreign_keys.iter().filter_map(reference).collect()
}

/// Fields that may be null, in columns that were there before and take no null.
fn required(place: &Place<'_>) -> Vec<String> {
    let column = |placed: &Placed| place.existing.as_ref()?.column(placed.column.as_deref()?);
    let takes_no_null =
        |placed: &&Placed| placed.field.nullable && column(placed).is_some_and(|column| column.is_not_null);
    place
        .fields
        .iter()
        .filter(takes_no_null)
        .map(|placed| placed.field.name.clone())
        .collect()
}

fn target(
    table: &Table,
    place: &Place<'_>,
    writings: Vec<Option<Writing>>,
    facts: TableFacts,
    before: Option<&Target>,
) -> Target {
    let has_casts = writings.iter().flatten().any(|writing| writing.cast.is_some());
    let column = |(placed, writing): (&Placed, Option<Writing>)| {
        let identity = placed
            .column
            .as_ref()
            .and_then(|name| Some(table.column(name)?.identity));
        TargetColumn {
            field: placed.field.clone(),
            column: placed.column.clone(),
            writing,
            may_be_absent: placed.may_be_absent,
            is_identity_always: identity == Some(Identity::Always),
        }
    };
    let mut columns: Vec<TargetColumn> = place.fields.iter().zip(writings).map(column).collect();
    // Batches of the earlier schema may still come, from partitions that have not met the new one.
    for gone in before.iter().flat_map(|before| &before.columns) {
        if columns.iter().all(|column| column.field.name != gone.field.name) {
            columns.push(gone.clone());
        }
    }
    let said_before = place
        .previous
        .iter()
        .filter(|previous| previous.column.is_none() || previous.may_be_absent);
    let said = columns
        .iter()
        .filter(|column| column.column.is_none() || column.may_be_absent);
    let rest_fields = said_before
        .map(|previous| previous.field.name.clone())
        .chain(said.map(|column| column.field.name.clone()))
        .collect();
    let has_triggers = !table.triggers.is_empty();
    let can_be_copied = matches!(table.kind, TableKind::Table | TableKind::Partitioned)
        && !table.has_row_security
        && !has_triggers
        && !has_casts;
    Target {
        table: place.name.clone(),
        columns,
        key: place.collection.key.clone(),
        version: place.collection.cursor_fields.first().cloned(),
        has_rest: table.column(REST_COLUMN).is_some(),
        rest_fields,
        takes_copy: can_be_copied,
        was_empty: before.map_or(facts.record_count == Some(0), |before| before.was_empty),
        has_triggers,
        has_deferred_constraints: facts.has_deferred_constraints,
    }
}

/// Records are staged in temporary tables unless they can be copied straight into an empty one.
fn temporary_tables(draft: &Draft<'_>, targets: &[(String, Target)]) -> Option<Finding> {
    if draft.session.may_create_temporary {
        return None;
    }
    let (collection, _) = targets
        .iter()
        .find(|(_, target)| !(target.was_empty && target.takes_copy))?;
    let (user, database) = (quote(&draft.session.user), quote(&draft.session.database));
    let message = format!(
        "`{}` may not make temporary tables, through which records are merged",
        draft.session.user
    );
    let finding = Finding::blocker("postgres.no_temporary_tables", message)
        .with_help(format!("`GRANT TEMPORARY ON DATABASE {database} TO {user}`"))
        .with_collection(collection);
    Some(Finding {
        kind: Some(ErrorKind::Permission),
        ..finding
    })
}
