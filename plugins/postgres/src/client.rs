//! Opens connections as the config says.
//!
//! Neighbour: `connection` is what one of them can do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::{Error, ErrorKind, Result, Services};

use crate::address::Address;
use crate::config::{Pooler, PostgresConfig, RowSecurity};
use crate::connection::{Connection, Settings};
use crate::error::of_connecting;
use crate::tls;

/// What connections of one opened role share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<PostgresConfig>,
    address: Arc<Address>,
    options: Arc<PgConnectOptions>,
    settings: Arc<Settings>,
    free: Arc<Semaphore>,
    services: Services,
    runtime: &'static Runtime,
}

impl Client {
    /// Connects nowhere yet, but judges all of the config.
    pub(crate) fn new(config: PostgresConfig, services: Services) -> Result<Self> {
        let address = config.address()?;
        let options = tls::apply(options(&config, &address), &config.tls, &address)?;
        Ok(Self {
            options: Arc::new(options),
            settings: Arc::new(Settings {
                reading: config.settings(true),
                writing: config.settings(false),
            }),
            free: Arc::new(Semaphore::new(
                usize::try_from(config.pool_size).unwrap_or(usize::MAX >> 3),
            )),
            address: Arc::new(address),
            config: Arc::new(config),
            services,
            runtime: Runtime::get()?,
        })
    }

    /// The same, but that the server refuses to read tables of which it would hide records, unless the config wants what is visible.
    pub(crate) fn for_source(mut self) -> Self {
        if self.hides_nothing() {
            self.settings = Arc::new(Settings {
                reading: format!("{} SET LOCAL row_security = off;", self.settings.reading),
                writing: self.settings.writing.clone(),
            });
        }
        self
    }

    /// Whether tables of which records are hidden are not read at all.
    pub(crate) fn hides_nothing(&self) -> bool {
        self.config.row_security == RowSecurity::Refuse
    }

    pub(crate) fn config(&self) -> &PostgresConfig {
        &self.config
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// What the job and the address say of a pooler; `Auto` if they say nothing.
    pub(crate) fn pooler(&self) -> Pooler {
        match self.config.pooler {
            Pooler::Auto => self.address.pooler,
            told => told,
        }
    }

    /// Runs `future` on this thread until it ends or the host cancels.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(&self.services, future)
    }

    /// Runs `future` beside this thread, on the plugin's runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// A further connection, within the time limit for connecting. Waits as long for one of `pool_size` to be closed.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let limit = Duration::from_millis(self.config.connect_timeout_ms.into());
        let permit = tokio::time::timeout(limit, Arc::clone(&self.free).acquire_owned())
            .await
            .ok()
            .and_then(std::result::Result::ok)
            .ok_or_else(|| {
                let message = format!("all {} connections are in use", self.config.pool_size);
                Error::new(ErrorKind::Unavailable, "postgres.pool_size", message)
                    .with_help("raise `pool_size`")
            })?;
        let inner = match tokio::time::timeout(limit, self.options.connect()).await {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => return Err(of_connecting(&error, &self.address)),
            Err(_) => {
                let message = format!(
                    "`{}` did not answer within {} ms",
                    self.address.name(),
                    limit.as_millis()
                );
                return Err(
                    Error::new(ErrorKind::Unavailable, "postgres.connect_timeout", message)
                        .with_help("see whether a firewall is in the way, or raise `connect_timeout_ms`"),
                );
            }
        };
        Ok(Connection::new(inner, Arc::clone(&self.settings), permit))
    }
}

fn options(config: &PostgresConfig, address: &Address) -> PgConnectOptions {
    // Whatever is not set here comes from variables such as `PGPASSWORD`, which are not asked for.
    let options = PgConnectOptions::new_without_pgpass()
        .host(&address.host)
        .port(address.port)
        .username(&address.user)
        .password(address.password.as_ref().map_or("", |password| password.reveal()))
        .database(&address.database)
        .application_name(&config.application_name);
    options
        // Poolers refuse it; it is set in each transaction.
        .extra_float_digits(None)
        // Statements hold names and keys of records.
        .disable_statement_logging()
}
