//! The source role, and the reading half of the sink: the tables of a database as collections.
//!
//! Each stream has a connection of its own, so that it lives on without the source and several run side by side; look-ups hand
//! theirs on, since to log in takes longer than to find a record. What there is to read is found by `catalog` and announced by `announce`; how it is read stands in `read`.

use std::collections::HashMap;

use whimbrel_plugin_api::source::{CountRequest, QueryRequest};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, Error, ErrorKind, Finding, FindingLevel, LogLevel, OpenSource,
    Partition, PartitionsRequest, ReadRequest, RecordStream, Result, Schema, Services, Source,
    SourceCapabilities, TypeMapping,
};

use crate::announce;
use crate::catalog::{self, Table, Wanted};
use crate::check;
use crate::client::Client;
use crate::config::PostgresConfig;
use crate::connection::{Connection, Spare};
use crate::memory::{self, Remembered};
use crate::names::TableName;
use crate::read::{
    Keeper, NO_SNAPSHOT, Scan, Stored, TableStream, announced, begin, describe, describe_answer, divide,
    ensure_unchanged, key_rows, of_statement, table_of,
};
use crate::statement_text::single_statement;
use crate::type_mapping::type_mappings;

/// Streams of one source at the same time: the connections that a source may hold by default, but for the one that keeps
/// the snapshot and the one that asks for tables.
const STREAMS_MAX: u32 = 6;

/// A database that is read.
pub struct PostgresSource {
    client: Client,
    /// Whether it is no sink that is read back.
    is_source: bool,
    keeper: Keeper,
    /// A connection for whatever is asked next; look-ups bring it back when they end.
    idle: Spare,
    /// What was found of tables at a snapshot, in which nothing changes, by snapshot and collection.
    found: HashMap<(String, String), Found>,
}

/// A table and what is remembered of it.
type Found = (Table, Vec<Remembered>);

impl OpenSource for PostgresSource {
    type Config = PostgresConfig;

    fn open(config: PostgresConfig, services: Services) -> Result<Self> {
        Ok(Self {
            is_source: true,
            ..Self::of_client(Client::new(config, services)?.for_source())
        })
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            snapshot: true,
            partitions: true,
            resume: true,
            changes: false,
            lookup: true,
            query: true,
            streams_max: STREAMS_MAX,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mappings()
    }
}

impl PostgresSource {
    /// A source that connects when it is first asked for something.
    pub(crate) fn of_client(client: Client) -> Self {
        Self {
            client,
            is_source: false,
            keeper: Keeper::default(),
            idle: Spare::default(),
            found: HashMap::new(),
        }
    }

    /// A connection in a transaction that reads.
    async fn transaction(&mut self, snapshot: Option<&str>) -> Result<Connection> {
        // One that has waited since the last question may have been cut off meanwhile.
        if let Some(mut connection) = self.idle.take() {
            if begin(&mut connection, snapshot).await.is_ok() {
                return Ok(connection);
            }
            connection.close().await;
        }
        let mut connection = self.client.connect().await?;
        begin(&mut connection, snapshot).await?;
        Ok(connection)
    }

    /// Ends the transaction and keeps the connection for the next question.
    async fn done(&mut self, mut connection: Connection) {
        match connection.run("COMMIT").await {
            Ok(_) => self.idle.give_back(connection).await,
            Err(_) => connection.close().await,
        }
    }

    /// The table of a collection and what is remembered of it.
    async fn find(
        &mut self,
        connection: &mut Connection,
        collection: &str,
        snapshot: Option<&str>,
    ) -> Result<Found> {
        let place = snapshot.map(|snapshot| (snapshot.to_owned(), collection.to_owned()));
        if let Some(found) = place.as_ref().and_then(|place| self.found.get(place)) {
            return Ok(found.clone());
        }
        let config = self.client.config();
        let missing = || Error::no_collection(collection);
        let name = TableName::of_collection(collection, &config.schema).ok_or_else(missing)?;
        let tables = catalog::load(connection, Wanted::Tables(std::slice::from_ref(&name))).await?;
        let mut memory =
            memory::load(connection, &config.state_schema, &tables, config.type_settings()).await?;
        let table = tables
            .into_iter()
            .find(|table| announce::is_readable(table, &config.state_schema))
            .ok_or_else(missing)?;
        if !table.may_select {
            return Err(Error::new(
                ErrorKind::Permission,
                announce::NO_SELECT,
                format!("the table of `{collection}` may not be read"),
            )
            .with_help(announce::grant(&table)));
        }
        if self.is_source && self.client.hides_nothing() && table.has_row_security {
            return Err(announce::hidden(collection));
        }
        let found = (table, memory.remove(&name).unwrap_or_default());
        if let Some(place) = place {
            self.found.insert(place, found.clone());
        }
        Ok(found)
    }

    /// The table of a collection as it is read, and the number of its file; the transaction holds it as it is.
    async fn stored(
        &mut self,
        connection: &mut Connection,
        collection: &str,
        snapshot: Option<&str>,
        expected: Option<&Schema>,
    ) -> Result<(Stored, u32)> {
        let (table, remembered) = self.find(connection, collection, snapshot).await?;
        let file = ensure_unchanged(connection, &table, collection).await?;
        let settings = self.client.config().type_settings();
        Ok((describe(&table, &remembered, expected, settings), file))
    }

    /// Starts to read what `scan` makes of the table, on a connection that is brought back to `spare` if there is one.
    fn start(
        &mut self,
        request: &ReadRequest,
        spare: Option<Spare>,
        scan: impl FnOnce(&Stored, u32, bool) -> Result<Scan>,
    ) -> Result<Box<dyn RecordStream>> {
        let client = self.client.clone();
        let (connection, scan) = client.block_on(async {
            let snapshot = request.snapshot.as_deref();
            let mut connection = if spare.is_some() {
                self.transaction(snapshot).await?
            } else {
                let mut connection = self.client.connect().await?;
                begin(&mut connection, snapshot).await?;
                connection
            };
            let (stored, file) = self
                .stored(
                    &mut connection,
                    &request.collection,
                    snapshot,
                    request.expected.as_ref(),
                )
                .await?;
            let scan = scan(&stored, file, self.client.config().type_settings().removes_nul)?;
            connection.run(scan.preparation()).await?;
            Ok((connection, scan))
        })?;
        Ok(Box::new(TableStream::start(client, connection, scan, spare)))
    }
}

impl Source for PostgresSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let client = self.client.clone();
        client.block_on(async {
            let mut findings = check::check_source(&self.client).await;
            if findings
                .iter()
                .all(|finding| finding.level != FindingLevel::Blocker)
            {
                let mut connection = self.transaction(None).await?;
                let tables = announce::tables(&self.client, &mut connection, &[]).await?;
                findings.extend(announce::findings(&tables, self.client.config()));
                self.done(connection).await;
                match self.keeper.open(&self.client).await {
                    Ok(snapshot) => self.keeper.close(&snapshot).await,
                    Err(error) if error.code == NO_SNAPSHOT => {
                        let finding = Finding::warning(error.code, error.message);
                        findings.push(finding.with_help(error.help.unwrap_or_default()));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(findings)
        })
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let client = self.client.clone();
        client.block_on(async {
            let mut connection = self.transaction(None).await?;
            let tables = announce::tables(&self.client, &mut connection, &request.names).await?;
            let config = self.client.config();
            let memory = memory::load(
                &mut connection,
                &config.state_schema,
                &tables,
                config.type_settings(),
            )
            .await?;
            let mut collections = announce::collections(&tables, &memory, config);
            collections.retain(|collection| request.wants(&collection.name));
            self.done(connection).await;
            Ok(collections)
        })
    }

    fn open_snapshot(&mut self) -> Result<Option<String>> {
        let client = self.client.clone();
        match client.block_on(self.keeper.open(&client)) {
            // The check has said so.
            Err(error) if error.code == NO_SNAPSHOT => {
                client.services().log(LogLevel::Warn, error.message);
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    fn close_snapshot(&mut self, snapshot: &str) -> Result<()> {
        self.found.retain(|(of, _), _| of != snapshot);
        let client = self.client.clone();
        client.block_on(async {
            self.keeper.close(snapshot).await;
            Ok(())
        })
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        let client = self.client.clone();
        client.block_on(async {
            let snapshot = request.snapshot.as_deref();
            let mut connection = self.transaction(snapshot).await?;
            let (stored, file) = self
                .stored(&mut connection, &request.collection, snapshot, None)
                .await?;
            let parts = divide(&mut connection, &stored, request.wanted, file, snapshot).await?;
            self.done(connection).await;
            Ok(parts)
        })
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        self.start(request, None, |stored, file, removes_nul| {
            Scan::new(stored, request, file, removes_nul)
        })
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let client = self.client.clone();
        client.block_on(async {
            let snapshot = request.snapshot.as_deref();
            let mut connection = self.transaction(snapshot).await?;
            let (stored, _) = self
                .stored(&mut connection, &request.collection, snapshot, None)
                .await?;
            let sql = format!("SELECT pg_catalog.count(*) FROM {}", table_of(&stored.table));
            let count = connection.value(&sql).await?.and_then(|count| count.parse().ok());
            self.done(connection).await;
            count
                .ok_or_else(|| Error::internal("a count has an unexpected form"))
                .map(Some)
        })
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let spare = self.idle.clone();
        self.start(request, Some(spare), |stored, _, removes_nul| {
            if stored.key.is_empty() {
                return Err(Error::unsupported("lookup in a table without a key"));
            }
            Scan::lookup(stored, request, &key_rows(stored, keys)?, removes_nul)
        })
    }

    fn query(&mut self, request: &QueryRequest) -> Result<Box<dyn RecordStream>> {
        let statement = single_statement(&request.statement)?;
        let settings = self.client.config().type_settings();
        let client = self.client.clone();
        let (connection, scan) = client.block_on(async {
            let mut connection = self.client.connect().await?;
            begin(&mut connection, None).await?;
            let columns = announced(&mut connection, statement)
                .await
                .map_err(of_statement)?;
            let columns = catalog::answer_columns(&mut connection, columns).await?;
            let fields = describe_answer(&columns, settings);
            let scan = Scan::statement(statement, &fields, request.batch, settings.removes_nul)?;
            Ok((connection, scan))
        })?;
        Ok(Box::new(TableStream::start(client, connection, scan, None)))
    }
}
