//! Which documents on the way to the present one are there, while all documents pass by in the order of their names.
//!
//! A document comes before all that is below it, and all of that comes before anything else. So the documents on the way are
//! enough to know whether a parent is missing, and none else need be kept.

/// The documents on the way to the last one, and that one.
#[derive(Debug, Default)]
pub(super) struct Ancestors(Vec<String>);

impl Ancestors {
    /// Takes note of the next document. Returns whether its parent is missing; a root document has none to miss.
    pub(super) fn meet(&mut self, path: &str) -> bool {
        while self.0.last().is_some_and(|above| !is_below(path, above)) {
            self.0.pop();
        }
        let is_orphan = parent(path).is_some_and(|parent| self.0.last().is_none_or(|above| above != parent));
        self.0.push(path.to_owned());
        is_orphan
    }
}

/// The path of the document above the collection that `path` is in.
fn parent(path: &str) -> Option<&str> {
    let (collection, _) = path.rsplit_once('/')?;
    collection.rsplit_once('/').map(|(parent, _)| parent)
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain way: a set of all documents.
        #[test]
        fn orphans_are_those_whose_parent_is_nowhere(
            paths in prop::collection::btree_set(
                prop::collection::vec(prop::sample::select(vec!["a", "a-", "b"]), 1..4), 0..40
            )
        ) {
            let path = |segments: &Vec<&str>| -> Vec<String> {
                segments.iter().flat_map(|id| ["c".to_owned(), (*id).to_owned()]).collect()
            };
            // Segment by segment, as the service orders them.
            let paths: BTreeSet<Vec<String>> = paths.iter().map(path).collect();
            let mut ancestors = Ancestors::default();
            for path in &paths {
                let expected = path.len() > 2 && !paths.contains(&path[..path.len() - 2]);
                prop_assert_eq!(ancestors.meet(&path.join("/")), expected, "{:?}", path);
            }
        }
    }
}
