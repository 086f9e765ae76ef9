//! The flags that take the place of keys of a job, for every command that reads one.
//!
//! They stay texts here; `config` reads them as the schema of the job asks, and says what is wrong with them.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{KeyFlag, Overrides, Said};

/// What takes the place of keys of a job.
#[derive(Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "In place of keys of the job")]
pub struct JobFlags {
    /// Give a parameter of the job a value; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Read this settings file in place of `whimbrel.yaml` beside the job file.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Read from this environment of the settings file.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub source: Option<String>,
    /// Write to this environment of the settings file.
    #[arg(long, visible_alias = "target", value_name = "ENVIRONMENT")]
    pub sink: Option<String>,
    /// Move only collections that this pattern stands for; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave out collections that this pattern stands for; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Which records are moved: `full` or `test`.
    #[arg(long, visible_alias = "migration-mode", value_name = "MODE")]
    pub mode: Option<String>,
    /// Records per write to the sink.
    #[arg(long, value_name = "RECORDS")]
    pub batch_size: Option<String>,
    /// Memory for records on their way, MiB.
    #[arg(long, value_name = "MIB")]
    pub memory_mb: Option<String>,
    /// Rejected records that the run bears.
    #[arg(long, value_name = "RECORDS")]
    pub max_errors: Option<String>,
    /// Add records to a target that holds some already although its sink knows neither keys nor how far an earlier run came.
    #[arg(long)]
    pub allow_duplicates: bool,
    /// Go on with the other collections when one fails.
    #[arg(long)]
    pub continue_on_error: bool,
    /// What happens to a record whose key the sink already has: `skip`, `overwrite`, `merge`, `keep-newest`,
    /// `keep-oldest` or `fail`.
    #[arg(long, value_name = "POLICY")]
    pub on_conflict: Option<String>,
    /// Do not look for records that point to others that the source does not have.
    #[arg(long)]
    pub skip_orphan_check: bool,
    /// Where records wait between the phases: `memory` or `disk`.
    #[arg(long, value_name = "PLACE")]
    pub staging: Option<String>,
    /// How both sides are compared after the import: `none`, `basic`, `standard` or `comprehensive`.
    #[arg(long, value_name = "LEVEL")]
    pub verification_level: Option<String>,
    /// Do not compare both sides after the import.
    #[arg(long, conflicts_with = "verification_level")]
    pub no_auto_verification: bool,
    /// The folder in which runs keep their status, logs, reports and state.
    #[arg(long, value_name = "FOLDER")]
    pub working_dir: Option<PathBuf>,
}

impl JobFlags {
    /// These, laid over `earlier` ones: what is said here counts, what is not said stays as it was.
    #[must_use]
    pub fn over(mut self, earlier: Self) -> Self {
        let is_chosen = self.verification_level.is_some();
        let name = |setting: &String| setting.split('=').next().unwrap_or_default().to_owned();
        let given: Vec<String> = self.set.iter().map(name).collect();
        let mut set: Vec<String> = earlier.set;
        set.retain(|setting| !given.contains(&name(setting)));
        set.append(&mut self.set);
        let list = |now: Vec<String>, before: Vec<String>| if now.is_empty() { before } else { now };
        Self {
            set,
            settings: self.settings.or(earlier.settings),
            source: self.source.or(earlier.source),
            sink: self.sink.or(earlier.sink),
            include: list(self.include, earlier.include),
            exclude: list(self.exclude, earlier.exclude),
            mode: self.mode.or(earlier.mode),
            batch_size: self.batch_size.or(earlier.batch_size),
            memory_mb: self.memory_mb.or(earlier.memory_mb),
            max_errors: self.max_errors.or(earlier.max_errors),
            allow_duplicates: self.allow_duplicates || earlier.allow_duplicates,
            continue_on_error: self.continue_on_error || earlier.continue_on_error,
            on_conflict: self.on_conflict.or(earlier.on_conflict),
            skip_orphan_check: self.skip_orphan_check || earlier.skip_orphan_check,
            staging: self.staging.or(earlier.staging),
            // Of the two that contradict each other, the one that is said now.
            verification_level: match self.no_auto_verification {
                true => None,
                false => self.verification_level.or(earlier.verification_level),
            },
            no_auto_verification: self.no_auto_verification || earlier.no_auto_verification && !is_chosen,
            working_dir: self.working_dir.or(earlier.working_dir),
        }
    }

    /// What they say about a job.
    pub fn overrides(&self) -> Overrides {
        let texts = [
            ("--mode", "/mode", &self.mode),
            ("--batch-size", "/import/batch_size", &self.batch_size),
            ("--memory-mb", "/limits/memory_mb", &self.memory_mb),
            ("--max-errors", "/import/max_errors", &self.max_errors),
            ("--on-conflict", "/import/on_conflict", &self.on_conflict),
            ("--staging", "/staging", &self.staging),
            ("--verification-level", "/verification", &self.verification_level),
        ];
        let mut keys: Vec<KeyFlag> = texts
            .into_iter()
            .filter_map(|(flag, pointer, text)| {
                let says = Said::Text(text.clone()?);
                Some(KeyFlag { flag, pointer, says })
            })
            .collect();
        let mut add = |is_given: bool, flag, pointer, value: Value| {
            if is_given {
                let says = Said::Value(value);
                keys.push(KeyFlag { flag, pointer, says });
            }
        };
        add(
            !self.include.is_empty(),
            "--include",
            "/include",
            self.include.clone().into(),
        );
        add(
            !self.exclude.is_empty(),
            "--exclude",
            "/exclude",
            self.exclude.clone().into(),
        );
        add(
            self.allow_duplicates,
            "--allow-duplicates",
            "/import/allow_duplicates",
            true.into(),
        );
        add(
            self.continue_on_error,
            "--continue-on-error",
            "/import/continue_on_error",
            true.into(),
        );
        add(
            self.skip_orphan_check,
            "--skip-orphan-check",
            "/import/on_orphan",
            "skip".into(),
        );
        add(
            self.no_auto_verification,
            "--no-auto-verification",
            "/verification",
            "none".into(),
        );
        Overrides {
            settings: self.settings.clone(),
            working_dir: self.working_dir.clone(),
            parameters: self.set.clone(),
            source: self.source.clone(),
            sink: self.sink.clone(),
            keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Job, Variables, load_job};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: JobFlags,
    }

    fn job(flags: &str) -> Job {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.yaml");
        let text =
            "name: a\nsource: { plugin: p }\nsink: { plugin: p }\nimport: { max_errors: 1 }\ninclude: [x]\n";
        std::fs::write(&path, text).unwrap();
        let program = Program::parse_from(std::iter::once("x").chain(flags.split_whitespace()));
        load_job(&path, &program.flags.overrides(), &Variables::none())
            .unwrap()
            .job
    }

    #[test]
    fn every_flag_sets_its_key() {
        let with = |flags: &str| {
            let mut value = serde_json::to_value(job(flags)).unwrap();
            let plain = serde_json::to_value(job("")).unwrap();
            // What is as it was is taken away.
            let differs = |key: &String, value: &mut Value| plain.get(key) != Some(value);
            if let Value::Object(members) = &mut value {
                let differing = std::mem::take(members);
                *members = differing
                    .into_iter()
                    .filter_map(|(key, mut value)| differs(&key, &mut value).then_some((key, value)))
                    .collect();
            }
            value
        };
        for (flags, pointer, wanted) in [
            ("--mode test", "/mode", Value::from("test")),
            ("--migration-mode test", "/mode", "test".into()),
            ("--batch-size 7", "/import/batch_size", 7.into()),
            ("--memory-mb 64", "/limits/memory_mb", 64.into()),
            ("--max-errors 3", "/import/max_errors", 3.into()),
            ("--continue-on-error", "/import/continue_on_error", true.into()),
            ("--skip-orphan-check", "/import/on_orphan", "skip".into()),
            (
                "--on-conflict keep-newest",
                "/import/on_conflict",
                "keep-newest".into(),
            ),
            ("--staging disk", "/staging", "disk".into()),
            ("--verification-level basic", "/verification", "basic".into()),
            ("--no-auto-verification", "/verification", "none".into()),
            ("--include a* --include b", "/include", vec!["a*", "b"].into()),
            ("--exclude a*", "/exclude", vec!["a*"].into()),
        ] {
            let changed = with(flags);
            assert_eq!(changed.pointer(pointer), Some(&wanted), "{flags}");
            assert_eq!(changed.as_object().unwrap().len(), 1, "{flags}: {changed}");
        }
    }

    fn flags(text: &str) -> JobFlags {
        Program::parse_from(std::iter::once("x").chain(text.split_whitespace())).flags
    }

    #[test]
    fn flags_are_laid_over_earlier_ones() {
        for (now, before, wanted) in [
            ("", "--set a=1 --batch-size 7", "--set a=1 --batch-size 7"),
            ("--set b=2", "--set a=1", "--set a=1 --set b=2"),
            ("--set a=2=3", "--set a=1 --set b=1", "--set b=1 --set a=2=3"),
            (
                "--include x",
                "--include a --include b --exclude c",
                "--include x --exclude c",
            ),
            (
                "--continue-on-error",
                "--skip-orphan-check",
                "--continue-on-error --skip-orphan-check",
            ),
            (
                "--verification-level basic",
                "--no-auto-verification",
                "--verification-level basic",
            ),
            (
                "--no-auto-verification",
                "--verification-level basic",
                "--no-auto-verification",
            ),
            (
                "--source s --mode full",
                "--source a --sink b --mode test --settings f --working-dir w --staging disk",
                "--source s --sink b --mode full --settings f --working-dir w --staging disk",
            ),
        ] {
            assert_eq!(
                flags(now).over(flags(before)),
                flags(wanted),
                "{now} over {before}"
            );
        }
    }

    #[test]
    fn no_flag_is_lost_when_nothing_is_laid_over() {
        let every = "--set a=1 --settings f --source s --sink t --include i --exclude e --mode test --batch-size 1 \
                     --memory-mb 2 --max-errors 3 --allow-duplicates --continue-on-error --on-conflict skip \
                     --skip-orphan-check --staging disk --verification-level basic --working-dir w";
        let every = flags(every);
        assert_eq!(JobFlags::default().over(every.clone()), every);
        assert_eq!(every.clone().over(JobFlags::default()), every);
        let kept = serde_json::to_value(&every).unwrap();
        let is_said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let silent: Vec<&String> = kept
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !is_said(value))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(
            silent,
            ["no_auto_verification"],
            "a flag that this test does not name"
        );
    }

    #[test]
    fn contradicting_flags_are_refused() {
        let flags = ["x", "--no-auto-verification", "--verification-level", "basic"];
        assert!(Program::try_parse_from(flags).is_err());
    }
}
