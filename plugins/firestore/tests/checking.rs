//! What `check` finds of both roles, on the emulator, through the boundary, with the gRPC layer in between, which refuses, is
//! silent or is gone. Which credentials there are and what statuses mean has tests in `src/client` and `src/error`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "acceptance/checking_faults.rs"]
mod checking_faults;
#[path = "acceptance/checking_place.rs"]
mod checking_place;
#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
#[path = "../../../tests/harness/grpc_layer.rs"]
mod grpc_layer;
