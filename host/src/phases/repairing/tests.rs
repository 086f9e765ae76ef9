//! Repairs from a made-up source into a made-up sink in memory, by a list of differences as a comparison writes it.
//!
//! `memory` has the two sides. `healing` is about what is copied again, `removing` about what only the sink has, `keeping` about what is
//! kept of both before.

mod healing;
mod keeping;
mod memory;
mod removing;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::{Collection, ConflictPolicy};

use super::{Agreed, Repair, Repaired, Told, run};
use crate::config::{Job, VerificationLevel};
use crate::control::Stop;
use crate::events::{Comparison, Emitter, RepairResult, VerificationResult};
use crate::loader::observe::{CallLog, OpenedSink, OpenedSource};
use crate::plan::PlannedCollection;
use crate::transform::Transforms;
use memory::{Asked, MemorySink, MemorySource, Records, schema};

fn planned() -> PlannedCollection {
    let mut collection = Collection::new("c", schema());
    collection.key = vec!["id".into()];
    PlannedCollection {
        source: collection.clone(),
        transforms: Arc::from([]),
        sink: collection,
        policy: ConflictPolicy::Fail,
        verification: VerificationLevel::Comprehensive,
        limit: None,
        waits_for: Vec::new(),
        held_back: Vec::new(),
        left_out: Vec::new(),
    }
}

/// What both sides can do.
fn able() -> (SourceCapabilities, SinkCapabilities) {
    let source = SourceCapabilities {
        lookup: true,
        ..SourceCapabilities::default()
    };
    let sink = SinkCapabilities {
        upsert: true,
        remove: true,
        policies: vec![
            ConflictPolicy::Overwrite,
            ConflictPolicy::Merge,
            ConflictPolicy::Skip,
        ],
        ..SinkCapabilities::default()
    };
    (source, sink)
}

struct Scene {
    source: MemorySource,
    sink: MemorySink,
    planned: PlannedCollection,
    able: (SourceCapabilities, SinkCapabilities),
    sink_looks_up: bool,
    removes_most: bool,
    source_unreadable_count: u64,
    told: Buffer,
    on_conflict: &'static str,
    agreed: Option<BTreeMap<String, Agreed>>,
}

/// What was told, a line per event.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Scene {
    fn new(source: Records, sink: Records) -> Self {
        let scene = Self {
            source: MemorySource(Arc::new(Mutex::new((source, Asked::default())))),
            sink: MemorySink::default(),
            planned: planned(),
            able: able(),
            sink_looks_up: true,
            removes_most: false,
            source_unreadable_count: 0,
            told: Buffer::default(),
            on_conflict: "overwrite",
            agreed: None,
        };
        scene.sink.0.lock().unwrap().durable = sink;
        scene
    }

    fn found(&self, file: Option<&str>) -> VerificationResult {
        let mut found = VerificationResult::begun("c", "c", VerificationLevel::Comprehensive);
        found.comparison = Comparison::Different;
        found.mismatch_count = 1;
        found.source_count = self.source.0.lock().unwrap().0.len() as u64;
        found.sink_count = self.durable().len() as u64;
        found.source_unreadable_count = self.source_unreadable_count;
        found.mismatches_file = file.map(str::to_owned);
        found
    }

    fn repair(&self, folder: &Path, found: &VerificationResult) -> RepairResult {
        let repaired = self.repaired(folder, found);
        assert!(repaired.failure.is_none(), "{:?}", repaired.failure);
        repaired.results.into_iter().next().unwrap()
    }

    fn repaired(&self, folder: &Path, found: &VerificationResult) -> Repaired {
        let emitter = Emitter::new(Box::new(std::io::sink()));
        let told = Emitter::new(Box::new(self.told.clone()));
        let job = json!({ "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" },
                          "import": { "retry_delay_ms": 1, "on_conflict": self.on_conflict } });
        let job: Job = serde_json::from_value(job).unwrap();
        let (transforms, stop) = (Transforms::default(), Stop::default());
        let repair = Repair {
            job: &job,
            intended: &job,
            run_id: "one",
            transforms: &transforms,
            stop: &stop,
            told: Told::to(&told),
            source_can: &self.able.0,
            sink_can: &self.able.1,
            sink_reads: &SourceCapabilities {
                lookup: self.sink_looks_up,
                ..SourceCapabilities::default()
            },
            results_folder: folder,
            removes_most: self.removes_most,
            agreed: self.agreed.as_ref(),
        };
        let calls = CallLog::new(emitter, None);
        let mut source = OpenedSource::of_host("memory", Box::new(self.source.clone()), &calls);
        let mut sink = OpenedSink::of_host("memory", Box::new(self.sink.clone()), &calls);
        let collections = std::slice::from_ref(&self.planned);
        run(
            &repair,
            collections,
            std::slice::from_ref(found),
            &mut source,
            &mut sink,
        )
    }

    /// Repairs what `lines` list.
    fn listed(&self, lines: &str) -> RepairResult {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
        self.repair(folder.path(), &self.found(Some("c.ndjson")))
    }

    /// What was kept when `lines` were repaired, in the order of the ids.
    fn kept(&self, lines: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
        self.repair(folder.path(), &self.found(Some("c.ndjson")));
        let path = folder.path().join("records").join("c.ndjson");
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Vec::new();
        };
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let mut kept: Vec<String> = text.lines().map(str::to_owned).collect();
        kept.sort();
        kept
    }

    fn durable(&self) -> Records {
        self.sink.0.lock().unwrap().durable.clone()
    }
}

fn line(kind: &str, id: i64) -> String {
    format!("{{\"kind\":\"{kind}\",\"record\":\"id={id}\",\"key\":{{\"id\":{id}}},\"fields\":[]}}\n")
}

/// A source with records 1 to 30, and a sink that has those and `extra_count` more, which are listed.
fn with_extra(extra_count: i64) -> (Scene, String) {
    let source: Records = (1..=30).map(|id| (id, None)).collect();
    let mut sink = source.clone();
    let mut lines = String::new();
    for id in 100..100 + extra_count {
        sink.insert(id, None);
        lines.push_str(&line("extra", id));
    }
    (Scene::new(source, sink), lines)
}
