//! Ids and names of documents, as values and as made of keys.
//!
//! What Firestore takes as an id is decided here once; `encode` makes paths of keys with it, and a reference is one only if its
//! path has such ids. Source: "Collections, documents, and fields" under "Usage and limits" of the service's documentation.

use std::borrow::Cow;

use crate::path::{Root, datastore_number};

use super::unfit::Unfit;

/// Octets of the longest id, and of the longest name of a document.
const ID_BYTES_MAX: usize = 1_500;
const NAME_BYTES_MAX: usize = 6 * 1_024;

/// Whether a name is one of those that Firestore keeps to itself, `__.*__`.
pub(super) fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

/// Why Firestore does not take `id` for a document; `None` if it does. Numbers that Datastore gave (`__id7__`) stay ids when its
/// entities become documents.
pub(super) fn id_fault(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("is empty")
    } else if matches!(id, "." | "..") {
        Some("is `.` or `..`")
    } else if id.contains('/') {
        Some("contains `/`")
    } else if is_reserved(id) && datastore_number(id).is_none() {
        Some("is reserved (`__..__`)")
    } else if id.len() > ID_BYTES_MAX {
        Some("is longer than 1,500 octets")
    } else {
        None
    }
}

/// Whether `path` leads from collections to documents and ends at one, all with ids that Firestore takes.
pub(super) fn is_document_path(path: &str) -> bool {
    let is_id = |(place, id): (usize, &str)| {
        let is_collection = place.is_multiple_of(2);
        id_fault(id).is_none() && !(is_collection && is_reserved(id))
    };
    path.split('/').count().is_multiple_of(2) && path.split('/').enumerate().all(is_id)
}

/// One part of an id that is made of several: what parts them, and what would part segments, is encoded.
pub(super) fn id_part(part: &str) -> Cow<'_, str> {
    if !part.contains(['%', ':', '/']) {
        return Cow::Borrowed(part);
    }
    Cow::Owned(part.replace('%', "%25").replace(':', "%3A").replace('/', "%2F"))
}

/// What a record has of a reference: the path within the database, or the whole name of a document elsewhere.
pub(super) fn put_reference<'name>(name: &'name str, root: &Root) -> &'name str {
    root.path(name).unwrap_or(name)
}

/// The name of the document that a reference is stored with; `None` for a text that is no reference.
///
/// # Errors
/// [`Unfit::OWN_REFERENCE`]: a full name of this very database is the same reference as its path, as which it would come back.
pub(super) fn stored_name(text: &str, root: &Root) -> Result<Option<String>, Unfit> {
    let name = document_name(text, root);
    match name {
        Some(name) if put_reference(&name, root) != text => Err(Unfit::OWN_REFERENCE),
        name => Ok(name),
    }
}

/// The name of the document that a text refers to, be it a path or a name; `None` if it is neither.
///
/// A path has an even number of segments and a name an odd one, so no text is both.
pub(super) fn document_name(text: &str, root: &Root) -> Option<String> {
    let segments = text.split('/').count();
    let name = if segments.is_multiple_of(2) {
        root.document(text)
    } else {
        let mut parts = text.split('/').step_by(2);
        let is_name = [parts.next(), parts.next(), parts.next()]
            == [Some("projects"), Some("databases"), Some("documents")];
        if !is_name || segments < 7 {
            return None;
        }
        text.to_owned()
    };
    // What is before the path has five segments.
    let path = name.splitn(6, '/').nth(5)?;
    (is_document_path(path) && name.len() <= NAME_BYTES_MAX).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_firestore_refuses_have_a_reason() {
        for id in [
            "a", "...", "__a", "a__", "___", "__", "ü d", "a:b%", "0", "__id7__", "__id-3__",
        ] {
            assert_eq!(id_fault(id), None, "{id}");
        }
        for id in ["", ".", "..", "a/b", "/", "____", "__a__", "__id__", "__id07__"] {
            assert!(id_fault(id).is_some(), "{id}");
        }
        assert_eq!(id_fault(&"x".repeat(1_500)), None);
        assert!(id_fault(&"ü".repeat(751)).is_some());
    }

    #[test]
    fn parts_of_an_id_cannot_be_mistaken() {
        assert_eq!(id_part("plain"), "plain");
        assert_eq!(id_part("a:b/c%d"), "a%3Ab%2Fc%25d");
        assert_eq!(id_part("%3A"), "%253A");
    }

    #[test]
    fn a_reference_is_a_path_or_a_name() {
        let root = Root::new("p", "d");
        let own = "projects/p/databases/d/documents/users/ann";
        assert_eq!(document_name("users/ann", &root).as_deref(), Some(own));
        assert_eq!(put_reference(own, &root), "users/ann");
        let other = "projects/q/databases/d/documents/users/ann";
        assert_eq!(document_name(other, &root).as_deref(), Some(other));
        assert_eq!(put_reference(other, &root), other);
        // A number that Datastore gave is the id of a document, and of no collection.
        for path in ["users/__id7__", "users/__id7__/orders/__id-3__"] {
            let own = root.document(path);
            assert_eq!(document_name(path, &root), Some(own));
        }
        assert_eq!(document_name("__id7__/a", &root), None);
        assert_eq!(document_name("users/a/__id7__/b", &root), None);
        let like_a_name = "projects/q/databases/d/documents/users";
        assert_eq!(
            document_name(like_a_name, &root).as_deref(),
            Some("projects/p/databases/d/documents/projects/q/databases/d/documents/users")
        );
        // The one reference of which there are two spellings.
        assert_eq!(stored_name(own, &root), Err(Unfit::OWN_REFERENCE));
        for text in ["users/ann", other, like_a_name] {
            assert_eq!(stored_name(text, &root), Ok(document_name(text, &root)));
        }
        for text in [
            "",
            "users",
            "users/ann/orders",
            "users//",
            "users/",
            "/ann",
            "users/..",
            "users/__x__",
            "projects/q/databases/d/documents",
            "projects/q/databases/d/documents//a",
            "a'b\"c",
        ] {
            assert_eq!(document_name(text, &root), None, "{text}");
            assert_eq!(stored_name(text, &root), Ok(None), "{text}");
        }
        assert_eq!(document_name(&format!("a/{}", "x/".repeat(4_000)), &root), None);
    }
}
