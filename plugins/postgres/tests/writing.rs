//! What becomes of records in a real database: policies, records that the table refuses, transactions that end early.
//! Each test has databases of its own in PostgreSQL 15 and 18, and goes through the boundary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "acceptance/policies.rs"]
mod policies;
#[path = "../../../tests/harness/postgres.rs"]
mod postgres;
#[path = "acceptance/rejecting.rs"]
mod rejecting;
#[path = "acceptance/removing.rs"]
mod removing;
#[path = "acceptance/writing.rs"]
mod writing;
#[path = "acceptance/writing_place.rs"]
mod writing_place;
