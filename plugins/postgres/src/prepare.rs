//! Makes room for collections: where each field goes, what is in the way, and the statements that make the tables.
//!
//! All of it happens in one transaction. What is missing is made in it even if nothing may be changed: then the
//! transaction is rolled back, and the answer is the same as with a commit. Two runs at once take turns by an advisory
//! lock of the transaction. Existing tables are compared, and altered only where [`Growth`] says so.

mod compare;
mod ddl;
mod facts;
mod place;
mod remember;
mod settle;
mod table_name;

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::sink::PrepareReport;
use whimbrel_plugin_api::{Collection, Error, Finding, FindingLevel, Result};

use self::compare::Comparison;
use self::facts::{SchemaFacts, Session, TableFacts};
use self::place::{Place, shown};
use self::table_name::table_names;
use crate::catalog::{self, Table, Wanted};
use crate::connection::Connection;
use crate::memory::{self, Memory};
use crate::names::{TableName, quote};
use crate::target::Target;
use crate::type_mapping::TypeSettings;

pub(crate) use self::ddl::column_list;
pub(crate) use self::facts::{Session as SessionFacts, from as from_table, session as session_facts};
pub(crate) use self::place::{COLUMNS_MAX, Growth, NAME_BYTES_MAX as IDENTIFIER_BYTES_MAX};

/// The advisory lock under which tables are made: `whimbrel` in ASCII.
const LOCK: i64 = 0x7768_696d_6272_656c;

/// What the job says of all tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The schema whose tables have plain names.
    pub(crate) default_schema: String,
    /// The schema of whimbrel's own.
    pub(crate) state_schema: String,
    /// Whether schemas of targets are made.
    pub(crate) creates_schemas: bool,
    /// Whether absent fields are kept apart from null.
    pub(crate) keeps_absent: bool,
    pub(crate) types: TypeSettings,
}

/// What is to be prepared.
pub(crate) struct Wish<'request> {
    pub(crate) collections: &'request [Collection],
    pub(crate) growth: Growth,
    /// Where batches of an earlier schema go, which may still come.
    pub(crate) before: Option<&'request Target>,
    /// Whether nothing may be changed.
    pub(crate) is_dry: bool,
}

/// What was done, or would be.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) report: PrepareReport,
    /// The collections with their places, in the order of the request; empty if something is in the way.
    pub(crate) targets: Vec<(String, Target)>,
}

impl Plan {
    /// Whether something is in the way.
    pub(crate) fn is_blocked(&self) -> bool {
        is_blocked(&self.report.findings)
    }
}

fn is_blocked(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.level == FindingLevel::Blocker)
}

/// Carries out `wish`.
///
/// # Errors
/// What the database reports; then nothing is changed.
pub(crate) async fn prepare(
    connection: &mut Connection,
    settings: &Settings,
    wish: &Wish<'_>,
) -> Result<Plan> {
    connection.begin("ISOLATION LEVEL READ COMMITTED").await?;
    match within(connection, settings, wish).await {
        Ok(plan) if wish.is_dry || plan.is_blocked() => {
            connection.run("ROLLBACK").await?;
            Ok(plan)
        }
        Ok(plan) => {
            connection.run("COMMIT").await?;
            Ok(plan)
        }
        Err(error) => {
            // The connection may be what failed; the error says so.
            drop(connection.run("ROLLBACK").await);
            Err(error)
        }
    }
}

async fn within(connection: &mut Connection, settings: &Settings, wish: &Wish<'_>) -> Result<Plan> {
    let mut draft = Draft::make(connection, settings, wish).await?;
    if !draft.is_blocked() && draft.has_statements() {
        take_turns(connection).await?;
        // Another run may have been first.
        draft = Draft::make(connection, settings, wish).await?;
        if !draft.is_blocked() {
            for statement in &draft.ddl {
                connection.run(statement).await?;
            }
            let names: Vec<TableName> = draft.places.iter().map(|place| place.name.clone()).collect();
            draft.tables = catalog::load(connection, Wanted::Tables(&names)).await?;
        }
    }
    let plan = settle::settle(connection, settings, wish, draft).await?;
    Ok(plan)
}

/// Waits until no other run makes tables; until the end of the transaction.
pub(crate) async fn take_turns(connection: &mut Connection) -> Result<()> {
    connection
        .run(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    Ok(())
}

/// What was looked at, and what is to be done.
struct Draft<'request> {
    session: Session,
    schemas: BTreeMap<String, SchemaFacts>,
    /// The tables as they are, after `ddl` if that was carried out.
    tables: Vec<Table>,
    /// What they were like before that; by number.
    facts: BTreeMap<u32, TableFacts>,
    /// Names by which the database knows opaque types.
    types: BTreeMap<String, String>,
    places: Vec<Place<'request>>,
    /// Statements that make tables and schemas.
    ddl: Vec<String>,
}

impl<'request> Draft<'request> {
    async fn make(connection: &mut Connection, settings: &Settings, wish: &Wish<'request>) -> Result<Self> {
        let names: Vec<(TableName, Option<Finding>)> = table_names(wish.collections, settings);
        let wanted: Vec<TableName> = names
            .iter()
            .filter(|(_, finding)| finding.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let session = facts::session(connection).await?;
        let mut schemas: BTreeSet<&str> = wanted.iter().map(|name| name.schema.as_str()).collect();
        schemas.insert(&settings.state_schema);
        let schemas = facts::schemas(connection, &schemas).await?;
        let types = facts::types(
            connection,
            &settings.default_schema,
            &opaque_names(wish.collections),
        )
        .await?;
        let tables = if wanted.is_empty() {
            Vec::new()
        } else {
            catalog::load(connection, Wanted::Tables(&wanted)).await?
        };
        let facts = facts::tables(connection, &tables).await?;
        let memory = memory::load(connection, &settings.state_schema, &tables, settings.types).await?;
        let missing: Vec<&TableName> = wanted
            .iter()
            .filter(|name| tables.iter().all(|table| table.name != **name))
            .collect();
        let taken = facts::taken(connection, &missing).await?;
        let mut draft = Self {
            session,
            schemas,
            tables,
            facts,
            types,
            places: Vec::new(),
            ddl: Vec::new(),
        };
        draft.place_all(settings, wish, names, memory, &taken);
        Ok(draft)
    }

    fn place_all(
        &mut self,
        settings: &Settings,
        wish: &Wish<'request>,
        names: Vec<(TableName, Option<Finding>)>,
        mut memory: Memory,
        taken: &BTreeMap<TableName, &'static str>,
    ) {
        let mut new_schemas = BTreeSet::new();
        for (collection, (name, bad_name)) in wish.collections.iter().zip(names) {
            let existing = self
                .tables
                .iter()
                .find(|table| table.name == name && bad_name.is_none())
                .cloned();
            let previous = memory.remove(&name).unwrap_or_default();
            let schema = self.schemas.get(&name.schema).copied().unwrap_or_default();
            let mut place = Place::new(
                collection,
                name,
                existing,
                previous,
                &self.types,
                settings,
                wish.growth,
            );
            let is_named = bad_name.is_none();
            place.findings.extend(bad_name);
            if is_named {
                let makes_schema = self.check_room(&mut place, schema, settings, taken);
                if makes_schema && new_schemas.insert(place.name.schema.clone()) {
                    self.ddl.push(ddl::create_schema(&place.name.schema));
                }
                self.compare(&mut place, settings);
            }
            self.ddl.extend(place.ddl.iter().cloned());
            self.places.push(place);
        }
    }

    /// Looks whether a table can be made, and answers whether its schema must be made first.
    fn check_room(
        &self,
        place: &mut Place<'_>,
        schema: SchemaFacts,
        settings: &Settings,
        taken: &BTreeMap<TableName, &'static str>,
    ) -> bool {
        let (user, name) = (quote(&self.session.user), place.name.clone());
        let quoted = quote(&name.schema);
        if self.session.is_read_only {
            place.block(
                "postgres.read_only",
                "the database takes no changes: it is a standby, or its transactions are read-only by default",
                "connect to the primary server, or reset `default_transaction_read_only`",
            );
            return false;
        }
        if let Some(what) = taken.get(&name) {
            let message = format!("the name {} belongs to {what}", name.sql());
            place.block(
                "postgres.name_taken",
                message,
                "name the collection otherwise in the sink",
            );
        }
        if !schema.exists {
            let collection = shown(&place.collection.name);
            let message = format!("there is no schema {quoted} for the collection `{collection}`");
            if !settings.creates_schemas {
                let help = format!(
                    "`create_schemas: true`, or `CREATE SCHEMA {quoted}`; a table of the schema {} whose name has a dot is written \
                     `\"a.b\"`, with the double quotes",
                    quote(&settings.default_schema)
                );
                place.block("postgres.schema_missing", message, help);
            } else if !self.session.may_create_schemas {
                let help = format!(
                    "`GRANT CREATE ON DATABASE {} TO {user}`",
                    quote(&self.session.database)
                );
                place.lack(
                    "postgres.schema_missing",
                    format!("{message}, and no right to make it"),
                    help,
                );
            }
            return settings.creates_schemas;
        }
        let is_new = place.existing.is_none();
        if !schema.may_use || (is_new && !schema.may_create) {
            let rights = if is_new { "USAGE, CREATE" } else { "USAGE" };
            let message = format!(
                "`{}` lacks rights in the schema {quoted}: {rights}",
                self.session.user
            );
            place.lack(
                "postgres.right_missing",
                message,
                format!("`GRANT {rights} ON SCHEMA {quoted} TO {user}`"),
            );
        }
        false
    }

    fn compare(&self, place: &mut Place<'_>, settings: &Settings) {
        let Some(table) = place.existing.clone() else {
            return;
        };
        let facts = self.facts.get(&table.oid).copied().unwrap_or_default();
        // Columns that are about to be added are no longer missing.
        let mut comparison = Comparison {
            table: &table,
            place,
            settings,
            types: &self.types,
            user: &self.session.user,
            is_empty: facts.record_count == Some(0),
        }
        .findings();
        if !place.ddl.is_empty() {
            comparison.retain(|finding| finding.code != "postgres.column_missing");
            if !table.is_owner {
                let message = format!("only the owner of {} may add columns", table.name.sql());
                place.lack(
                    "postgres.right_missing",
                    message,
                    "`on_new_field: fail`, or write as the owner",
                );
            }
        }
        place.findings.extend(comparison);
    }

    fn is_blocked(&self) -> bool {
        self.places.iter().any(|place| is_blocked(&place.findings))
    }

    fn has_statements(&self) -> bool {
        !self.ddl.is_empty()
    }
}

fn opaque_names(collections: &[Collection]) -> BTreeSet<&str> {
    let fields = collections
        .iter()
        .flat_map(|collection| &collection.schema.fields);
    let names = fields.filter_map(|field| match &field.record_type {
        RecordType::Opaque { name } => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

/// A defect: what was planned is not what is there.
fn changed_meanwhile(table: &TableName) -> Error {
    Error::new(
        whimbrel_plugin_api::ErrorKind::Unavailable,
        "postgres.changed_meanwhile",
        format!("somebody else changed the table {} meanwhile", table.sql()),
    )
    .with_help("run again")
}
