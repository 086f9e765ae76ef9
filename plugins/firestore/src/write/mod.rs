//! Writing documents: requests within the service's limits, several in flight, at its pace.
//!
//! `session` makes writes of batches; `limits` knows what can be stored, `policy` what becomes of documents that are there,
//! `labels` what rejected records are called. `request` gathers writes, `flight` keeps several requests under way, `send`
//! carries one out and judges the answers (`judged`), `stored` decides by what is there, with `look` and `version`. `prepare`
//! and `naming` look at collections before they are written, `clear` empties them.

mod clear;
mod flight;
mod judged;
mod labels;
mod limits;
mod look;
mod naming;
mod policy;
mod prepare;
mod request;
mod send;
mod session;
mod stored;
mod version;

pub(crate) use clear::clear;
pub(crate) use policy::offered;
pub(crate) use prepare::prepare;
pub(crate) use session::{Target, Writer};
