//! Fields that no record of the sample has, and that turn up while the file is read.
//!
//! The first such record makes the source look through the whole file, once for all streams of it. So the new fields have
//! the types and the order that `inference: full` would give them, the same in every part of the file and after every
//! restart, and no later record can fail to fit them. Neighbours: [`crate::survey`] looks, [`crate::stream`] asks.

use std::sync::{Mutex, PoisonError};

use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;
use whimbrel_plugin_api::{Error, Field, LogLevel, Result, Schema};

use crate::error;
use crate::fit;
use crate::format::Identity;
use crate::inference::{Fallback, Tally};
use crate::survey::Survey;

/// All fields of a file, once somebody had to know.
#[derive(Debug, Default)]
pub(crate) struct AllFields(Mutex<Option<Result<Vec<Field>, Fallback>>>);

impl AllFields {
    /// The schema that follows `schema`: with every field of the file that it lacks at its end. It is `schema` itself if
    /// there are none.
    ///
    /// # Errors
    /// `files.does_not_fit_sample` if there are too many; `files.changed`, and what reading brings.
    pub(crate) fn after(&self, schema: &Schema, survey: Survey<'_>, identity: Identity) -> Result<Schema> {
        // Held while one stream looks through the file: the others would only do the same.
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &mut *found {
            Some(outcome) => outcome,
            None => found.insert(look_through(survey, identity)?),
        };
        let fields = outcome.as_ref().map_err(|fallback| too_many(*fallback))?;
        let new = fields
            .iter()
            .filter(|field| schema.index_of(&field.name).is_none() && field.name != PRESENCE_COLUMN);
        let mut grown = schema.clone();
        grown.fields.extend(new.cloned());
        if grown.fields.len() > schema.fields.len() {
            grown.version += 1;
            grown.presence = true;
        }
        Ok(grown)
    }
}

fn look_through(survey: Survey<'_>, identity: Identity) -> Result<Result<Vec<Field>, Fallback>> {
    survey.services.log(
        LogLevel::Info,
        format!(
            "a record of `{}` has a field that its sample lacks: the file is looked through for all such fields",
            survey.file.collection
        ),
    );
    let outcome = survey.tally().map(|tally: Tally| tally.fields())?;
    if survey.file.identity()? == identity {
        Ok(outcome)
    } else {
        Err(error::changed(&survey.file.path))
    }
}

fn too_many(fallback: Fallback) -> Error {
    let what = match fallback {
        Fallback::TooManyFields(fields_max) => {
            format!("the records have more than {fields_max} fields between them")
        }
        Fallback::ReservedName => fit::reserved_name(),
    };
    fit::error(&what)
}
