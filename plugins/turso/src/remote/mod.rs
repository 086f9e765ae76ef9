//! A libSQL server (Turso, sqld), spoken to in Hrana 3 over HTTP.
//!
//! `hrana` holds the messages, `http` carries them, `stream` is one conversation with the server; `database` asks,
//! `session` writes. What a transaction is here, and why a stolen one costs no row, is told in `transaction`; how batches
//! become statements in `pieces`; how lanes are taken over in `lanes`. `host/decisions/0006-libsql-remote.md` says why it is done by hand.

mod database;
mod fault;
mod guard;
mod hrana;
mod http;
mod lanes;
mod merge;
mod pieces;
mod removing;
mod retry;
mod session;
mod stream;
mod transaction;

pub(crate) use database::RemoteDatabase;
pub(crate) use http::authorities;
pub(crate) use session::RemoteSession;
