//! Lanes in a real database: who holds one, what a commit of somebody else leaves, and what becomes of transactions whose
//! holder has stopped or whose answer was lost. In PostgreSQL 15 and 18, through the boundary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "lanes/ending.rs"]
mod ending;
#[path = "lanes/fencing.rs"]
mod fencing;
#[path = "lanes/granting.rs"]
mod granting;
#[path = "lanes/lanes_place.rs"]
mod lanes_place;
#[path = "lanes/losing_answers.rs"]
mod losing_answers;
#[path = "../../../tests/harness/postgres.rs"]
mod postgres;
#[path = "../../../tests/harness/proxy.rs"]
mod proxy;
