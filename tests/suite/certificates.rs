//! Certificates as their users have them: made by a run and by `verify`, signed, tampered with, held against the sink again.
//!
//! `host/docs/certificate.md` is the specification; checksum and root are made here by another implementation of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Answer, Stage, repository};

/// Something of the job's config and of its records that must be in no certificate.
const PLANTED: &str = "planted-value-7c1f";
const FILE: &str = "migration-certificate.json";
/// Made once by the program that first had certificates, and the public key of the one that is signed.
const STORED: &str = "tests/fixtures/certificates/format-1.json";
const STORED_SIGNED: &str = "tests/fixtures/certificates/format-1-signed.json";
const STORED_KEY: &str = "tests/fixtures/certificates/format-1.pub";

/// Two folders of records, and a job that copies them into a database and compares every record.
fn stage(certificate: Option<&str>) -> Stage {
    stage_of(500, certificate)
}

/// As [`stage`], with so many records in the first folder.
fn stage_of(records: usize, certificate: Option<&str>) -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path(PLANTED)).unwrap();
    let line =
        |id: usize| format!("{{\"id\":{id},\"text\":\"{PLANTED} {id}\",\"number\":{id},\"empty\":null}}\n");
    stage.write(
        &format!("{PLANTED}/a.ndjson"),
        (0..records).map(line).collect::<String>(),
    );
    stage.write(
        &format!("{PLANTED}/b.ndjson"),
        (0..20).map(line).collect::<String>(),
    );
    write_job(&stage, certificate, "comprehensive");
    stage
}

fn write_job(stage: &Stage, certificate: Option<&str>, level: &str) {
    let mut job = json!({
        "name": "certified",
        "source": { "plugin": "files", "config": { "path": PLANTED } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "a", "key": ["id"] }, { "source": "b", "sink": "B", "key": ["id"] }],
        "verification": level,
    });
    if let Some(key) = certificate {
        job["certificate"] = json!({ "sign_with": key });
    }
    stage.write("job.yaml", job.to_string());
}

fn make_key(stage: &Stage, name: &str) {
    stage
        .run(&["certificate", "key", "--out", name, "--unencrypted"])
        .expect(0);
}

/// The certificate of the newest run.
fn newest(stage: &Stage) -> PathBuf {
    stage.path(".whimbrel/latest").join(FILE)
}

fn certificate(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["certificate"], arguments, &["--json"]].concat())
}

fn verify(stage: &Stage, file: &Path, arguments: &[&str]) -> Answer {
    let file = file.display().to_string();
    certificate(stage, &[&["verify", file.as_str()], arguments].concat())
}

fn stored(file: &str) -> PathBuf {
    repository().join(file)
}

#[test]
fn a_run_that_compared_every_record_has_a_signed_certificate() {
    let stage = stage(Some("signing.key"));
    make_key(&stage, "signing.key");
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["certificate"], json!({ "file": FILE, "is_signed": true }));
    let path = newest(&stage);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(PLANTED), "{text}");
    let file: Value = serde_json::from_str(&text).unwrap();
    let body = &file["certificate"];
    assert_eq!(body["verdict"], "equal");
    assert_eq!(body["collections"][1]["sink"], "B");
    assert_eq!(
        body["collections"][0]["digests"]["read_back"]["record_count"],
        500
    );
    assert_eq!(
        body["collections"][0]["digests"]["transformed"]["root"],
        body["collections"][0]["digests"]["read_back"]["root"]
    );
    assert_eq!(body["plugins"].as_array().unwrap().len(), 2);
    assert_eq!(body["job"]["sha256"], sha256(&stage.path("job.yaml")));
    let checked = verify(
        &stage,
        &path,
        &["--public-key", "signing.key.pub", "--require-signature"],
    );
    let checked = checked.expect(0).json();
    assert_eq!(
        (&checked["outcome"], &checked["integrity_only"]),
        (&json!("holds"), &json!(false))
    );
    another_implementation_agrees(&path);
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// Checksum and root by the words of the specification.
fn another_implementation_agrees(path: &Path) {
    let script = "import json,sys; b=json.load(open(sys.argv[1]))['certificate']; \
                  sys.stdout.write(json.dumps(b,sort_keys=True,separators=(',',':'),ensure_ascii=False))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .expect("python3 starts");
    assert!(output.status.success());
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let checksum = blake3::hash(&output.stdout).to_hex().to_string();
    assert_eq!(file["checksum"], checksum);
    let mut octets = b"whimbrel migration certificate, root, format 1\n".to_vec();
    let collections = file["certificate"]["collections"].as_array().unwrap();
    number(&mut octets, collections.len() as u64);
    for collection in collections {
        text(&mut octets, &collection["source"]);
        text(&mut octets, &collection["sink"]);
        for list in ["fields", "key"] {
            let list = collection[list].as_array().unwrap();
            number(&mut octets, list.len() as u64);
            list.iter().for_each(|item| text(&mut octets, item));
        }
        for place in ["extracted", "transformed", "read_back"] {
            let place = &collection["digests"][place];
            octets.push(u8::from(!place.is_null()));
            if !place.is_null() {
                number(&mut octets, place["record_count"].as_u64().unwrap());
                for digits in ["sum", "xor", "root"] {
                    let digits = place[digits].as_str().unwrap();
                    let pairs = (0..digits.len()).step_by(2);
                    octets.extend(pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()));
                }
            }
        }
    }
    let root = blake3::hash(&octets).to_hex().to_string();
    assert_eq!(file["certificate"]["root"], root);
}

fn number(octets: &mut Vec<u8>, number: u64) {
    octets.extend(number.to_be_bytes());
}

fn text(octets: &mut Vec<u8>, text: &Value) {
    let text = text.as_str().unwrap();
    number(octets, text.len() as u64);
    octets.extend(text.as_bytes());
}

#[test]
fn another_implementation_agrees_with_the_stored_certificates() {
    another_implementation_agrees(&stored(STORED));
    another_implementation_agrees(&stored(STORED_SIGNED));
}

#[test]
fn the_sink_is_held_against_the_certificate() {
    let stage = stage(None);
    stage.run(&["run", "job.yaml"]).expect(0);
    let path = newest(&stage);
    let against = |code: i32| {
        verify(&stage, &path, &["--against", "job.yaml"])
            .expect(code)
            .json()
    };
    let equal = against(0);
    assert_eq!(equal["sink"][1]["record_count"], 20, "{equal}");
    assert_eq!(equal["integrity_only"], true);
    // The source may go on: only the sink is certified.
    let other = "{\"id\":1,\"text\":\"x\",\"number\":1,\"empty\":null}\n";
    stage.write(&format!("{PLANTED}/b.ndjson"), other);
    against(0);
    sql(
        &stage.path("app.db"),
        "UPDATE a SET text = text || ' ' WHERE id = 250",
    );
    let changed = against(4);
    assert_eq!(changed["sink"][0]["state"], "failed", "{changed}");
    assert_eq!(changed["sink"][1]["state"], "held", "{changed}");
    // By itself it still holds: it says what was.
    verify(&stage, &path, &[]).expect(0);
    let left: Vec<_> = std::fs::read_dir(stage.path(".whimbrel/verifications"))
        .map(|entries| entries.flatten().collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_file(stage.path("app.db")).unwrap();
    let gone = against(4);
    for (collection, name) in gone["sink"].as_array().unwrap().iter().zip(["a", "B"]) {
        let message = format!("the sink has no collection `{name}`");
        assert_eq!(
            (&collection["state"], &collection["message"]),
            (&json!("failed"), &json!(message))
        );
    }
}

#[test]
fn whatever_becomes_of_the_records_of_the_sink_shows() {
    let stage = stage(None);
    stage.run(&["run", "job.yaml"]).expect(0);
    let path = newest(&stage);
    let removed = format!("INSERT INTO a (id, text, number) VALUES (250, '{PLANTED} 250', 250)");
    for (statement, count, message, back) in [
        (
            "INSERT INTO a (id, text, number) VALUES (999, 'x', 'abc')",
            json!(501),
            "1 record cannot be read as what the certificate is of",
            "DELETE FROM a WHERE id = 999",
        ),
        (
            "INSERT INTO a (id, text, number) VALUES (999, 'x', 7)",
            json!(501),
            "its records are not those of the certificate",
            "DELETE FROM a WHERE id = 999",
        ),
        (
            "UPDATE a SET number = 'abc' WHERE id = 250",
            json!(500),
            "1 record cannot be read as what the certificate is of",
            "UPDATE a SET number = 250 WHERE id = 250",
        ),
        (
            "DELETE FROM a WHERE id = 250",
            json!(499),
            "its records are not those of the certificate",
            removed.as_str(),
        ),
        // None of its values is one.
        (
            "ALTER TABLE a DROP COLUMN empty",
            Value::Null,
            "the sink lacks fields: `empty`",
            "ALTER TABLE a ADD COLUMN empty TEXT",
        ),
    ] {
        sql(&stage.path("app.db"), statement);
        let against = |code| {
            verify(&stage, &path, &["--against", "job.yaml"])
                .expect(code)
                .json()
        };
        let answer = against(4);
        let found = &answer["sink"][0];
        assert_eq!(
            (&found["record_count"], &found["message"]),
            (&count, &json!(message)),
            "{statement}: {answer}"
        );
        sql(&stage.path("app.db"), back);
        against(0);
    }
}

/// Ends a comparison of the job that has noted how far it is.
fn killed_in_the_middle(stage: &Stage, arguments: &[&str]) {
    let variables = [
        ("WHIMBREL_CRASH_AT", "verification_marked"),
        ("WHIMBREL_CRASH_ALL", "1"),
    ];
    let killed = stage.run_with(arguments, &variables);
    assert_eq!(killed.code, -1, "{}\n{}", killed.out, killed.err);
}

/// The first 19 characters of a moment: its date, and its time of day in whole seconds.
fn seconds(moment: &Value) -> String {
    moment.as_str().expect("a moment")[..19].to_owned()
}

#[test]
fn a_certificate_says_when_what_it_is_of_was_read() {
    let stage = stage_of(30_000, None);
    for (killed, goes_on, begun) in [
        (
            ["run", "job.yaml", "--json"],
            ["resume", "--job", "job.yaml"],
            "run.json",
        ),
        (
            ["verify", "job.yaml", "--json"],
            ["verify", "job.yaml", "--json"],
            "verify.json",
        ),
    ] {
        killed_in_the_middle(&stage, &killed);
        let begun = stage.path(&format!(".whimbrel/verification/certified/{begun}"));
        let begun: Value = serde_json::from_slice(&std::fs::read(begun).unwrap()).unwrap();
        stage.run(&goes_on).expect(0);
        let path = match killed[0] {
            "run" => newest(&stage),
            _ => stage.verifications().pop().unwrap().join(FILE),
        };
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let run = &file["certificate"]["run"];
        assert_eq!(seconds(&run["begun_at"]), seconds(&begun["begun_at"]), "{run}");
        let earlier = &run["gone_on_with"];
        let moments = [
            &run["begun_at"],
            &earlier["read_until"],
            &earlier["gone_on_at"],
            &run["verified_at"],
        ];
        let moments = moments.map(|moment| moment.as_str().expect("a moment"));
        assert!(moments.is_sorted() && moments[0] < moments[2], "{run}");
        let shown = stage
            .run(&["certificate", "show", &path.display().to_string()])
            .expect(0);
        assert!(
            shown.out.contains("gone on with after an interruption"),
            "{}",
            shown.out
        );
        another_implementation_agrees(&path);
        verify(&stage, &path, &[]).expect(0);
    }
    // One that reads everything itself has nothing to say.
    killed_in_the_middle(&stage, &["verify", "job.yaml"]);
    stage.run(&["verify", "job.yaml", "--anew"]).expect(0);
    let path = stage.verifications().pop().unwrap().join(FILE);
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(file["certificate"]["run"]["gone_on_with"], Value::Null);
}

#[test]
fn the_password_of_the_key_is_for_nobody_else() {
    const PASSWORD: &str = "correct-horse-51c2";
    let stage = stage(None);
    stage.write("password", format!("{PASSWORD}\n"));
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(stage.path("password"), owner).unwrap();
    stage
        .run(&[
            "certificate",
            "key",
            "--out",
            "signing.key",
            "--password-from",
            "password",
        ])
        .expect(0);
    let hook = "printenv WHIMBREL_CERTIFICATE_PASSWORD || echo unset; cat password";
    let mut job: Value =
        serde_json::from_str(&std::fs::read_to_string(stage.path("job.yaml")).unwrap()).unwrap();
    job["hooks"] = json!({ "before": [{ "command": { "run": ["sh", "-ec", hook] } }] });
    let arguments = [
        "run",
        "job.yaml",
        "--events",
        "json",
        "--on-conflict",
        "overwrite",
    ];
    for (certificate, variables) in [
        (
            json!({ "sign_with": "signing.key", "password_from": "password" }),
            &[][..],
        ),
        (
            json!({ "sign_with": "signing.key" }),
            &[("WHIMBREL_CERTIFICATE_PASSWORD", PASSWORD)][..],
        ),
    ] {
        job["certificate"] = certificate;
        stage.write("job.yaml", job.to_string());
        let answer = stage.run_with(&arguments, variables).expect(0);
        assert!(!answer.out.contains(PASSWORD), "{}", answer.out);
        let events: Vec<Value> = answer
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let hook = events
            .iter()
            .find(|event| event["event"] == "hook_ended")
            .unwrap();
        assert_eq!(hook["message"], "unset\n***", "{hook}");
        verify(
            &stage,
            &newest(&stage),
            &["--public-key", "signing.key.pub", "--require-signature"],
        )
        .expect(0);
    }
    job["certificate"] = json!({ "sign_with": "signing.key", "password_from": "no-such-file" });
    stage.write("job.yaml", job.to_string());
    let refused = stage.run(&["check", "job.yaml", "--json"]).expect(2);
    assert_eq!(refused.error()["code"], "config.secret_file_missing");
}

#[test]
fn a_verification_writes_one_too() {
    let stage = stage(None);
    write_job(&stage, None, "basic");
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["certificate"], Value::Null);
    assert!(!newest(&stage).exists());
    let args = [
        "verify",
        "job.yaml",
        "--verification-level",
        "comprehensive",
        "--json",
    ];
    let report = stage.run(&args).expect(0).json();
    assert_eq!(report["certificate"]["file"], FILE, "{report}");
    let folders = std::fs::read_dir(stage.path(".whimbrel/verifications")).unwrap();
    let found: Vec<PathBuf> = folders.flatten().map(|entry| entry.path().join(FILE)).collect();
    assert_eq!(found.len(), 1);
    verify(&stage, &found[0], &[]).expect(0);
    // Both sides differ: that is certified as well, and does not hold.
    sql(&stage.path("app.db"), "DELETE FROM a WHERE id = 250");
    std::fs::remove_dir_all(stage.path(".whimbrel/verifications")).unwrap();
    stage.run(&args).expect(4);
    let folders = std::fs::read_dir(stage.path(".whimbrel/verifications")).unwrap();
    let found: Vec<PathBuf> = folders.flatten().map(|entry| entry.path().join(FILE)).collect();
    let answer = verify(&stage, &found[0], &[]).expect(4).json();
    assert_eq!(
        answer["checks"][4]["message"], "it says: the sides differ",
        "{answer}"
    );
}

#[test]
fn less_than_all_records_certifies_nothing_and_says_so() {
    let stage = stage(None);
    make_key(&stage, "signing.key");
    write_job(&stage, Some("signing.key"), "standard");
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["certificate"]["file"], Value::Null);
    let reason = report["certificate"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("`a`") && reason.contains("comprehensive"),
        "{reason}"
    );
    assert!(!newest(&stage).exists());
}

#[test]
fn a_key_that_cannot_sign_stops_a_run_before_it_begins() {
    let stage = stage(Some("signing.key"));
    let refused = |code: &str| {
        for command in ["run", "check", "plan", "verify"] {
            let answer = stage.run(&[command, "job.yaml", "--json"]).expect(2);
            assert_eq!(answer.error()["code"], code, "{command}");
            assert!(
                answer.error()["place"].as_str().unwrap().starts_with("job.yaml:"),
                "{}",
                answer.out
            );
        }
        assert!(!stage.path("app.db").exists());
    };
    refused("config.secret_file_missing");
    make_key(&stage, "signing.key");
    let rights = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(stage.path("signing.key"), permissions).unwrap();
    };
    rights(0o640);
    refused("config.secret_file_open");
    std::fs::remove_file(stage.path("signing.key")).unwrap();
    std::fs::copy(stage.path("signing.key.pub"), stage.path("signing.key")).unwrap();
    rights(0o600);
    refused("certificate.key_bad");
    std::fs::remove_file(stage.path("signing.key")).unwrap();
    std::fs::remove_file(stage.path("signing.key.pub")).unwrap();
    let password = [("WHIMBREL_CERTIFICATE_PASSWORD", "correct horse")];
    let make = ["certificate", "key", "--out", "signing.key"];
    stage.run_with(&make, &password).expect(0);
    refused("certificate.key_locked");
    stage.run_with(&["check", "job.yaml"], &password).expect(0);
    let wrong = [("WHIMBREL_CERTIFICATE_PASSWORD", "wrong horse")];
    let answer = stage.run_with(&["check", "job.yaml", "--json"], &wrong).expect(2);
    assert_eq!(answer.error()["code"], "certificate.key_password");
    assert!(!answer.out.contains("wrong horse"));
}

#[test]
fn keys_are_for_their_owner_and_never_replaced() {
    let stage = Stage::new();
    let bare = certificate(&stage, &["key", "--out", "k"]).expect(2);
    assert_eq!(bare.error()["code"], "certificate.password_missing");
    assert!(!stage.path("k").exists());
    let made = certificate(&stage, &["key", "--out", "k", "--unencrypted"])
        .expect(0)
        .json();
    assert_eq!(made["public_key_file"], "k.pub");
    let mode = std::fs::metadata(stage.path("k")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = certificate(&stage, &["key", "--out", "k", "--unencrypted"]).expect(2);
    assert_eq!(again.error()["code"], "certificate.key_exists");
}

#[test]
fn who_is_believed_is_for_the_reader_to_say() {
    let stage = Stage::new();
    make_key(&stage, "other");
    let (plain, signed) = (stored(STORED), stored(STORED_SIGNED));
    let key = stored(STORED_KEY).display().to_string();
    let code = |file: &Path, arguments: &[&str]| verify(&stage, file, arguments).code;
    assert_eq!(code(&plain, &[]), 0);
    assert_eq!(code(&plain, &["--require-signature"]), 4);
    assert_eq!(
        code(&plain, &["--public-key", &key]),
        4,
        "a signature that was taken away"
    );
    assert_eq!(code(&signed, &["--public-key", &key, "--require-signature"]), 0);
    assert_eq!(code(&signed, &[]), 0);
    assert_eq!(
        code(&signed, &["--require-signature"]),
        5,
        "a key that came with it"
    );
    assert_eq!(code(&signed, &["--public-key", "other.pub"]), 4);
    assert_eq!(code(&signed, &["--public-key", "no-such.pub"]), 2);
    assert_eq!(code(&stage.path("no-such.json"), &[]), 2);
    let text = std::fs::read_to_string(&key).unwrap();
    let alone = text.lines().nth(1).unwrap();
    assert_eq!(code(&signed, &["--public-key", alone]), 0);
    let said = stage
        .run(&["certificate", "verify", &plain.display().to_string()])
        .expect(0);
    assert!(said.out.contains("integrity only"), "{}", said.out);
}

#[test]
fn a_tampered_certificate_is_refused() {
    let stage = Stage::new();
    let key = stored(STORED_KEY).display().to_string();
    let text = std::fs::read_to_string(stored(STORED_SIGNED)).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let roots: Vec<&str> = ["extracted", "read_back"]
        .map(|place| {
            file["certificate"]["collections"][0]["digests"][place]["root"]
                .as_str()
                .unwrap()
        })
        .to_vec();
    let swapped = text
        .replace(roots[0], "#")
        .replace(roots[1], roots[0])
        .replace('#', roots[1]);
    let rules = text.find("    \"rules\"").unwrap();
    let references = text.find("    \"references\"").unwrap();
    let without_rules = format!("{}    \"rules\": [],\n{}", &text[..rules], &text[references..]);
    let signature = text.find(",\n  \"signature\"").unwrap();
    let without_signature = format!("{}\n}}\n", &text[..signature]);
    for (what, tampered) in [
        ("a changed octet", text.replacen("12000", "12001", 1)),
        ("another blank", text.replacen("  \"", "   \"", 1)),
        ("swapped digests", swapped),
        ("no rules", without_rules),
        ("no signature", without_signature.clone()),
    ] {
        assert_ne!(tampered, text, "{what}");
        let path = stage.write(FILE, tampered);
        let answer = verify(&stage, &path, &["--public-key", &key]);
        assert_eq!(answer.code, 4, "{what}: {}", answer.out);
    }
    // Without the signature it is one more unsigned certificate, and is called so.
    let path = stage.write(FILE, without_signature);
    assert_eq!(
        verify(&stage, &path, &[]).expect(0).json()["integrity_only"],
        true
    );
    let newer = stage.write(FILE, text.replacen("\"format\": 1", "\"format\": 4", 1));
    let answer = verify(&stage, &newer, &[]).expect(5);
    assert_eq!(answer.error()["code"], "certificate.newer_format");
    let other = stage.write(FILE, "{\"certificate\": 1}");
    let answer = verify(&stage, &other, &[]).expect(2);
    assert_eq!(answer.error()["code"], "certificate.not_one");
}

#[test]
fn it_is_shown_as_text_page_and_markdown() {
    let stage = Stage::new();
    let file = stored(STORED).display().to_string();
    let answer = stage
        .run(&[
            "certificate",
            "show",
            &file,
            "--html",
            "c.html",
            "--markdown",
            "c.md",
        ])
        .expect(0);
    assert!(
        answer
            .out
            .starts_with("certificate of shop: both sides are equal\n"),
        "{}",
        answer.out
    );
    let page = std::fs::read_to_string(stage.path("c.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("integrity only"));
    let text = std::fs::read_to_string(stage.path("c.md")).unwrap();
    assert!(text.starts_with("# Certificate of shop: both sides are equal\n"));
    let json = certificate(&stage, &["show", &file]).expect(0).json();
    assert_eq!(json["certificate"]["job"]["name"], "shop");
}

#[test]
fn showing_one_ends_as_its_checks_do() {
    let stage = Stage::new();
    make_key(&stage, "other");
    let show = |file: &Path, arguments: &[&str], code: i32| {
        let file = file.display().to_string();
        let answer = certificate(&stage, &[&["show", file.as_str()], arguments].concat()).expect(code);
        // It is shown all the same.
        assert_eq!(answer.json()["certificate"]["job"]["name"], "shop");
    };
    let (plain, signed) = (stored(STORED), stored(STORED_SIGNED));
    show(&plain, &["--require-signature"], 4);
    show(&plain, &["--public-key", "other.pub"], 4);
    show(&signed, &["--public-key", "other.pub"], 4);
    show(&signed, &["--require-signature"], 5);
    let key = stored(STORED_KEY).display().to_string();
    show(&signed, &["--require-signature", "--public-key", &key], 0);
    let text = std::fs::read_to_string(&plain).unwrap();
    let damaged = stage.write(FILE, text.replacen("12000", "12001", 1));
    show(&damaged, &[], 4);
}
