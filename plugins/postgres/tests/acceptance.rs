//! The sink against its contract: the suite of its role, and what is made, compared, altered and emptied. On databases of its
//! own in PostgreSQL 15 and 18, through the boundary. What is written and read has tests beside this one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "acceptance/altering.rs"]
mod altering;
#[path = "acceptance/clearing.rs"]
mod clearing;
#[path = "acceptance/constraints.rs"]
mod constraints;
#[path = "acceptance/contract.rs"]
mod contract;
#[path = "../../../tests/harness/postgres.rs"]
mod postgres;
#[path = "acceptance/preparing.rs"]
mod preparing;
#[path = "acceptance/preparing_place.rs"]
mod preparing_place;
#[path = "acceptance/preparing_rights.rs"]
mod preparing_rights;
