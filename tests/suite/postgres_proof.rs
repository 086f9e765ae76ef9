//! The proof between PostgreSQL and PostgreSQL: a signed certificate that is held against the sink until it is damaged, and again
//! when it was repaired; and a comparison that was killed reads only what it had not read before, as the servers count it.
//!
//! Neighbours: `certificates` has all that can be wrong with one, `comprehensive` what is found after a kill.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::postgres::{Database, Server, Version};
use crate::postgres_job::{Job, database, report_of};
use crate::program::{Answer, Stage};
use crate::running::wait_until;

const CERTIFICATE: &str = "migration-certificate.json";

/// Records of the table whose comparison is killed: at 700 octets each it is divided into parts of more than 10,000, and the
/// end of such a part is marked.
const RECORDS: u64 = 56_000;
/// Parts of each side.
const PARTS: u64 = 4;
/// Marks before the kill: more than one side has parts, so that some are of the source.
const MARKS: u64 = PARTS + 1;
/// Records that are looked up in the sink to see how long that takes, at most.
const LOOKED_UP_MAX: u64 = 1_000;

/// Two databases and a job from one to the other that compares every record.
struct Scene {
    stage: Stage,
    from: Database,
    into: Database,
}

impl Scene {
    fn new(version: Version, fill: &str, settings: impl FnOnce(Job) -> Job) -> Option<Self> {
        let server = Server::shared(version)?;
        let scene = Self {
            stage: Stage::new(),
            from: server.database(),
            into: server.database(),
        };
        scene.from.sql(fill);
        let job = Job::new(database(&scene.from.url()), database(&scene.into.url()))
            .set("/verification", json!("comprehensive"));
        settings(job).write(&scene.stage);
        Some(scene)
    }

    fn both(&self) -> [&Database; 2] {
        [&self.from, &self.into]
    }

    /// Waits until nobody is connected to either database, and so has told what was read.
    fn wait_until_left(&self) {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                      AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        wait_until("all sessions have ended", || {
            self.both().iter().all(|database| database.sql(others) == "0")
        });
    }

    /// How many records of each side were read by ranges of their key, since it was asked for the last time.
    fn read_counts(&self) -> [u64; 2] {
        self.wait_until_left();
        self.both().map(|database| {
            let count =
                "SELECT coalesce(sum(idx_tup_fetch), 0) FROM pg_stat_user_tables WHERE relname = 'things'";
            let count = database.sql(count).parse().unwrap();
            database.sql("SELECT pg_stat_reset()");
            count
        })
    }

    /// How many records of each side a killed comparison has marked as read.
    fn marked_counts(&self) -> [u64; 2] {
        ["source", "sink"].map(|side| {
            let folder = self
                .stage
                .path(".whimbrel/verification/postgres-test/verify/things");
            let text = std::fs::read_to_string(folder.join(side).join("progress.json")).unwrap_or_default();
            // The first line vouches for the second one.
            let Some((_, json)) = text.split_once('\n') else {
                return 0;
            };
            let progress: Value = serde_json::from_str(json).unwrap();
            let parts = progress["parts"].as_array().unwrap().iter();
            parts
                .map(|part| part["mark"]["record_count"].as_u64().unwrap())
                .sum()
        })
    }

    /// The certificate of the newest verification.
    fn newest_certificate(&self) -> PathBuf {
        let newest = self.stage.verifications().pop();
        newest.unwrap().join(CERTIFICATE)
    }

    /// Holds the sink against a certificate, which must be signed with the key.
    fn against(&self, certificate: &std::path::Path) -> Answer {
        self.stage.run(&[
            "certificate",
            "verify",
            &certificate.display().to_string(),
            "--require-signature",
            "--public-key",
            "signing.key.pub",
            "--against",
            "job.yaml",
            "--json",
        ])
    }
}

#[test]
fn a_certificate_holds_until_the_sink_is_damaged_and_again_after_its_repair() {
    let fill = "CREATE TABLE things (id bigint PRIMARY KEY, name text, price numeric(12, 2), at timestamptz, data bytea, tags text[]);
        INSERT INTO things SELECT n, 'n ' || n, n / 7.0, '2024-02-29 12:00Z'::timestamptz + n * interval '1 microsecond',
        decode(md5(n::text), 'hex'), ARRAY['a', NULL, n::text] FROM generate_series(1, 2000) n";
    let sign = |job: Job| job.set("/certificate", json!({ "sign_with": "signing.key" }));
    let Some(scene) = Scene::new(Version::V18, fill, sign) else {
        return;
    };
    let stage = &scene.stage;
    stage
        .run(&["certificate", "key", "--out", "signing.key", "--unencrypted"])
        .expect(0);
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    let signed = json!({ "file": CERTIFICATE, "is_signed": true });
    assert_eq!(report["certificate"], signed);
    let of_run = std::fs::canonicalize(stage.path(".whimbrel/latest"))
        .unwrap()
        .join(CERTIFICATE);
    let held = scene.against(&of_run).expect(0).json();
    assert_eq!(held["outcome"], "holds", "{held}");
    assert_eq!(held["sink"][0]["record_count"], 2_000, "{held}");
    scene
        .into
        .sql("UPDATE things SET price = price + 0.01 WHERE id = 1234");
    let changed = scene.against(&of_run).expect(4).json();
    assert_eq!(changed["sink"][0]["state"], "failed", "{changed}");
    let report = report_of(
        stage.run(&["verify", "job.yaml", "--repair", "--yes", "--json"]),
        0,
    );
    assert_eq!(report["repaired"][0]["copied_count"], 1, "{report}");
    assert_eq!(report["certificate"], signed);
    let healed = scene.against(&scene.newest_certificate()).expect(0).json();
    assert_eq!(healed["outcome"], "holds", "{healed}");
    // The sink is again what the first one says, to the last bit.
    scene.against(&of_run).expect(0);
}

#[test]
fn a_comparison_that_was_killed_reads_only_what_it_had_not_read() {
    let fill = format!(
        "CREATE TABLE things (id bigint PRIMARY KEY, pad text);
         INSERT INTO things SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, {RECORDS}) n; ANALYZE things"
    );
    let divide = |job: Job| {
        job.set("/limits/partitions_parallel", json!(PARTS))
            .set("/verification", json!("none"))
    };
    let Some(scene) = Scene::new(Version::V18, &fill, divide) else {
        return;
    };
    let stage = &scene.stage;
    for database in scene.both() {
        // Parts are to be read by their keys, which is counted, however the records lie; looks at the whole table are not.
        database.sql(
            "DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET random_page_cost = 1', current_database());
                EXECUTE format('ALTER DATABASE %I SET enable_indexonlyscan = off', current_database());
            END $$",
        );
    }
    report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    scene.into.sql("ANALYZE things");
    scene.read_counts();
    let arguments = [
        "verify",
        "job.yaml",
        "--json",
        "--verification-level",
        "comprehensive",
    ];
    let site = format!("verification_marked:{MARKS}");
    let variables = [("WHIMBREL_CRASH_AT", site.as_str()), ("WHIMBREL_CRASH_ALL", "1")];
    assert_eq!(stage.run_with(&arguments, &variables).code, -1, "it was killed");
    scene.read_counts();
    let [source_marked, sink_marked] = scene.marked_counts();
    assert!(
        source_marked + sink_marked > LOOKED_UP_MAX,
        "something was read for good"
    );
    let report = report_of(stage.run(&arguments), 0);
    assert_eq!(report["verification"][0]["compared_count"], RECORDS, "{report}");
    let [of_source, of_sink] = scene.read_counts();
    assert_eq!(of_source + source_marked, RECORDS, "of the source");
    let looked_up = (of_sink + sink_marked).checked_sub(RECORDS);
    let looked_up = looked_up.unwrap_or_else(|| panic!("{of_sink} and {sink_marked} of the sink"));
    assert!(looked_up <= LOOKED_UP_MAX, "{looked_up} of the sink");
}
