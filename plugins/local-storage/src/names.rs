//! Names made distinct, the same way each time: collections that differ only in case, and members of records that are
//! called like this source's own fields.

use std::collections::{BTreeMap, HashSet};

/// The collection of everything that is no record.
pub const VALUES: &str = "_values";

/// This source's own fields.
pub const ORIGIN: &str = "_origin";
/// The storage key, exactly.
pub const KEY: &str = "_key";
/// What tells the records of one key apart.
pub const ID: &str = "_id";
/// A record that is no object.
pub const VALUE: &str = "_value";
/// A record that is no JSON.
pub const VALUE_TEXT: &str = "_value_text";
/// A value of `_values` that is JSON.
pub const VALUES_JSON: &str = "value_json";
/// A value of `_values` that is not.
pub const VALUES_TEXT: &str = "value_text";

/// Names that a member of a record may not keep. The last is reserved by the plugin API.
const RESERVED: [&str; 6] = [
    ORIGIN,
    KEY,
    ID,
    VALUE,
    VALUE_TEXT,
    whimbrel_plugin_api::record_type::PRESENCE_COLUMN,
];

/// For each member name the name of its field: its own, with `_` added until it is free if it is reserved.
pub fn field_names(members: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = members
        .iter()
        .cloned()
        .chain(RESERVED.map(str::to_owned))
        .collect();
    let rename = |member: &String| {
        let mut name = member.clone();
        if RESERVED.contains(&name.as_str()) {
            while !taken.insert(name.clone()) {
                name.push('_');
            }
        }
        name
    };
    members.iter().map(rename).collect()
}

/// For each collection name one that no other name equals when case is ignored (Unicode lower case). The first of
/// equal names in sorted order keeps it, `_values` always does; others get the first free of `_2`, `_3` and so on.
pub fn distinct_collections(names: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| (name != VALUES, name.clone()));
    names.dedup();
    let all: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let mut taken = HashSet::from([VALUES.to_owned()]);
    let mut distinct = BTreeMap::new();
    for name in names {
        let is_first = name == VALUES || taken.insert(name.to_lowercase());
        let given = if is_first {
            name.clone()
        } else {
            // Lower case is what is compared, so suffixed names must not meet any other name either.
            let numbered = |number: usize| format!("{name}_{number}");
            let is_free = |candidate: &String| {
                !taken.contains(&candidate.to_lowercase()) && !all.contains(&candidate.to_lowercase())
            };
            let given = (2..)
                .map(numbered)
                .find(is_free)
                .expect("numbers do not end before names do");
            taken.insert(given.to_lowercase());
            given
        };
        distinct.insert(name, given);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn members_called_like_own_fields_are_kept_under_a_free_name() {
        let members = owned(&["_key", "_key_", "_id", "id", "__presence", "_key__x", ""]);
        assert_eq!(
            field_names(&members),
            owned(&["_key__", "_key_", "_id_", "id", "__presence_", "_key__x", ""])
        );
    }

    #[test]
    fn collections_that_differ_in_case_are_told_apart_in_sorted_order() {
        let names = owned(&[
            "note", "Note", "NOTE", "Note_2", "ÄB", "äb", "_VALUES", "_values", "other",
        ]);
        let given: Vec<(String, String)> = distinct_collections(names).into_iter().collect();
        let expected = [
            ("NOTE", "NOTE"),
            ("Note", "Note_3"),
            ("Note_2", "Note_2"),
            ("_VALUES", "_VALUES_2"),
            ("_values", "_values"),
            ("note", "note_4"),
            ("other", "other"),
            ("ÄB", "ÄB"),
            ("äb", "äb_2"),
        ];
        assert_eq!(
            given,
            expected.map(|(name, given)| (name.to_owned(), given.to_owned()))
        );
    }
}
