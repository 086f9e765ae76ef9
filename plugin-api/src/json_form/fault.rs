//! What was wrong with a value, noted where it is found and made into an error where the record ends.
//!
//! Serde's own errors quote the value, which a message may not; so visitors note a [`Fault`] in the
//! [`Context`] and fail with a text that names only the type. On the way out each level puts its part of the
//! path in front.

use serde::de;

use crate::error::{Error, ErrorScope};
use crate::record_type::RecordType;
use crate::text_form::Refusal;

use super::row_decoder::UnknownKeys;

/// Names in messages are cut here, in characters: a key of a hostile document may be as long as the document.
const NAME_CHARS_MAX: usize = 100;

/// What the visitors of one record share.
pub(super) struct Context {
    pub(super) unknown_keys: UnknownKeys,
    pub(super) fault: Option<Fault>,
}

/// The first fault of a record.
pub(super) struct Fault {
    kind: FaultKind,
    /// Where, such as `.items[].price`, from the outside in.
    path: String,
}

pub(super) enum FaultKind {
    /// No value of this type.
    BadValue(RecordType),
    /// A null where none may be.
    Null,
    /// A field that may not be null is not there.
    Missing,
    /// A key that the schema does not have.
    UnknownKey,
    /// A key that stands twice in one object.
    KeyTwice,
    /// The column of this type cannot count further.
    TooLarge(RecordType),
    /// The record is no object.
    NotAnObject,
}

impl Context {
    pub(super) const fn new(unknown_keys: UnknownKeys) -> Self {
        Self {
            unknown_keys,
            fault: None,
        }
    }

    /// Notes a fault and hands back the error that ends the reading.
    pub(super) fn fail<E: de::Error>(&mut self, kind: FaultKind) -> E {
        let error = E::custom(kind.text());
        self.fault = Some(Fault {
            kind,
            path: String::new(),
        });
        error
    }

    /// Notes that a column refused a value of `record_type`.
    pub(super) fn refuse<E: de::Error>(&mut self, refusal: Refusal, record_type: &RecordType) -> E {
        self.fail(match refusal {
            Refusal::BadValue => FaultKind::BadValue(record_type.clone()),
            Refusal::TooLarge => FaultKind::TooLarge(record_type.clone()),
        })
    }

    /// Puts the name of a field in front of the path of the fault, if there is one.
    pub(super) fn within_field(&mut self, name: &str) {
        if let Some(fault) = &mut self.fault {
            fault.path = format!(".{}{}", shorten(name), fault.path);
        }
    }

    /// Puts "in a list" in front of the path of the fault, if there is one.
    pub(super) fn within_list(&mut self) {
        if let Some(fault) = &mut self.fault {
            fault.path.insert_str(0, "[]");
        }
    }

    /// The error to hand to the caller for one that `serde_json` returned.
    pub(super) fn into_error(self, error: &serde_json::Error) -> Error {
        let error = match self.fault {
            Some(fault) => fault.into_error(),
            // Errors of syntax come from a fixed list of texts and quote nothing.
            None if error.is_syntax() || error.is_eof() => {
                Error::invalid_data("json_form.bad_json", "a text is not valid JSON").with_cause(error)
            }
            None => Error::invalid_data("json_form.bad_value", "a JSON value does not fit its column"),
        };
        error.with_scope(ErrorScope::Rows)
    }
}

impl Fault {
    fn into_error(self) -> Error {
        let text = self.kind.text();
        let message = match self.path.strip_prefix('.').unwrap_or(&self.path) {
            "" => text,
            path => format!("`{path}`: {text}"),
        };
        let error = Error::invalid_data(self.kind.code(), message);
        match self.kind {
            FaultKind::TooLarge(_) => error.with_help("make batches smaller"),
            _ => error,
        }
    }
}

impl FaultKind {
    const fn code(&self) -> &'static str {
        match self {
            Self::BadValue(_) => "json_form.bad_value",
            Self::Null => "json_form.null",
            Self::Missing => "json_form.missing_field",
            Self::UnknownKey => "json_form.unknown_key",
            Self::KeyTwice => "json_form.key_twice",
            Self::TooLarge(_) => "json_form.too_large",
            Self::NotAnObject => "json_form.not_an_object",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::BadValue(record_type) => format!("a JSON value is not a value of the type `{record_type}`"),
            Self::Null => "a null stands where none may be".to_owned(),
            Self::Missing => "a field that may not be null is missing".to_owned(),
            Self::UnknownKey => "a key is not in the schema".to_owned(),
            Self::KeyTwice => "a key stands twice in one object".to_owned(),
            Self::TooLarge(record_type) => {
                format!(
                    "a column of the type `{record_type}` holds at most 2^31 octets or items in one batch"
                )
            }
            Self::NotAnObject => "a record is not a JSON object".to_owned(),
        }
    }
}

fn shorten(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}
