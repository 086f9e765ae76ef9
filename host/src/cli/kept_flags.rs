//! What is kept of the command line of a run, so that one that goes on with it copies the same.
//!
//! Flags that take the place of keys of the job, and values of parameters; no secret. Which parameter holds a secret is known once the
//! plugins have described their configs, so no new value is kept before. Neighbours: `job_flags.rs`, `run_record.rs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use whimbrel_plugin_api::Error;

use super::job_flags::JobFlags;
use crate::config::LoadedJob;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptFlags {
    /// The flags, with the values of parameters that are known to hold no secret.
    pub flags: JobFlags,
    /// Parameters that were given a value which is not kept.
    pub left_out: Vec<String>,
    /// Whether the run has taken the sink's word against what was known before: commits seen before it count no more.
    pub accepts_sink_cursor: bool,
}

impl KeptFlags {
    /// Those of a run with `flags` that goes on with one of which `earlier` is kept, before anybody knows its secrets.
    pub fn begin(flags: &JobFlags, earlier: &Self) -> Self {
        let mut kept = flags.clone();
        // It is where this is kept.
        kept.working_dir = None;
        kept.settings = kept
            .settings
            .map(|path| std::path::absolute(&path).unwrap_or(path));
        let (known, unknown): (Vec<String>, Vec<String>) = kept
            .set
            .into_iter()
            .partition(|setting| earlier.flags.set.contains(setting));
        kept.set = known;
        Self {
            flags: kept,
            left_out: unknown.iter().map(|setting| name(setting).to_owned()).collect(),
            accepts_sink_cursor: false,
        }
    }

    /// Now that the secrets of the job are known: the values in `flags` that are none are kept too.
    #[must_use]
    pub fn complete(mut self, flags: &JobFlags, loaded: &LoadedJob) -> Self {
        let secret = loaded.secret_parameters();
        let holds_secret = |setting: &String| {
            let value = setting.split_once('=').map_or("", |(_, value)| value);
            secret.contains(name(setting)) || loaded.secrets.scrub(value) != value
        };
        let (left_out, set): (Vec<String>, Vec<String>) = flags.set.iter().cloned().partition(holds_secret);
        self.flags.set = set;
        self.left_out = left_out.iter().map(|setting| name(setting).to_owned()).collect();
        self
    }

    /// As it is kept. Of a flag that holds a secret nothing is.
    pub fn to_json(&self, loaded: &LoadedJob) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(flags) = value.get_mut("flags").and_then(Value::as_object_mut) {
            flags.retain(|_, said| {
                let says_nothing = match said {
                    Value::Null | Value::Bool(false) => true,
                    Value::Array(items) => items.is_empty(),
                    _ => false,
                };
                !says_nothing && !loaded.secrets.scrub_value(said)
            });
        }
        value.to_string()
    }

    /// From what is kept.
    ///
    /// # Errors
    /// `state.damaged` if that was never written by this program.
    pub fn of_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            let message = "what the state keeps of the run's command line cannot be read";
            Error::new(whimbrel_plugin_api::ErrorKind::Integrity, "state.damaged", message)
                .with_help("go on with `whimbrel run JOB --resume` and the flags of the first run, in another working folder")
                .with_cause(&error)
        })
    }

    /// The parameters that need a value again, since none is kept and `flags` give none.
    pub fn missing<'a>(&'a self, flags: &JobFlags) -> Vec<&'a str> {
        let is_given = |wanted: &str| flags.set.iter().any(|setting| name(setting) == wanted);
        let left_out = self.left_out.iter().map(String::as_str);
        left_out.filter(|wanted| !is_given(wanted)).collect()
    }
}

fn name(setting: &str) -> &str {
    setting.split_once('=').map_or(setting, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Variables, load_job};

    fn flags(set: &[&str]) -> JobFlags {
        JobFlags {
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            batch_size: Some("7".into()),
            working_dir: Some("w".into()),
            ..JobFlags::default()
        }
    }

    fn loaded(flags: &JobFlags) -> LoadedJob {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.yaml");
        let job = "name: a\nparameters: { user: {}, token: {} }\n\
                   source: { plugin: p, config: { path: \"${param:user}\", password: \"x${param:token}\" } }\n\
                   sink: { plugin: p }\n";
        std::fs::write(&path, job).unwrap();
        load_job(&path, &flags.overrides(), &Variables::none()).unwrap()
    }

    #[test]
    fn values_are_kept_once_it_is_known_that_they_are_no_secrets() {
        let flags = flags(&["user=ann", "token=t"]);
        let loaded = loaded(&flags);
        let begun = KeptFlags::begin(&flags, &KeptFlags::default());
        assert_eq!(begun.left_out, ["user", "token"]);
        let text = begun.to_json(&loaded);
        assert!(!text.contains("ann") && !text.contains("working_dir"), "{text}");
        let complete = begun.complete(&flags, &loaded);
        assert_eq!(
            (&complete.flags.set[..], &complete.left_out[..]),
            (&["user=ann".to_owned()][..], &["token".to_owned()][..])
        );
        let read = KeptFlags::of_json(&complete.to_json(&loaded)).unwrap();
        assert_eq!(read, complete);
        assert_eq!(read.flags.batch_size.as_deref(), Some("7"));
        assert_eq!(read.missing(&JobFlags::default()), ["token"]);
        assert!(read.missing(&flags).is_empty());
        assert_eq!(KeptFlags::of_json("{}").unwrap(), KeptFlags::default());
        assert_eq!(KeptFlags::of_json("[").unwrap_err().code, "state.damaged");
    }

    #[test]
    fn a_secret_that_stands_in_any_flag_is_not_kept() {
        let mut flags = flags(&["user=ann", "token=planted-secret"]);
        flags.include = vec!["planted-secret".into()];
        flags.set[0] = "user=of-planted-secret".into();
        let loaded = loaded(&flags);
        loaded.secrets.add("planted-secret");
        let kept = KeptFlags::begin(&flags, &KeptFlags::default()).complete(&flags, &loaded);
        let text = kept.to_json(&loaded);
        assert!(!text.contains("planted"), "{text}");
        assert_eq!(kept.left_out, ["user", "token"]);
    }

    #[test]
    fn what_was_kept_before_is_kept_at_once() {
        let earlier = KeptFlags {
            flags: flags(&["user=ann"]),
            ..KeptFlags::default()
        };
        let kept = KeptFlags::begin(&flags(&["user=ann", "token=t"]), &earlier);
        assert_eq!(
            (&kept.flags.set[..], &kept.left_out[..]),
            (&["user=ann".to_owned()][..], &["token".to_owned()][..])
        );
        let changed = KeptFlags::begin(&flags(&["user=bo"]), &earlier);
        assert_eq!(
            (changed.flags.set.len(), &changed.left_out[..]),
            (0, &["user".to_owned()][..])
        );
    }
}
