//! Statuses as the service and the emulator send them, and what becomes of them.
//! Which requests lead to them is tested where they are sent.

use std::collections::HashMap;

use gcloud_sdk::google::rpc;
use gcloud_sdk::prost::Message;
use gcloud_sdk::prost_types::{Any, Duration as WireDuration};

use super::*;

fn detailed<M: Message>(code: Code, text: &str, name: &str, detail: &M) -> Status {
    let status = rpc::Status {
        code: code.into(),
        message: text.to_owned(),
        details: vec![
            Any {
                type_url: "type.googleapis.com/google.rpc.Help".to_owned(),
                value: Vec::new(),
            },
            Any {
                type_url: format!("type.googleapis.com/google.rpc.{name}"),
                value: detail.encode_to_vec(),
            },
        ],
    };
    Status::with_details(code, text, status.encode_to_vec().into())
}

fn retry_info(seconds: i64, nanos: i32) -> rpc::RetryInfo {
    rpc::RetryInfo {
        retry_delay: Some(WireDuration { seconds, nanos }),
    }
}

fn error_info(reason: &str, metadata: &[(&str, &str)]) -> rpc::ErrorInfo {
    rpc::ErrorInfo {
        reason: reason.to_owned(),
        domain: "googleapis.com".to_owned(),
        metadata: metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<HashMap<_, _>>(),
    }
}

fn error_of(status: Status) -> Error {
    Error::from(Fault::from(status))
}

#[test]
fn every_status_has_its_code_kind_and_class() {
    use Class::{Contention, Permanent, RateLimited, Transient};
    use ErrorKind as Kind;
    for (code, text, class, kind, name) in [
        (
            Code::Unauthenticated,
            "",
            Permanent,
            Kind::Unauthenticated,
            "firestore.unauthenticated",
        ),
        (
            Code::PermissionDenied,
            "Missing or insufficient permissions.",
            Permanent,
            Kind::Permission,
            "firestore.permission_denied",
        ),
        (
            Code::NotFound,
            "The database (default) does not exist for project p",
            Permanent,
            Kind::NotFound,
            "firestore.no_database",
        ),
        (
            Code::NotFound,
            "No document to update: projects/p/databases/d/documents/a/b",
            Permanent,
            Kind::NotFound,
            "firestore.not_found",
        ),
        (
            Code::AlreadyExists,
            "",
            Permanent,
            Kind::Exists,
            "firestore.exists",
        ),
        (
            Code::FailedPrecondition,
            "The Cloud Firestore API is not available for Firestore in Datastore Mode database x",
            Permanent,
            Kind::Unsupported,
            "firestore.datastore_mode",
        ),
        (
            Code::FailedPrecondition,
            "The requested snapshot version is too old.",
            Permanent,
            Kind::Integrity,
            "firestore.snapshot_expired",
        ),
        (
            Code::FailedPrecondition,
            "The requested 'read_time' is too old.",
            Permanent,
            Kind::Integrity,
            "firestore.snapshot_expired",
        ),
        (
            Code::InvalidArgument,
            "The requested 'read_time' cannot be before database creation time.",
            Permanent,
            Kind::InvalidData,
            "firestore.invalid_request",
        ),
        (
            Code::FailedPrecondition,
            "the stored version does not match",
            Permanent,
            Kind::Integrity,
            "firestore.precondition_failed",
        ),
        (
            Code::InvalidArgument,
            "",
            Permanent,
            Kind::InvalidData,
            "firestore.invalid_request",
        ),
        (
            Code::OutOfRange,
            "",
            Permanent,
            Kind::InvalidData,
            "firestore.out_of_range",
        ),
        (
            Code::OutOfRange,
            "Error, decoded message length too large: found 5 bytes",
            Permanent,
            Kind::InvalidData,
            "firestore.too_large",
        ),
        (
            Code::ResourceExhausted,
            "gRPC message exceeds maximum size 4194304: 4200000",
            Permanent,
            Kind::InvalidData,
            "firestore.too_large",
        ),
        (
            Code::InvalidArgument,
            "Request payload size exceeds the limit: 11534336 bytes.",
            Permanent,
            Kind::InvalidData,
            "firestore.too_large",
        ),
        (
            Code::ResourceExhausted,
            "Bandwidth exhausted",
            RateLimited,
            Kind::RateLimited,
            "firestore.rate_limited",
        ),
        (
            Code::ResourceExhausted,
            "Quota exceeded.",
            RateLimited,
            Kind::Unavailable,
            "firestore.quota_spent",
        ),
        (
            Code::ResourceExhausted,
            "Free daily quota is used up",
            Permanent,
            Kind::Unavailable,
            "firestore.quota_spent",
        ),
        (
            Code::DeadlineExceeded,
            "",
            Transient,
            Kind::Timeout,
            "firestore.timeout",
        ),
        (
            Code::Unavailable,
            "",
            Transient,
            Kind::Unavailable,
            "firestore.unavailable",
        ),
        (
            Code::Aborted,
            "",
            Contention,
            Kind::Unavailable,
            "firestore.contention",
        ),
        (
            Code::Unimplemented,
            "",
            Permanent,
            Kind::Unsupported,
            "firestore.unimplemented",
        ),
        (
            Code::DataLoss,
            "",
            Permanent,
            Kind::Integrity,
            "firestore.data_loss",
        ),
        (
            Code::Internal,
            "",
            Transient,
            Kind::Unavailable,
            "firestore.service_error",
        ),
        (
            Code::Unknown,
            "",
            Transient,
            Kind::Unavailable,
            "firestore.service_error",
        ),
        (
            Code::Cancelled,
            "",
            Transient,
            Kind::Unavailable,
            "firestore.service_error",
        ),
    ] {
        let fault = Fault::from(Status::new(code, text));
        assert_eq!(fault.class, class, "{code:?} {text}");
        let error = Error::from(fault);
        assert_eq!((error.kind, error.code.as_str()), (kind, name), "{code:?} {text}");
        assert_eq!(
            error.scope == ErrorScope::Session,
            class == Permanent,
            "{code:?} {text}"
        );
        assert_eq!(error.pauses, name == "firestore.quota_spent", "{code:?} {text}");
    }
}

#[test]
fn the_time_to_wait_is_read_from_the_details() {
    let exhausted = |info: &rpc::RetryInfo| {
        Fault::from(detailed(
            Code::ResourceExhausted,
            "Quota exceeded.",
            "RetryInfo",
            info,
        ))
    };
    let fault = exhausted(&retry_info(7, 500_000_000));
    assert_eq!(fault.retry_after, Some(Duration::from_millis(7_500)));
    let error = Error::from(fault);
    // Who says how long to wait does not mean the day.
    assert_eq!(
        (error.retry_after_ms, error.code.as_str()),
        (Some(7_500), "firestore.rate_limited")
    );

    assert_eq!(exhausted(&retry_info(-1, 0)).retry_after, None);
    assert_eq!(
        exhausted(&retry_info(i64::MAX, 0)).retry_after,
        Some(RETRY_AFTER_MAX)
    );
    let torn = Status::with_details(Code::ResourceExhausted, "", vec![0xff; 9].into());
    assert_eq!(Fault::from(torn).retry_after, None);
}

#[test]
fn a_quota_of_the_day_is_not_tried_again() {
    for metadata in [
        ("quota_unit", "1/d/{project}"),
        ("quota_limit", "FreeReadsPerDayPerProject"),
    ] {
        let status = detailed(
            Code::ResourceExhausted,
            "Quota exceeded",
            "ErrorInfo",
            &error_info("RATE_LIMIT_EXCEEDED", &[metadata]),
        );
        let fault = Fault::from(status);
        assert_eq!(fault.class, Class::Permanent, "{metadata:?}");
        assert!(Error::from(fault).pauses);
    }
    let minute = error_info("RATE_LIMIT_EXCEEDED", &[("quota_unit", "1/min/{project}")]);
    let fault = Fault::from(detailed(
        Code::ResourceExhausted,
        "Slow down",
        "ErrorInfo",
        &minute,
    ));
    assert_eq!(fault.class, Class::RateLimited);
}

#[test]
fn a_disabled_service_and_a_missing_index_say_what_to_do() {
    let disabled = detailed(
        Code::PermissionDenied,
        "Cloud Firestore API has not been used",
        "ErrorInfo",
        &error_info("SERVICE_DISABLED", &[]),
    );
    assert_eq!(error_of(disabled).code, "firestore.service_disabled");

    let missing = error_of(Status::failed_precondition(
        "The query requires an index. You can create it here: https://console.firebase.google.com/v1/r/x?create=abc",
    ));
    assert_eq!(missing.code, "firestore.index_missing");
    assert!(
        missing
            .help
            .unwrap()
            .ends_with("https://console.firebase.google.com/v1/r/x?create=abc")
    );
}

#[test]
fn what_may_quote_a_value_is_kept_without_it() {
    let text = "The value of property \"secret 1\" isn't valid: 'secret 2' (`secret 3`), \"secret 4";
    for code in [
        Code::InvalidArgument,
        Code::OutOfRange,
        Code::Internal,
        Code::Unknown,
    ] {
        let error = error_of(Status::new(code, text));
        assert_eq!(
            error.causes,
            [format!(
                "{code:?}: The value of property \"..\" isn't valid: '..' (`..`), \".."
            )]
        );
    }
    let long = error_of(Status::unavailable("ä".repeat(CAUSE_CHARS_MAX * 2)));
    assert_eq!(long.causes[0].chars().count(), CAUSE_CHARS_MAX);
}

#[test]
fn a_fault_of_the_credentials_is_not_one_of_the_service() {
    for (is_transient, class, kind) in [
        (true, Class::Transient, ErrorKind::Unavailable),
        (false, Class::Permanent, ErrorKind::Unauthenticated),
    ] {
        let cause = CredentialsError::from_msg(is_transient, "the token endpoint says no");
        let fault = Fault::from(Status::from_error(Box::new(cause)));
        assert_eq!(fault.class, class);
        let error = Error::from(fault);
        assert_eq!((error.kind, error.code.as_str()), (kind, "firestore.no_token"));
    }
}

#[test]
fn a_lost_snapshot_is_what_the_service_says_of_a_read_time_and_nothing_else_is() {
    for text in [
        "The requested 'read_time' is too old.",
        "The requested 'read_time' is not a whole minute.",
        "The requested snapshot version is too old.",
    ] {
        assert!(
            Fault::from(Status::failed_precondition(text)).is_snapshot_lost(),
            "{text}"
        );
        assert!(
            !Fault::from(Status::invalid_argument(text)).is_snapshot_lost(),
            "{text}"
        );
    }
    for other in [
        Status::failed_precondition(
            "The query requires an index. You can create it here: https://console.example/too old",
        ),
        Status::failed_precondition("the client is too old for this database"),
        Status::failed_precondition("the stored version of `too old` does not match"),
        Status::invalid_argument("The requested 'read_time' cannot be before database creation time."),
        Status::invalid_argument("The requested 'read_time' cannot be in the future."),
        Status::invalid_argument("the token is too old"),
        Status::out_of_range("read_time is too old"),
    ] {
        assert!(!Fault::from(other.clone()).is_snapshot_lost(), "{other}");
    }
}
