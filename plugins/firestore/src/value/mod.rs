//! Documents as Arrow columns and back.
//!
//! `kinds` says what was seen of a field and which record type holds all of it. `decode` fills columns from documents: `column`
//! (with `runs`) keeps the values of one, `fill` takes them in. `encode` makes documents of rows: `cell` makes the values, `document_id` knows
//! names and ids, `unfit` says what cannot be stored. `variant` is the JSON of values whose type differs between records, with
//! tagged objects for what JSON cannot express, and `json_value` its way back; `numbers` and `instant` say which numbers and
//! timestamps survive as what; `table` is what all of that means per record type.

mod cell;
mod column;
mod decode;
mod document_id;
mod encode;
mod fill;
mod instant;
mod json_value;
mod kinds;
mod numbers;
#[cfg(test)]
mod round_trip;
mod runs;
#[cfg(test)]
mod samples;
mod table;
mod unfit;
mod variant;

pub(crate) use decode::{Decoder, Misfit};
pub(crate) use encode::{Encoder, Place};
pub(crate) use kinds::Seen;
pub use table::type_table;

pub(crate) use table::{is_native, losses, stored_as};
pub(crate) use variant::json_text;
