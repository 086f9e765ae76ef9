//! Rows of binary COPY to Arrow columns.
//!
//! Octets are taken for what they may be, hostile: every length is checked against what is there. A row with a value that
//! its column does not take leaves no trace; octets that are no row end the stream. Neighbours: `column` grows the columns.

use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::{Error, Result};

use super::column::Column;
use super::{RowFault, Stop, WireColumn};

/// Rows for which room is made at first.
const ROWS_RESERVED: usize = 1_024;

/// Collects rows in columns.
pub(crate) struct RowDecoder {
    columns: Vec<Column>,
    names: Vec<String>,
    row_count: usize,
    /// Octets of the rows taken.
    taken_bytes: usize,
}

impl RowDecoder {
    pub(crate) fn new(columns: &[WireColumn]) -> Result<Self> {
        let made = columns
            .iter()
            .map(|column| Column::new(&column.record_type, &column.wire, ROWS_RESERVED));
        Ok(Self {
            columns: made.collect::<Result<_>>()?,
            names: columns.iter().map(|column| column.name.clone()).collect(),
            row_count: 0,
            taken_bytes: 0,
        })
    }

    /// Takes the fields of one row, as they stand in one row of binary COPY, the field count first. On a fault the row
    /// leaves no trace. `Err(Error)` for octets that are no row at all.
    pub(crate) fn push(&mut self, row: &[u8]) -> Result<Result<(), RowFault>> {
        let (count, mut fields) = row.split_first_chunk().ok_or_else(no_row)?;
        if usize::try_from(i16::from_be_bytes(*count)) != Ok(self.columns.len()) {
            return Err(no_row());
        }
        for index in 0..self.columns.len() {
            let taken = take_field(&mut fields)
                .ok_or(Stop::Malformed)
                .and_then(|field| self.columns[index].push(field));
            match taken {
                Ok(()) => {}
                Err(stop) => {
                    self.take_back();
                    return match stop {
                        Stop::Malformed => Err(no_row()),
                        Stop::Full => Err(batch_too_large()),
                        Stop::Refused(refusal) => Ok(Err(RowFault::of(refusal, index, &self.names[index]))),
                    };
                }
            }
        }
        if !fields.is_empty() {
            self.take_back();
            return Err(no_row());
        }
        self.row_count += 1;
        self.taken_bytes += row.len();
        Ok(Ok(()))
    }

    /// Cuts all columns back to the rows that were taken whole.
    fn take_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.row_count);
        }
    }

    /// Rows taken since the last [`RowDecoder::finish`].
    pub(crate) fn row_count(&self) -> usize {
        self.row_count
    }

    /// About how many octets the columns hold.
    pub(crate) fn size_bytes(&self) -> usize {
        self.taken_bytes + self.columns.iter().map(Column::written_bytes).sum::<usize>()
    }

    /// The columns; the decoder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let row_count = std::mem::take(&mut self.row_count);
        self.taken_bytes = 0;
        self.columns
            .iter_mut()
            .map(|column| column.finish(row_count))
            .collect()
    }
}

/// The next value with its length in front: `None` for null within `Some`, `None` if there is no such value.
#[inline]
pub(super) fn take_field<'row>(rest: &mut &'row [u8]) -> Option<Option<&'row [u8]>> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        *rest = behind;
        return Some(None);
    }
    let (value, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(value))
}

fn no_row() -> Error {
    Error::invalid_data(
        "postgres.bad_row",
        "the database sent octets that are no row of these columns",
    )
    .with_help("a column may have been altered during the read: start again")
}

fn batch_too_large() -> Error {
    Error::invalid_data(
        "postgres.batch_too_large",
        "a column would hold more than 2 GiB in one batch",
    )
    .with_help("make batches smaller")
}
