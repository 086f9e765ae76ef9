//! The source role against its contract: the suite of sources, and what no suite knows of pages, instants, parts, cursors,
//! samples and broken streams. On the emulator, through the boundary, with the gRPC layer in between.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
#[path = "../../../tests/harness/grpc_layer.rs"]
mod grpc_layer;
#[path = "acceptance/reading_broken.rs"]
mod reading_broken;
#[path = "acceptance/reading_contract.rs"]
mod reading_contract;
#[path = "acceptance/reading_expiry.rs"]
mod reading_expiry;
#[path = "acceptance/reading_growth.rs"]
mod reading_growth;
#[path = "acceptance/reading_instants.rs"]
mod reading_instants;
#[path = "acceptance/reading_lookup.rs"]
mod reading_lookup;
#[path = "acceptance/reading_memory.rs"]
mod reading_memory;
#[path = "acceptance/reading_pages.rs"]
mod reading_pages;
#[path = "acceptance/reading_parts.rs"]
mod reading_parts;
#[path = "acceptance/reading_place.rs"]
mod reading_place;
