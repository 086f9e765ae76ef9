//! Projects of Supabase: which host, port and user their database has, and which schemas are Supabase's own.
//!
//! A project is reached directly (IPv6 unless the project pays for more) or by a pooler, which gives a connection for a session or
//! for a transaction. Neighbour: `config`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Result};

use crate::address::{Address, DEFAULT_PORT, host_and_port};
use crate::config::{Pooler, Secret};

/// The port of the pooler that gives connections for transactions.
pub(crate) const TRANSACTION_PORT: u16 = 6543;

/// The schemas that Supabase keeps for itself.
pub(crate) const SYSTEM_SCHEMAS: [&str; 20] = [
    "_analytics",
    "_realtime",
    "_supavisor",
    "auth",
    "cron",
    "dbdev",
    "extensions",
    "graphql",
    "graphql_public",
    "net",
    "pgbouncer",
    "pgmq",
    "pgsodium",
    "pgsodium_masks",
    "pgtle",
    "realtime",
    "storage",
    "supabase_functions",
    "supabase_migrations",
    "vault",
];

/// Schemas that a project's HTTP interface exposes unless its owner has said otherwise.
pub(crate) const EXPOSED_SCHEMAS: [&str; 2] = ["public", "graphql_public"];

/// A project of Supabase.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supabase {
    /// The project's name in its addresses, twenty letters. Left out: as `api_url` tells.
    #[serde(default)]
    pub project_ref: Option<String>,
    /// The password of the database, which is not the service-role key. Left out: what `SUPABASE_DB_PASSWORD` says.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_DB_PASSWORD", "writeOnly" = true))]
    pub password: Option<Secret>,
    /// The host of the project's pooler, such as `aws-0-eu-central-1.pooler.supabase.com`, if need be with a port.
    #[serde(default)]
    pub pooler_host: Option<String>,
    /// How the database is reached. Left out: `session` if there is a `pooler_host`, else `direct`.
    #[serde(default)]
    pub mode: Option<SupabaseMode>,
    /// Who connects. Left out: `postgres`.
    #[serde(default)]
    pub user: Option<String>,
    /// The address of the project's HTTP interface, which only tells what project it is. Left out: what `SUPABASE_URL` says.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_URL"))]
    pub api_url: Option<String>,
    /// The key of the HTTP interface. It does not open the database; it may be given, and what is needed instead is then said.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "SUPABASE_SERVICE_ROLE_KEY", "writeOnly" = true))]
    pub service_role_key: Option<Secret>,
}

/// How the database of a project is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SupabaseMode {
    /// by the pooler, which keeps a connection to the server for each client.
    Session,
    /// by the pooler, which may use another connection to the server for each transaction.
    Transaction,
    /// without a pooler, over IPv6 unless the project has an IPv4 address of its own.
    Direct,
}

impl Supabase {
    /// Whether anything here is meant to say which database it is; the address and the key of the HTTP interface, which may
    /// stem from the environment, are not.
    pub(crate) fn names_a_database(&self) -> bool {
        self.project_ref.is_some()
            || self.password.is_some()
            || self.pooler_host.is_some()
            || self.mode.is_some()
            || self.user.is_some()
    }

    /// The database of the project.
    pub(crate) fn address(&self) -> Result<Address> {
        let Some(password) = self
            .password
            .clone()
            .filter(|password| !password.reveal().is_empty())
        else {
            return Err(self.no_password());
        };
        let project = self.project()?;
        let user = self.user.as_deref().unwrap_or("postgres");
        let mode = self.mode.unwrap_or(match self.pooler_host {
            Some(_) => SupabaseMode::Session,
            None => SupabaseMode::Direct,
        });
        let (host, port, user, pooler) = match (mode, &self.pooler_host) {
            (SupabaseMode::Direct, _) => {
                let host = format!("db.{project}.supabase.co");
                (host, DEFAULT_PORT, user.to_owned(), Pooler::None)
            }
            (_, None) => {
                return Err(Error::config(
                    "postgres.incomplete",
                    "`supabase.pooler_host` is missing, which this `mode` needs",
                )
                .with_help("the project's page shows it under Connect, such as `aws-0-eu-central-1.pooler.supabase.com`")
                .with_place("config.supabase.mode"));
            }
            (_, Some(text)) => {
                let (port, pooler) = match mode {
                    SupabaseMode::Transaction => (TRANSACTION_PORT, Pooler::Transaction),
                    _ => (DEFAULT_PORT, Pooler::Session),
                };
                let (host, own_port) = host_and_port(text)
                    .ok()
                    .filter(|(host, _)| !host.is_empty() && !host.contains(['/', '@']))
                    .ok_or_else(|| {
                        Error::config("postgres.bad_host", "`supabase.pooler_host` is no name of a host")
                            .with_place("config.supabase.pooler_host")
                    })?;
                // The pooler tells projects apart by the user.
                let user = format!("{user}.{project}");
                (host.to_owned(), own_port.unwrap_or(port), user, pooler)
            }
        };
        Ok(Address {
            host,
            port,
            database: "postgres".to_owned(),
            user,
            password: Some(password),
            tls_mode: None,
            pooler,
            is_supabase: true,
        })
    }

    fn no_password(&self) -> Error {
        let message = if self.service_role_key.is_some() {
            "a service-role key opens the HTTP interface of Supabase, not the database"
        } else {
            "`supabase.password` is missing"
        };
        Error::config("postgres.supabase_password", message)
            .with_help(
                "set `supabase.password` (or `SUPABASE_DB_PASSWORD`) to the password of the database, which the project's \
                 page lets you reset under Database, or set `SUPABASE_DB_URL`",
            )
            .with_place("config.supabase")
    }

    fn project(&self) -> Result<&str> {
        let of_api = self.api_url.as_deref().and_then(|url| {
            let host = url.trim().strip_prefix("https://")?;
            host.split(['/', ':']).next()?.strip_suffix(".supabase.co")
        });
        let project = self.project_ref.as_deref().or(of_api).ok_or_else(|| {
            Error::config("postgres.incomplete", "`supabase.project_ref` is missing")
                .with_help("it is the first part of the project's address, `https://REF.supabase.co`")
                .with_place("config.supabase")
        })?;
        let is_name = !project.is_empty()
            && project
                .bytes()
                .all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-');
        if is_name {
            Ok(project)
        } else {
            Err(Error::config(
                "postgres.bad_project",
                "`supabase.project_ref` is no name of a project (valid: small letters and digits)",
            )
            .with_help("it is the first part of the project's address, `https://REF.supabase.co`")
            .with_place("config.supabase.project_ref"))
        }
    }
}
