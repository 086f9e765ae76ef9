//! The JSON text of every record type, and its way back, exact in both directions given the type.
//!
//! The JSON of each type is listed at [`JsonEncoder`]; what is read besides, at [`JsonDecoder`].
//! [`RowEncoder`] and [`RowDecoder`] do the same for whole records, one object a line. Nothing here does I/O,
//! and no tree of values is built: text goes straight into columns and back.

mod column;
mod decoder;
mod encoder;
mod fault;
mod keys;
#[cfg(test)]
mod round_trip;
mod row_decoder;
mod row_encoder;
mod seed;

pub use decoder::JsonDecoder;
pub use encoder::{JsonEncoder, JsonNull};
pub use row_decoder::{RowDecoder, UnknownKeys};
pub use row_encoder::RowEncoder;
