//! What the database says beside its tables: schemas and rights, names that are taken, types by name, how much there is.
//!
//! Each is one query, however many collections a request has. Only looks.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::Result;

use crate::catalog::{Table, TableKind};
use crate::connection::{Connection, Row};
use crate::error::Fault;
use crate::names::{TableName, literal};

/// Records up to which a table is counted. More would make a plan wait for nothing but a number.
const COUNTED_RECORDS_MAX: u64 = 100_000;

/// What a session may do in the database as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) may_create_schemas: bool,
    pub(crate) may_create_temporary: bool,
    pub(crate) is_read_only: bool,
}

/// A schema, which need not be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SchemaFacts {
    pub(crate) exists: bool,
    pub(crate) may_use: bool,
    pub(crate) may_create: bool,
}

/// What a table has beside what the catalog says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableFacts {
    /// `None` if there are more than are counted, or if it cannot be told.
    pub(crate) record_count: Option<u64>,
    pub(crate) has_deferred_constraints: bool,
    /// Whether the roles of a Supabase API may read it without row-level security.
    pub(crate) is_exposed: bool,
}

fn texts(row: Row) -> Vec<String> {
    row.into_iter().map(Option::unwrap_or_default).collect()
}

fn is_true(text: &str) -> bool {
    matches!(text, "t" | "on")
}

fn pairs<'a>(names: impl IntoIterator<Item = &'a TableName>) -> String {
    let pair = |name: &TableName| format!("({}, {})", literal(&name.schema), literal(&name.name));
    names.into_iter().map(pair).collect::<Vec<_>>().join(", ")
}

/// Who is connected, and with what rights in the database.
pub(crate) async fn session(connection: &mut Connection) -> Result<Session, Fault> {
    let sql = "SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'), \
               has_database_privilege(current_database(), 'TEMPORARY'), current_setting('transaction_read_only')";
    let row = texts(connection.rows(sql).await?.pop().unwrap_or_default());
    let at = |index: usize| row.get(index).cloned().unwrap_or_default();
    Ok(Session {
        user: at(0),
        database: at(1),
        may_create_schemas: is_true(&at(2)),
        may_create_temporary: is_true(&at(3)),
        is_read_only: is_true(&at(4)),
    })
}

/// What there is of these schemas.
pub(crate) async fn schemas(
    connection: &mut Connection,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, SchemaFacts>, Fault> {
    let wanted: Vec<String> = names.iter().map(|name| format!("({})", literal(name))).collect();
    let sql = format!(
        "SELECT w.name, n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), \
         coalesce(has_schema_privilege(n.oid, 'CREATE'), false) FROM (VALUES {}) AS w(name) \
         LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.name::text",
        wanted.join(", ")
    );
    let rows = connection.rows(&sql).await?.into_iter().map(texts);
    let of = |row: Vec<String>| match row.as_slice() {
        [name, exists, may_use, may_create] => Some((
            name.clone(),
            SchemaFacts {
                exists: is_true(exists),
                may_use: is_true(may_use),
                may_create: is_true(may_create),
            },
        )),
        _ => None,
    };
    Ok(rows.filter_map(of).collect())
}

/// Which of these names belong to something that is neither table nor view, and what that is.
pub(crate) async fn taken(
    connection: &mut Connection,
    names: &[&TableName],
) -> Result<BTreeMap<TableName, &'static str>, Fault> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let pairs = pairs(names.iter().copied());
    // Arrays of other types give way to a table by themselves.
    let sql = format!(
        "SELECT n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (n.nspname, c.relname) IN ({pairs}) AND c.relkind NOT IN ('r', 'p', 'v', 'm', 'f') \
         UNION ALL SELECT n.nspname, t.typname, 'type' FROM pg_catalog.pg_type t \
         JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
         WHERE (n.nspname, t.typname) IN ({pairs}) AND t.typrelid = 0 AND t.typcategory <> 'A'"
    );
    let of = |row: Vec<String>| match row.as_slice() {
        [schema, name, kind] => Some((
            TableName {
                schema: schema.clone(),
                name: name.clone(),
            },
            match kind.as_str() {
                "i" | "I" => "an index",
                "S" => "a sequence",
                "c" | "type" => "a type",
                _ => "something that is no table",
            },
        )),
        _ => None,
    };
    Ok(connection
        .rows(&sql)
        .await?
        .into_iter()
        .map(texts)
        .filter_map(of)
        .collect())
}

/// The types of the database that have these names, as they can be written in statements. A name is what `format_type`
/// writes for a type of PostgreSQL's own, such as `bit(3)` or `int4range[]`, and `schema.name` for any other.
pub(crate) async fn types(
    connection: &mut Connection,
    default_schema: &str,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Fault> {
    let parsed: BTreeMap<&str, TypeText<'_>> = names
        .iter()
        .filter_map(|name| Some((*name, TypeText::of(name)?)))
        .collect();
    if parsed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: BTreeSet<String> = parsed
        .values()
        .map(|text| format!("({})", literal(text.base)))
        .collect();
    // A domain is read as what it is made of.
    let sql = format!(
        "SELECT w.name, quote_ident(n.nspname) || '.' || quote_ident(t.typname), n.nspname = 'pg_catalog' AND t.typarray <> 0 \
         FROM (VALUES {}) AS w(name), pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
         WHERE t.typtype NOT IN ('p', 'd') AND t.typisdefined AND has_type_privilege(t.oid, 'USAGE') \
         AND CASE WHEN n.nspname = 'pg_catalog' THEN format_type(t.oid, NULL) = w.name \
         ELSE quote_ident(n.nspname) || '.' || quote_ident(t.typname) = w.name \
         OR (n.nspname = {} AND quote_ident(t.typname) = w.name) END ORDER BY n.nspname = 'pg_catalog'",
        wanted.into_iter().collect::<Vec<_>>().join(", "),
        literal(default_schema)
    );
    let mut found = BTreeMap::new();
    for row in connection.rows(&sql).await?.into_iter().map(texts) {
        if let [name, sql, has_array] = row.as_slice() {
            found.insert(name.clone(), (sql.clone(), is_true(has_array)));
        }
    }
    let as_sql = |(name, text): (&str, &TypeText<'_>)| {
        let (sql, has_array) = found.get(text.base)?;
        let array = if text.is_array { "[]" } else { "" };
        (!text.is_array || *has_array).then(|| (name.to_owned(), format!("{sql}{}{array}", text.modifier)))
    };
    Ok(parsed
        .iter()
        .filter_map(|(name, text)| as_sql((name, text)))
        .collect())
}

/// The parts of a type's name.
struct TypeText<'a> {
    base: &'a str,
    /// With its parentheses; nothing but digits, letters, commas, spaces and signs between them.
    modifier: &'a str,
    is_array: bool,
}

impl<'a> TypeText<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let element = name.strip_suffix("[]").unwrap_or(name);
        let (base, modifier) = match element.strip_suffix(')').and_then(|_| element.rfind('(')) {
            Some(open) => element.split_at(open),
            None => (element, ""),
        };
        let inner = modifier.trim_start_matches('(').trim_end_matches(')');
        let is_plain = inner
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ", -_".contains(c));
        (is_plain && !base.is_empty() && !base.contains('\0')).then_some(Self {
            base,
            modifier,
            is_array: element.len() < name.len(),
        })
    }
}

/// How much is in these tables, and what else the catalog does not say of them; by number.
pub(crate) async fn tables(
    connection: &mut Connection,
    tables: &[Table],
) -> Result<BTreeMap<u32, TableFacts>, Fault> {
    let mut facts: BTreeMap<u32, TableFacts> = tables
        .iter()
        .map(|table| (table.oid, TableFacts::default()))
        .collect();
    if tables.is_empty() {
        return Ok(facts);
    }
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let sql = format!(
        "SELECT c.oid, EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.condeferred AND c.oid IN (k.conrelid, k.confrelid)), \
         NOT c.relrowsecurity AND EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated') \
         AND has_table_privilege(r.oid, c.oid, 'SELECT') AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')) \
         FROM pg_catalog.pg_class c WHERE c.oid IN ({})",
        oids.join(", ")
    );
    for row in connection.rows(&sql).await?.into_iter().map(texts) {
        if let [oid, has_deferred, is_exposed] = row.as_slice()
            && let Some(found) = oid.parse().ok().and_then(|oid: u32| facts.get_mut(&oid))
        {
            found.has_deferred_constraints = is_true(has_deferred);
            found.is_exposed = is_true(is_exposed);
        }
    }
    for (oid, count) in counts(connection, tables).await? {
        facts.entry(oid).or_default().record_count = count;
    }
    Ok(facts)
}

/// Records of those tables all of whose records can be seen.
async fn counts(connection: &mut Connection, tables: &[Table]) -> Result<Vec<(u32, Option<u64>)>, Fault> {
    let can_be_seen = |table: &&Table| {
        table.may_select
            && !table.has_row_security
            && matches!(table.kind, TableKind::Table | TableKind::Partitioned)
    };
    let seen: Vec<&Table> = tables.iter().filter(can_be_seen).collect();
    let count = |table: &&Table| {
        format!(
            "SELECT {}, count(*) FROM (SELECT 1 FROM {} LIMIT {}) AS counted",
            table.oid,
            from(table),
            COUNTED_RECORDS_MAX + 1
        )
    };
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let sql = seen.iter().map(count).collect::<Vec<_>>().join(" UNION ALL ");
    let rows = connection.rows(&sql).await?.into_iter().map(texts);
    let of = |row: Vec<String>| match row.as_slice() {
        [oid, count] => Some((
            oid.parse().ok()?,
            count.parse().ok().filter(|count| *count <= COUNTED_RECORDS_MAX),
        )),
        _ => None,
    };
    Ok(rows.filter_map(of).collect())
}

/// The table as it stands behind `FROM`: without tables that inherit from it, but with its partitions.
pub(crate) fn from(table: &Table) -> String {
    match table.kind {
        TableKind::Partitioned => table.name.sql(),
        _ => format!("ONLY {}", table.name.sql()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_cannot_carry_statements() {
        let of = |name| TypeText::of(name).map(|text| (text.base, text.modifier, text.is_array));
        assert_eq!(of("bit(3)[]"), Some(("bit", "(3)", true)));
        assert_eq!(
            of("geometry(Point,4326)"),
            Some(("geometry", "(Point,4326)", false))
        );
        assert_eq!(of("double precision"), Some(("double precision", "", false)));
        assert_eq!(
            of("a(1); DROP TABLE x; (2)"),
            Some(("a(1); DROP TABLE x; ", "(2)", false))
        );
        assert_eq!(of("a(1'; DROP)"), None);
        assert_eq!(of("a\0"), None);
        assert_eq!(of("[]"), None);
    }
}
