//! Names of documents, and the patterns that name collections.
//!
//! A document's path is relative to the database: `users/ann/orders/7`. A collection is named by the ids of the collections on
//! its way with `*` for the documents between them: `users`, `users/*/orders`; the group of all collections called `orders`,
//! wherever they are, is `**/orders`. Ids are compared and ordered as the service does, by their UTF-8 octets, segment by
//! segment. Not here: what may be written (`write::limits`).

use whimbrel_plugin_api::{Error, Result};

/// The field of a record that holds the id of its document. Firestore keeps names of this form to itself, so no document has it.
pub(crate) const ID_FIELD: &str = "__id__";
/// The field that holds the path of a document.
pub(crate) const PATH_FIELD: &str = "__path__";
/// The collection of whimbrel's own; never listed, never copied.
pub(crate) const OWN_COLLECTION: &str = "_whimbrel";

/// A collection as a job names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// Ids of the collections from the root on, at least one.
    Nested(Vec<String>),
    /// All collections of this id.
    Group(String),
}

impl Pattern {
    /// Reads `users`, `users/*/orders` or `**/orders`; any text may be an id, also `*`, since the place decides.
    ///
    /// # Errors
    /// `firestore.bad_collection` for an even number of segments, an empty one, or a document id that is not `*`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let bad = |why: &str| {
            Err(Error::config(
                "firestore.bad_collection",
                format!("the collection name `{name}` {why}"),
            )
            .with_help("a collection is named like `users`, `users/*/orders` or, for a group, `**/orders`"))
        };
        let segments: Vec<&str> = name.split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return bad("has an empty segment");
        }
        if let ["**", id] = segments[..] {
            return Ok(Self::Group(id.to_owned()));
        }
        if segments.len().is_multiple_of(2) {
            return bad("names a document");
        }
        if segments.iter().skip(1).step_by(2).any(|segment| *segment != "*") {
            return bad("has a document id in place of `*`");
        }
        Ok(Self::Nested(
            segments.iter().step_by(2).map(|id| (*id).to_owned()).collect(),
        ))
    }

    /// The pattern of the collection that holds the document at `path`.
    pub(crate) fn of_document(path: &str) -> Self {
        Self::Nested(path.split('/').step_by(2).map(str::to_owned).collect())
    }

    /// The id of its last collection.
    pub(crate) fn collection_id(&self) -> &str {
        match self {
            Self::Nested(ids) => ids.last().map_or("", String::as_str),
            Self::Group(id) => id,
        }
    }

    /// The pattern of the documents above; `None` for a root collection and a group.
    pub(crate) fn parent(&self) -> Option<Self> {
        match self {
            Self::Nested(ids) if ids.len() > 1 => Some(Self::Nested(ids[..ids.len() - 1].to_vec())),
            _ => None,
        }
    }

    /// Whether the document at `path` is one of its own.
    pub(crate) fn contains(&self, path: &str) -> bool {
        match self {
            Self::Nested(ids) => {
                let mut segments = path.split('/');
                let of_ids = ids
                    .iter()
                    .all(|id| segments.next() == Some(id) && segments.next().is_some());
                of_ids && segments.next().is_none()
            }
            Self::Group(id) => path.rsplit('/').nth(1) == Some(id),
        }
    }

    /// The fields of a record that say where its document is, in the order of the path: those of the parents, then
    /// [`ID_FIELD`]; of a group [`PATH_FIELD`]. `users/*/orders` has `__users_id__` and `__id__`. A collection id that comes
    /// again has a number: `__users_2_id__`.
    pub(crate) fn key(&self) -> Vec<String> {
        let Self::Nested(ids) = self else {
            return vec![PATH_FIELD.to_owned()];
        };
        let mut key: Vec<String> = Vec::with_capacity(ids.len());
        for id in &ids[..ids.len() - 1] {
            let mut name = format!("__{id}_id__");
            let mut number = 2;
            while key.contains(&name) {
                name = format!("__{id}_{number}_id__");
                number += 1;
            }
            key.push(name);
        }
        key.push(ID_FIELD.to_owned());
        key
    }

    /// The ids of the documents on the way to `path` and its own, one for each field of [`Self::key`]; the path itself for a
    /// group.
    pub(crate) fn key_values<'path>(&self, path: &'path str) -> impl Iterator<Item = &'path str> {
        let (whole, skipped) = match self {
            Self::Nested(_) => (None, 1),
            Self::Group(_) => (Some(path), usize::MAX),
        };
        whole.into_iter().chain(path.split('/').skip(skipped).step_by(2))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nested(ids) => f.write_str(&ids.join("/*/")),
            Self::Group(id) => write!(f, "**/{id}"),
        }
    }
}

/// Where the documents of a database are: `projects/p/databases/d/documents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root(String);

impl Root {
    /// The root of a database.
    pub(crate) fn new(project: &str, database: &str) -> Self {
        Self(format!("projects/{project}/databases/{database}/documents"))
    }

    /// Its full name, as the parent of root collections.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The name of the database: what is before `/documents`.
    pub(crate) fn database(&self) -> &str {
        self.0.strip_suffix("/documents").unwrap_or(&self.0)
    }

    /// The full name of the document at `path`.
    pub(crate) fn document(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    /// The path of a document of this database; `None` for one of another.
    pub(crate) fn path<'name>(&self, name: &'name str) -> Option<&'name str> {
        name.strip_prefix(&self.0)?.strip_prefix('/')
    }
}

/// Orders paths as the service orders documents by name: segment by segment, by octets; ids that are numbers of Datastore
/// (`__id7__`) come before all others, by number.
pub(crate) fn compare(left: &str, right: &str) -> std::cmp::Ordering {
    let order = |segment| {
        (
            datastore_number(segment).map_or(Place::Named, Place::Numbered),
            segment,
        )
    };
    left.split('/').map(order).cmp(right.split('/').map(order))
}

/// Where a segment stands among others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Numbered(i64),
    Named,
}

/// The number of an id that Datastore gave, which is shown as `__id7__`. Such ids are the only ones of the form `__..__` that
/// documents have; as the service sees it there is one spelling of each number, and none of nought.
pub(crate) fn datastore_number(segment: &str) -> Option<i64> {
    let digits = segment.strip_prefix("__id")?.strip_suffix("__")?;
    let number: i64 = digits.parse().ok()?;
    let is_first_good = |digits: &str| digits.starts_with(|first: char| ('1'..='9').contains(&first));
    is_first_good(digits.strip_prefix('-').unwrap_or(digits)).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_collection_is_named_by_its_pattern() {
        for name in [
            "users",
            "users/*/orders",
            "a/*/a/*/a",
            "**/orders",
            "*",
            "**",
            "*/*/*",
            "**/*/**",
            "naïve ü",
            "a.b",
            "\"; DROP TABLE users; --",
        ] {
            assert_eq!(Pattern::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Pattern::parse("**/**").unwrap(), Pattern::Group("**".to_owned()));
        assert_eq!(
            Pattern::parse("**").unwrap(),
            Pattern::Nested(vec!["**".to_owned()])
        );
        for name in [
            "",
            "/",
            "users/",
            "users/*",
            "users/ann/orders",
            "users//orders",
            "/users",
            "**/",
            "**/users/*",
        ] {
            let error = Pattern::parse(name).unwrap_err();
            assert_eq!(error.code, "firestore.bad_collection", "{name}");
            assert!(error.message.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn key_fields_are_told_apart_and_reserved() {
        let key = |name: &str| Pattern::parse(name).unwrap().key();
        assert_eq!(key("a"), ["__id__"]);
        assert_eq!(key("a/*/a/*/b"), ["__a_id__", "__a_2_id__", "__id__"]);
        assert_eq!(
            key("a/*/a_2/*/a/*/a/*/b"),
            ["__a_id__", "__a_2_id__", "__a_3_id__", "__a_4_id__", "__id__"]
        );
        assert_eq!(key("**/b"), ["__path__"]);
    }

    #[test]
    fn the_key_of_a_document_is_in_its_path() {
        let pattern = Pattern::parse("users/*/orders").unwrap();
        assert_eq!(
            pattern.key_values("users/ann/orders/7").collect::<Vec<_>>(),
            ["ann", "7"]
        );
        assert!(pattern.contains("users/ann/orders/7"));
        for other in [
            "users/ann",
            "users/ann/carts/7",
            "users/ann/orders/7/items/1",
            "shops/ann/orders/7",
        ] {
            assert!(!pattern.contains(other), "{other}");
        }
        let group = Pattern::parse("**/orders").unwrap();
        assert!(group.contains("orders/1") && group.contains("users/ann/orders/7"));
        assert!(!group.contains("orders/1/items/2") && !group.contains("users/orders"));
        assert_eq!(group.key_values("orders/1").collect::<Vec<_>>(), ["orders/1"]);
        assert_eq!(Pattern::of_document("users/ann/orders/7"), pattern);
    }

    #[test]
    fn a_pattern_knows_its_parent() {
        let pattern = Pattern::parse("users/*/orders").unwrap();
        assert_eq!(pattern.collection_id(), "orders");
        assert_eq!(pattern.parent(), Some(Pattern::parse("users").unwrap()));
        assert_eq!(Pattern::parse("users").unwrap().parent(), None);
        assert_eq!(Pattern::parse("**/orders").unwrap().parent(), None);
    }

    #[test]
    fn names_of_documents_are_those_of_one_database() {
        let root = Root::new("p", "(default)");
        assert_eq!(root.database(), "projects/p/databases/(default)");
        let name = root.document("users/ann");
        assert_eq!(name, "projects/p/databases/(default)/documents/users/ann");
        assert_eq!(root.path(&name), Some("users/ann"));
        assert_eq!(Root::new("p2", "(default)").path(&name), None);
        assert_eq!(
            root.path("projects/p/databases/(default)/documents2/users/ann"),
            None
        );
    }

    #[test]
    fn a_number_of_datastore_has_one_spelling() {
        for (id, number) in [
            ("__id7__", 7),
            ("__id-3__", -3),
            ("__id-9223372036854775808__", i64::MIN),
        ] {
            assert_eq!(datastore_number(id), Some(number));
        }
        for id in [
            "__id__",
            "__id0__",
            "__id-0__",
            "__id07__",
            "__id+7__",
            "__id-__",
            "__id7_",
            "__x__",
            "id7",
            "__id9223372036854775808__",
        ] {
            assert_eq!(datastore_number(id), None, "{id}");
        }
    }

    #[test]
    fn documents_are_ordered_segment_by_segment() {
        let ordered = [
            "users/__id-3__",
            "users/__id7__",
            "users/__id12__",
            "users/A",
            "users/a",
            "users/a/orders/1",
            "users/a-/orders/0",
            "users/ab",
            "users/é",
            "users/\u{ffff}",
            "users/\u{1f600}",
        ];
        for pair in ordered.windows(2) {
            assert!(compare(pair[0], pair[1]).is_lt(), "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn any_ids_make_a_pattern_that_is_read_back(
            ids in prop::collection::vec("[^/]{1,8}", 1..5),
            documents in prop::collection::vec("[^/]{1,8}", 5),
        ) {
            let pattern = Pattern::Nested(ids.clone());
            prop_assert_eq!(&Pattern::parse(&pattern.to_string()).unwrap(), &pattern);
            let segments: Vec<&str> = ids
                .iter()
                .zip(&documents)
                .flat_map(|(id, document)| [id.as_str(), document.as_str()])
                .collect();
            let path = segments.join("/");
            prop_assert!(pattern.contains(&path));
            prop_assert_eq!(&Pattern::of_document(&path), &pattern);
            prop_assert!(Pattern::Group(pattern.collection_id().to_owned()).contains(&path));
            let key = pattern.key();
            prop_assert_eq!(key.len(), ids.len());
            let apart: std::collections::HashSet<&String> = key.iter().collect();
            prop_assert_eq!(apart.len(), key.len());
            let values: Vec<&str> = pattern.key_values(&path).collect();
            prop_assert_eq!(values, documents[..ids.len()].iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
