//! Arrow columns to rows of binary COPY.
//!
//! Which way the values of a column take is settled once per batch; a row then costs one branch per column and no
//! allocation. Neighbours: `values` has the columns, `decode` is the way back.

use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::{Error, Result};

use super::outgoing::put_field;
use super::values::Values;
use super::{RowFault, WireColumn};

/// The columns of one batch, ready to be written row by row.
pub(crate) struct RowEncoder {
    columns: Vec<EncodedColumn>,
    /// How many fields a row has, as it stands in front of them.
    count: [u8; 2],
}

struct EncodedColumn {
    name: String,
    values: Values,
}

impl RowEncoder {
    /// Takes one array per column, all of the same length.
    pub(crate) fn new(columns: &[WireColumn], arrays: &[ArrayRef]) -> Result<Self> {
        let count = i16::try_from(columns.len())
            .map_err(|_| Error::internal("a row has more fields than binary COPY can count"))?;
        if columns.len() != arrays.len() || arrays.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
            return Err(Error::internal("the arrays of a batch do not match its columns"));
        }
        let columns = columns.iter().zip(arrays).map(|(column, array)| {
            Ok(EncodedColumn {
                name: column.name.clone(),
                values: Values::new(column, array)?,
            })
        });
        Ok(Self {
            columns: columns.collect::<Result<_>>()?,
            count: count.to_be_bytes(),
        })
    }

    /// Appends the row to `out`. On a fault nothing is appended.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), RowFault> {
        let start = out.len();
        out.extend_from_slice(&self.count);
        for (index, column) in self.columns.iter().enumerate() {
            if let Err(refusal) = put_field(&column.values, row, out) {
                out.truncate(start);
                return Err(RowFault::of(refusal, index, &column.name));
            }
        }
        Ok(())
    }
}
