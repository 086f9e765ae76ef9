//! One pace for each database and quota within this process, however many sources and sinks are opened on it.
//!
//! The host opens several sinks to write side by side; the quota is the project's and holds for all of them together.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::pace::Pace;
use crate::config::FirestoreConfig;
use crate::path::Root;

/// The paces of one database.
#[derive(Debug)]
pub(super) struct Paces {
    pub(super) reads: Pace,
    pub(super) writes: Pace,
}

/// What makes two paces the same: where it is, the database, and the limits as text.
type Key = (Option<String>, String, String);

static BOOK: LazyLock<Mutex<HashMap<Key, Weak<Paces>>>> = LazyLock::new(Mutex::default);

/// The paces for the database at `root`; the same as long as anybody holds them.
pub(super) fn paces(config: &FirestoreConfig, root: &Root) -> Arc<Paces> {
    let quota = &config.quota;
    let reads = quota.limit_of(quota.reads_per_second);
    let writes = quota.limit_of(quota.writes_per_second);
    let has_ramp = config.writing.has_ramp(config.emulator().is_some());
    let key = (
        config.emulator().map(str::to_owned),
        root.name().to_owned(),
        format!("{reads:?} {writes:?} {has_ramp}"),
    );
    let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(paces) = book.get(&key).and_then(Weak::upgrade) {
        return paces;
    }
    book.retain(|_, paces| paces.strong_count() > 0);
    let paces = Arc::new(Paces {
        reads: Pace::new(reads, false),
        writes: Pace::new(writes, has_ramp),
    });
    book.insert(key, Arc::downgrade(&paces));
    paces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_share_a_quota_share_its_pace() {
        let config = |json| serde_json::from_value::<FirestoreConfig>(json).unwrap();
        let limited = config(serde_json::json!({ "quota": { "reads_per_second": 10 } }));
        let root = Root::new("p", "pace-book");
        let first = paces(&limited, &root);
        assert!(Arc::ptr_eq(&first, &paces(&limited, &root)));
        assert!(!Arc::ptr_eq(&first, &paces(&limited, &Root::new("p", "another"))));
        let unlimited = config(serde_json::json!({}));
        assert!(!Arc::ptr_eq(&first, &paces(&unlimited, &root)));
        let elsewhere =
            config(serde_json::json!({ "host": "127.0.0.1:1", "quota": { "reads_per_second": 10 } }));
        assert!(!Arc::ptr_eq(&first, &paces(&elsewhere, &root)));
    }
}
