//! How tables are read: one connection and one task per stream, binary COPY straight into Arrow columns.
//!
//! `stored` says what a table gives as fields, `query` what is asked for and `order` in which order, `position` where a
//! read stands, `partition` how a table is divided, `snapshot` how several connections see one instant, `batching` turns rows
//! into batches, and `stream` hands them over. `answer` is for statements of others.
//! `literals` writes values into statements.

mod answer;
mod batching;
mod literals;
mod order;
mod partition;
mod position;
mod query;
mod snapshot;
mod stored;
mod stream;

pub(crate) use answer::{announced, of_statement};
pub(crate) use literals::{key_rows, literal_rows};
pub(crate) use partition::divide;
pub(crate) use query::from as table_of;
pub(crate) use snapshot::{Keeper, NO_SNAPSHOT, begin, ensure_unchanged};
pub(crate) use stored::{Stored, describe, describe_answer};
pub(crate) use stream::{Scan, TableStream};
