//! Opened plugin objects as the host uses them: every call is announced, timed and attributed.
//!
//! A crash of the worker is then explained by the calls that had begun and not returned, a hang by the one that
//! runs too long, and an error carries plugin, role and call. The contracts are those of the plugin API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::object::Canceller;
use whimbrel_plugin_api::check::Finding;
use whimbrel_plugin_api::collection::{Collection, CollectionsRequest};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::partition::{Partition, PartitionsRequest};
use whimbrel_plugin_api::services::HostServices;
use whimbrel_plugin_api::sink::{
    Checkpoint, Committed, LaneId, LaneState, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::source::{AcknowledgeRequest, CountRequest, Item, ReadRequest, RecordStream};
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorKind, LogLevel, Result, Sink, Source};

use super::library::LoadedPlugin;
use crate::events::{Emitter, Event, Failure};

/// All calls that have begun and not returned.
pub struct CallLog {
    emitter: Emitter,
    next_id: AtomicU64,
    in_flight: Mutex<BTreeMap<u64, InFlight>>,
}

/// A call that has begun and not returned.
#[derive(Clone)]
pub struct InFlight {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Its role.
    pub role: Role,
    /// The call.
    pub call: &'static str,
    /// When it began.
    pub since: Instant,
    /// Ends it, if the object is open already.
    pub canceller: Option<Canceller>,
    timed_out: Arc<AtomicBool>,
}

impl InFlight {
    /// Asks the call to end because its time is up; its error then says so.
    pub fn time_out(&self) {
        self.timed_out.store(true, Ordering::SeqCst);
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }
}

impl CallLog {
    /// A log that announces calls on `emitter`.
    pub fn new(emitter: Emitter) -> Arc<Self> {
        Arc::new(Self {
            emitter,
            next_id: AtomicU64::new(1),
            in_flight: Mutex::default(),
        })
    }

    /// The calls that run longer than `limit`.
    pub fn longer_than(&self, limit: Duration) -> Vec<(u64, InFlight)> {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight
            .iter()
            .filter(|(_, call)| call.since.elapsed() > limit)
            .map(|(id, call)| (*id, call.clone()))
            .collect()
    }

    /// Whether the call has not returned.
    pub fn is_running(&self, call_id: u64) -> bool {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&call_id)
    }
}

/// Announces the calls of one opened object.
#[derive(Clone)]
struct CallSite {
    log: Arc<CallLog>,
    plugin: Arc<str>,
    role: Role,
    canceller: Option<Canceller>,
}

impl CallSite {
    fn run<R>(&self, call: &'static str, body: impl FnOnce() -> Result<R>) -> Result<R, Failure> {
        let call_id = self.log.next_id.fetch_add(1, Ordering::Relaxed);
        let begun = InFlight {
            plugin: Arc::clone(&self.plugin),
            role: self.role,
            call,
            since: Instant::now(),
            canceller: self.canceller.clone(),
            timed_out: Arc::default(),
        };
        let timed_out = Arc::clone(&begun.timed_out);
        self.log
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(call_id, begun);
        self.log.emitter.emit(&Event::CallStarted {
            call_id,
            plugin: self.plugin.to_string(),
            role: self.role,
            call: call.to_owned(),
        });
        let outcome = body();
        self.log
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&call_id);
        self.log.emitter.emit(&Event::CallEnded { call_id });
        outcome.map_err(|error| {
            let error = if timed_out.load(Ordering::SeqCst) && error.kind == ErrorKind::Cancelled {
                Error::new(
                    ErrorKind::Timeout,
                    "plugin.call_timeout",
                    "the call took too long and was cancelled",
                )
                .with_help("`limits.call_timeout_secs` of the job allows more time")
            } else {
                error
            };
            Failure::from(error).at_call(&self.plugin, self.role, call)
        })
    }
}

/// What the host offers to plugins: their log becomes events.
struct PluginServices {
    plugin: Arc<str>,
    emitter: Emitter,
}

impl HostServices for PluginServices {
    fn log(&self, level: LogLevel, message: &str) {
        self.emitter.emit(&Event::Log {
            plugin: self.plugin.to_string(),
            level: match level {
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            }
            .to_owned(),
            message: message.to_owned(),
        });
    }

    fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        let total = total.map_or_else(String::new, |total| format!(" of {total}"));
        self.log(LogLevel::Debug, &format!("{what}: {done}{total}"));
    }

    fn acquire(&self, _: &str, _: u64) -> bool {
        // No quota is configured, so every permit is free.
        true
    }
}

/// Opens roles of one loaded plugin.
#[derive(Clone)]
pub struct Opener {
    loaded: Arc<LoadedPlugin>,
    log: Arc<CallLog>,
    validation: Validation,
}

impl Opener {
    /// Objects opened with this announce their calls in `log`.
    pub fn new(loaded: LoadedPlugin, log: Arc<CallLog>) -> Self {
        Self {
            loaded: Arc::new(loaded),
            log,
            // No plugin is locked yet, so every text and offset is looked at.
            validation: Validation::Full,
        }
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.loaded.manifest.name
    }

    fn site(&self, role: Role) -> CallSite {
        CallSite {
            log: Arc::clone(&self.log),
            plugin: self.name().into(),
            role,
            canceller: None,
        }
    }

    fn services(&self) -> Arc<PluginServices> {
        Arc::new(PluginServices {
            plugin: self.name().into(),
            emitter: self.log.emitter.clone(),
        })
    }

    /// Config schema, capabilities and type mappings of a role.
    pub fn describe(&self, role: Role) -> Result<whimbrel_plugin_api::export::Description, Failure> {
        self.site(role)
            .run("describe", || self.loaded.plugin.describe(role))
    }

    /// Opens the source role.
    pub fn open_source(&self, config: &Map<String, Value>) -> Result<OpenedSource, Failure> {
        let mut site = self.site(Role::Source);
        let source = site.run("open", || {
            self.loaded
                .plugin
                .open_source(&Value::Object(config.clone()), self.services(), self.validation)
        })?;
        site.canceller = Some(source.canceller());
        Ok(OpenedSource {
            source: Box::new(source),
            site,
        })
    }

    /// Opens a session of the sink role.
    pub fn open_sink(&self, config: &Map<String, Value>) -> Result<OpenedSink, Failure> {
        let mut site = self.site(Role::Sink);
        let sink = site.run("open", || {
            self.loaded
                .plugin
                .open_sink(&Value::Object(config.clone()), self.services(), self.validation)
        })?;
        site.canceller = Some(sink.canceller());
        Ok(OpenedSink {
            sink: Box::new(sink),
            site,
        })
    }
}

/// An opened source.
pub struct OpenedSource {
    source: Box<dyn Source>,
    site: CallSite,
}

impl OpenedSource {
    /// Ends its calls and those of its streams.
    pub fn canceller(&self) -> Option<Canceller> {
        self.site.canceller.clone()
    }

    /// See [`Source::check`].
    pub fn check(&mut self) -> Result<Vec<Finding>, Failure> {
        self.site.run("check", || self.source.check())
    }

    /// See [`Source::collections`].
    pub fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>, Failure> {
        self.site.run("collections", || self.source.collections(request))
    }

    /// See [`Source::open_snapshot`].
    pub fn open_snapshot(&mut self) -> Result<Option<String>, Failure> {
        self.site.run("open_snapshot", || self.source.open_snapshot())
    }

    /// See [`Source::close_snapshot`].
    pub fn close_snapshot(&mut self, snapshot: &str) -> Result<(), Failure> {
        self.site
            .run("close_snapshot", || self.source.close_snapshot(snapshot))
    }

    /// See [`Source::partitions`].
    pub fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>, Failure> {
        self.site.run("partitions", || self.source.partitions(request))
    }

    /// See [`Source::read`].
    pub fn read(&mut self, request: &ReadRequest) -> Result<OpenedStream, Failure> {
        let stream = self.site.run("read", || self.source.read(request))?;
        Ok(OpenedStream {
            stream,
            site: self.site.clone(),
        })
    }

    /// See [`Source::count`].
    pub fn count(&mut self, request: &CountRequest) -> Result<Option<u64>, Failure> {
        self.site.run("count", || self.source.count(request))
    }

    /// See [`Source::acknowledge`].
    pub fn acknowledge(&mut self, request: &AcknowledgeRequest) -> Result<(), Failure> {
        self.site.run("acknowledge", || self.source.acknowledge(request))
    }
}

/// An open stream.
pub struct OpenedStream {
    stream: Box<dyn RecordStream>,
    site: CallSite,
}

impl OpenedStream {
    /// See [`RecordStream::next`].
    pub fn next_item(&mut self) -> Result<Item, Failure> {
        self.site.run("next", || self.stream.next())
    }
}

/// An opened session of a sink.
pub struct OpenedSink {
    sink: Box<dyn Sink>,
    site: CallSite,
}

impl OpenedSink {
    /// Ends its calls.
    pub fn canceller(&self) -> Option<Canceller> {
        self.site.canceller.clone()
    }

    /// See [`Sink::check`].
    pub fn check(&mut self) -> Result<Vec<Finding>, Failure> {
        self.site.run("check", || self.sink.check())
    }

    /// See [`Sink::prepare`].
    pub fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport, Failure> {
        self.site.run("prepare", || self.sink.prepare(request))
    }

    /// See [`Sink::take_over`].
    pub fn take_over(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneState>, Failure> {
        self.site.run("take_over", || self.sink.take_over(lanes))
    }

    /// See [`Sink::begin`].
    pub fn begin(&mut self, lane: &LaneId) -> Result<(), Failure> {
        self.site.run("begin", || self.sink.begin(lane))
    }

    /// See [`Sink::write`].
    pub fn write(
        &mut self,
        collection: &str,
        batch: &Batch,
        policy: ConflictPolicy,
    ) -> Result<Receipt, Failure> {
        self.site
            .run("write", || self.sink.write(collection, batch, policy))
    }

    /// See [`Sink::commit`].
    pub fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed, Failure> {
        self.site.run("commit", || self.sink.commit(checkpoint))
    }

    /// See [`Sink::abort`].
    pub fn abort(&mut self) -> Result<(), Failure> {
        self.site.run("abort", || self.sink.abort())
    }

    /// See [`Sink::add_constraints`].
    pub fn add_constraints(&mut self) -> Result<Vec<Finding>, Failure> {
        self.site.run("add_constraints", || self.sink.add_constraints())
    }

    /// See [`Sink::finalize`].
    pub fn finalize(&mut self) -> Result<(), Failure> {
        self.site.run("finalize", || self.sink.finalize())
    }

    /// See [`Sink::reader`].
    pub fn reader(&mut self) -> Result<OpenedSource, Failure> {
        let source = self.site.run("reader", || self.sink.reader())?;
        Ok(OpenedSource {
            source,
            site: self.site.clone(),
        })
    }
}
