//! Services that refuse, are silent or are gone, and configs that cannot work: what both roles say of them before a run.
//! How the project is made and the roles are opened is in `checking_place`.

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{ErrorKind, Source as _};

use crate::checking_place::{Place, Role, blockers, check, codes};
use crate::grpc_layer::{Answer, End, Method};

const BOTH: [Role; 2] = [Role::Source, Role::Sink];

#[test]
fn a_database_that_can_be_used_has_no_findings_and_is_not_changed() {
    let Some(place) = Place::new() else { return };
    place
        .emulator
        .put(&place.project, "users/ann", r#"{"name":{"stringValue":"Ann"}}"#);
    for role in BOTH {
        assert_eq!(codes(&place.check(role, json!({}))), [""; 0], "{role:?}");
    }
    assert_eq!(place.emulator.count_group(&place.project, "users", None), 1);
    assert_eq!(place.emulator.get(&place.project, "_whimbrel/check"), None);
    let counts = place.layer.counts();
    assert_eq!(counts.applied("_whimbrel/check"), 0, "{counts:?}");
    assert!(counts.reads() <= 2, "{counts:?}");
}

#[test]
fn an_empty_database_is_said_to_be_empty() {
    let Some(place) = Place::new() else { return };
    let findings = place.check(Role::Source, json!({}));
    assert_eq!(codes(&findings), ["firestore.empty"]);
    assert!(blockers(&findings).is_empty());
    assert!(findings[0].message.contains(&place.project));
    // For a sink nothing is more usual.
    assert_eq!(codes(&place.check(Role::Sink, json!({}))), [""; 0]);
}

#[test]
fn a_missing_right_stops_the_run_before_it_begins() {
    let Some(place) = Place::new() else { return };
    for role in BOTH {
        place.layer.script(
            Method::ListCollectionIds,
            [Answer::refuse(Code::PermissionDenied)],
        );
        let findings = place.check(role, json!({}));
        assert_eq!(blockers(&findings), ["firestore.permission_denied"], "{role:?}");
        assert_eq!(findings[0].kind, Some(ErrorKind::Permission));
        assert!(
            findings[0]
                .help
                .as_ref()
                .unwrap()
                .contains("roles/datastore.viewer")
        );
    }
    place
        .layer
        .script(Method::Commit, [Answer::refuse(Code::PermissionDenied)]);
    let findings = place.check(Role::Sink, json!({}));
    assert_eq!(blockers(&findings), ["firestore.permission_denied"]);
    assert!(
        findings[0]
            .help
            .as_ref()
            .unwrap()
            .contains("roles/datastore.user")
    );
    assert_eq!(place.layer.left(), 0);
}

#[test]
fn what_passes_within_a_moment_is_no_finding() {
    let Some(place) = Place::new() else { return };
    place.layer.script(
        Method::ListCollectionIds,
        [Answer::refuse(Code::Unavailable), Answer::refuse(End::Closed)],
    );
    place.layer.script(
        Method::Commit,
        [Answer::refuse(Code::Aborted), Answer::lose(End::Reset)],
    );
    assert_eq!(codes(&place.check(Role::Sink, json!({}))), [""; 0]);
}

#[test]
fn a_service_that_is_gone_or_silent_is_a_finding_and_no_hang() {
    let Some(place) = Place::new() else { return };
    place
        .layer
        .script(Method::ListCollectionIds, [Answer::refuse(End::Silence).always()]);
    for role in BOTH {
        let findings = place.check(role, json!({ "request_timeout_ms": 200 }));
        assert_eq!(blockers(&findings), ["firestore.timeout"], "{role:?}");
        assert_eq!(findings[0].kind, Some(ErrorKind::Timeout));
    }
    place.layer.stop();
    for role in BOTH {
        let findings = place.check(role, json!({}));
        assert_eq!(blockers(&findings), ["firestore.unavailable"], "{role:?}");
        assert_eq!(findings[0].kind, Some(ErrorKind::Unavailable));
        // Of two sides that are both Firestore it must be seen which one it is.
        let place = format!(
            "`projects/{}/databases/(default)` at `{}`",
            place.project,
            place.layer.host()
        );
        assert!(findings[0].message.ends_with(&place), "{}", findings[0].message);
    }
}

#[test]
fn a_connection_on_which_nothing_is_heard_is_given_up_for_a_new_one() {
    let Some(place) = Place::new() else { return };
    let mut source = place.source(json!({ "request_timeout_ms": 3000 }));
    assert_eq!(codes(&source.check().unwrap()), ["firestore.empty"]);
    place.layer.silence_connections();
    assert_eq!(codes(&source.check().unwrap()), ["firestore.empty"]);
}

#[test]
fn credentials_that_are_not_accepted_stop_the_run() {
    let Some(place) = Place::new() else { return };
    for role in BOTH {
        place
            .layer
            .script(Method::ListCollectionIds, [Answer::refuse(Code::Unauthenticated)]);
        let findings = place.check(role, json!({}));
        assert_eq!(blockers(&findings), ["firestore.unauthenticated"], "{role:?}");
    }
}

#[test]
fn a_config_that_cannot_work_is_refused_on_opening() {
    for (settings, code, place) in [
        (
            json!({ "host": "127.0.0.1:1" }),
            "firestore.no_project",
            "config.project",
        ),
        (
            json!({ "host": "127.0.0.1:1", "project": "a/b" }),
            "firestore.bad_project",
            "config.project",
        ),
        (
            json!({ "host": "127.0.0.1", "project": "p" }),
            "firestore.bad_host",
            "config.host",
        ),
        (
            json!({ "host": "127.0.0.1:1", "project": "p", "database": "A" }),
            "firestore.bad_database",
            "config.database",
        ),
        (
            json!({ "project": "p", "credentials_file": "/nowhere/key.json" }),
            "firestore.no_key_file",
            "config.credentials_file",
        ),
        (
            json!({ "project": "p", "credentials_file": "/nowhere/key.json", "fallback_host": "127.0.0.1:1" }),
            "firestore.two_places",
            "config.fallback_host",
        ),
    ] {
        for role in BOTH {
            let error = check(role, &settings).unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.place.as_deref()),
                (code, Some(place)),
                "{role:?}"
            );
        }
    }
}
