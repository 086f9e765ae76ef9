//! Makes room for collections: where each field goes, what is in the way, and the statements that make the tables.
//!
//! A [`Plan`] is only what was looked at and what would be done; a session carries its statements out in one
//! transaction, unless there is a blocker. Existing tables are compared, and altered only where [`Growth`] says so.

use whimbrel_plugin_api::sink::{PrepareReport, PrepareRequest};
use whimbrel_plugin_api::{Collection, Finding, FindingLevel, Result};

use crate::column_memory::{self, Remembered};
use crate::database::{Database, Statement};
use crate::names::{same, table_name};
use crate::place::Place;
use crate::query::QUERY_COLUMNS_MAX;
use crate::schema;
use crate::write_plan::Target;

/// Columns that a table of ours may have: one less than a query may ask for, so that it can also ask for the row number.
pub(crate) const COLUMNS_MAX: usize = QUERY_COLUMNS_MAX - 1;

/// What the job says of all tables.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) table_prefix: String,
    /// Whether absent fields are kept apart from null.
    pub(crate) keeps_absent: bool,
}

/// What becomes of fields that an existing table has no column for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// They are blockers.
    Refused,
    /// They get columns.
    Columns,
    /// They go into the rest column.
    Rest,
}

/// What is to be done for a request.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) report: PrepareReport,
    /// The collections with their places, in the order of the request.
    pub(crate) targets: Vec<(String, Target)>,
    /// What makes the columns remembered.
    pub(crate) memory: Vec<Statement>,
}

impl Plan {
    /// Whether something is in the way.
    pub(crate) fn is_blocked(&self) -> bool {
        self.report
            .findings
            .iter()
            .any(|finding| finding.level == FindingLevel::Blocker)
    }

    /// What changes the database to what it should be; nothing if it is so already.
    pub(crate) fn statements(&self) -> Vec<Statement> {
        let ddl = self.report.ddl.iter().map(Statement::plain);
        ddl.chain(self.memory.iter().cloned()).collect()
    }

    /// Makes the table of remembered columns first, if something is to be remembered.
    fn add_memory_table(&mut self, database: Option<&dyn Database>) -> Result<()> {
        let has_memory = match database {
            Some(database) => schema::holder_of(database, column_memory::TABLE)?.is_some(),
            None => false,
        };
        if !has_memory && !self.memory.is_empty() {
            self.report.ddl.insert(0, column_memory::DDL.to_owned());
        }
        Ok(())
    }
}

/// Looks at what is there; `database` is missing if there is none yet.
pub(crate) fn plan(
    database: Option<&dyn Database>,
    settings: &Settings,
    request: &PrepareRequest,
) -> Result<Plan> {
    let mut plan = Plan::default();
    for (index, collection) in request.collections.iter().enumerate() {
        let name = table_name(&settings.table_prefix, &collection.name);
        let twin = request.collections[..index]
            .iter()
            .find(|earlier| same(&table_name(&settings.table_prefix, &earlier.name), &name));
        if let Some(twin) = twin {
            plan.report.findings.push(
                Finding::blocker(
                    "turso.same_table",
                    format!("the collections `{}` and `{}` would go into the same table", twin.name, collection.name),
                )
                .with_help("give one of them another name in the sink: table names differ in more than the case of ASCII letters")
                .with_collection(&collection.name),
            );
        }
        let place = Place::of(database, name, collection)?;
        place.into_plan(database, settings, collection, Growth::Refused, &mut plan)?;
    }
    plan.add_memory_table(database)?;
    Ok(plan)
}

/// Looks at what a change of schema asks for.
pub(crate) fn plan_change(
    database: &dyn Database,
    settings: &Settings,
    collection: &Collection,
    growth: Growth,
    old: &Target,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let name = table_name(&settings.table_prefix, &collection.name);
    let place = Place::of(Some(database), name, collection)?;
    place.into_plan(Some(database), settings, collection, growth, &mut plan)?;
    plan.add_memory_table(Some(database))?;
    for (_, target) in &mut plan.targets {
        // Batches of the earlier schema may still come, from partitions that have not met the new one.
        let is_gone =
            |field: &&Remembered| target.fields.iter().all(|new| new.field.name != field.field.name);
        let gone: Vec<Remembered> = old.fields.iter().filter(is_gone).cloned().collect();
        target.fields.extend(gone);
    }
    Ok(plan)
}
