//! What each SQLSTATE means for a run, as tables.
//!
//! Codes are stable: the host, reports and the README name them. Neighbour: `error` adds names to the sentences.

use whimbrel_plugin_api::ErrorKind::{
    Config, Exists, Integrity, Internal, InvalidData, NotFound, Permission, Timeout, Unauthenticated,
    Unavailable, Unsupported,
};
use whimbrel_plugin_api::ErrorScope::{Session, Transaction, Write};
use whimbrel_plugin_api::{ErrorKind, ErrorScope};

/// What a SQLSTATE means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) kind: ErrorKind,
    pub(super) code: &'static str,
    pub(super) scope: ErrorScope,
    pub(super) message: &'static str,
    pub(super) help: Option<&'static str>,
    /// Somebody must repair something before the same call can succeed.
    pub(super) pauses: bool,
}

/// SQLSTATEs or how they begin, with code and message; the entry that says most of a SQLSTATE counts.
macro_rules! meanings {
    ($($kind:ident $scope:ident: $($start:literal $code:literal $message:literal,)+)+) => {
        /// What each SQLSTATE means.
        const MEANINGS: &[(ErrorKind, ErrorScope, &[Entry])] = &[
            $(($kind, $scope, &[$(($start, concat!("postgres.", $code), $message)),+])),+
        ];
    };
}

/// A SQLSTATE or how several begin, its code, and its message.
type Entry = (&'static str, &'static str, &'static str);

meanings! {
    Unavailable Session:
    "08" "connection_lost" "the connection to the database was lost",
    "53300" "too_many_connections" "the server takes no further connection",
    "57P03" "starting" "the server is starting or stopping",
    "57P" "connection_lost" "the server ended the connection",
    Unsupported Transaction:
    "0A" "unsupported" "the database does not support this",
    Internal Write:
    "21" "cardinality" "one statement concerns a record twice",
    InvalidData Write:
    "22001" "text_too_long" "a text is longer than its column allows",
    "22003" "out_of_range" "a number is out of the range of its column",
    "22008" "out_of_range" "a date or time is out of the range of its column",
    "22021" "wrong_encoding" "a text is not in the encoding of the database",
    "22P05" "wrong_encoding" "a text has letters that the encoding of the database lacks",
    "22P02" "wrong_type" "a text is no value of its column's type",
    "22P03" "wrong_type" "a value is none of its column's type",
    "22" "invalid_value" "the database cannot hold a value",
    "54" "too_large" "a record is larger than the database can hold",
    "P0" "trigger_refused" "a trigger or a function refuses a record",
    Internal Transaction:
    "22P04" "bad_copy" "the database cannot read what is copied into it",
    "22P06" "bad_statement" "the database cannot read the statement",
    "25P02" "transaction_failed" "the transaction had failed before",
    "42601" "bad_statement" "the database cannot read the statement",
    "42" "bad_statement" "the database does not take the statement",
    "XX" "server_defect" "the server failed within itself",
    Integrity Write:
    "23502" "null_in_required" "a column takes no null",
    "23503" "foreign_key" "a record points to another one that is not there, or is pointed to",
    "23505" "unique" "another record has the same value where values must be unique",
    "23514" "check_failed" "a check of the table refuses a record",
    "23P01" "exclusion" "a record excludes another one that is there",
    "23" "constraint" "a constraint of the table refuses a record",
    "44" "check_failed" "the condition of a view refuses a record",
    Unavailable Transaction:
    "25006" "read_only" "the database takes no writes",
    "40001" "serialization" "the transaction got in the way of another one",
    "40P01" "deadlock" "the transaction and another one waited for each other",
    "40" "rolled_back" "the database took the transaction back",
    "53100" "disk_full" "the disk of the server is full",
    "53200" "out_of_memory" "the server has no memory left",
    "53" "no_resources" "the server has reached one of its limits",
    "55P03" "lock_timeout" "another session holds a lock for too long",
    "55006" "in_use" "another session uses this",
    "57" "interrupted" "the server interrupted the statement",
    "58" "server_io" "the server cannot read or write its files",
    "72000" "snapshot_lost" "the server no longer has the records of that instant",
    Timeout Session:
    "25P03" "idle_in_transaction" "the transaction did nothing for too long",
    "25P04" "transaction_timeout" "the transaction took longer than the server allows",
    Unauthenticated Session:
    "28P01" "wrong_password" "the database refuses the password",
    "28" "refused_login" "the database refuses the login",
    NotFound Session:
    "3D000" "no_database" "there is no such database",
    "57P04" "no_database" "the database was dropped",
    NotFound Transaction:
    "3F000" "no_schema" "there is no such schema",
    "42P01" "no_table" "there is no such table",
    "42703" "no_column" "there is no such column",
    "42704" "no_object" "there is no such type or other object",
    "42883" "no_function" "there is no such function or operator",
    Permission Transaction:
    "42501" "no_permission" "a right is missing",
    Exists Transaction:
    "42701" "exists" "a column of this name is there already",
    "42710" "exists" "an object of this name is there already",
    "42P06" "exists" "a schema of this name is there already",
    "42P07" "exists" "a table of this name is there already",
    Config Transaction:
    "54011" "too_many_columns" "a table cannot have that many columns",
    Timeout Transaction:
    "57014" "statement_timeout" "a statement took too long, or somebody cancelled it",
    Integrity Session:
    "XX001" "corrupt" "the database is damaged",
    "XX002" "corrupt" "an index of the database is damaged",
}

/// What can be done, by code.
const HELPS: &[(&str, &str)] = &[
    (
        "postgres.read_only",
        "use the address of the primary server, or end its read-only mode (`default_transaction_read_only`)",
    ),
    (
        "postgres.idle_in_transaction",
        "raise `idle_in_transaction_timeout_ms`",
    ),
    (
        "postgres.wrong_password",
        "correct the password, or the user that it belongs to",
    ),
    (
        "postgres.refused_login",
        "see whether the user exists and may come from this host (`pg_hba.conf`), with TLS or without it (`tls.mode`)",
    ),
    ("postgres.no_permission", "grant it to the user"),
    ("postgres.disk_full", "make room, then go on"),
    (
        "postgres.too_many_connections",
        "end other connections, or raise `max_connections` of the server or the limit of the user or the pooler",
    ),
    (
        "postgres.lock_timeout",
        "let the other session end, or raise `lock_timeout_ms`",
    ),
    (
        "postgres.statement_timeout",
        "raise `statement_timeout_ms`, or the limit of the user in the database",
    ),
];

/// Codes of what somebody must repair before the same call can succeed. A server that is starting or stopping is none of
/// these: the tries that every lost connection gets are enough for a restart, and end soon if it has gone for good.
const PAUSING: &[&str] = &[
    "postgres.read_only",
    "postgres.disk_full",
    "postgres.out_of_memory",
    "postgres.too_many_connections",
    "postgres.no_resources",
];

/// Whatever is not in the table.
const OTHER: (ErrorKind, ErrorScope, Entry) = (
    Internal,
    Transaction,
    ("", "postgres.failed", "the database refused the statement"),
);

/// What `sqlstate` means.
pub(super) fn meaning(sqlstate: &str) -> Meaning {
    let (kind, scope, (_, code, message)) = MEANINGS
        .iter()
        .flat_map(|(kind, scope, entries)| entries.iter().map(|entry| (*kind, *scope, *entry)))
        .filter(|(_, _, (start, ..))| sqlstate.starts_with(start))
        .max_by_key(|(_, _, (start, ..))| start.len())
        .unwrap_or(OTHER);
    Meaning {
        kind,
        code,
        scope,
        message,
        help: HELPS.iter().find(|(of, _)| *of == code).map(|(_, help)| *help),
        pauses: PAUSING.contains(&code),
    }
}

/// Whether the words of the server speak of the server, of rights or of names, and never of values.
pub(super) fn is_free_of_values(sqlstate: &str) -> bool {
    let classes = ["08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58"];
    let is_of_statement = matches!(sqlstate, "42601" | "42602" | "42622");
    classes.iter().any(|class| sqlstate.starts_with(class)) && !is_of_statement
}

/// Every code that a SQLSTATE may lead to.
#[cfg(test)]
pub(super) fn codes() -> Vec<&'static str> {
    let entries = MEANINGS.iter().flat_map(|(_, _, entries)| entries.iter());
    entries.map(|(_, code, _)| *code).chain([OTHER.2.1]).collect()
}
