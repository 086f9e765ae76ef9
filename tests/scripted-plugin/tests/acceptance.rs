//! The scripted plugin keeps the contract while its script is empty, and the suites notice what its scripts break.
//!
//! So this also tests the suites themselves: each lie must fail the check that is there for it.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::abi::ForeignPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::source::ExpectedCollection;
use whimbrel_plugin_api::acceptance::values::EdgeCase;
use whimbrel_plugin_api::acceptance::{
    Delivered, NotifierCase, Report, SinkCase, SourceCase, TransformCase, notifier, sink, source, transform,
    values,
};
use whimbrel_plugin_api::{Collection, Schema};

fn plugin() -> ForeignPlugin {
    local::<whimbrel_scripted::WhimbrelPlugin>()
}

/// The config of a source with `script`; every test has a store, and so counters, of its own.
fn config(store: &str, script: Json) -> Json {
    json!({ "records": 43, "collections": ["a", "b"], "store": store, "misbehave": script })
}

fn source_report(store: &str, script: Json) -> Report {
    let case = SourceCase::new(config(store, script))
        .with(ExpectedCollection::new("a", 43).with_key(["id"]))
        .with(ExpectedCollection::new("b", 43))
        .with_bad_config(json!({ "records": -1 }))
        .with_blocking(
            config(
                &format!("{store} hangs"),
                json!([{ "call": "next", "at": 2, "how": "hang" }]),
            ),
            "a",
        );
    source::run(plugin(), case)
}

fn sink_report(name: &'static str, script: Json) -> Report {
    sink::run(
        plugin(),
        SinkCase::new(move |target| json!({ "store": format!("{name} {target}"), "misbehave": script })),
    )
}

fn transform_report(store: &str, script: Json) -> Report {
    let text = values::edge_cases()
        .into_iter()
        .find(|case| case.name() == "text");
    let text: EdgeCase = text.expect("text has edge values");
    let schema: Schema = (*text.schema()).clone();
    let collection = Collection::new("texts", schema).with_key(["id"]);
    let case = TransformCase::new(
        config(store, script),
        collection,
        vec![text.batch().expect("the edge values fit their schema")],
    )
    .expecting("texts", text.records());
    transform::run(plugin(), case)
}

fn notifier_report(name: &'static str, script: Json, hang_ignores_cancel: bool) -> Report {
    let store = move |target: &str| format!("{name} {target}");
    let hang = json!([{ "call": "send", "how": "hang" }]);
    let case = NotifierCase::new(
        move |target| json!({ "store": store(target), "misbehave": script }),
        move |target| {
            let notified = whimbrel_scripted::notified(&store(target));
            notified.into_iter().map(Delivered::from).collect()
        },
    )
    .with_outage(move |target, out| whimbrel_scripted::set_outage(&store(target), out))
    .with_blocking(json!({
        "store": store("hangs"), "misbehave": hang, "hang_ignores_cancel": hang_ignores_cancel
    }))
    .with_bad_config(json!({ "records": -1 }));
    notifier::run(plugin(), case)
}

fn set<'s>(names: impl IntoIterator<Item = &'s str>) -> BTreeSet<&'s str> {
    names.into_iter().collect()
}

/// What of both roles is not offered, and so not checked.
const NO_QUERY: [&str; 3] = [
    "query_is_offered_if_declared",
    "query_selects_what_it_should",
    "query_refuses_what_is_no_reading_statement",
];
const NO_REMOVE: [&str; 5] = [
    "remove_is_offered_if_declared",
    "remove_takes_exactly_the_keys",
    "removed_records_are_back_after_abort",
    "remove_follows_the_order_of_calls",
    "remove_by_composite_keys",
];

#[test]
fn a_source_without_script_passes() {
    let report = source_report("source", json!([]));
    report.assert();
    assert_eq!(
        report.skipped(),
        [
            &["changes_are_followed"][..],
            &NO_QUERY,
            &["unreachable_system_is_found"]
        ]
        .concat()
    );
}

#[test]
fn a_sink_without_script_passes() {
    let report = sink_report("sink", json!([]));
    report.assert();
    assert_eq!(
        report.skipped(),
        [
            &["undo_takes_back_a_commit"][..],
            &NO_REMOVE,
            &[
                "deferred_records_are_judged_by_flush",
                "deferred_records_can_be_taken_back",
                "unreachable_system_is_found"
            ]
        ]
        .concat()
    );
}

#[test]
fn a_sink_that_is_kept_in_a_file_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let report = sink::run(
        plugin(),
        SinkCase::new(move |target| {
            let of = |ending: &str| path.join(format!("{target}.{ending}"));
            json!({ "store": format!("kept {target}"), "lanes_path": of("lanes"), "committed_path": of("lines") })
        }),
    );
    report.assert();
}

fn deferring_report(name: &'static str, script: Json) -> Report {
    sink::run(
        plugin(),
        SinkCase::new(
            move |target| json!({ "store": format!("{name} {target}"), "defers": true, "misbehave": script }),
        ),
    )
}

#[test]
fn a_sink_that_defers_passes() {
    let report = deferring_report("defers", json!([]));
    report.assert();
    assert_eq!(
        report.skipped(),
        [
            &["undo_takes_back_a_commit"][..],
            &NO_REMOVE,
            &["unreachable_system_is_found"]
        ]
        .concat()
    );
}

#[test]
fn each_lie_of_a_flush_fails_the_checks_that_look_at_it() {
    for (name, how) in [
        ("flush-receipt", "wrong_receipt"),
        ("flush-reject", "reject"),
        ("flush-panic", "panic"),
        ("flush-forgets", "lose_records"),
    ] {
        let report = deferring_report(name, json!([{ "call": "flush", "times": 0, "how": how }]));
        let check = "deferred_records_are_judged_by_flush";
        assert!(report.failed().contains(&check), "{name}\n{report}");
    }
    let script = json!([{ "call": "abort", "times": 0, "how": "keep_deferred" }]);
    let report = deferring_report("abort-keeps", script);
    assert_eq!(
        report.failed(),
        ["deferred_records_can_be_taken_back"],
        "{report}"
    );
}

#[test]
fn a_transform_without_script_passes() {
    let report = transform_report("transform", json!([]));
    report.assert();
    assert!(report.skipped().is_empty(), "{report}");
}

#[test]
fn a_notifier_without_script_passes() {
    let report = notifier_report("notifier", json!([]), false);
    report.assert();
    assert_eq!(report.skipped(), ["unreachable_service_is_found"]);
}

#[test]
fn each_lie_of_a_source_fails_the_checks_that_look_at_it() {
    let always = |call: &str, how: &str| json!([{ "call": call, "times": 0, "how": how }]);
    for (script, expected) in [
        (always("count", "wrong_record_count"), set(["count_equals_read"])),
        (
            always("partitions", "panic"),
            set([
                "partitions_are_disjoint_and_complete",
                "resume_continues_after_each_batch",
            ]),
        ),
        (always("lookup", "error"), set(["lookup_finds_the_keys"])),
        (
            always("close_snapshot", "error"),
            set(["snapshot_reads_the_same"]),
        ),
        (always("check", "error"), set(["check_finds_no_blocker"])),
    ] {
        let report = source_report(&script.to_string(), script);
        assert_eq!(set(report.failed()), expected, "{report}");
    }
    for how in [
        "wrong_length",
        "wrong_schema",
        "wrong_record_count",
        "null_in_required",
        "not_utf8",
        "end_early",
    ] {
        let report = source_report(how, always("next", how));
        assert!(
            report.failed().contains(&"every_record_is_read_once"),
            "{how}\n{report}"
        );
    }
    // The fourth item of the process is in the check that reads first.
    for how in ["schema_twice", "repeat", "reject", "error", "panic"] {
        let report = source_report(how, json!([{ "call": "next", "at": 4, "times": 40, "how": how }]));
        assert!(!report.failed().is_empty(), "{how}\n{report}");
    }
}

#[test]
fn each_lie_of_a_sink_fails_the_checks_that_look_at_it() {
    for (name, call, how, check) in [
        (
            "receipt",
            "write",
            "wrong_receipt",
            "what_is_committed_is_read_back",
        ),
        (
            "lost",
            "commit",
            "lost_commit",
            "commit_is_durable_without_finalize",
        ),
        ("unknown", "commit", "unknown_kept", "lanes_are_kept"),
        ("abort", "abort", "error", "abort_leaves_nothing"),
        ("rejects", "write", "reject", "type_text"),
        (
            "half",
            "write",
            "error_half_way",
            "what_is_committed_is_read_back",
        ),
        ("finalize", "finalize", "panic", "large_batches_are_kept"),
    ] {
        let report = sink_report(name, json!([{ "call": call, "times": 0, "how": how }]));
        assert!(report.failed().contains(&check), "{name}\n{report}");
    }
}

#[test]
fn each_lie_about_lanes_fails_the_checks_that_look_at_it() {
    for (name, call, how, check) in [
        (
            "held",
            "take_over",
            "ignore_held",
            "lanes_are_claimed_together_or_not_at_all",
        ),
        (
            "some",
            "take_over",
            "grant_some",
            "lanes_are_claimed_together_or_not_at_all",
        ),
        (
            "never-anew",
            "take_over",
            "never_anew",
            "lane_of_another_run_starts_anew",
        ),
        ("always-anew", "take_over", "always_anew", "lanes_are_kept"),
        ("order", "take_over", "other_order", "lanes_are_kept_apart"),
        ("guard", "commit", "ignore_guard", "stale_checkpoints_are_fenced"),
        ("epoch", "commit", "ignore_epoch", "replaced_session_is_fenced"),
        ("fenced", "commit", "write_fenced", "stale_checkpoints_are_fenced"),
        (
            "extensions",
            "commit",
            "lose_extensions",
            "commit_without_writes_moves_the_lane",
        ),
    ] {
        let report = sink_report(name, json!([{ "call": call, "times": 0, "how": how }]));
        assert!(report.failed().contains(&check), "{name}\n{report}");
    }
}

#[test]
fn each_lie_of_a_transform_fails_the_checks_that_look_at_it() {
    for how in [
        "unplanned_output",
        "wrong_schema",
        "wrong_record_count",
        "wrong_length",
        "null_in_required",
        "panic",
    ] {
        let report = transform_report(how, json!([{ "call": "apply", "times": 0, "how": how }]));
        assert!(
            report.failed().contains(&"outputs_follow_the_plan"),
            "{how}\n{report}"
        );
    }
    let report = transform_report("rule", json!([{ "call": "rule", "how": "wrong_record_count" }]));
    assert_eq!(report.failed(), ["rule_judges_each_record"], "{report}");
}

#[test]
fn each_lie_of_a_notifier_fails_the_checks_that_look_at_it() {
    let always = |call: &str, how: &str| json!([{ "call": call, "times": 0, "how": how }]);
    for (call, how, expected) in [
        (
            "check",
            "send_in_check",
            set([
                "check_finds_no_blocker_and_sends_nothing",
                "check_after_send_is_fine",
            ]),
        ),
        (
            "check",
            "panic",
            set([
                "check_finds_no_blocker_and_sends_nothing",
                "check_after_send_is_fine",
            ]),
        ),
        (
            "send",
            "forget_keys",
            set([
                "same_key_again_is_as_declared",
                "same_key_after_reopening_is_as_declared",
                "same_key_side_by_side_is_as_declared",
            ]),
        ),
        ("send", "panic_on_empty", set(["empty_texts_are_fine"])),
        ("send", "wrong_severity", set(["every_severity_is_delivered"])),
        (
            "send",
            "send_in_outage",
            set(["an_outage_is_an_error_and_passes"]),
        ),
        (
            "send",
            "refuse_for_good",
            set(["hostile_texts_stay_one_notification"]),
        ),
    ] {
        let report = notifier_report(how, always(call, how), false);
        assert_eq!(set(report.failed()), expected, "{how}\n{report}");
    }
    for how in [
        "lose_notification",
        "deliver_at_close",
        "split_lines",
        "cut_text",
        "lose_facts",
        "error",
        "panic",
    ] {
        let report = notifier_report(how, always("send", how), false);
        let check = "each_notification_is_delivered_once";
        assert!(report.failed().contains(&check), "{how}\n{report}");
    }
    // Once in a while is enough: the fifth notification of a target is lost, or the third fails for now.
    let script = json!([{ "call": "send", "at": 5, "how": "lose_notification" }]);
    let report = notifier_report("fifth", script, false);
    assert!(
        report.failed().contains(&"notifiers_run_side_by_side"),
        "{report}"
    );
    let report = notifier_report(
        "third",
        json!([{ "call": "send", "at": 3, "how": "transient_error" }]),
        false,
    );
    assert!(
        report.failed().contains(&"every_severity_is_delivered"),
        "{report}"
    );
    let report = notifier_report("hang", json!([]), true);
    assert_eq!(report.failed(), ["cancel_ends_a_blocked_send"], "{report}");
}
