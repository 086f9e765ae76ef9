//! `whimbrel certificate verify FILE`: whether a certificate is whole, who vouches for it, and with `--against` whether the
//! sink is still what it says.
//!
//! The sink alone is read, by the job; the source is read as well only where the certificate has fields that its description does
//! not name. Exit codes: 0 it holds, 4 it does not, 5 that cannot be said, 2 what was given is wrong.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::super::event_output::EventOutput;
use super::super::job_flags::JobFlags;
use super::super::output::{print, print_aside, print_json};
use super::super::tasks::{Prepared, execute, prepare, report_of};
use super::super::{Exit, Global, JobArgs};
use crate::certificate::{
    AgainstSink, Body, Check, CheckState, Checked, Demands, SinkCollection, TrustedKey, against_sink, check,
    has_other_fields, read,
};
use crate::config::{LoadedJob, Mode, VerificationLevel, render};
use crate::orchestrator::{RunOptions, VerifyOptions};
use crate::report::figures::{count, printable};
use crate::report::{PlainTable, TaskReport};
use crate::state::RunId;
use crate::supervisor::TaskKind;
use crate::workspace::{Workspace, make_folder};

const TITLE: &str = "certificate verify";
/// Octets of the file of a public key; it has two lines.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Collections that are listed one by one.
const ROWS_MAX: usize = 200;

/// What `verify` takes.
#[derive(Args)]
pub struct VerifyArgs {
    /// The certificate.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Read the sink of this job again and hold it against the certificate. The source only says what it has, unless the certificate has
    /// fields that it does not name; writes to neither.
    #[arg(long, value_name = "JOB")]
    against: Option<PathBuf>,
    #[command(flatten)]
    flags: JobFlags,
}

/// Whom to believe.
#[derive(Args)]
pub struct TrustArgs {
    /// The public key that must have signed it: the key itself, or a file with it. A key that came with the certificate
    /// proves nothing.
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    /// Refuse a certificate that is not signed, or whose key nobody has said to trust.
    #[arg(long)]
    require_signature: bool,
}

impl TrustArgs {
    /// As checks take it.
    ///
    /// # Errors
    /// `certificate.public_key`.
    pub fn demands(&self) -> Result<Demands, Error> {
        Ok(Demands {
            trusted: self.public_key.as_deref().map(trusted_key).transpose()?,
            requires_signature: self.require_signature,
        })
    }
}

/// A key is tried first: no sensible file is called as one.
fn trusted_key(given: &str) -> Result<TrustedKey, Error> {
    TrustedKey::read(given).or_else(|error| {
        let mut text = String::new();
        let opened = File::open(given).and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text));
        match opened {
            Ok(_) => TrustedKey::read(&text),
            Err(cause) => Err(error.with_cause(&cause)),
        }
    })
}

#[derive(Serialize)]
struct VerifiedJson<'a> {
    command: &'a str,
    outcome: &'a str,
    exit_code: u8,
    file: &'a Path,
    job: &'a str,
    run_id: &'a str,
    root: &'a str,
    #[serde(flatten)]
    checked: &'a Checked,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a [SinkCollection]>,
}

/// Checks it.
pub fn verify(global: &Global, args: &VerifyArgs) -> Exit {
    let read = args
        .trust
        .demands()
        .and_then(|demands| Ok((read(&args.file)?, demands)));
    let (file, demands) = match read {
        Ok(read) => read,
        Err(error) => return refuse_as(global, TITLE, &error, exit_of_fault(&error)),
    };
    let mut checked = check(&file, &demands);
    let mut sink = None;
    // A sink is not read for a certificate that is worth nothing.
    if let Some(job) = args
        .against
        .as_deref()
        .filter(|_| checked.state() != CheckState::Failed)
    {
        match against(global, args, job, &file.certificate) {
            Ok(Ok(against)) => {
                checked.checks.push(against.check());
                sink = Some(against);
            }
            Ok(Err(check)) => checked.checks.push(check),
            Err(exit) => return exit,
        }
    }
    tell(global, &args.file, &file.certificate, &checked, sink.as_ref())
}

fn tell(global: &Global, path: &Path, body: &Body, checked: &Checked, sink: Option<&AgainstSink>) -> Exit {
    let (exit, outcome) = match checked.state() {
        CheckState::Held | CheckState::Open => (Exit::Done, "holds"),
        CheckState::Unchecked => (Exit::Unverified, "unchecked"),
        CheckState::Failed => (Exit::Differences, "does_not_hold"),
    };
    if global.json {
        print_json(&VerifiedJson {
            command: TITLE,
            outcome,
            exit_code: exit.number(),
            file: path,
            job: &body.job.name,
            run_id: &body.run.id,
            root: &body.root,
            checked,
            sink: sink.map(|sink| sink.collections.as_slice()),
        });
        return exit;
    }
    let mut text = crate::certificate::checks(checked);
    text.push_str(&sink.map_or_else(String::new, collections));
    let ending = match (exit, checked.integrity_only) {
        (Exit::Done, true) => "integrity only: undamaged, and nobody vouches for it",
        (Exit::Done, false) => "the certificate holds",
        (Exit::Unverified, _) => "whether the certificate holds cannot be said",
        _ => "the certificate does not hold",
    };
    text.push_str(&format!(
        "\n{}: {ending} (run {}, verified {})\n",
        printable(&body.job.name),
        printable(&body.run.id),
        printable(&body.run.verified_at)
    ));
    print(&text);
    exit
}

/// The collections of the sink that are not as certified, or all if there are few.
fn collections(sink: &AgainstSink) -> String {
    let mut table = PlainTable::new(&["COLLECTION", "CERTIFIED", "NOW", "SINK"]);
    let mut rows: Vec<&SinkCollection> = sink.collections.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.state));
    let left_out = rows.len().saturating_sub(ROWS_MAX);
    for row in rows.into_iter().take(ROWS_MAX) {
        table.row([
            printable(&row.collection),
            count(row.certified_count),
            row.record_count.map_or_else(|| "?".to_owned(), count),
            row.message.clone(),
        ]);
    }
    let more = match left_out {
        0 => String::new(),
        more => format!("and {} more\n", count(more as u64)),
    };
    format!("\n{}{more}", table.text(&[1, 2]))
}

/// Reads the sink of `job` again. A check in place of what was found if it could not be read; the exit code if the job is
/// wrong, which has been said.
fn against(
    global: &Global,
    args: &VerifyArgs,
    job: &Path,
    body: &Body,
) -> Result<Result<AgainstSink, Check>, Exit> {
    let mut report = read_again(global, args, job, body, Reach::SinkAlone)?;
    if is_read(&report) && has_other_fields(body, &report.summary) {
        // Fields that turn up among the records are known to those alone who read these.
        report = read_again(global, args, job, body, Reach::BothSides)?;
    }
    if is_read(&report) {
        return Ok(Ok(against_sink(body, &report.summary)));
    }
    let why = report.errors.first().map_or_else(
        || report.outcome.to_owned(),
        |failure| failure.error.message.clone(),
    );
    let errors: Vec<Error> = report.errors.into_iter().map(|failure| failure.error).collect();
    if !global.json {
        print_aside(&render(&errors));
    }
    let message = format!("the comparison could not be made: {why}");
    Ok(Err(Check::new("sink", CheckState::Unchecked, message)))
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    SinkAlone,
    BothSides,
}

fn read_again(
    global: &Global,
    args: &VerifyArgs,
    job: &Path,
    body: &Body,
    reach: Reach,
) -> Result<TaskReport, Exit> {
    let args = JobArgs {
        job: job.to_owned(),
        flags: args.flags.clone(),
        events: None,
        events_file: None,
    };
    let prepared = prepare(global, &args, TITLE, |loaded| {
        compare_everything(loaded);
        Ok(())
    })?;
    let refuse = |error: Error| {
        refuse_as(
            global,
            TITLE,
            &error,
            Exit::of_refusal(std::slice::from_ref(&error)),
        )
    };
    let workspace = Workspace::of_job(&prepared.loaded.path, Some(&prepared.loaded.working_dir));
    let folder = workspace
        .create_verification(RunId::new().as_str())
        .map_err(refuse)?;
    let read = read_sink(global, &args, prepared, folder.folder(), body, reach);
    // Digests and a list of differences that nobody has asked for; if they cannot go, they are in nobody's way.
    drop(std::fs::remove_dir_all(folder.folder()));
    read
}

/// Whether the sink was read to its end. There are no results before that; that records of the source changed meanwhile, or could not
/// be read, leaves a comparison unsure and says nothing of the sink.
fn is_read(report: &TaskReport) -> bool {
    match report.outcome {
        "done" | "differences" => true,
        "unverified" => !report.summary.verification.is_empty(),
        _ => false,
    }
}

/// Whatever the job says: all records of all collections, and nothing else.
fn compare_everything(loaded: &mut LoadedJob) {
    let job = &mut loaded.job;
    job.verification = VerificationLevel::Comprehensive;
    for rule in job.collections.iter_mut().flatten() {
        rule.verification = None;
    }
    job.mode = Mode::Full;
    job.rules.clear();
}

fn read_sink(
    global: &Global,
    args: &JobArgs,
    prepared: Prepared,
    folder: &Path,
    body: &Body,
    reach: Reach,
) -> Result<TaskReport, Exit> {
    let refuse = |error: Error| {
        refuse_as(
            global,
            TITLE,
            &error,
            Exit::of_refusal(std::slice::from_ref(&error)),
        )
    };
    // The worker is at home in another folder.
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let work_folder = folder.join("work");
    make_folder(&work_folder).map_err(refuse)?;
    let names = body
        .collections
        .iter()
        .map(|collection| collection.source.clone());
    let kind = TaskKind::Verify {
        job: Box::new(prepared.loaded.job.clone()),
        options: RunOptions {
            verify: VerifyOptions {
                work_folder,
                results_folder: folder,
                collections: names.collect(),
                is_of_sink_alone: reach == Reach::SinkAlone,
                ..VerifyOptions::default()
            },
            ..RunOptions::default()
        },
    };
    let events = EventOutput::create(args).map_err(refuse)?;
    let executed = execute(global, TITLE, prepared, kind, false, events, Vec::new())?;
    report_of(global, TITLE, &executed).map(|(report, _)| report)
}

#[derive(Serialize)]
struct RefusedJson<'a> {
    command: &'a str,
    outcome: &'a str,
    exit_code: u8,
    errors: [&'a Error; 1],
}

/// Says what is wrong with a certificate, or with what was given.
pub fn refuse_as(global: &Global, title: &str, error: &Error, exit: Exit) -> Exit {
    if global.json {
        print_json(&RefusedJson {
            command: title,
            outcome: match exit {
                Exit::Differences => "does_not_hold",
                Exit::Unverified => "unchecked",
                _ => "refused",
            },
            exit_code: exit.number(),
            errors: [error],
        });
    } else {
        print_aside(&render(std::slice::from_ref(error)));
    }
    exit
}

/// The exit code for a file that could not be taken as a certificate.
pub fn exit_of_fault(error: &Error) -> Exit {
    match error.kind {
        ErrorKind::Integrity => Exit::Differences,
        ErrorKind::Unsupported => Exit::Unverified,
        _ => Exit::Config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::KeyPair;
    use crate::events::VerificationResult;
    use crate::report::fixtures;

    #[test]
    fn a_public_key_is_given_as_itself_or_as_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate(None).unwrap();
        let path = folder.path().join("k.pub");
        std::fs::write(&path, &pair.public).unwrap();
        let path = path.display().to_string();
        assert_eq!(
            trusted_key(&path).unwrap(),
            trusted_key(&pair.public_key).unwrap()
        );
        let missing = trusted_key("no/such.pub").unwrap_err();
        assert_eq!(missing.code, "certificate.public_key");
        assert_eq!(missing.causes.len(), 1, "why the file cannot be read");
        std::fs::write(&path, &pair.secret).unwrap();
        let secret = trusted_key(&path).unwrap_err();
        assert!(!format!("{secret:?}").contains(&pair.secret[60..90]));
    }

    #[test]
    fn a_source_in_use_does_not_keep_a_sink_from_being_looked_at() {
        let mut report = fixtures::done();
        report.summary.verification = vec![VerificationResult::begun(
            "a",
            "b",
            VerificationLevel::Comprehensive,
        )];
        for (outcome, wanted) in [
            ("done", true),
            ("differences", true),
            ("unverified", true),
            ("failed", false),
        ] {
            report.outcome = outcome;
            assert_eq!(is_read(&report), wanted, "{outcome}");
        }
        // One of both sides could not be read.
        report.outcome = "unverified";
        report.summary.verification.clear();
        assert!(!is_read(&report));
    }

    #[test]
    fn exit_codes_tell_a_bad_certificate_from_a_bad_file() {
        let code = |kind| exit_of_fault(&Error::new(kind, "a.b", "x")).number();
        assert_eq!(code(ErrorKind::Integrity), 4);
        assert_eq!(code(ErrorKind::Unsupported), 5);
        assert_eq!(code(ErrorKind::Config), 2);
    }
}
