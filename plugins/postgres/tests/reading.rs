//! The source role against its contract: the suite of sources, and what no suite knows of tables, types, snapshots and
//! parts. On real servers, 15 and 18, through the boundary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "../../../tests/harness/postgres.rs"]
mod postgres;
#[path = "acceptance/reading_contract.rs"]
mod reading_contract;
#[path = "acceptance/reading_memory.rs"]
mod reading_memory;
#[path = "acceptance/reading_names.rs"]
mod reading_names;
#[path = "acceptance/reading_parts.rs"]
mod reading_parts;
#[path = "acceptance/reading_place.rs"]
mod reading_place;
#[path = "acceptance/reading_rights.rs"]
mod reading_rights;
#[path = "acceptance/reading_snapshot.rs"]
mod reading_snapshot;
#[path = "acceptance/reading_types.rs"]
mod reading_types;
