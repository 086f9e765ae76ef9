//! Names: how collections become table names, and the one function that quotes.
//!
//! A database file reserves `sqlite_` for itself and this plugin reserves `_whimbrel_`. A collection whose name begins
//! so, whatever underscores stand before, is stored with one more underscore; [`collection_name`] takes it away
//! again, so the mapping can be undone for every name.

/// The json column for what columns cannot hold.
pub(crate) const REST_COLUMN: &str = "_whimbrel_rest";
/// What the names of this plugin's own tables begin with.
pub(crate) const OWN_PREFIX: &str = "_whimbrel_";
/// The names by which every table offers its row number, unless columns of its own have them.
pub(crate) const ROW_NUMBERS: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// `name` as an identifier in SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the database takes both for one name: it compares ASCII letters without case, all else octet by octet.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// The table that holds the collection.
pub(crate) fn table_name(prefix: &str, collection: &str) -> String {
    let name = format!("{prefix}{collection}");
    if is_reserved(&name) {
        format!("_{name}")
    } else {
        name
    }
}

/// The collection that the table holds; `None` for tables that are no collection.
pub(crate) fn collection_name<'table>(prefix: &str, table: &'table str) -> Option<&'table str> {
    if begins_with(table, "sqlite_") || begins_with(table, OWN_PREFIX) {
        return None;
    }
    let name = if is_reserved(table) { &table[1..] } else { table };
    name.strip_prefix(prefix)
}

/// Whether any number of underscores and a reserved beginning stand at the start.
fn is_reserved(name: &str) -> bool {
    let rest = name.trim_start_matches('_');
    begins_with(rest, "sqlite_") || (rest.len() < name.len() && begins_with(rest, &OWN_PREFIX[1..]))
}

fn begins_with(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|head| same(head, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_names_get_an_underscore() {
        for (collection, table) in [
            ("todos", "todos"),
            ("sqlite_x", "_sqlite_x"),
            ("SQLite_X", "_SQLite_X"),
            ("_sqlite_x", "__sqlite_x"),
            ("_whimbrel_rest", "__whimbrel_rest"),
            ("whimbrel_x", "whimbrel_x"),
            ("", ""),
        ] {
            assert_eq!(table_name("", collection), table);
            assert_eq!(collection_name("", table), Some(collection));
        }
        assert_eq!(table_name("sqlite_", "x"), "_sqlite_x");
        assert_eq!(collection_name("app_", "other"), None);
        assert_eq!(collection_name("", "_whimbrel_columns"), None);
        assert_eq!(collection_name("", "SQLITE_sequence"), None);
    }

    proptest! {
        #[test]
        fn every_collection_can_be_found_again(
            prefix in "(|app_|_|sqlite_|é)",
            name in "_{0,3}(sqlite|SQLITE|whimbrel|é|)_?\\PC{0,8}",
        ) {
            let table = table_name(&prefix, &name);
            prop_assert_eq!(collection_name(&prefix, &table), Some(name.as_str()));
        }
    }
}
