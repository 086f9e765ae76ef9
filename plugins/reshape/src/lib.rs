//! The `reshape` plugin: renames, casts, fills, cleans and filters records on their way.
//!
//! A job lists steps; each is planned for a collection before the first record, and then run over whole columns. The
//! README is for operators. In the order of a job's way: [`config`] and [`condition`] (what may be written), `reading` and
//! `checks` (what is wrong with it), `plan` with `filling` and `flattening` (the schema that comes out), `program` and
//! `records` (running it), `cast`, `cleaning`, `parts`, `judge` (the operations), [`transform`] (the role).

mod cast;
mod checks;
mod cleaning;
mod columns;
pub mod condition;
pub mod config;
mod constant;
mod date_format;
mod filling;
mod flattening;
mod judge;
mod parts;
mod plan;
mod program;
mod reading;
mod records;
mod rounding;
pub mod transform;
mod type_text;
mod zone;

pub use config::{ReshapeConfig, Step};
pub use transform::Reshape;
pub use type_text::TypeText;

whimbrel_plugin_api::export_plugin!(name: "reshape", transform: Reshape);
