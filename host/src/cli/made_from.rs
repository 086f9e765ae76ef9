//! What a copy depends on besides the records of its source: by name, as short texts that tell whether anything is another one.
//!
//! A run keeps them in the sink, and one that goes on with its copy compares them. No secret is in them: where one stands, the text that
//! refers to it counts, so that a changed password does not make another copy of it. Which system that text stands for is added by the
//! worker, once the plugins have filled in what they know; it also takes out of the source's config what may change meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use whimbrel_plugin_api::manifest::Role;

use super::tasks::Prepared;
use crate::config::{Job, short_digest as digest, source_as_written};
use crate::orchestrator::RunOptions;
use crate::report::PluginUsed;

/// Tells the worker of a run what the copy depends on.
pub fn tell(options: &mut RunOptions, prepared: &Prepared) {
    options.made_from = made_from(prepared);
    let shown = prepared.loaded.shown();
    options.source_written = shown.pointer("/source/config").cloned().unwrap_or_default();
}

/// Those of a job that is ready to be run.
pub fn made_from(prepared: &Prepared) -> BTreeMap<String, String> {
    let job = prepared.loaded.shown();
    let part = |key: &str| job.get(key).cloned().unwrap_or_default();
    let source = &prepared.loaded.job.source.plugin;
    let config = job.pointer("/source/config").cloned().unwrap_or_default();
    let rules = json!([part("collections"), part("include"), part("exclude")]);
    let mut made_from = BTreeMap::from([
        ("source".to_owned(), source_as_written(source, &config)),
        ("collections".to_owned(), digest(&rules)),
        ("transforms".to_owned(), digest(&part("transforms"))),
        ("mode".to_owned(), mode(&job)),
    ]);
    let changing = changing(&prepared.loaded.job);
    for (role, name) in [
        (Role::Source, "source plugin"),
        (Role::Sink, "sink plugin"),
        (Role::Transform, "transform plugins"),
    ] {
        // Transforms that only judge records by a rule change none.
        let changes =
            |plugin: &&PluginUsed| role != Role::Transform || changing.contains(plugin.name.as_str());
        let used = prepared.versions.iter().filter(|plugin| plugin.role == role);
        let used = used.filter(changes);
        let mut versions: Vec<String> = used
            .map(|plugin| format!("{} {}", plugin.name, plugin.version))
            .collect();
        versions.sort();
        if !versions.is_empty() {
            made_from.insert(name.to_owned(), versions.join(", "));
        }
    }
    made_from
}

/// The transforms that records are sent through.
fn changing(job: &Job) -> BTreeSet<&str> {
    let of_collections = job.collections.iter().flatten().flat_map(|rule| &rule.transforms);
    let all = job.transforms.iter().chain(of_collections);
    all.map(|transform| transform.plugin.as_str()).collect()
}

fn mode(job: &Value) -> String {
    let text = |key: &str| match job.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    match text("mode") {
        // How large the sample is matters only where one is taken.
        mode if mode == "test" => format!("test, {} records", text("sample_records")),
        mode => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Variables, load_job};
    use crate::report::PluginUsed;

    fn of(job: &str, version: &str) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.yaml");
        std::fs::write(&path, job).unwrap();
        let loaded = load_job(&path, &Overrides::default(), &Variables::none()).unwrap();
        let plugin = |role, name: &str| PluginUsed {
            role,
            name: name.into(),
            version: version.into(),
            lacks_lanes: false,
        };
        made_from(&Prepared {
            loaded,
            variables: Variables::none(),
            plugins: Vec::new(),
            versions: vec![plugin(Role::Source, "p"), plugin(Role::Sink, "q")],
        })
    }

    const JOB: &str = "name: a\nsource: { plugin: p, config: { path: x, b: 1 } }\nsink: { plugin: q }\n";

    #[test]
    fn what_changed_is_named_and_nothing_else_is() {
        let before = of(JOB, "1.0.0");
        let changed = |job: &str, version: &str| -> Vec<String> {
            let now = of(job, version);
            let names = before
                .keys()
                .chain(now.keys())
                .collect::<std::collections::BTreeSet<_>>();
            names
                .into_iter()
                .filter(|name| before.get(*name) != now.get(*name))
                .cloned()
                .collect()
        };
        assert!(changed(JOB, "1.0.0").is_empty());
        assert_eq!(before["sink plugin"], "q 1.0.0");
        assert_eq!(before["mode"], "full");
        let other_order = JOB.replace("path: x, b: 1", "b: 1, path: x");
        assert!(changed(&other_order, "1.0.0").is_empty());
        for (more, names) in [
            ("include: [y]", &["collections"][..]),
            ("collections: [{ source: y }]", &["collections"]),
            ("transforms: [{ plugin: t }]", &["transforms"]),
            ("mode: test", &["mode"]),
            ("import: { batch_size: 7, max_errors: 3 }", &[]),
            ("verification: none", &[]),
        ] {
            assert_eq!(changed(&format!("{JOB}{more}\n"), "1.0.0"), names, "{more}");
        }
        assert_eq!(changed(&JOB.replace("path: x", "path: y"), "1.0.0"), ["source"]);
        assert_eq!(changed(JOB, "1.1.0"), ["sink plugin", "source plugin"]);
    }
}
