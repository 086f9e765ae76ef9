//! Rejected records, read back a page at a time, and what people do about them.
//! Their data is read only if it is asked for.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::fault::Trouble;
use super::runs::{count, stored, unknown};
use crate::events::{Event, Phase};
use crate::state::moment::from_millis;
use crate::state::run_id::RunId;
use crate::state::selection::{BEGUN_ANEW, LANE_TAKEN, PHASE_ENDED, PHASE_STARTED};
use crate::state::store::{
    LaneFound, PhaseStep, Rejected, RejectedChange, RejectedFilter, RejectedPage, RejectedState,
};

/// A page of them, and how many there are.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    run: &RunId,
    filter: &RejectedFilter,
) -> Result<RejectedPage, Trouble> {
    // One transaction, so that the count and the page tell of the same moment.
    let mut transaction = connection.begin().await?;
    let total = sqlx::query(
        "SELECT count(*) AS total FROM rejected_record
         WHERE run = ?1 AND (?2 IS NULL OR collection = ?2) AND (?3 IS NULL OR state = ?3)
           AND (?4 IS NULL OR stage = ?4) AND (?5 IS NULL OR code = ?5)",
    )
    .bind(run.as_str())
    .bind(&filter.collection)
    .bind(filter.state.map(RejectedState::name))
    .bind(filter.stage.map(Phase::name))
    .bind(&filter.code)
    .fetch_one(&mut *transaction)
    .await?;
    let rows = sqlx::query(
        "SELECT number, collection, record, code, message, iif(?8, data, NULL) AS data,
                iif(?8, edited, NULL) AS edited, stage, partition_label, seq, digest, at_ms, state
         FROM rejected_record
         WHERE run = ?1 AND (?2 IS NULL OR collection = ?2) AND (?3 IS NULL OR state = ?3)
           AND (?4 IS NULL OR stage = ?4) AND (?5 IS NULL OR code = ?5) AND number > ?6
         ORDER BY number LIMIT ?7",
    )
    .bind(run.as_str())
    .bind(&filter.collection)
    .bind(filter.state.map(RejectedState::name))
    .bind(filter.stage.map(Phase::name))
    .bind(&filter.code)
    .bind(stored(filter.after))
    .bind(filter.limit)
    .bind(filter.with_data)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    Ok(RejectedPage {
        total: count(&total, "total")?,
        records: rows.iter().map(of_row).collect::<Result<_, Trouble>>()?,
    })
}

fn of_row(row: &SqliteRow) -> Result<Rejected, Trouble> {
    let state: String = row.try_get("state")?;
    let stage: String = row.try_get("stage")?;
    Ok(Rejected {
        number: count(row, "number")?,
        collection: row.try_get("collection")?,
        record: row.try_get("record")?,
        code: row.try_get("code")?,
        message: row.try_get("message")?,
        data: row.try_get("data")?,
        edited: row.try_get("edited")?,
        stage: phase(&stage).ok_or_else(|| unknown("rejected_record", "stage"))?,
        partition: row.try_get("partition_label")?,
        seq: count(row, "seq")?,
        digest: row.try_get("digest")?,
        at: from_millis(row.try_get("at_ms")?),
        state: RejectedState::of_name(&state).ok_or_else(|| unknown("rejected_record", "state"))?,
    })
}

/// The phase that can refuse a record and is called `name`.
fn phase(name: &str) -> Option<Phase> {
    [Phase::Extraction, Phase::Transformation, Phase::Import]
        .into_iter()
        .find(|phase| phase.name() == name)
}

/// Does something about them, all in one transaction; how many have changed.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    run: &RunId,
    changes: &[RejectedChange],
) -> Result<u64, Trouble> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut changed = 0;
    for change in changes {
        let (number, state, edited, reason) = match change {
            RejectedChange::Edited { number, data } => {
                (number, Some(RejectedState::Edited), Some(data), None)
            }
            RejectedChange::Discarded { number } => (number, Some(RejectedState::Discarded), None, None),
            RejectedChange::Replayed { number } => (number, Some(RejectedState::Replayed), None, None),
            RejectedChange::RefusedAgain {
                number,
                code,
                message,
            } => (number, None, None, Some((code, message))),
        };
        let done = sqlx::query(
            "UPDATE rejected_record
             SET state = ifnull(?3, state), edited = ifnull(?4, edited), code = ifnull(?5, code),
                 message = ifnull(?6, message)
             WHERE run = ?1 AND number = ?2 AND state IN (?7, ?8)",
        )
        .bind(run.as_str())
        .bind(stored(*number))
        .bind(state.map(RejectedState::name))
        .bind(edited)
        .bind(reason.map(|(code, _)| code))
        .bind(reason.map(|(_, message)| message))
        .bind(RejectedState::New.name())
        .bind(RejectedState::Edited.name())
        .execute(&mut *transaction)
        .await?;
        changed += done.rows_affected();
    }
    transaction.commit().await?;
    Ok(changed)
}

/// The newest run that has some.
pub(super) async fn newest(connection: &mut SqliteConnection) -> Result<Option<RunId>, Trouble> {
    let id: Option<String> = sqlx::query_scalar(
        "SELECT id FROM run WHERE EXISTS (SELECT 1 FROM rejected_record WHERE rejected_record.run = run.id)
         ORDER BY started_at_ms DESC, id DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    id.map(|id| RunId::parse(&id).map_err(|_| unknown("run", "id")))
        .transpose()
}

/// How a run has found the lanes that it took over, in order.
pub(super) async fn lanes_found(
    connection: &mut SqliteConnection,
    run: &RunId,
) -> Result<Vec<LaneFound>, Trouble> {
    let bodies: Vec<String> =
        sqlx::query_scalar("SELECT body FROM event WHERE run = ? AND kind = ? ORDER BY seq")
            .bind(run.as_str())
            .bind(LANE_TAKEN)
            .fetch_all(connection)
            .await?;
    bodies.iter().map(|body| lane_of(body)).collect()
}

/// What the event says that is kept as `body`.
pub(super) fn lane_of(body: &str) -> Result<LaneFound, Trouble> {
    match serde_json::from_str(body) {
        Ok(Event::LaneTaken {
            collection,
            partition,
            seq,
            ..
        }) => Ok(LaneFound {
            collection,
            partition,
            seq,
        }),
        _ => Err(unknown("event", "body")),
    }
}

/// The collections that a run has copied again from their start.
pub(super) async fn begun_anew(
    connection: &mut SqliteConnection,
    run: &RunId,
) -> Result<Vec<String>, Trouble> {
    let bodies: Vec<String> =
        sqlx::query_scalar("SELECT body FROM event WHERE run = ? AND kind = ? ORDER BY seq")
            .bind(run.as_str())
            .bind(BEGUN_ANEW)
            .fetch_all(connection)
            .await?;
    bodies.iter().map(|body| collection_of(body)).collect()
}

/// The collection that is begun anew as the event says that is kept as `body`.
pub(super) fn collection_of(body: &str) -> Result<String, Trouble> {
    match serde_json::from_str(body) {
        Ok(Event::BegunAnew { collection }) => Ok(collection),
        _ => Err(unknown("event", "body")),
    }
}

/// The beginnings and ends of the phases of a run, in order: a refusal on the way into a stage counts as long as the stage does.
pub(super) async fn phase_steps(
    connection: &mut SqliteConnection,
    run: &RunId,
) -> Result<Vec<PhaseStep>, Trouble> {
    let bodies: Vec<String> =
        sqlx::query_scalar("SELECT body FROM event WHERE run = ? AND kind IN (?, ?) ORDER BY seq")
            .bind(run.as_str())
            .bind(PHASE_STARTED)
            .bind(PHASE_ENDED)
            .fetch_all(connection)
            .await?;
    let step = |body: &String| match serde_json::from_str(body) {
        Ok(Event::PhaseStarted { phase }) => Ok(PhaseStep::Started(phase)),
        Ok(Event::PhaseEnded(report)) => Ok(PhaseStep::Ended(report.phase)),
        _ => Err(unknown("event", "body")),
    };
    bodies.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{Place, new_run};
    use crate::state::{Counts, News};

    fn rejected(number: u64, stage: Phase, code: &str) -> Rejected {
        Rejected {
            number,
            collection: "c".into(),
            record: number.to_string(),
            code: code.into(),
            message: "m".into(),
            data: Some("{}".into()),
            edited: None,
            stage,
            partition: "p".into(),
            seq: number,
            digest: Some("0f".repeat(16)),
            at: from_millis(1_000),
            state: RejectedState::New,
        }
    }

    #[test]
    fn they_read_back_as_they_were_written_and_settled_ones_change_no_more() {
        let place = Place::new();
        let store = place.open();
        assert_eq!(store.newest_with_rejected().unwrap(), None);
        let run = new_run("a");
        store.begin_run(&run).unwrap();
        let all = vec![
            rejected(1, Phase::Extraction, "a.b"),
            rejected(2, Phase::Import, "a.b"),
            rejected(3, Phase::Transformation, "c.d"),
        ];
        let news = News {
            events: Vec::new(),
            rejected: all.clone(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: run.started_at,
        };
        store.record(&run.id, &news).unwrap();
        assert_eq!(store.newest_with_rejected().unwrap().as_ref(), Some(&run.id));
        let filter = RejectedFilter {
            limit: 10,
            with_data: true,
            ..RejectedFilter::default()
        };
        assert_eq!(store.rejected(&run.id, &filter).unwrap().records, all);
        let changes = [
            RejectedChange::Edited {
                number: 1,
                data: "{\"a\":1}".into(),
            },
            RejectedChange::RefusedAgain {
                number: 1,
                code: "e.f".into(),
                message: "again".into(),
            },
            RejectedChange::Replayed { number: 2 },
            RejectedChange::Discarded { number: 2 },
            RejectedChange::Edited {
                number: 2,
                data: "x".into(),
            },
            RejectedChange::Discarded { number: 3 },
            RejectedChange::Discarded { number: 9 },
        ];
        assert_eq!(store.change_rejected(&run.id, &changes).unwrap(), 4);
        let mut expected = all;
        expected[0].edited = Some("{\"a\":1}".into());
        expected[0].state = RejectedState::Edited;
        (expected[0].code, expected[0].message) = ("e.f".into(), "again".into());
        expected[1].state = RejectedState::Replayed;
        expected[2].state = RejectedState::Discarded;
        assert_eq!(store.rejected(&run.id, &filter).unwrap().records, expected);
        let numbers = |filter: RejectedFilter| -> Vec<u64> {
            let page = store
                .rejected(&run.id, &RejectedFilter { limit: 10, ..filter })
                .unwrap();
            assert_eq!(page.total, page.records.len() as u64);
            page.records.iter().map(|record| record.number).collect()
        };
        let of_state = |state| RejectedFilter {
            state: Some(state),
            ..RejectedFilter::default()
        };
        assert_eq!(numbers(of_state(RejectedState::Edited)), [1]);
        assert_eq!(numbers(of_state(RejectedState::New)), [0; 0]);
        assert_eq!(
            numbers(RejectedFilter {
                stage: Some(Phase::Transformation),
                ..RejectedFilter::default()
            }),
            [3]
        );
        assert_eq!(
            numbers(RejectedFilter {
                code: Some("a.b".into()),
                ..RejectedFilter::default()
            }),
            [2]
        );
    }
}
