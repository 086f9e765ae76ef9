//! Plans the steps for a collection: the schema after each of them, and the operations that get there.
//!
//! Key, references, cursor fields and declared losses follow their fields. What would leave records without their key
//! is an error; what only weakens something (a reference that goes with its field) is a warning for the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_plugin_api::{Collection, Field, RecordType, Result};

use crate::cast::{Conversion, Settings, target_of};
use crate::checks::{cast_fields, time_reader, zone};
use crate::cleaning::{Cleaning, Spelling};
use crate::config::{Cast, Dates, Normalise, OnFailure, Step};
use crate::constant::field_index;
use crate::judge::Judge;
use crate::program::{Converter, Op};
use crate::reading::{PlacedStep, wrong};
use crate::records::Fault;

/// A planned collection.
#[derive(Debug)]
pub(crate) struct Planner {
    /// As it is after the steps so far.
    pub(crate) collection: Collection,
    pub(crate) ops: Vec<Op>,
    pub(crate) warnings: Vec<String>,
}

/// Plans all steps for `collection`.
pub(crate) fn plan(collection: &Collection, steps: &[PlacedStep]) -> Result<Planner> {
    let mut planner = Planner {
        collection: collection.clone(),
        ops: Vec::new(),
        warnings: Vec::new(),
    };
    for PlacedStep { place, step } in steps {
        planner.step(step, place)?;
    }
    Ok(planner)
}

impl Planner {
    fn step(&mut self, step: &Step, place: &str) -> Result<()> {
        match step {
            Step::Rename(names) => self.rename(names, &format!("{place}.rename")),
            Step::Cast(settings) => self.cast(settings, &format!("{place}.cast")),
            Step::Select(fields) => {
                let place = format!("{place}.select");
                let columns = self.indexes(fields, &place)?;
                self.pick(columns, &place)
            }
            Step::Drop(fields) => {
                let place = format!("{place}.drop");
                let dropped = self.indexes(fields, &place)?;
                let columns = (0..self.fields().len())
                    .filter(|at| !dropped.contains(at))
                    .collect();
                self.pick(columns, &place)
            }
            Step::Set(values) => self.set(values, &format!("{place}.set")),
            Step::Default(values) => self.default(values, &format!("{place}.default")),
            Step::Flatten(settings) => self.flatten(settings, &format!("{place}.flatten")),
            Step::Trim(fields) => self.clean(fields, &Cleaning::Trim, &format!("{place}.trim")),
            Step::Normalise(settings) => self.normalise(settings, &format!("{place}.normalise")),
            Step::Dates(settings) => self.dates(settings, &format!("{place}.dates")),
            Step::Filter(settings) => {
                let place = format!("{place}.filter.where");
                let judge = Judge::new(&settings.condition, &self.collection.schema, &place)?;
                self.collection.estimate.exact = false;
                self.ops.push(Op::Filter(judge));
                Ok(())
            }
        }
    }

    pub(crate) fn fields(&mut self) -> &mut Vec<Field> {
        &mut self.collection.schema.fields
    }

    pub(crate) fn index(&self, name: &str, place: &str) -> Result<usize> {
        field_index(&self.collection.schema, name, place)
    }

    fn indexes(&self, names: &[String], place: &str) -> Result<Vec<usize>> {
        let names = names.iter().enumerate();
        names
            .map(|(index, name)| self.index(name, &format!("{place}[{index}]")))
            .collect()
    }

    pub(crate) fn is_key(&self, name: &str) -> bool {
        self.collection.key.iter().any(|key| key == name)
    }

    fn rename(&mut self, names: &BTreeMap<String, String>, place: &str) -> Result<()> {
        for old in names.keys() {
            self.index(old, &format!("{place}.{old}"))?;
        }
        let renamed = |name: &mut String| {
            if let Some(new) = names.get(name) {
                name.clone_from(new);
            }
        };
        let collection = &mut self.collection;
        collection
            .schema
            .fields
            .iter_mut()
            .for_each(|field| renamed(&mut field.name));
        collection.key.iter_mut().for_each(renamed);
        collection.cursor_fields.iter_mut().for_each(renamed);
        collection
            .losses
            .iter_mut()
            .for_each(|loss| renamed(&mut loss.field));
        for reference in &mut collection.references {
            reference.fields.iter_mut().for_each(renamed);
        }
        self.check_names(place)
    }

    /// Refuses names that stand twice after a step.
    pub(crate) fn check_names(&self, place: &str) -> Result<()> {
        let fields = &self.collection.schema.fields;
        let twice = fields
            .iter()
            .enumerate()
            .find(|(at, field)| fields[..*at].iter().any(|earlier| earlier.name == field.name));
        match twice {
            Some((_, field)) => Err(wrong(
                "field_twice",
                format!("two fields would be called `{}`", field.name),
                place,
            )
            .with_help("rename or drop one of them before")),
            None => Ok(()),
        }
    }

    fn pick(&mut self, columns: Vec<usize>, place: &str) -> Result<()> {
        let kept: Vec<Field> = columns.iter().map(|at| self.fields()[*at].clone()).collect();
        let is_kept = |name: &str| kept.iter().any(|field| field.name == name);
        if let Some(key) = self.collection.key.iter().find(|key| !is_kept(key)) {
            return Err(wrong(
                "key_dropped",
                format!("the field `{key}` belongs to the key and cannot be left out"),
                place,
            )
            .with_help("name another key for the collection, or keep the field"));
        }
        if kept.is_empty() {
            return Err(wrong("no_fields", "no field would be left", place));
        }
        let gone: Vec<String> = self
            .fields()
            .iter()
            .map(|field| field.name.clone())
            .filter(|name| !is_kept(name))
            .collect();
        gone.iter().for_each(|name| self.forget(name));
        *self.fields() = kept;
        self.ops.push(Op::Pick(columns));
        Ok(())
    }

    /// Takes a field that is gone, or has values of another origin, out of what is said of the collection.
    pub(crate) fn forget(&mut self, name: &str) {
        let collection = &mut self.collection;
        let warnings = &mut self.warnings;
        collection.references.retain(|reference| {
            let is_whole = !reference.fields.iter().any(|field| field == name);
            if !is_whole {
                warnings.push(format!(
                    "the reference to `{}` is not kept, since its field `{name}` is not",
                    reference.collection
                ));
            }
            is_whole
        });
        collection.cursor_fields.retain(|field| field != name);
        collection.losses.retain(|loss| loss.field != name);
    }

    /// Notes that values of a field change, which matters for keys and references.
    fn note_change(&mut self, name: &str, place: &str) {
        if self.is_key(name) {
            self.warnings.push(format!(
                "`{place}` changes the key field `{name}`: two keys may become one"
            ));
        }
        let references = self.collection.references.iter();
        let touched = references.filter(|reference| reference.fields.iter().any(|field| field == name));
        let texts = touched.map(|reference| {
            let to = &reference.collection;
            format!("`{place}` changes the field `{name}` of the reference to `{to}`, whose key must be changed alike")
        });
        self.warnings.extend(texts.collect::<Vec<_>>());
    }

    fn refuse_null_key(&self, name: &str, place: &str) -> Result<()> {
        if !self.is_key(name) {
            return Ok(());
        }
        Err(wrong(
            "key_may_be_null",
            format!("the field `{name}` belongs to the key and may not become null"),
            place,
        ))
    }

    pub(crate) fn refuse_new_key(&self, name: &str, place: &str) -> Result<()> {
        if !self.is_key(name) {
            return Ok(());
        }
        Err(wrong(
            "key_overwritten",
            format!("the field `{name}` belongs to the key and cannot be given other values"),
            place,
        ))
    }

    fn cast(&mut self, settings: &Cast, place: &str) -> Result<()> {
        let zone = zone(settings.zone.as_deref(), settings.ambiguous, place)?;
        let to = &settings.to.0;
        for (name, field_place) in cast_fields(settings, place)? {
            let column = self.index(name, &field_place)?;
            let from = self.fields()[column].record_type.clone();
            let how = Settings {
                format: settings.format.as_deref(),
                rounding: settings.rounding,
                zone,
                place,
            };
            let conversion = Conversion::new(&from, to, &how, name)?;
            let makes_nulls = conversion.makes_nulls() || settings.on_failure == OnFailure::Null;
            if makes_nulls {
                self.refuse_null_key(name, place)?;
            }
            if from != *to {
                self.note_change(name, place);
                self.collection.losses.retain(|loss| loss.field != name);
            }
            let fault = fault(settings.on_failure, "reshape.not_convertible", || {
                format!("the field `{name}` of type `{from}` does not convert to `{to}` ({place})")
            });
            let field = &mut self.fields()[column];
            field.record_type = to.clone();
            field.nullable |= makes_nulls;
            self.ops.push(Op::Convert {
                column,
                converter: Converter::Cast(conversion),
                fault,
            });
        }
        Ok(())
    }

    fn dates(&mut self, settings: &Dates, place: &str) -> Result<()> {
        let reader = time_reader(settings, place)?;
        let to = target_of(settings.to);
        for (index, name) in settings.fields.iter().enumerate() {
            let place = format!("{place}.fields[{index}]");
            let column = self.text_field(name, &place)?;
            if settings.on_failure == OnFailure::Null {
                self.refuse_null_key(name, &place)?;
            }
            self.note_change(name, &place);
            self.collection.losses.retain(|loss| loss.field != *name);
            let fault = fault(settings.on_failure, "reshape.date_not_recognised", || {
                format!(
                    "the text of the field `{name}` is in none of the formats, or not one `{to}` ({place})"
                )
            });
            let field = &mut self.fields()[column];
            field.record_type = to.clone();
            field.nullable |= settings.on_failure == OnFailure::Null;
            self.ops.push(Op::Convert {
                column,
                converter: Converter::Dates(reader.clone()),
                fault,
            });
        }
        Ok(())
    }

    /// The position of a field that must be text.
    fn text_field(&mut self, name: &str, place: &str) -> Result<usize> {
        let column = self.index(name, place)?;
        let record_type = &self.fields()[column].record_type;
        if *record_type == RecordType::Text {
            return Ok(column);
        }
        Err(wrong(
            "not_text",
            format!("the field `{name}` is `{record_type}`, and this step takes `text`"),
            place,
        ))
    }

    fn clean(&mut self, fields: &[String], cleaning: &Cleaning, place: &str) -> Result<()> {
        for (index, name) in fields.iter().enumerate() {
            let place = format!("{place}[{index}]");
            let column = self.text_field(name, &place)?;
            self.note_change(name, &place);
            self.ops.push(Op::Clean {
                column,
                cleaning: cleaning.clone(),
            });
        }
        Ok(())
    }

    fn normalise(&mut self, settings: &Normalise, place: &str) -> Result<()> {
        let spelling = Spelling::new(settings);
        self.clean(
            &settings.fields,
            &Cleaning::Normalise(spelling),
            &format!("{place}.fields"),
        )?;
        if spelling.makes_nulls() {
            for name in &settings.fields {
                self.refuse_null_key(name, place)?;
                let column = self.index(name, place)?;
                self.fields()[column].nullable = true;
            }
        }
        Ok(())
    }
}

/// What is done with records that fail: rejected with this, or `None` for null.
pub(crate) fn fault(
    on_failure: OnFailure,
    code: &'static str,
    message: impl FnOnce() -> String,
) -> Option<Fault> {
    match on_failure {
        OnFailure::Reject => Some(Fault {
            code,
            message: Arc::from(message()),
        }),
        OnFailure::Null => None,
    }
}
