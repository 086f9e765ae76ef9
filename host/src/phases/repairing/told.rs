//! How far a repair is, told after each transaction: records that were copied again or removed and are durable so.
//! Neighbour: `sending`, which has the transactions.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::events::{Emitter, Event};

/// Tells it, by the collection's name in the source.
pub struct Told<'a> {
    emitter: &'a Emitter,
    healed: RefCell<BTreeMap<String, u64>>,
}

impl<'a> Told<'a> {
    /// Nothing so far, to whoever reads the events.
    pub fn to(emitter: &'a Emitter) -> Self {
        Self {
            emitter,
            healed: RefCell::default(),
        }
    }

    /// So many more were healed of `collection`. What was refused is tried again, and told at the end.
    pub(super) fn add(&self, collection: &str, healed_count: u64) {
        if healed_count == 0 {
            return;
        }
        let mut healed = self.healed.borrow_mut();
        let sum = healed.entry(collection.to_owned()).or_default();
        *sum += healed_count;
        self.emitter.emit(&Event::Progress {
            collection: collection.to_owned(),
            read_count: 0,
            written_count: *sum,
            rejected_count: 0,
            read_bytes: 0,
        });
    }
}
