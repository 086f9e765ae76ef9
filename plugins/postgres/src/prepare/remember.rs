//! What is to be remembered of columns: that of which the tables alone do not say enough.
//!
//! Neighbours: `settle` asks for it, `memory` has the table.

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{ErrorKind, Finding, Result};

use super::compare::is_wider;
use super::place::{Place, Placed};
use super::{Draft, Settings, take_turns};
use crate::catalog::Table;
use crate::connection::Connection;
use crate::memory::{self, Remembered};
use crate::names::quote;
use crate::rest::REST_COLUMN;
use crate::type_mapping;

/// Stores what the tables cannot say of themselves.
pub(super) async fn remember(
    connection: &mut Connection,
    settings: &Settings,
    draft: &mut Draft<'_>,
) -> Result<()> {
    let schema = &settings.state_schema;
    let mut statements = Vec::new();
    let mut of_types_only = true;
    let mut collections = Vec::new();
    for place in &draft.places {
        let Some(table) = draft.tables.iter().find(|table| table.name == place.name) else {
            continue;
        };
        let is_empty = draft
            .facts
            .get(&table.oid)
            .is_some_and(|facts| facts.record_count == Some(0));
        let remembered = to_remember(table, place, settings, is_empty);
        let is_stored = |new: &&Remembered| !place.previous.contains(new);
        let new: Vec<&Remembered> = remembered.iter().filter(is_stored).collect();
        of_types_only &= new.iter().all(|new| new.column.is_some() && !new.may_be_absent);
        if !new.is_empty() {
            collections.push(place.collection.name.clone());
            statements.extend(memory::store(schema, &place.name, &new)?);
        }
    }
    let state = memory::state(connection, schema).await?;
    let facts = draft.schemas.get(schema).copied().unwrap_or_default();
    let can_store = match state.exists {
        true => state.may_store,
        false if facts.exists => facts.may_use && facts.may_create,
        false => draft.session.may_create_schemas,
    };
    let new_tables = draft.places.iter().filter(|place| place.existing.is_none());
    let forgets: Vec<String> = new_tables
        .map(|place| memory::forget(schema, &place.name))
        .collect();
    if statements.is_empty() {
        if state.exists && state.may_store && !forgets.is_empty() {
            connection.run(&forgets.join("; ")).await?;
        }
        return Ok(());
    }
    if !can_store {
        let finding = cannot_store(draft, settings, of_types_only, state.exists);
        let first = draft
            .places
            .iter_mut()
            .find(|place| collections.contains(&place.collection.name));
        first
            .into_iter()
            .for_each(|place| place.findings.push(finding.clone()));
        return Ok(());
    }
    if !state.exists {
        // Another run may be making it as well.
        take_turns(connection).await?;
        let ddl = memory::ddl(schema, facts.exists);
        for statement in &ddl {
            connection.run(statement).await?;
        }
        draft.ddl.extend(ddl);
    }
    for statement in forgets.iter().chain(&statements) {
        connection.run(statement).await?;
    }
    Ok(())
}

fn cannot_store(draft: &Draft<'_>, settings: &Settings, of_types_only: bool, exists: bool) -> Finding {
    let (schema, user) = (quote(&settings.state_schema), quote(&draft.session.user));
    let table = memory::table(&settings.state_schema).sql();
    let help = match exists {
        true => format!(
            "`GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}`"
        ),
        false => {
            format!("`CREATE SCHEMA {schema} AUTHORIZATION {user}`, or name another schema in `state_schema`")
        }
    };
    if of_types_only {
        let message = format!(
            "{table} cannot be written: columns whose type does not say all of a record type are read as what they are"
        );
        Finding::warning("postgres.types_not_remembered", message).with_help(help)
    } else {
        let message =
            format!("{table} cannot be written: nobody could tell which fields stand in `{REST_COLUMN}`");
        Finding {
            kind: Some(ErrorKind::Permission),
            ..Finding::blocker("postgres.types_not_remembered", message).with_help(help)
        }
    }
}

/// The fields of which the table alone does not say enough.
fn to_remember(table: &Table, place: &Place<'_>, settings: &Settings, is_empty: bool) -> Vec<Remembered> {
    let is_needed = |placed: &Placed| {
        let is_told_by_rest = placed.column.is_none() || placed.may_be_absent;
        is_told_by_rest || says_too_little(table, place, placed, settings, is_empty)
    };
    let remembered = |(position, placed): (usize, &Placed)| Remembered {
        field: placed.field.clone(),
        column: placed.column.clone(),
        may_be_absent: placed.may_be_absent,
        position,
    };
    let fields = place.fields.iter().enumerate();
    fields
        .filter(|(_, placed)| is_needed(placed))
        .map(remembered)
        .collect()
}

/// Whether reading the column alone would give another type, and the type of the field is true of all that it holds.
fn says_too_little(
    table: &Table,
    place: &Place<'_>,
    placed: &Placed,
    settings: &Settings,
    is_empty: bool,
) -> bool {
    let Some(column) = placed.column.as_ref().and_then(|name| table.column(name)) else {
        return false;
    };
    let was_there = place
        .existing
        .as_ref()
        .is_some_and(|table| table.column(&column.name).is_some());
    let previous = place
        .previous
        .iter()
        .find(|previous| previous.field.name == placed.field.name);
    let own = type_mapping::reading(column, None, settings.types).record_type;
    let is_true = |old: &RecordType| !was_there || is_empty || is_wider(old, &placed.field.record_type);
    match previous {
        Some(previous) => is_true(&previous.field.record_type),
        None => own != placed.field.record_type && is_true(&own),
    }
}
