//! Writing documents: requests within the service's limits, at its pace, and the checkpoints that go with them.
//!
//! `session` takes batches, of which `incoming` makes documents; `limits` knows what can be stored, `policy` what becomes of
//! documents that are there, `labels` what rejected records are called. Exactly once: `kept` keeps records until `lane_commit`
//! sends them with the checkpoint, as many as `portion` says, `digest` knows them again, `lanes` takes lanes over, `lane_document` is their form. Idempotent:
//! `sending` notes that records are sent, `request` gathers writes, `flight` keeps several requests under way, `send` carries one
//! out and judges the answers (`judged`), `stored` decides by what is there, with `look` and `version`. `prepare` and `naming`
//! look at collections before they are written, `removing` takes records out of them, `clear` empties them.

mod clear;
mod digest;
mod flight;
mod incoming;
mod judged;
mod kept;
mod labels;
mod lane_commit;
mod lane_document;
mod lanes;
mod limits;
mod look;
mod naming;
mod policy;
mod portion;
mod prepare;
mod removing;
mod request;
mod send;
mod sending;
mod session;
mod stored;
mod version;

pub(crate) use clear::clear;
pub(crate) use incoming::Target;
pub(crate) use policy::offered;
pub(crate) use prepare::{Call, Depth, prepare};
pub(crate) use session::Writer;
