//! Holds records against types that were fixed from a sample, so that a later record loses nothing and says so.
//!
//! Neighbours: [`crate::inference`] fixes the types, [`crate::stream`] asks for each record, [`crate::growth`] knows the
//! fields that come later.

use std::sync::Arc;

use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;
use whimbrel_plugin_api::{Error, Field, RecordType, Schema};

use crate::field_names::FieldNames;
use crate::inference::Shape;
use crate::kinds::Kinds;
use crate::scan;

/// The kinds that a field of an inferred type can hold as they are written.
fn fitting(record_type: &RecordType) -> Kinds {
    let integers = Kinds::INT_53.with(Kinds::INT_64);
    let kinds = match record_type {
        RecordType::Bool => Kinds::BOOL,
        RecordType::Int { .. } => integers,
        RecordType::Decimal { .. } => integers.with(Kinds::UNSIGNED_64),
        RecordType::Float { .. } => Kinds::INT_53.with(Kinds::FLOAT).with(Kinds::NEGATIVE_ZERO),
        RecordType::Numeric => Kinds::NUMBERS.without(Kinds::NEGATIVE_ZERO).without(Kinds::HUGE),
        RecordType::Text => Kinds::TEXT,
        _ => Kinds::ALL,
    };
    kinds.with(Kinds::NULL)
}

/// Holds later records against the types that were fixed from a sample.
pub(crate) struct Fit {
    schema: Arc<Schema>,
    names: FieldNames,
    fitting: Vec<Kinds>,
    shape: Shape,
    /// Fields that nobody asked for do no harm.
    ignores_new_fields: bool,
    spelled: String,
}

/// Why a record does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It has a field that no record of the sample had.
    NewField(String),
    /// A field holds something else than in the sample.
    OtherType {
        field: String,
        type_name: String,
        given: String,
    },
}

impl Fit {
    pub(crate) fn new(schema: Arc<Schema>, shape: Shape) -> Self {
        let mut names = FieldNames::default();
        for field in &schema.fields {
            names.push(&field.name);
        }
        Self {
            names,
            fitting: schema
                .fields
                .iter()
                .map(|field| fitting(&field.record_type))
                .collect(),
            schema,
            shape,
            ignores_new_fields: false,
            spelled: String::new(),
        }
    }

    /// For a reader that asks for some fields only.
    #[must_use]
    pub(crate) fn ignoring_new_fields(mut self, ignores: bool) -> Self {
        self.ignores_new_fields = ignores;
        self
    }

    /// The first thing of a record that does not fit. A record with a fault fits: it will be rejected for that.
    pub(crate) fn misfit(&mut self, octets: &[u8]) -> Option<Misfit> {
        let mut misfit = None;
        let mut guess = 0;
        let is_columns = self.shape == Shape::Columns;
        let outcome = scan::record(octets, |name, is_escaped, kinds| {
            if !is_columns || misfit.is_some() {
                return;
            }
            match self.names.find(guess, name, is_escaped, &mut self.spelled) {
                None if self.ignores_new_fields => {}
                None => misfit = Some(Misfit::NewField(self.spelled.clone())),
                Some(position) => {
                    if kinds.has_any(Kinds::ALL.without(self.fitting[position])) {
                        misfit = Some(other_type(&self.schema.fields[position], kinds));
                    }
                    guess = position + 1;
                }
            }
        });
        let kinds = outcome.ok()?;
        let wanted = if self.shape == Shape::Value {
            self.fitting.first().copied().unwrap_or(Kinds::ALL)
        } else {
            Kinds::OBJECT
        };
        if kinds.has_any(Kinds::ALL.without(wanted)) {
            let field = self.schema.fields.first();
            return Some(Misfit::OtherType {
                field: String::new(),
                type_name: field
                    .filter(|_| !is_columns)
                    .map_or("object".to_owned(), |field| field.record_type.to_string()),
                given: kinds.names(),
            });
        }
        misfit
    }
}

impl Misfit {
    /// The error that ends the stream.
    pub(crate) fn into_error(self) -> Error {
        error(&match self {
            Self::NewField(field) if field == PRESENCE_COLUMN => reserved_name(),
            Self::NewField(field) => format!("the field `{field}` is in no record of the sample"),
            Self::OtherType {
                field,
                type_name,
                given,
            } if field.is_empty() => {
                format!("the sample has `{type_name}` as records, this one is {given}")
            }
            Self::OtherType {
                field,
                type_name,
                given,
            } => {
                format!("the field `{field}` is `{type_name}` in the sample, here it is {given}")
            }
        })
    }
}

/// What stands in the way of a field of that name.
pub(crate) fn reserved_name() -> String {
    format!("the field `{PRESENCE_COLUMN}` is reserved")
}

/// The error of a record that does not fit, `what` being why.
pub(crate) fn error(what: &str) -> Error {
    Error::invalid_data(
        "files.does_not_fit_sample",
        format!("a record does not fit: {what}"),
    )
    .with_help("use `inference: full`, or a larger `sample`")
}

fn other_type(field: &Field, kinds: Kinds) -> Misfit {
    Misfit::OtherType {
        field: field.name.clone(),
        type_name: field.record_type.to_string(),
        given: kinds.names(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Tally;

    #[test]
    fn what_does_not_fit_a_sample_is_named() {
        let mut tally = Tally::new(10);
        tally.observe(br#"{"a":1,"b":"x"}"#);
        let inferred = tally.resolve(false);
        let mut fit = Fit::new(Arc::clone(&inferred.schema), inferred.shape);
        let mut misfit = |text: &str| fit.misfit(text.as_bytes());
        for good in [
            "{}",
            r#"{"b":null}"#,
            r#"{"b":"y","a":-9223372036854775808}"#,
            "{\"a\":",
        ] {
            assert_eq!(misfit(good), None, "{good}");
        }
        assert_eq!(misfit(r#"{"a":1,"c":2}"#), Some(Misfit::NewField("c".into())));
        let other = |field: &str, type_name: &str, given: &str| {
            Some(Misfit::OtherType {
                field: field.into(),
                type_name: type_name.into(),
                given: given.into(),
            })
        };
        assert_eq!(misfit(r#"{"a":1.5}"#), other("a", "int64", "float"));
        assert_eq!(misfit(r#"{"b":[]}"#), other("b", "text", "array"));
        assert_eq!(misfit("[]"), other("", "object", "array"));
        let mut fit = Fit::new(Arc::clone(&inferred.schema), inferred.shape).ignoring_new_fields(true);
        let mut misfit = |text: &str| fit.misfit(text.as_bytes());
        assert_eq!(misfit(r#"{"a":1,"c":2}"#), None);
        assert_eq!(misfit(r#"{"c":2,"b":[]}"#), other("b", "text", "array"));
    }
}
