//! Plans `set` and `default`: constants and copies, with the types that they have.
//!
//! A part of [`crate::plan`], which owns the rest of the planner.

use std::collections::BTreeMap;

use serde_json::Value;

use whimbrel_plugin_api::{Field, RecordType, Result};

use crate::config::SetValue;
use crate::constant::{constants, field_index, null, type_of};
use crate::plan::Planner;
use crate::program::{Op, Source};
use crate::reading::wrong;

impl Planner {
    /// Plans a `set`.
    pub(crate) fn set(&mut self, values: &BTreeMap<String, SetValue>, place: &str) -> Result<()> {
        let before = self.collection.schema.clone();
        let mut ops = Vec::with_capacity(values.len());
        for (name, value) in values {
            let place = format!("{place}.{name}");
            self.refuse_new_key(name, &place)?;
            let existing = before.fields.iter().find(|field| field.name == *name);
            let (source, field) = match value {
                SetValue::Detailed(object) if object.from.is_some() => {
                    let from = object.from.as_deref().unwrap_or_default();
                    let column = field_index(&before, from, &format!("{place}.from"))?;
                    let field = Field {
                        name: name.clone(),
                        ..before.fields[column].clone()
                    };
                    (Source::Column(column), field)
                }
                SetValue::Detailed(object) => {
                    let to = object.to.as_ref().map(|to| &to.0);
                    let value = object.value.as_ref().unwrap_or(&Value::Null);
                    constant(
                        name,
                        value,
                        to.or(existing.map(|field| &field.record_type)),
                        &place,
                    )?
                }
                SetValue::Constant(value) => {
                    constant(name, value, existing.map(|field| &field.record_type), &place)?
                }
            };
            self.forget(name);
            let at = match self.collection.schema.index_of(name) {
                Some(at) => {
                    self.fields()[at] = field;
                    at
                }
                None => {
                    self.fields().push(field);
                    self.fields().len() - 1
                }
            };
            ops.push((at, source));
        }
        self.ops.push(Op::Set(ops));
        Ok(())
    }

    /// Plans a `default`.
    pub(crate) fn default(&mut self, values: &BTreeMap<String, Value>, place: &str) -> Result<()> {
        for (name, value) in values {
            let place = format!("{place}.{name}");
            let column = self.index(name, &place)?;
            self.refuse_new_key(name, &place)?;
            let record_type = self.fields()[column].record_type.clone();
            let nested = matches!(
                record_type,
                RecordType::List { .. }
                    | RecordType::Struct { .. }
                    | RecordType::Geopoint
                    | RecordType::Vector
            );
            if nested {
                return Err(wrong(
                    "bad_value",
                    format!("the field `{name}` is `{record_type}`, which has no default"),
                    &place,
                ));
            }
            let one = constants(&record_type, std::slice::from_ref(value), &place)?;
            self.fields()[column].nullable = false;
            self.ops.push(Op::Fill { column, one });
        }
        Ok(())
    }
}

/// A constant of `set`, and the field that it makes.
fn constant(name: &str, value: &Value, to: Option<&RecordType>, place: &str) -> Result<(Source, Field)> {
    let Some(record_type) = to.cloned().or_else(|| type_of(value)) else {
        return Err(wrong(
            "no_type",
            format!("the new field `{name}` has no type of its own"),
            place,
        )
        .with_help("write { value: ..., type: ... }"));
    };
    let (one, field) = if value.is_null() {
        (null(&record_type)?, Field::new(name, record_type))
    } else {
        let one = constants(&record_type, std::slice::from_ref(value), place)?;
        (one, Field::required(name, record_type))
    };
    Ok((Source::Constant(one), field))
}
