//! What becomes of records in a real database: the suite of the sink role, policies, limits, faults of the service.
//! Each test has a project of its own in the emulator and goes through the boundary, most of them over a layer that spoils and
//! counts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
#[path = "../../../tests/harness/grpc_layer.rs"]
mod grpc_layer;
#[path = "acceptance/writing_contract.rs"]
mod writing_contract;
#[path = "acceptance/writing_faults.rs"]
mod writing_faults;
#[path = "acceptance/writing_lanes.rs"]
mod writing_lanes;
#[path = "acceptance/writing_large.rs"]
mod writing_large;
#[path = "acceptance/writing_limits.rs"]
mod writing_limits;
#[path = "acceptance/writing_once.rs"]
mod writing_once;
#[path = "acceptance/writing_place.rs"]
mod writing_place;
#[path = "acceptance/writing_policies.rs"]
mod writing_policies;
#[path = "acceptance/writing_preparing.rs"]
mod writing_preparing;
#[path = "acceptance/writing_records.rs"]
mod writing_records;
#[path = "acceptance/writing_refused.rs"]
mod writing_refused;
#[path = "acceptance/writing_sent.rs"]
mod writing_sent;
