//! Opened objects of plugins, or of the host itself, as the rest of the host uses them: every call goes through a site
//! that announces and attributes it. The contracts are those of the plugin API; nothing is added to them here.

use std::sync::Arc;

use whimbrel_plugin_api::abi::object::Canceller;
use whimbrel_plugin_api::check::Finding;
use whimbrel_plugin_api::collection::{Collection, CollectionsRequest};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::notifier::{Notification, NotificationReceipt, Notifier};
use whimbrel_plugin_api::partition::{Partition, PartitionsRequest};
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneClaim, LaneId, LaneState,
    PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::source::{
    AcknowledgeRequest, CountRequest, Item, QueryRequest, ReadRequest, RecordStream,
};
use whimbrel_plugin_api::transform::{Applied, Plan, Transform};
use whimbrel_plugin_api::{Batch, ConflictPolicy, Sink, Source};

use super::calls::{CallLog, CallSite, Waiting};
use crate::events::Failure;

/// An opened source.
pub struct OpenedSource {
    pub(super) source: Box<dyn Source>,
    pub(super) site: CallSite,
    /// The token that was given out and not let go yet.
    pub(super) snapshot: Option<String>,
}

impl OpenedSource {
    /// A source of the host itself, such as staged files, called `name` in reports.
    pub fn of_host(name: &str, source: Box<dyn Source>, log: &Arc<CallLog>) -> Self {
        Self {
            source,
            site: host_site(name, Role::Source, log),
            snapshot: None,
        }
    }

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

    /// See [`Source::open_snapshot`]. While one is open it is given again, so that all phases see the same instant.
    pub fn open_snapshot(&mut self) -> Result<Option<String>, Failure> {
        if self.snapshot.is_none() {
            self.snapshot = self.site.run("open_snapshot", || self.source.open_snapshot())?;
        }
        Ok(self.snapshot.clone())
    }

    /// See [`Source::close_snapshot`].
    pub fn close_snapshot(&mut self, snapshot: &str) -> Result<(), Failure> {
        self.snapshot = None;
        self.site
            .run("close_snapshot", || self.source.close_snapshot(snapshot))
    }

    /// See [`Source::partitions`].
    pub fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>, Failure> {
        self.site.run("partitions", || self.source.partitions(request))
    }

    /// See [`Source::lookup`].
    pub fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<OpenedStream, Failure> {
        let stream = self.site.run("lookup", || self.source.lookup(request, keys))?;
        Ok(OpenedStream {
            stream,
            site: self.site.clone(),
        })
    }

    /// See [`Source::query`].
    pub fn query(&mut self, request: &QueryRequest) -> Result<OpenedStream, Failure> {
        let stream = self.site.run("query", || self.source.query(request))?;
        Ok(OpenedStream {
            stream,
            site: self.site.clone(),
        })
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

impl Drop for OpenedSource {
    /// A token that a phase has left open goes with its source; that the source cannot let it go has no consequence then.
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            drop(self.close_snapshot(&snapshot));
        }
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
    pub(super) sink: Box<dyn Sink>,
    pub(super) site: CallSite,
}

fn host_site(name: &str, role: Role, log: &Arc<CallLog>) -> CallSite {
    CallSite {
        log: Arc::clone(log),
        plugin: name.into(),
        role,
        canceller: None,
        timed_out: Arc::default(),
        waiting: Waiting::default(),
    }
}

impl OpenedSink {
    /// A sink of the host itself, such as staged files, called `name` in reports.
    pub fn of_host(name: &str, sink: Box<dyn Sink>, log: &Arc<CallLog>) -> Self {
        Self {
            sink,
            site: host_site(name, Role::Sink, log),
        }
    }

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

    /// See [`Sink::alter`].
    pub fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport, Failure> {
        self.site.run("alter", || self.sink.alter(request))
    }

    /// See [`Sink::flush`].
    pub fn flush(&mut self) -> Result<Receipt, Failure> {
        self.site.run("flush", || self.sink.flush())
    }

    /// See [`Sink::remove`].
    pub fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64, Failure> {
        self.site.run("remove", || self.sink.remove(collection, keys))
    }

    /// See [`Sink::clear`].
    pub fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport, Failure> {
        self.site.run("clear", || self.sink.clear(request))
    }

    /// See [`Sink::take_over`].
    pub fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>, Failure> {
        self.site.run("take_over", || self.sink.take_over(claims))
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
            snapshot: None,
        })
    }
}

/// An opened transform.
pub struct OpenedTransform {
    pub(super) transform: Box<dyn Transform>,
    pub(super) site: CallSite,
}

impl OpenedTransform {
    /// See [`Transform::plan`].
    pub fn plan(&mut self, collection: &Collection) -> Result<Plan, Failure> {
        self.site.run("plan", || self.transform.plan(collection))
    }

    /// See [`Transform::apply`].
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, Failure> {
        self.site.run("apply", || self.transform.apply(batch))
    }

    /// See [`Transform::rule`].
    pub fn rule(&mut self, batch: &Batch) -> Result<arrow_array::BooleanArray, Failure> {
        self.site.run("rule", || self.transform.rule(batch))
    }
}

/// An opened notifier.
pub struct OpenedNotifier {
    pub(super) notifier: Box<dyn Notifier>,
    pub(super) site: CallSite,
}

impl OpenedNotifier {
    /// See [`Notifier::check`].
    pub fn check(&mut self) -> Result<Vec<Finding>, Failure> {
        self.site.run("check", || self.notifier.check())
    }

    /// See [`Notifier::send`].
    pub fn send(&mut self, notification: &Notification) -> Result<NotificationReceipt, Failure> {
        self.site.run("send", || self.notifier.send(notification))
    }
}
