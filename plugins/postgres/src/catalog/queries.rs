//! The statements over `pg_catalog`. Each takes a list of table numbers, except the first, which finds them.
//!
//! They run in the simple protocol, within whatever transaction is open, and qualify every name, so that neither the
//! search path nor what somebody has put into `public` changes their meaning. Lists come back as JSON arrays.

use crate::names::literal;

use super::Wanted;

/// Columns of the answer: number, schema, name, kind, is partition, has children, records, octets, may use the schema and
/// select, insert, update, delete, is owner, row-level security holds.
pub(super) fn tables(wanted: &Wanted<'_>) -> String {
    let list = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
        format!("({})", names.join(", "))
    };
    let is_own = "NOT c.relispartition AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0 \
                  AND d.deptype = 'e')";
    let condition = match wanted {
        Wanted::Schemas([]) | Wanted::Tables([]) => "false".to_owned(),
        Wanted::Schemas(schemas) => format!("n.nspname IN {} AND {is_own}", list(schemas)),
        Wanted::Tables(tables) => {
            let names: Vec<String> = tables
                .iter()
                .map(|table| format!("({}, {})", literal(&table.schema), literal(&table.name)))
                .collect();
            format!("(n.nspname, c.relname) IN ({})", names.join(", "))
        }
        Wanted::AllBut(schemas) => {
            let but = if schemas.is_empty() {
                String::new()
            } else {
                format!(" AND n.nspname NOT IN {}", list(schemas))
            };
            // Names that begin with `pg_` are the database's own.
            format!("n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'{but} AND {is_own}")
        }
    };
    format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, \
         c.relhassubclass AND c.relkind <> 'p' AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid), \
         {RECORDS}, \
         CASE WHEN c.relkind = 'p' THEN (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_table_size(t.relid)), 0) \
         FROM pg_catalog.pg_partition_tree(c.oid) t WHERE t.isleaf) ELSE pg_catalog.pg_table_size(c.oid) END, \
         pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
         pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'INSERT'), \
         pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE'), \
         pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'DELETE'), \
         pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
         pg_catalog.row_security_active(c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {condition} ORDER BY n.nspname, c.relname"
    )
}

/// What the last ANALYZE counted, grown with the file as the planner does it; null if there was none. An empty file holds
/// nothing; before version 14 a table that was never analysed had 0 records on 0 pages.
const RECORDS: &str = "CASE c.relkind WHEN 'p' THEN (SELECT CASE WHEN pg_catalog.bool_or(l.reltuples < 0 OR l.relkind = 'f') \
     THEN NULL ELSE coalesce(pg_catalog.sum(l.reltuples::pg_catalog.float8), 0)::pg_catalog.int8 END \
     FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid WHERE t.isleaf) \
     WHEN 'v' THEN NULL WHEN 'f' THEN CASE WHEN c.reltuples > 0 THEN c.reltuples::pg_catalog.int8 END \
     ELSE CASE WHEN pg_catalog.pg_relation_size(c.oid) = 0 THEN 0 \
     WHEN c.reltuples < 0 OR c.relpages = 0 THEN NULL \
     ELSE (c.reltuples::pg_catalog.float8 / c.relpages * (pg_catalog.pg_relation_size(c.oid) \
     / pg_catalog.current_setting('block_size')::pg_catalog.int4))::pg_catalog.int8 END END";

/// Table number, name, type number, modifier, declared dimensions, not null, has a default, identity, generated, sequence.
pub(super) fn columns(oids: &str) -> String {
    format!(
        "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, \
         CASE WHEN t.typtype = 'd' THEN t.typndims ELSE a.attndims END, \
         a.attnotnull OR (t.typtype = 'd' AND t.typnotnull AND c.relkind IN ('r', 'p')), \
         (a.atthasdef AND a.attgenerated = '') OR t.typdefault IS NOT NULL, a.attidentity, a.attgenerated, s.name \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN (\
         SELECT d.refobjid, d.refobjsubid, pg_catalog.min(pg_catalog.format('%I.%I', n.nspname, s.relname)) AS name \
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
         JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 \
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') \
         AND d.refobjid IN ({oids}) GROUP BY d.refobjid, d.refobjsubid) s \
         ON s.refobjid = a.attrelid AND s.refobjsubid = a.attnum \
         WHERE a.attrelid IN ({oids}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"
    )
}

/// [`types`] of columns that are none of a table: their types by number, without modifiers.
pub(super) fn types_by_number(oids: &[u32]) -> String {
    let rows: Vec<String> = oids
        .iter()
        .map(|oid| format!("({oid}::pg_catalog.oid, -1)"))
        .collect();
    types_from(&format!("VALUES {}", rows.join(", ")))
}

/// The types of the columns and those that they are made of, each with the modifier that it is used with: number, modifier,
/// schema, name, kind, is array, what it is made of, the modifier of that, as `format_type` writes it, labels.
pub(super) fn types(oids: &str) -> String {
    types_from(&format!(
        "SELECT a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid IN ({oids}) AND a.attnum > 0 AND NOT a.attisdropped"
    ))
}

fn types_from(used: &str) -> String {
    format!(
        "WITH RECURSIVE used(oid, modifier) AS ({used} \
         UNION SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END, \
         CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE u.modifier END \
         FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid WHERE t.typtype = 'd' OR {IS_ARRAY}) \
         SELECT u.oid, u.modifier, n.nspname, t.typname, t.typtype, {IS_ARRAY}, \
         CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END, \
         CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE u.modifier END, \
         CASE WHEN n.nspname = 'pg_catalog' THEN pg_catalog.format_type(u.oid, u.modifier) \
         ELSE pg_catalog.format('%I.%I', n.nspname, t.typname) \
         || coalesce(pg_catalog.substring(pg_catalog.format_type(u.oid, u.modifier), '\\([^()]*\\)$'), '') END, \
         CASE WHEN t.typtype = 'e' THEN (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)::pg_catalog.text \
         FROM pg_catalog.pg_enum e WHERE e.enumtypid = u.oid) END \
         FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
    )
}

/// `int2vector` and the like have elements too, but are no arrays of them.
const IS_ARRAY: &str = "(t.typelem <> 0 AND t.typtype = 'b' AND EXISTS (\
     SELECT 1 FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid))";

/// Table number, is primary, is immediate, columns. Of the unique indexes that tell records apart as the columns' own
/// comparison does: a collation or an equality of another kind would not.
pub(super) fn keys(oids: &str) -> String {
    format!(
        "SELECT i.indrelid, i.indisprimary, i.indimmediate, \
         (SELECT pg_catalog.json_agg(a.attname ORDER BY k.place)::pg_catalog.text \
         FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.place <= i.indnkeyatts) \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid IN ({oids}) AND i.indisunique AND i.indisvalid AND NOT i.indisexclusion \
         AND i.indpred IS NULL AND i.indexprs IS NULL \
         AND NOT EXISTS (SELECT 1 FROM unnest(i.indkey::pg_catalog.int2[], i.indcollation::pg_catalog.oid[], \
         i.indclass::pg_catalog.oid[]) WITH ORDINALITY AS k(attnum, collated, class, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         LEFT JOIN pg_catalog.pg_opclass o ON o.oid = k.class \
         WHERE k.place <= i.indnkeyatts AND (k.collated <> a.attcollation \
         OR NOT (o.opcdefault OR o.opcname LIKE '%\\_pattern\\_ops'))) \
         ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, c.relname"
    )
}

/// Table number, name, columns, schema and name of the other table, its columns, is validated, is deferrable. Those that a
/// partitioned table keeps for the parts of the other one are left out.
pub(super) fn foreign_keys(oids: &str) -> String {
    let names = |table: &str, places: &str| {
        format!(
            "(SELECT pg_catalog.json_agg(a.attname ORDER BY u.place)::pg_catalog.text \
             FROM pg_catalog.unnest({places}) WITH ORDINALITY AS u(attnum, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = {table} AND a.attnum = u.attnum)"
        )
    };
    format!(
        "SELECT k.conrelid, k.conname, {}, n.nspname, t.relname, {}, k.convalidated, k.condeferrable \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class t ON t.oid = k.confrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
         WHERE k.contype = 'f' AND k.conrelid IN ({oids}) AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint p \
         WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid) ORDER BY k.conrelid, k.conname",
        names("k.conrelid", "k.conkey"),
        names("k.confrelid", "k.confkey")
    )
}

/// Table number, name. Those that fire only for a replica are none for us.
pub(super) fn triggers(oids: &str) -> String {
    format!(
        "SELECT g.tgrelid, g.tgname FROM pg_catalog.pg_trigger g \
         WHERE g.tgrelid IN ({oids}) AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') ORDER BY g.tgrelid, g.tgname"
    )
}
