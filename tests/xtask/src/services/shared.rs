//! All servers that the tests share, as one thing to start, keep and stop.
//!
//! Neighbours: `postgres` and `firestore` know how to run theirs.

use super::firestore::SharedEmulator;
use super::{Provided, postgres};
use crate::place::Place;
use crate::step::Outcome;

/// The servers that all tests share; those that this process has started end with it.
pub struct SharedServers {
    postgres: postgres::SharedServers,
    firestore: SharedEmulator,
}

impl SharedServers {
    /// Finds or starts each that there are programs for, and adds its address to what the tests are told.
    pub fn provide(place: &Place, provided: &mut Provided) -> Outcome<Self> {
        Ok(Self {
            postgres: postgres::SharedServers::provide(place, provided)?,
            firestore: SharedEmulator::provide(place, provided)?,
        })
    }

    /// Lets the servers run on after this process.
    pub fn keep(self) {
        self.postgres.keep();
        self.firestore.keep();
    }

    /// Stops the servers of this checkout, whoever has started them.
    pub fn stop_all(place: &Place) -> Outcome<()> {
        postgres::SharedServers::stop_all(place)?;
        SharedEmulator::stop_all(place)
    }
}
