//! A gRPC layer on this machine between whimbrel and Google's Firestore emulator, which counts and spoils calls by script.
//!
//! For the tests of any crate, included by path; the crate needs `base64`, `bytes`, `gcloud-sdk`, `h2`, `http` and `tokio`.
//! [`Layer::before`] an emulator forwards every call until [`Layer::script`] says otherwise: rules are kept by method and used
//! up first in, first out. [`Layer::counts`] tells what was read and written, as the service would bill it. It has a thread and a
//! runtime of its own, so tests call it from anywhere. Parts: `script` is what a test says, `count` what it is told, `messages`
//! knows requests and answers, `frames` their form on the wire, `serve` holds connections, `call` answers one call, `divide`
//! answers `PartitionQuery`, which the emulator does not. Not here: the emulator itself (`firestore.rs`).

#![allow(
    dead_code,
    unused_imports,
    reason = "included by several tests, of which none needs all of it"
)]

#[path = "grpc_layer/call.rs"]
mod call;
#[path = "grpc_layer/count.rs"]
mod count;
#[path = "grpc_layer/divide.rs"]
mod divide;
#[path = "grpc_layer/frames.rs"]
mod frames;
#[path = "grpc_layer/messages.rs"]
mod messages;
#[path = "grpc_layer/script.rs"]
mod script;
#[path = "grpc_layer/serve.rs"]
mod serve;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gcloud_sdk::tonic::Code;
use tokio::sync::watch;

pub use count::Counts;
pub use script::{Answer, End, Failure, Method, Rule, Which};

use messages::Request;
use script::Script;
use serve::{Fate, Life};

/// What a test waits for comes true within this time or never.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running layer; it and its connections end when it is dropped.
pub struct Layer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the layer's thread and its users share.
struct Shared {
    address: SocketAddr,
    emulator: String,
    life: watch::Sender<Life>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    script: Script,
    counts: Counts,
    in_flight: usize,
    is_listening: bool,
    /// Until when a method was asked not to be called again.
    not_before: Vec<(Method, Instant)>,
    connections: Vec<Arc<watch::Sender<Fate>>>,
}

impl Layer {
    /// A layer before the emulator at `emulator`, such as `127.0.0.1:8080`. It listens when this returns.
    ///
    /// # Panics
    /// If no port of this machine can be had.
    pub fn before(emulator: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of this machine");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            address,
            emulator: emulator.to_owned(),
            life: watch::Sender::new(Life::Open),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        shared.state().is_listening = true;
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || serve::run(shared, listener))
        };
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Where it listens, as the plugin's `host` wants it.
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// Adds rules for the calls of `method` that come from now on; each call uses up the first rule that fits it.
    ///
    /// # Panics
    /// If a rule cannot be carried out for `method`.
    pub fn script(&self, method: Method, rules: impl IntoIterator<Item = impl Into<Rule>>) {
        let mut state = self.shared.state();
        for rule in rules {
            state.script.push(method, rule.into());
        }
    }

    /// How many times rules are still to be used; one for each rule that is used always.
    pub fn left(&self) -> u64 {
        self.shared.state().script.left()
    }

    /// Forgets all rules.
    pub fn forget_script(&self) {
        self.shared.state().script = Script::default();
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts.clone()
    }

    /// Counts anew.
    pub fn reset_counts(&self) {
        self.shared.state().counts = Counts::default();
    }

    /// Waits until `is_so` of what has been counted.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Counts) -> bool) {
        self.wait(what, |state| is_so(&state.counts));
    }

    /// Waits until a rule has stopped the layer ([`End::Stopped`]).
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        self.wait("the layer has stopped", |state| !state.is_listening);
    }

    /// Closes all connections and listens no more, as if the emulator had ended.
    #[track_caller]
    pub fn stop(&self) {
        self.shared.stop();
        self.wait_until_stopped();
    }

    /// Listens again, at the same port.
    #[track_caller]
    pub fn restart(&self) {
        self.shared.life.send_replace(Life::Open);
        self.wait("the layer listens", |state| state.is_listening);
    }

    /// Closes all connections; new ones are taken.
    pub fn close_connections(&self) {
        self.shared.all_connections(Fate::Closed);
    }

    /// Nothing more is heard on any connection that is there, and none is closed; new ones are taken.
    pub fn silence_connections(&self) {
        self.shared.all_connections(Fate::Silent);
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), WAIT_MAX, |state| !is_so(state))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !timeout.timed_out(),
            "waited {} s in vain: {what}; {:?}",
            WAIT_MAX.as_secs(),
            state.counts
        );
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.shared.life.send_replace(Life::Ended);
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            assert!(
                outcome.is_ok() || std::thread::panicking(),
                "the layer's thread panicked"
            );
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.life.send_replace(Life::Stopped);
    }

    fn all_connections(&self, fate: Fate) {
        for connection in &self.state().connections {
            connection.send_replace(fate);
        }
    }

    fn is_listening(&self, is_so: bool) {
        self.state().is_listening = is_so;
        self.changed.notify_all();
    }

    /// A new connection, with what decides about it.
    fn connected(&self) -> Arc<watch::Sender<Fate>> {
        let fate = Arc::new(watch::Sender::new(Fate::Alive));
        let mut state = self.state();
        state.counts.connections += 1;
        state.connections.push(Arc::clone(&fate));
        fate
    }

    /// A call that has arrived in whole: counts it, and says what becomes of it.
    fn arrived(&self, request: &Request) -> Answer {
        let mut state = self.state();
        let now = Instant::now();
        if state
            .not_before
            .iter()
            .any(|(method, instant)| *method == request.method && now < *instant)
        {
            state.counts.early += 1;
        }
        state.in_flight += 1;
        let in_flight = state.in_flight;
        state.counts.arrived(request, in_flight);
        let answer = state.script.answer(request);
        drop(state);
        self.changed.notify_all();
        answer
    }

    fn ended(&self) {
        self.state().in_flight -= 1;
        self.changed.notify_all();
    }

    /// Notes an answer.
    fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut self.state().counts);
        self.changed.notify_all();
    }

    /// A status is about to be sent.
    fn failing(&self, method: Method, failure: &Failure) {
        let mut state = self.state();
        *state.counts.failures.entry(failure.code_name()).or_default() += 1;
        if let Some(delay) = failure.delay() {
            state.not_before.push((method, Instant::now() + delay));
        }
    }
}

/// The name of a status as the service writes it, for messages and counts.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
