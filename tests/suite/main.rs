//! Tests of whimbrel as its users have it, and of the tree that it is built from.
//!
//! `cargo x test` builds the program and its plugins first and says in `WHIMBREL_BIN` where they are.
//! One binary for all of it: one link, and nextest runs each test in a process of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails where it stands, which is what it is for"
)]

mod answers;
mod boundary;
mod breaker;
#[path = "../harness/browser.rs"]
#[expect(
    dead_code,
    reason = "only the plugin's own tests kill a browser and read single units"
)]
mod browser;
mod browsers;
mod certificates;
mod changed_since;
mod checks_of_sink;
mod clearing;
mod comprehensive;
mod config;
mod corruptions;
mod daemon;
mod deferring;
mod digests;
mod disk_full;
mod exactly_once;
mod faults;
#[path = "../harness/firestore.rs"]
mod firestore;
mod firestore_cost;
mod firestore_dump;
mod firestore_faults;
mod firestore_job;
mod firestore_proof;
mod firestore_refusals;
mod firestore_snapshot;
mod firestore_values;
mod flights;
#[path = "../harness/grpc_layer.rs"]
mod grpc_layer;
mod kills;
mod layout;
mod limits;
mod migration;
mod minimal_source;
mod new_fields;
mod notifications;
mod operator;
mod pausing;
#[path = "../harness/postgres.rs"]
mod postgres;
mod postgres_faults;
mod postgres_job;
mod postgres_keyless;
mod postgres_proof;
mod postgres_references;
mod postgres_refusals;
mod postgres_repair;
mod postgres_values;
mod program;
#[path = "../../plugins/turso/tests/remote/proxy.rs"]
#[expect(
    dead_code,
    reason = "only the plugin's own tests lose, delay and count requests"
)]
mod proxy;
mod reading_cost;
mod reconnecting;
mod record_types;
mod references;
mod rejected;
mod remote;
mod repair;
mod repair_asks;
mod repair_care;
mod resume_command;
mod rules;
mod running;
mod scripted_job;
mod secret_search;
mod secrets;
#[path = "../harness/sqld.rs"]
mod sqld;
mod staging;
mod stopping;
mod tapped;
#[path = "../harness/proxy.rs"]
mod tcp_proxy;
mod unchanged;
mod variables;
mod verify_command;
mod zoo;
