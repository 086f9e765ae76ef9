//! What can be stored, known before anything is sent: sizes, depth, names.
//!
//! The rules are those of Google's pages "Storage size calculations" and "Quotas and limits". Only what certainly breaks one of
//! them is refused here; where the pages leave room, the service itself decides, and a document that it refuses is a rejected
//! record as well. Ids are looked at where paths are made, in `value::encode`.

use std::collections::HashMap;

use gcloud_sdk::google::firestore::v1::Value;
use gcloud_sdk::google::firestore::v1::value::ValueType;

use crate::error::RowFault;

/// Octets of a document, its name and what is kept beside the fields included.
const DOCUMENT_BYTES_MAX: usize = 1_048_576;
/// Octets of one text or one sequence of octets: a document's, less 89.
const VALUE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX - 89;
/// Octets of the name of a field, and of all names on the way to a field with the points between them.
const FIELD_PATH_BYTES_MAX: usize = 1_500;
/// Octets of the name of a document.
const DOCUMENT_NAME_BYTES_MAX: usize = 6 * 1_024;
/// Maps and arrays within one another.
const DEPTH_MAX: usize = 20;
/// Numbers of a vector.
const VECTOR_LENGTH_MAX: usize = 2_048;
/// What a document takes beside its name and fields.
const DOCUMENT_OVERHEAD_BYTES: usize = 32;
/// What a name takes beside its ids.
const NAME_OVERHEAD_BYTES: usize = 16;
/// Numbers, timestamps and the elements of a vector.
const NUMBER_BYTES: usize = 8;
/// What a vector is called in a map that stands for one.
const VECTOR_MARK: &str = "__vector__";
/// The member of that map which says so.
const TYPE_MEMBER: &str = "__type__";
/// The member of that map which has the numbers.
const VALUE_MEMBER: &str = "value";

/// Refuses a document that cannot be stored at `path`.
///
/// # Errors
/// `firestore.document_too_large`, `firestore.too_deep`, `firestore.array_in_array`, `firestore.bad_field_name`,
/// `firestore.bad_value` for a vector of no or too many numbers or of what is none, `firestore.bad_id` for a path that is too long.
pub(super) fn check(path: &str, fields: &HashMap<String, Value>) -> Result<(), RowFault> {
    if path.len() > DOCUMENT_NAME_BYTES_MAX {
        return Err(RowFault::new(
            "firestore.bad_id",
            format!(
                "the path of the document has {} octets, Firestore takes {DOCUMENT_NAME_BYTES_MAX}",
                path.len()
            ),
        ));
    }
    let mut size = name_size(path) + DOCUMENT_OVERHEAD_BYTES;
    for (name, value) in fields {
        check_name(name, name, name.len())?;
        size += name.len() + 1 + value_size(value, &Place::of_field(name))?;
    }
    if size > DOCUMENT_BYTES_MAX {
        return Err(RowFault::new(
            "firestore.document_too_large",
            format!("the document takes {size} octets, Firestore takes {DOCUMENT_BYTES_MAX}"),
        ));
    }
    Ok(())
}

/// Why a field cannot have this name; `None` if it can.
pub(super) fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("an empty name".to_owned())
    } else if is_reserved(name) {
        Some("a name that Firestore keeps to itself (`__..__`)".to_owned())
    } else if name.len() > FIELD_PATH_BYTES_MAX {
        Some(format!(
            "a name of {} octets, Firestore takes {FIELD_PATH_BYTES_MAX}",
            name.len()
        ))
    } else {
        None
    }
}

/// Whether Firestore keeps the name to itself: `__.*__`.
pub(super) fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

/// Where a value is.
struct Place<'doc> {
    /// The field of the document.
    field: &'doc str,
    /// Octets of the names on the way to it.
    path_bytes: usize,
    /// Maps and arrays around it.
    depth: usize,
    is_element: bool,
}

impl<'doc> Place<'doc> {
    fn of_field(field: &'doc str) -> Self {
        Self {
            field,
            path_bytes: field.len(),
            depth: 0,
            is_element: false,
        }
    }

    fn inside(&self, member: Option<&str>) -> Self {
        Self {
            field: self.field,
            path_bytes: self.path_bytes + member.map_or(0, |name| name.len() + 1),
            depth: self.depth + 1,
            is_element: member.is_none(),
        }
    }

    fn fault(&self, code: &'static str, what: impl std::fmt::Display) -> RowFault {
        RowFault::new(code, format!("the field `{}` {what}", self.field))
    }
}

/// Octets that the value takes, after a look at all that is in it.
fn value_size(value: &Value, place: &Place<'_>) -> Result<usize, RowFault> {
    Ok(match &value.value_type {
        None | Some(ValueType::NullValue(_) | ValueType::BooleanValue(_)) => 1,
        Some(ValueType::IntegerValue(_) | ValueType::DoubleValue(_) | ValueType::TimestampValue(_)) => {
            NUMBER_BYTES
        }
        Some(ValueType::StringValue(text)) => long_value(text.len(), place)? + 1,
        Some(ValueType::BytesValue(octets)) => long_value(octets.len(), place)?,
        Some(ValueType::ReferenceValue(name)) => name_size(
            name.split_once("/documents/")
                .map_or(name.as_str(), |(_, path)| path),
        ),
        Some(ValueType::GeoPointValue(_)) => 2 * NUMBER_BYTES,
        Some(ValueType::ArrayValue(array)) => {
            if place.is_element {
                return Err(place.fault("firestore.array_in_array", "has an array directly in an array"));
            }
            // An empty array takes no level of its own.
            if !array.values.is_empty() {
                check_depth(place)?;
            }
            let inside = place.inside(None);
            sum(array.values.iter().map(|element| value_size(element, &inside)))?
        }
        Some(ValueType::MapValue(map)) => match vector(&map.fields) {
            Some(numbers) => vector_size(numbers, place)?,
            None => map_size(&map.fields, place)?,
        },
        // What else there is belongs to queries; the service says so.
        Some(_) => 0,
    })
}

fn map_size(fields: &HashMap<String, Value>, place: &Place<'_>) -> Result<usize, RowFault> {
    check_depth(place)?;
    sum(fields.iter().map(|(name, value)| {
        let inside = place.inside(Some(name));
        check_name(place.field, name, inside.path_bytes)?;
        // The page says that a map is measured as a document is; that it takes 32 octets more for itself is not what is seen.
        Ok(name.len() + 1 + value_size(value, &inside)?)
    }))
}

fn sum(mut sizes: impl Iterator<Item = Result<usize, RowFault>>) -> Result<usize, RowFault> {
    sizes.try_fold(0, |sum, size| Ok(sum + size?))
}

/// The numbers of the vector that the map stands for.
fn vector(fields: &HashMap<String, Value>) -> Option<&[Value]> {
    let member = |name: &str| fields.get(name)?.value_type.as_ref();
    match (member(TYPE_MEMBER), member(VALUE_MEMBER)) {
        (Some(ValueType::StringValue(mark)), Some(ValueType::ArrayValue(array)))
            if mark == VECTOR_MARK && fields.len() == 2 =>
        {
            Some(&array.values)
        }
        _ => None,
    }
}

/// A vector takes no level of its own.
fn vector_size(numbers: &[Value], place: &Place<'_>) -> Result<usize, RowFault> {
    if place.is_element {
        return Err(place.fault("firestore.array_in_array", "has a vector directly in an array"));
    }
    let is_nan =
        |number: &Value| matches!(number.value_type, Some(ValueType::DoubleValue(number)) if number.is_nan());
    if numbers.iter().any(is_nan) {
        return Err(place.fault("firestore.bad_value", "has a vector with what is not a number"));
    }
    let length = numbers.len();
    if length == 0 || length > VECTOR_LENGTH_MAX {
        let what = format!("has a vector of {length} numbers, Firestore takes 1 to {VECTOR_LENGTH_MAX}");
        return Err(place.fault("firestore.bad_value", what));
    }
    Ok(length * NUMBER_BYTES)
}

/// Octets of a document's name, of which `path` is what is behind the database.
fn name_size(path: &str) -> usize {
    // Each id takes one octet more than it has; with the slashes between them, that is one more than the path.
    path.len() + 1 + NAME_OVERHEAD_BYTES
}

fn long_value(size: usize, place: &Place<'_>) -> Result<usize, RowFault> {
    if size > VALUE_BYTES_MAX {
        let what = format!("has a value of {size} octets, Firestore takes {VALUE_BYTES_MAX}");
        return Err(place.fault("firestore.document_too_large", what));
    }
    Ok(size)
}

fn check_depth(place: &Place<'_>) -> Result<(), RowFault> {
    if place.depth >= DEPTH_MAX {
        let what = format!("has maps and arrays more than {DEPTH_MAX} deep within one another");
        return Err(place.fault("firestore.too_deep", what));
    }
    Ok(())
}

fn check_name(field: &str, name: &str, path_bytes: usize) -> Result<(), RowFault> {
    if let Some(fault) = name_fault(name) {
        let message = match field == name {
            true => format!("the field `{field}` has {fault}"),
            false => format!("the field `{field}` has a map with {fault}"),
        };
        return Err(RowFault::new("firestore.bad_field_name", message));
    }
    if path_bytes > FIELD_PATH_BYTES_MAX {
        return Err(RowFault::new(
            "firestore.bad_field_name",
            format!(
                "the field `{field}` has names within one another of {path_bytes} octets, Firestore takes {FIELD_PATH_BYTES_MAX}"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue};

    use super::*;

    fn value(value_type: ValueType) -> Value {
        Value {
            value_type: Some(value_type),
        }
    }

    fn text(size: usize) -> Value {
        value(ValueType::StringValue("x".repeat(size)))
    }

    fn number() -> Value {
        value(ValueType::IntegerValue(1))
    }

    fn array(values: Vec<Value>) -> Value {
        value(ValueType::ArrayValue(ArrayValue { values }))
    }

    fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
        let fields = members.map(|(name, value)| (name.to_owned(), value)).into();
        value(ValueType::MapValue(MapValue { fields }))
    }

    fn vector(length: usize) -> Value {
        vector_of(vec![1.0; length])
    }

    fn vector_of(numbers: Vec<f64>) -> Value {
        let numbers = numbers
            .into_iter()
            .map(|number| value(ValueType::DoubleValue(number)))
            .collect();
        let mark = value(ValueType::StringValue(VECTOR_MARK.to_owned()));
        map([(TYPE_MEMBER, mark), (VALUE_MEMBER, array(numbers))])
    }

    fn nested(levels: usize, mut inner: Value) -> Value {
        for _ in 0..levels {
            inner = map([("a", inner)]);
        }
        inner
    }

    fn code(fields: impl IntoIterator<Item = (String, Value)>) -> &'static str {
        check("users/ann", &fields.into_iter().collect()).map_or_else(|fault| fault.code, |()| "")
    }

    fn code_of(value: Value) -> &'static str {
        code([("f".to_owned(), value)])
    }

    #[test]
    fn the_example_of_the_page_has_the_size_that_the_page_says() {
        let fields = [
            ("type", value(ValueType::StringValue("Personal".to_owned()))),
            ("done", value(ValueType::BooleanValue(false))),
            ("priority", number()),
            (
                "description",
                value(ValueType::StringValue("Learn Cloud Firestore".to_owned())),
            ),
        ];
        let size: usize = fields
            .iter()
            .map(|(name, value)| name.len() + 1 + value_size(value, &Place::of_field(name)).unwrap())
            .sum();
        let name = name_size("users/jeff/tasks/my_task_id");
        assert_eq!((name, size, name + size + DOCUMENT_OVERHEAD_BYTES), (44, 71, 147));
    }

    // The numbers of this test were found by trying on Google's emulator where it begins to refuse.
    #[test]
    fn what_is_just_small_enough_passes_and_one_more_does_not() {
        let two = |size: usize| [("s".to_owned(), text(500_000)), ("t".to_owned(), text(size))];
        let users_a = |fields: [(String, Value); 2]| {
            check("users/a", &fields.into_iter().collect()).map_or_else(|fault| fault.code, |()| "")
        };
        assert_eq!(
            (users_a(two(548_514)), users_a(two(548_515))),
            ("", "firestore.document_too_large")
        );
        assert_eq!(
            (code_of(text(1_048_487)), code_of(text(1_048_488))),
            ("", "firestore.document_too_large")
        );
        let ints = |count| ("f".to_owned(), array(vec![number(); count]));
        assert_eq!(
            (code([ints(131_063)]), code([ints(131_065)])),
            ("", "firestore.document_too_large")
        );
        for (levels, inner, expected) in [
            (20, number(), ""),
            (21, number(), "firestore.too_deep"),
            (19, map([]), ""),
            (20, map([]), "firestore.too_deep"),
            (20, array(vec![]), ""),
            (19, array(vec![number()]), ""),
            (20, array(vec![number()]), "firestore.too_deep"),
            (20, vector(1), ""),
        ] {
            let shown = format!("{levels} maps around {inner:?}");
            assert_eq!(code_of(nested(levels, inner)), expected, "{shown}");
        }
        let long = |size| [("n".repeat(size), number())];
        assert_eq!(
            (code(long(1_500)), code(long(1_501))),
            ("", "firestore.bad_field_name")
        );
        let inside = |size| [("n".repeat(1_000), map([("m".repeat(size).as_str(), number())]))];
        assert_eq!(
            (code(inside(499)), code(inside(500))),
            ("", "firestore.bad_field_name")
        );
        assert_eq!(
            (code_of(vector(2_048)), code_of(vector(2_049))),
            ("", "firestore.bad_value")
        );
    }

    #[test]
    fn what_firestore_has_no_form_for_is_refused() {
        for (value, expected) in [
            (array(vec![array(vec![])]), "firestore.array_in_array"),
            (array(vec![vector(1)]), "firestore.array_in_array"),
            (array(vec![map([("a", array(vec![]))])]), ""),
            (map([("", number())]), "firestore.bad_field_name"),
            (map([("__x__", number())]), "firestore.bad_field_name"),
            (
                map([("__x", number()), ("___", number()), ("a.b`\\", number())]),
                "",
            ),
            (vector(0), "firestore.bad_value"),
            (vector_of(vec![1.0, f64::NAN]), "firestore.bad_value"),
            (vector_of(vec![f64::INFINITY, -0.0]), ""),
            (map([(TYPE_MEMBER, text(1))]), "firestore.bad_field_name"),
        ] {
            let shown = format!("{value:?}");
            assert_eq!(code_of(value), expected, "{shown}");
        }
        for (name, expected) in [
            ("", "firestore.bad_field_name"),
            ("__id__", "firestore.bad_field_name"),
            ("__", ""),
            (".", ""),
        ] {
            assert_eq!(code([(name.to_owned(), number())]), expected, "{name}");
        }
        let far = "c/d/".repeat(2_000) + "c/d";
        assert_eq!(check(&far, &HashMap::new()).unwrap_err().code, "firestore.bad_id");
    }
}
