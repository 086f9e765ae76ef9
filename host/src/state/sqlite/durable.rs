//! What a run made durable, from its events: of each partition the last commit, and the records of all of them.
//! A run has very many commits, so the database adds them up. Neighbour: `news.rs`, which wrote them down.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use whimbrel_plugin_api::Cursor;

use super::fault::Trouble;
use super::runs::{count, unknown};
use crate::state::moment::from_millis;
use crate::state::run_id::RunId;
use crate::state::selection::BEGUN_ANEW;
use crate::state::store::Durable;

/// One line for each partition.
pub(super) async fn of(connection: &mut SqliteConnection, run: &RunId) -> Result<Vec<Durable>, Trouble> {
    // A single max() makes SQLite take the other columns from the row that has it (sqlite.org/lang_select.html).
    let rows = sqlx::query(
        "WITH anew AS MATERIALIZED (
           SELECT json_extract(body, '$.collection') AS name, max(seq) AS begun_at
           FROM event WHERE run = ?1 AND kind = ?2 AND json_valid(body) GROUP BY 1)
         SELECT json_extract(body, '$.collection') AS collection, json_extract(body, '$.partition') AS partition,
                max(json_extract(body, '$.seq')) AS seq, sum(json_extract(body, '$.record_count')) AS record_count,
                json_extract(body, '$.cursor') AS cursor, json_extract(body, '$.done') AS done, at_ms
         FROM event LEFT JOIN anew ON anew.name = json_extract(body, '$.collection')
         WHERE run = ?1 AND kind = 'committed' AND json_valid(body) AND event.seq > ifnull(anew.begun_at, 0)
         GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .bind(run.as_str())
    .bind(BEGUN_ANEW)
    .fetch_all(connection)
    .await?;
    rows.iter().map(of_row).collect()
}

fn of_row(row: &SqliteRow) -> Result<Durable, Trouble> {
    let cursor: String = row.try_get("cursor")?;
    Ok(Durable {
        collection: row.try_get("collection")?,
        partition: row.try_get("partition")?,
        seq: count(row, "seq")?,
        cursor: serde_json::from_value::<Cursor>(cursor.into()).map_err(|_| unknown("event", "body"))?,
        record_count: count(row, "record_count")?,
        done: row.try_get("done")?,
        at: from_millis(row.try_get("at_ms")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Event;
    use crate::state::fixtures::{Place, new_run};
    use crate::state::{Counts, EventRecord, News};

    fn committed(seq: u8, partition: &str, record_count: u64, done: bool) -> EventRecord {
        let event = Event::Committed {
            collection: "todos".into(),
            partition: partition.into(),
            seq: seq.into(),
            cursor: Cursor(vec![seq]),
            record_count,
            done,
        };
        EventRecord {
            seq: 0,
            at: from_millis(1_000 * i64::from(seq)),
            kind: "committed".into(),
            body: serde_json::to_string(&event).unwrap(),
        }
    }

    fn kept(number: u64, event: &Event) -> EventRecord {
        EventRecord {
            seq: number,
            at: from_millis(1_000),
            kind: BEGUN_ANEW.into(),
            body: serde_json::to_string(event).unwrap(),
        }
    }

    #[test]
    fn what_came_before_a_collection_was_begun_anew_counts_no_more() {
        let place = Place::new();
        let store = place.open();
        let run = new_run("a");
        store.begin_run(&run).unwrap();
        let collection = "todos".to_owned();
        let (mut before, mut after) = (committed(7, "0-9", 70, false), committed(1, "0-9", 3, false));
        (before.seq, after.seq) = (1, 3);
        let rejected = crate::state::Rejected {
            number: 1,
            collection: collection.clone(),
            record: "r".into(),
            code: "a.b".into(),
            message: "m".into(),
            data: None,
            edited: None,
            stage: crate::events::Phase::Import,
            partition: "0-9".into(),
            seq: 2,
            digest: None,
            at: from_millis(1_000),
            state: crate::state::RejectedState::New,
        };
        let mut news = News {
            events: vec![before],
            rejected: vec![rejected],
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: run.started_at,
        };
        store.record(&run.id, &news).unwrap();
        assert_eq!(store.newest_with_rejected().unwrap().as_ref(), Some(&run.id));
        news.rejected.clear();
        news.events = vec![kept(2, &Event::BegunAnew { collection }), after];
        store.record(&run.id, &news).unwrap();
        let durable = store.durable(&run.id).unwrap();
        assert_eq!((durable[0].seq, durable[0].record_count), (1, 3));
        assert_eq!(store.begun_anew(&run.id).unwrap(), ["todos"]);
        assert_eq!(
            store.newest_with_rejected().unwrap(),
            None,
            "its records are met again"
        );
    }

    #[test]
    fn of_each_partition_the_last_commit_counts_and_the_records_of_all() {
        let place = Place::new();
        let store = place.open();
        let run = new_run("a");
        store.begin_run(&run).unwrap();
        assert!(store.durable(&run.id).unwrap().is_empty());
        let mut events = vec![
            committed(1, "0-9", 10, false),
            committed(12, "10-", 7, false),
            // Sessions work at the same time, so events of one lane may change places.
            committed(3, "0-9", 5, true),
            committed(2, "0-9", 20, false),
        ];
        for (number, event) in (1..).zip(&mut events) {
            event.seq = number;
        }
        let news = News {
            events,
            rejected: Vec::new(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: run.started_at,
        };
        store.record(&run.id, &news).unwrap();
        let durable = |partition: &str, seq: u8, record_count, done| Durable {
            collection: "todos".into(),
            partition: partition.into(),
            seq: seq.into(),
            cursor: Cursor(vec![seq]),
            record_count,
            done,
            at: from_millis(1_000 * i64::from(seq)),
        };
        assert_eq!(
            store.durable(&run.id).unwrap(),
            [durable("0-9", 3, 35, true), durable("10-", 12, 7, false)]
        );
    }
}
