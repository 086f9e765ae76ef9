//! A planned transform: the operations in order, and running them over a batch.
//!
//! Everything that can be known without records was found out by `plan`; here no step can be wrong, only values.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::Scalar;
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, BooleanArray};
use whimbrel_plugin_api::arrow_buffer::NullBuffer;
use whimbrel_plugin_api::arrow_select::nullif::nullif;
use whimbrel_plugin_api::arrow_select::zip::zip;
use whimbrel_plugin_api::{RecordType, Result};

use crate::cast::{Conversion, TimeReader};
use crate::cleaning::Cleaning;
use crate::columns::Converted;
use crate::constant::repeat;
use crate::judge::Judge;
use crate::parts::Pointer;
use crate::records::{Fault, Present, Records};

/// One operation on columns. Positions are those at its step.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// These columns, in this order.
    Pick(Vec<usize>),
    /// Another type for a column. Without a fault, what does not convert becomes null.
    Convert {
        column: usize,
        converter: Converter,
        fault: Option<Fault>,
    },
    /// Texts cleaned.
    Clean { column: usize, cleaning: Cleaning },
    /// New values; all are taken before any is put.
    Set(Vec<(usize, Source)>),
    /// A constant for nulls.
    Fill { column: usize, one: ArrayRef },
    /// Members of a struct as columns behind it, by the positions that lead to each, or in its place.
    Unnest {
        column: usize,
        members: Vec<Vec<usize>>,
        keeps: bool,
    },
    /// Parts of JSON as columns behind it, or in its place.
    Extract {
        column: usize,
        is_variant: bool,
        parts: Vec<Part>,
        keeps: bool,
    },
    /// Only records that meet a condition.
    Filter(Judge),
}

/// How a column gets its new type.
#[derive(Debug, Clone)]
pub(crate) enum Converter {
    Cast(Conversion),
    Dates(TimeReader),
}

/// Where a value of `set` comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A column of one row.
    Constant(ArrayRef),
    Column(usize),
}

/// A part of JSON.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) pointer: Pointer,
    pub(crate) record_type: RecordType,
    pub(crate) fault: Option<Fault>,
}

impl Op {
    pub(crate) fn run(&self, records: &mut Records) -> Result<()> {
        match self {
            Self::Pick(columns) => {
                records.columns = columns
                    .iter()
                    .map(|at| Arc::clone(&records.columns[*at]))
                    .collect();
                records.present = columns.iter().map(|at| records.present[*at].clone()).collect();
            }
            Self::Convert {
                column,
                converter,
                fault,
            } => {
                let array = &records.columns[*column];
                let Converted { array, failed } = match converter {
                    Converter::Cast(conversion) => conversion.run(array)?,
                    Converter::Dates(reader) => reader.run(array),
                };
                records.columns[*column] = array;
                if let Some(fault) = fault {
                    records.reject(&failed, fault)?;
                }
            }
            Self::Clean { column, cleaning } => {
                let cleaned = cleaning.run(&records.columns[*column])?;
                records.columns[*column] = cleaned;
            }
            Self::Set(values) => set(records, values)?,
            Self::Fill { column, one } => {
                records.columns[*column] = fill(&records.columns[*column], one)?;
                records.present[*column] = Present::Always;
            }
            Self::Unnest {
                column,
                members,
                keeps,
            } => {
                let array = Arc::clone(&records.columns[*column]);
                let arrays = members.iter().map(|path| member(&array, path));
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                let present = vec![records.present[*column].clone(); arrays.len()];
                insert(records, *column, *keeps, arrays, present);
            }
            Self::Extract {
                column,
                is_variant,
                parts,
                keeps,
            } => extract(records, *column, *is_variant, parts, *keeps)?,
            Self::Filter(judge) => {
                let kept = judge.judge(records).is_true;
                records.filter(&kept)?;
            }
        }
        Ok(())
    }
}

fn set(records: &mut Records, values: &[(usize, Source)]) -> Result<()> {
    let made = values.iter().map(|(at, source)| {
        Ok(match source {
            Source::Constant(one) => (*at, repeat(one, records.len())?, Present::Always),
            Source::Column(from) => (
                *at,
                Arc::clone(&records.columns[*from]),
                records.present[*from].clone(),
            ),
        })
    });
    for (at, array, present) in made.collect::<Result<Vec<_>>>()? {
        records.put(at, array, present);
    }
    Ok(())
}

fn fill(array: &ArrayRef, one: &ArrayRef) -> Result<ArrayRef> {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => Ok(Arc::clone(array)),
        Some(nulls) => {
            let valid = BooleanArray::new(nulls.inner().clone(), None);
            Ok(zip(&valid, array, &Scalar::new(one))?)
        }
    }
}

/// The column that `path` leads to; null where any struct on the way is.
fn member(array: &ArrayRef, path: &[usize]) -> Result<ArrayRef> {
    let mut outer: Option<NullBuffer> = None;
    let mut inner = array;
    for position in path {
        outer = NullBuffer::union(outer.as_ref(), inner.nulls());
        inner = inner.as_struct().column(*position);
    }
    match outer.filter(|nulls| nulls.null_count() > 0) {
        None => Ok(Arc::clone(inner)),
        Some(nulls) => Ok(nullif(inner, &BooleanArray::new(!nulls.inner(), None))?),
    }
}

fn insert(records: &mut Records, column: usize, keeps: bool, arrays: Vec<ArrayRef>, present: Vec<Present>) {
    let range = if keeps {
        column + 1..column + 1
    } else {
        column..column + 1
    };
    records.columns.splice(range.clone(), arrays);
    records.present.splice(range, present);
}

fn extract(
    records: &mut Records,
    column: usize,
    is_variant: bool,
    parts: &[Part],
    keeps: bool,
) -> Result<()> {
    let json = Arc::clone(&records.columns[column]);
    let mut arrays = Vec::with_capacity(parts.len());
    let mut present = Vec::with_capacity(parts.len());
    let mut faults: Vec<(Vec<usize>, &Fault)> = Vec::new();
    for part in parts {
        let extracted = part.pointer.extract(&json, is_variant, &part.record_type)?;
        arrays.push(extracted.array);
        present.push(records.present_where(extracted.found));
        if let Some(fault) = &part.fault {
            // A record is rejected by the first part that it fails.
            let is_new = |row: &usize| faults.iter().all(|(rows, _)| rows.binary_search(row).is_err());
            let rows: Vec<usize> = extracted.failed.into_iter().filter(is_new).collect();
            faults.push((rows, fault));
        }
    }
    insert(records, column, keeps, arrays, present);
    // Rows of later faults are counted before those of earlier ones left, so all leave together.
    records.reject_all(&faults)
}
