//! Tests only: events and outcomes without their secrets, also where a secret looks like a word or a number of theirs.
//! Not here: how that is done, which is `config::secret_leaves`.

use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Finding};

use crate::config::{Secrets, VerificationLevel};
use crate::events::{
    CollectionResult, Event, Failure, FoundBy, Outcome, Phase, PhaseOutcome, PhaseReport, RunSummary,
    VerificationResult,
};

const PASSWORD: &str = "hunter2-password";

fn secrets(words: &[&str]) -> Secrets {
    let secrets = Secrets::default();
    for word in words.iter().chain([&PASSWORD]) {
        secrets.add(word);
    }
    secrets
}

fn failure(message: &str) -> Failure {
    let error = Error::new(ErrorKind::Unavailable, "x.y", message)
        .with_help(format!("see {message}"))
        .with_cause(&std::io::Error::other(message.to_owned()));
    Failure::from(error)
        .in_phase(Phase::Import)
        .at_call("x", Role::Sink, "write")
}

/// One with words of many closed lists, and `message` wherever it has room for one.
fn outcome(message: &str, levels: usize) -> Outcome {
    let phases = [Phase::Import, Phase::Verification].map(|phase| PhaseReport {
        phase,
        outcome: PhaseOutcome::Done,
        seconds: 1.5,
        record_count: 54_321,
    });
    let result = |number| VerificationResult {
        mismatches_file: Some(message.to_owned()),
        ..VerificationResult::begun(&format!("c{number}"), "s", VerificationLevel::Standard)
    };
    let summary = RunSummary {
        phases: phases.to_vec(),
        collections: vec![CollectionResult {
            source: "import".to_owned(),
            written_count: 54_321,
            ..CollectionResult::default()
        }],
        verification: (0..levels).map(result).collect(),
        findings: vec![FoundBy {
            role: Some(Role::Sink),
            finding: Finding::warning("x.y", message),
        }],
        ..RunSummary::default()
    };
    Outcome::Failed {
        summary,
        failure: failure(message),
    }
}

#[test]
fn a_secret_that_is_a_word_of_the_type_lets_no_other_secret_out() {
    // A user of a database, the level in the job, a part of a word, a word that others would take for their last one,
    // the tag of an event, and all of them together.
    let words = ["import", "standard", "port", "unavailable", "warning", "failed"];
    let each = words.iter().map(std::slice::from_ref).chain([words.as_slice()]);
    for words in each {
        let secrets = secrets(words);
        let clean = secrets.scrub_all(outcome(&format!("refused for {PASSWORD}"), 40));
        assert_eq!(clean, outcome("refused for ***", 40), "{words:?}");
        let clean = secrets.scrub_all(failure(&format!("refused for {PASSWORD}")));
        assert_eq!(clean, failure("refused for ***"), "{words:?}");
    }
}

#[test]
fn such_a_secret_is_taken_out_of_every_other_text() {
    let secrets = secrets(&["import", "standard", "port"]);
    let clean = secrets.scrub_all(outcome("user import at port 1, standard", 3));
    assert_eq!(clean, outcome("user *** at *** 1, ***", 3));
    let list = secrets.scrub_all(vec![failure("import"), failure("b")]);
    assert_eq!(list, [failure("***"), failure("b")]);
}

#[test]
fn the_name_of_an_event_stays() {
    let event = |message: &str| Event::Found {
        role: Some(Role::Source),
        finding: Finding::warning("x.y", message),
    };
    let clean = secrets(&["found", "source", "warning"]).scrub_all(event(&format!("found {PASSWORD}")));
    assert_eq!(clean, event("*** ***"));
    let beat = Event::Heartbeat { memory_bytes: 1 };
    assert_eq!(secrets(&["heartbeat"]).scrub_all(beat.clone()), beat);
}

#[test]
fn numbers_and_the_digits_of_a_cursor_stay_though_they_look_like_a_secret() {
    let event = |partition: &str| Event::Committed {
        collection: "c".into(),
        partition: partition.into(),
        seq: 54_321,
        cursor: Cursor(vec![0x05, 0x43, 0x21, 0xff]),
        record_count: 54_321,
        done: false,
    };
    let told = event("id < 54321");
    assert_eq!(secrets(&["54321"]).scrub_all(told.clone()), told);
}

#[test]
fn what_a_replay_sends_again_and_a_comparison_compares_stays_to_the_letter() {
    let event = |message: &str| Event::Rejected {
        collection: "shop_orders".into(),
        record: RejectedRecord {
            record: "5432".into(),
            row: Some(1),
            code: "a.bad".into(),
            message: message.into(),
            data: Some(r#"{"id":5432,"shop":"shop 5432"}"#.into()),
        },
        stage: Phase::Import,
        partition: "shop 5432..".into(),
        seq: 7,
        digest: Some("0543200ff".into()),
    };
    let clean = secrets(&["shop", "5432"]).scrub_all(event(&format!("refused by shop: {PASSWORD}")));
    let Event::Rejected { record, .. } = &clean else {
        panic!("{clean:?}");
    };
    assert_eq!(record.message, "refused by ***: ***");
    let Event::Rejected { record: wanted, .. } = event("") else {
        unreachable!();
    };
    assert_eq!((&record.data, &record.record), (&wanted.data, &wanted.record));
    let named = |event: &Event| match event {
        Event::Rejected {
            collection,
            partition,
            digest,
            ..
        } => (collection.clone(), partition.clone(), digest.clone()),
        _ => Default::default(),
    };
    assert_eq!(named(&clean), named(&event("")));
}
