//! Which table each collection goes into, and what may be wrong with its name.
//!
//! Pure. Neighbour: `prepare`.

use whimbrel_plugin_api::{Collection, Finding};

use super::Settings;
use super::place::{NAME_BYTES_MAX, cut, shown};
use crate::names::TableName;

/// The table of each collection, or what is wrong with its name.
pub(super) fn table_names(
    collections: &[Collection],
    settings: &Settings,
) -> Vec<(TableName, Option<Finding>)> {
    let mut names: Vec<(TableName, Option<Finding>)> = Vec::with_capacity(collections.len());
    for collection in collections {
        let name = TableName::of_collection(&collection.name, &settings.default_schema);
        let (name, finding) = match name {
            Some(name) => {
                let finding = bad_name(&name).or_else(|| {
                    let twin = names.iter().position(|(earlier, _)| *earlier == name)?;
                    Some(same_table(&collections[twin].name, &collection.name, &name))
                });
                (name, finding)
            }
            None => {
                let unnamed = TableName {
                    schema: settings.default_schema.clone(),
                    name: collection.name.clone(),
                };
                let finding = Finding::blocker(
                    "postgres.bad_name",
                    format!("`{}` is no table name", shown(&collection.name)),
                )
                .with_help("write `table` or `schema.table`, a part with a dot in double quotes: `\"a.b\"`");
                (unnamed, Some(finding))
            }
        };
        names.push((name, finding));
    }
    names
}

fn same_table(first: &str, second: &str, name: &TableName) -> Finding {
    Finding::blocker(
        "postgres.same_table",
        format!(
            "the collections `{}` and `{}` would both go into {}",
            shown(first),
            shown(second),
            name.sql()
        ),
    )
    .with_help("give one of them another name in the sink")
}

fn bad_name(name: &TableName) -> Option<Finding> {
    let parts = [&name.schema, &name.name];
    if let Some(part) = parts.iter().find(|part| part.contains('\0')) {
        let message = format!(
            "the name `{}` holds a NUL character, which no name of the database can",
            shown(part)
        );
        return Some(
            Finding::blocker("postgres.bad_name", message)
                .with_help("name the collection otherwise in the sink"),
        );
    }
    let long = parts.iter().find(|part| part.len() > NAME_BYTES_MAX)?;
    let message = format!(
        "the name `{long}` has {} octets, of which PostgreSQL would keep {NAME_BYTES_MAX}: `{}`",
        long.len(),
        cut(long)
    );
    Some(
        Finding::blocker("postgres.name_too_long", message)
            .with_help("give the collection a shorter name in the sink"),
    )
}
