//! Made-up certificates, for the tests of everything that makes, checks and shows them.
//! Their sums add up, so that whatever a test changes is what is found.

use chrono::{DateTime, Utc};
use whimbrel_plugin_api::capability::{Loss, TimeUnit};
use whimbrel_plugin_api::manifest::Role;

use super::body::Body;
use super::check::{Checked, Demands, check};
use super::file::CertificateFile;
use super::key::{KeyPair, SigningKey, TrustedKey};
use super::make::{Facts, GoesOn, Library, body};
use crate::config::VerificationLevel;
use crate::events::{
    CollectionDigests, LossCount, PartitionDigest, PlaceDigest, ReferenceResult, ReferenceState, RuleMoment,
    RuleResult, RuleState, VerificationResult,
};
use crate::report::{TaskReport, fixtures};

pub const JOB_SHA256: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

pub fn libraries() -> Vec<Library> {
    [(Role::Source, "heron", "1"), (Role::Sink, "curlew", "2")]
        .map(|(role, name, digit)| Library {
            role,
            name: name.to_owned(),
            sha256: digit.repeat(64),
        })
        .to_vec()
}

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn facts<'a>(libraries: &'a [Library], key: Option<&'a SigningKey>) -> Facts<'a> {
    Facts {
        run_id: "20261121T080000Z-k3",
        is_sample: false,
        begun_at: moment("2026-11-21T08:00:00Z"),
        goes_on: None,
        verified_at: moment("2026-11-21T08:00:05.250Z"),
        job_sha256: JOB_SHA256,
        libraries,
        key,
    }
}

/// The digest of `records` made-up records that were read in two parts.
pub fn place(records: u64, salt: u128) -> PlaceDigest {
    let part = |number: u128, records: u64| {
        let sum = (salt + number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);
        (sum, sum.rotate_left(64), records)
    };
    let parts = [part(1, records / 2), part(2, records - records / 2)];
    PlaceDigest {
        record_count: records,
        sum: format!("{:032x}", parts[0].0.wrapping_add(parts[1].0)),
        xor: format!("{:032x}", parts[0].1 ^ parts[1].1),
        root: blake3::hash(&salt.to_be_bytes()).to_hex().to_string(),
        partitions: (0..)
            .zip(parts)
            .map(|(number, (sum, xor, record_count)): (usize, _)| PartitionDigest {
                // As readers name them that divide by key.
                partition: format!("email from anna{number}@x"),
                record_count,
                sum: format!("{sum:032x}"),
                xor: format!("{xor:032x}"),
            })
            .collect(),
    }
}

fn compared(name: &str, records: u64, salt: u128) -> VerificationResult {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    VerificationResult {
        source_count: records,
        sink_count: records,
        compared_count: records,
        every_record: true,
        digests: Some(CollectionDigests {
            fields: texts(&["id", "price", "at"]),
            key: texts(&["id"]),
            extracted: Some(place(records, salt + 1_000)),
            transformed: Some(place(records, salt)),
            snapshots: crate::events::SnapshotsRead::default(),
            read_back: Some(place(records, salt)),
        }),
        ..VerificationResult::begun(name, &name.to_lowercase(), VerificationLevel::Comprehensive)
    }
}

/// A run that was compared record by record, with a declared loss, rejected records, a rule and a reference.
pub fn report() -> TaskReport {
    let mut report = fixtures::done();
    let summary = &mut report.summary;
    summary.collections[1].rejected_count = 2;
    let mut orders = compared("Orders", 12_000, 7);
    orders.equal_after_loss_count = 40;
    orders.losses = vec![
        LossCount {
            field: "at".to_owned(),
            loss: Loss::TruncateTimestamp {
                unit: TimeUnit::Milliseconds,
            },
            record_count: 3,
        },
        LossCount {
            field: "price".to_owned(),
            loss: Loss::FloatFromDecimal,
            record_count: 40,
        },
    ];
    let mut users = compared("users", 338, 8);
    users.left_out_count = 2;
    users.source_count = 340;
    summary.verification = vec![orders, users];
    summary.rejected_count = 2;
    summary.rejected = fixtures::failed().summary.rejected;
    summary.rules = vec![RuleResult {
        name: "no debts".to_owned(),
        moment: RuleMoment::After,
        state: RuleState::Held,
        ..RuleResult::default()
    }];
    summary.sink_references = vec![ReferenceResult {
        collection: "Orders".to_owned(),
        fields: vec!["user".to_owned()],
        parent: "users".to_owned(),
        state: ReferenceState::Searched,
        orphan_count: 1,
        ..ReferenceResult::default()
    }];
    report
}

/// What is certified of it.
pub fn certified() -> Body {
    body(&report(), &facts(&libraries(), None)).unwrap()
}

/// What is certified of it if it has gone on with a comparison of the day before.
pub fn gone_on() -> Body {
    let earlier = GoesOn {
        begun_at: moment("2026-11-20T09:00:00Z"),
        read_until: moment("2026-11-20T09:10:00.500Z"),
        gone_on_at: moment("2026-11-21T08:00:00.100Z"),
    };
    let libraries = libraries();
    let facts = Facts {
        goes_on: Some(&earlier),
        ..facts(&libraries, None)
    };
    body(&report(), &facts).unwrap()
}

/// A key, and the public one that belongs to it.
pub fn key() -> (SigningKey, TrustedKey) {
    let pair = KeyPair::generate(None).unwrap();
    (
        SigningKey::read(&pair.secret, None, "signing.key").unwrap(),
        TrustedKey::read(&pair.public).unwrap(),
    )
}

/// A certificate of which every name is hostile.
pub fn hostile() -> CertificateFile {
    let mut body = certified();
    let template = body.collections[0].clone();
    let names = fixtures::HOSTILE.map(str::to_owned);
    body.job.name = names[0].clone();
    body.run.id = names[1].clone();
    body.collections = names
        .iter()
        .map(|name| {
            let mut collection = template.clone();
            collection.source = name.clone();
            collection.sink = name.clone();
            collection.key = vec![name.clone()];
            collection.rejected_count = 1;
            collection.rejected_codes = vec![name.clone()];
            collection.losses[0].field = name.clone();
            collection.losses[0].loss = name.clone();
            collection
        })
        .collect();
    for plugin in &mut body.plugins {
        plugin.name = names[0].clone();
        plugin.version = names[2].clone();
    }
    body.rules[0].name = names[0].clone();
    body.rules[0].state = names[2].clone();
    body.references[0].parent = names[5].clone();
    CertificateFile::unsigned(body)
}

/// The checks that everybody makes.
pub fn plainly(file: &CertificateFile) -> Checked {
    check(file, &Demands::default())
}
