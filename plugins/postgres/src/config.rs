//! The plugin's part of the job file. The doc comments of the fields are the table in the README.
//!
//! Which database the fields name is found out by `address` and `supabase`, how the server proves itself by `tls`;
//! `client` opens it.

mod choices;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Result};

use crate::address::Address;
use crate::supabase;
pub use crate::supabase::Supabase;
use crate::type_mapping::TypeSettings;
pub use choices::{Absent, Arrays, JsonStorage, Nul, Numeric, Pooler, RowSecurity};

/// How long a server may take to accept a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u32 = 10_000;
/// How long to wait for a lock, in milliseconds: longer than a commit of another run takes, shorter than a night.
const LOCK_TIMEOUT_MS: u32 = 60_000;
/// How long a writing transaction may do nothing, in milliseconds, before the server ends it for the sake of others.
const IDLE_TIMEOUT_MS: u32 = 600_000;
/// Connections that one opened source or sink may hold.
const POOL_SIZE: u32 = 8;

/// Where the database is and how it is read and written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The database: `postgres://user:password@host:port/database`, with `?sslmode=..` if need be. Special characters of
    /// names and passwords are written as `%40` and the like. Instead of it `host` or `supabase` may name the database.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true, "x-whimbrel-place" = true))]
    pub url: Option<Secret>,
    /// The database if neither `url` nor `host` nor `supabase` names one, written as `url` is. Left out: what
    /// `SUPABASE_DB_URL` says.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_DB_URL", "writeOnly" = true, "x-whimbrel-place" = true))]
    pub default_url: Option<Secret>,
    /// The host of the server, or the folder of its socket, such as `/run/postgresql`; `user` and `database` belong to it.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub host: Option<String>,
    /// The port, beside `host`. Left out: 5432.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-whimbrel-place" = true))]
    pub port: Option<u16>,
    /// The name of the database, beside `host`.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub database: Option<String>,
    /// Who connects, beside `host`.
    #[serde(default)]
    pub user: Option<String>,
    /// The password, beside `host`.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<Secret>,
    /// A project of Supabase.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub supabase: Option<Supabase>,
    /// The schema whose tables have plain names; collections of others are called `schema.table`.
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1), extend("x-whimbrel-place" = true))]
    pub schema: String,
    /// The schemas that the source reads. Left out: all but those of PostgreSQL, of Supabase and of whimbrel itself.
    #[serde(default)]
    pub schemas: Option<Vec<String>>,
    /// Whether the source also offers views, materialized views and foreign tables; a sink makes tables of them.
    #[serde(default)]
    pub views: bool,
    /// The schema in which the sink keeps what it must remember. It is made if it does not exist, and nobody else has
    /// rights in it.
    #[serde(default = "default_state_schema")]
    #[schemars(length(min = 1))]
    pub state_schema: String,
    /// Whether the sink makes schemas that do not exist.
    #[serde(default = "yes")]
    pub create_schemas: bool,
    /// How the server proves who it is, and how we do.
    #[serde(default)]
    pub tls: Tls,
    /// The name under which the server lists the connections.
    #[serde(default = "default_application_name")]
    pub application_name: String,
    /// How long a server may take to accept a connection, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    #[schemars(range(min = 1, max = 600_000))]
    pub connect_timeout_ms: u32,
    /// How long one statement may take, in milliseconds; 0 for as long as it likes. Reading a whole table is one
    /// statement.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub statement_timeout_ms: u32,
    /// How long to wait while another session holds a lock, in milliseconds; 0 for ever.
    #[serde(default = "lock_timeout_ms")]
    #[schemars(range(max = 2_147_483_647))]
    pub lock_timeout_ms: u32,
    /// How long a writing transaction may wait for records, in milliseconds, before the server ends it; 0 for ever.
    #[serde(default = "idle_timeout_ms")]
    #[schemars(range(max = 2_147_483_647))]
    pub idle_in_transaction_timeout_ms: u32,
    /// How many connections one opened source or sink may hold at the same time.
    #[serde(default = "pool_size")]
    #[schemars(range(min = 2, max = 1000))]
    pub pool_size: u32,
    /// What stands between here and the server. It changes nothing but what is reported.
    #[serde(default)]
    pub pooler: Pooler,
    /// What the source does with tables whose row-level security hides records from whoever connects.
    #[serde(default)]
    pub row_security: RowSecurity,
    /// How JSON is stored in new columns.
    #[serde(default)]
    pub json: JsonStorage,
    /// How arrays are read.
    #[serde(default)]
    pub arrays: Arrays,
    /// How numbers with a fixed number of digits are read.
    #[serde(default)]
    pub numeric: Numeric,
    /// What becomes of texts with a NUL character, which PostgreSQL cannot hold.
    #[serde(default)]
    pub nul: Nul,
    /// What becomes of fields that a record does not have, as far as the source tells them from null.
    #[serde(default)]
    pub absent: Absent,
}

/// How the server proves who it is, and how we do.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// What is asked of the server. Left out: what `sslmode` in the `url` says, else `verify-full`, except for servers on
    /// this machine, which are spoken to without TLS.
    #[serde(default)]
    pub mode: Option<TlsMode>,
    /// A file of PEM certificates of authorities that are believed beside the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with our certificate in PEM, for servers that ask for one; `client_key_file` belongs to it.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    /// A file with the key of our certificate in PEM. Nobody else may be able to read it.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// a certificate of a known authority for the host that was asked for.
    VerifyFull,
    /// a certificate of a known authority, for whatever host.
    VerifyCa,
    /// TLS, whoever answers.
    Require,
    /// TLS if the server offers it, whoever answers.
    Prefer,
    /// nothing: everybody on the way reads the password and the records.
    Disable,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl PostgresConfig {
    /// The one database that the config names, and whatever else can be judged without going there.
    pub(crate) fn address(&self) -> Result<Address> {
        let is_exposed = supabase::EXPOSED_SCHEMAS.contains(&self.state_schema.as_str());
        if self.state_schema == self.schema || is_exposed {
            return Err(Error::config(
                "postgres.state_schema",
                format!(
                    "`state_schema` is `{}`, whose tables are read and written",
                    self.state_schema
                ),
            )
            .with_help("name a schema of its own, such as `whimbrel`")
            .with_place("config.state_schema"));
        }
        self.refuse_nul()?;
        let host_keys = [
            ("port", self.port.is_some()),
            ("database", self.database.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
        ];
        let loose = host_keys
            .iter()
            .find(|(_, is_there)| *is_there && self.host.is_none());
        if let Some((key, _)) = loose {
            return Err(Error::config(
                "postgres.no_host",
                format!("`{key}` belongs to `host`, which is missing"),
            )
            .with_help("add `host`, or put everything into `url`")
            .with_place(format!("config.{key}")));
        }
        let supabase = self.supabase.as_ref();
        let named: Vec<_> = [
            ("url", self.url.is_some()),
            ("host", self.host.is_some()),
            ("supabase", supabase.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_there)| is_there.then_some(key))
        .collect();
        match named[..] {
            ["url"] => Address::of_url(self.url.as_ref().map_or("", Secret::reveal), "config.url"),
            ["host"] => self.address_of_host(),
            [] | ["supabase"] => match (&self.default_url, supabase) {
                // A project that is named must not give way to another one that the environment knows.
                (_, Some(supabase)) if supabase.names_a_database() => supabase.address(),
                (Some(url), _) => Address::of_url(url.reveal(), "config.default_url"),
                (None, Some(supabase)) => supabase.address(),
                (None, None) => Err(unnamed()),
            },
            [_] => Err(unnamed()),
            [first, second, ..] => Err(Error::config(
                "postgres.named_twice",
                format!("both `{first}` and `{second}` name a database"),
            )
            .with_help("keep one of `url`, `host` and `supabase`")
            .with_place(format!("config.{second}"))),
        }
    }

    /// To the server a name would end there.
    fn refuse_nul(&self) -> Result<()> {
        let supabase = self.supabase.as_ref();
        let texts = [
            ("host", self.host.as_deref()),
            ("database", self.database.as_deref()),
            ("user", self.user.as_deref()),
            ("password", self.password.as_ref().map(Secret::reveal)),
            ("application_name", Some(self.application_name.as_str())),
            ("schema", Some(self.schema.as_str())),
            ("state_schema", Some(self.state_schema.as_str())),
            ("supabase", supabase.and_then(|supabase| supabase.user.as_deref())),
        ];
        let has_nul = |text: &Option<&str>| text.is_some_and(|text| text.contains('\0'));
        match texts.iter().find(|(_, text)| has_nul(text)) {
            Some((key, _)) => Err(Error::config(
                "postgres.nul_in_config",
                format!("`{key}` has a NUL character"),
            )
            .with_place(format!("config.{key}"))),
            None => Ok(()),
        }
    }

    fn address_of_host(&self) -> Result<Address> {
        let required = |key: &str, value: &Option<String>| match value {
            Some(value) if !value.is_empty() => Ok(value.clone()),
            _ => Err(Error::config(
                "postgres.incomplete",
                format!("`{key}` is missing, which belongs to `host`"),
            )
            .with_place(format!("config.{key}"))),
        };
        Ok(Address {
            host: required("host", &self.host)?,
            port: self.port.unwrap_or(crate::address::DEFAULT_PORT),
            database: required("database", &self.database)?,
            user: required("user", &self.user)?,
            password: self.password.clone(),
            tls_mode: None,
            pooler: Pooler::Auto,
            is_supabase: false,
        })
    }

    /// What the job says of types.
    pub(crate) fn type_settings(&self) -> TypeSettings {
        TypeSettings {
            json_as_text: self.json == JsonStorage::Json,
            arrays_as_text: self.arrays == Arrays::Text,
            numerics_as_text: self.numeric == Numeric::Text,
            removes_nul: self.nul == Nul::Remove,
        }
    }

    /// How long who must not wait for ever waits for others, in milliseconds.
    pub(crate) fn lock_limit_ms(&self) -> u32 {
        match self.lock_timeout_ms {
            0 => LOCK_TIMEOUT_MS,
            limit => limit,
        }
    }

    /// The `SET LOCAL` statements for the start of a transaction.
    ///
    /// Time-outs; and how values are written as texts, whatever the server, the database or the user is set to. A
    /// transaction that only reads may idle: it waits for nobody but the sink, and nobody waits for it.
    pub(crate) fn settings(&self, is_read_only: bool) -> String {
        let idle = if is_read_only {
            0
        } else {
            self.idle_in_transaction_timeout_ms
        };
        format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL DateStyle = 'ISO, MDY'; \
             SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; \
             SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = on;",
            self.statement_timeout_ms, self.lock_timeout_ms
        )
    }
}

fn unnamed() -> Error {
    Error::config("postgres.unnamed", "the config names no database")
        .with_help(
            "give `url`, or `host` with `user` and `database`, or `supabase`, or set `SUPABASE_DB_URL`; a service-role \
             key of Supabase alone does not open the database",
        )
        .with_place("config")
}

fn default_schema() -> String {
    "public".to_owned()
}

fn default_state_schema() -> String {
    "whimbrel".to_owned()
}

fn default_application_name() -> String {
    "whimbrel".to_owned()
}

const fn yes() -> bool {
    true
}

const fn connect_timeout_ms() -> u32 {
    CONNECT_TIMEOUT_MS
}

const fn lock_timeout_ms() -> u32 {
    LOCK_TIMEOUT_MS
}

const fn idle_timeout_ms() -> u32 {
    IDLE_TIMEOUT_MS
}

const fn pool_size() -> u32 {
    POOL_SIZE
}
