//! What the source says of a database: collections with counts, keys, references and prices. On the emulator, through the boundary,
//! with the gRPC layer in between, which counts what is asked and read.
//!
//! How fields are looked at, samples, bounds and what sinks remember have tests in `src/discovery`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "acceptance/discovery_answers.rs"]
mod discovery_answers;
#[path = "acceptance/discovery_place.rs"]
mod discovery_place;
#[path = "acceptance/discovery_reads.rs"]
mod discovery_reads;
#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
#[path = "../../../tests/harness/grpc_layer.rs"]
mod grpc_layer;
