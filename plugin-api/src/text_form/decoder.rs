//! From texts to an array of a scalar type.
//!
//! What a [`super::TextEncoder`] wrote comes back exactly. A text that is no value of the type is refused and
//! leaves the decoder as it was, so the caller may put the record aside and go on.

use arrow_array::ArrayRef;

use crate::error::{Error, Result};
use crate::record_type::RecordType;

use super::octet_runs::Refusal;
use super::scalar_column::ScalarColumn;
use super::{bad_value, check_scalar, too_large};

/// Builds one column from texts. See [`super::TextEncoder`] for the text of each type.
///
/// Besides the canonical text it reads: upper-case hexadecimal digits, a leading `+` and needless zeros of
/// numbers, exponents of decimals, shorter fractions of a second, a space in place of `T`, and for instants
/// any offset. It never rounds anything but a float. Texts of json, variant, reference and opaque columns are
/// taken as they are.
///
/// ```
/// use arrow_array::Array as _;
/// # use whimbrel_plugin_api::{record_type::RecordType, text_form::TextDecoder};
/// let mut decoder = TextDecoder::new(&RecordType::Date, 2)?;
/// decoder.push("2024-02-29")?;
/// assert!(decoder.push("2023-02-29").is_err());
/// decoder.push_null();
/// assert_eq!(decoder.finish()?.len(), 2);
/// # Ok::<(), whimbrel_plugin_api::error::Error>(())
/// ```
#[derive(Debug)]
pub struct TextDecoder {
    record_type: RecordType,
    column: ScalarColumn,
}

impl TextDecoder {
    /// An empty decoder for a column of `record_type`, with room for `capacity` rows.
    ///
    /// # Errors
    /// `text_form.nested_type` for list, struct, geopoint and vector, `schema.bad_type` for parameters
    /// outside the closed list.
    pub fn new(record_type: &RecordType, capacity: usize) -> Result<Self> {
        check_scalar(record_type)?;
        Ok(Self {
            record_type: record_type.clone(),
            column: ScalarColumn::new(record_type, capacity),
        })
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        self.column.push_null();
    }

    /// Adds the value that `text` stands for.
    ///
    /// # Errors
    /// `text_form.bad_value` if it is no value of the type, `text_form.too_large` past 2 GiB of text in one
    /// batch. Neither adds a row.
    pub fn push(&mut self, text: &str) -> Result<()> {
        self.column.push_text(text).map_err(|refusal| match refusal {
            Refusal::BadValue => bad_value(&self.record_type),
            Refusal::TooLarge => too_large(&self.record_type),
        })
    }

    /// Forgets all rows from `len` on, as a caller does whose record turned out to be at fault in another field.
    pub fn truncate(&mut self, len: usize) {
        self.column.truncate(len);
    }

    /// How many rows have been added since the last [`Self::finish`].
    pub fn len(&self) -> usize {
        self.column.len()
    }

    /// Whether no row has been added since the last [`Self::finish`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that the rows so far take up, about.
    pub fn bytes(&self) -> usize {
        self.column.bytes()
    }

    /// The rows so far as an array of the physical type of the record type; the decoder is then empty.
    ///
    /// # Errors
    /// `plugin.internal` if Arrow refuses the parts, which would be a defect here.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.column.finish().map_err(Error::from)
    }
}
