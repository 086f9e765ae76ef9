//! The transform role: plans the steps for a collection and runs them over its batches.
//! Here it is also said which records were rejected: by key, with the record as it came in.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::BooleanArray;
use whimbrel_plugin_api::arrow_schema::SchemaRef;
use whimbrel_plugin_api::json_form::{JsonEncoder, JsonNull, RowEncoder};
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::transform::{Applied, Plan};
use whimbrel_plugin_api::{
    Batch, Collection, Error, ErrorKind, LogLevel, OpenTransform, RejectedRecord, Result, Schema, Services,
    Transform,
};

use crate::checks;
use crate::condition::{self, Condition};
use crate::config::ReshapeConfig;
use crate::judge::Judge;
use crate::plan::plan;
use crate::program::Op;
use crate::reading::{self, PlacedStep};
use crate::records::{Records, Rejection};

/// Where the condition for checks stands in the config.
const RULE_PLACE: &str = "config.rule";

/// The transform `reshape`.
pub struct Reshape {
    services: Services,
    steps: Vec<PlacedStep>,
    rule: Option<Condition>,
    program: Option<Program>,
    /// The rule, checked against the schema that it was last asked about.
    judge: Option<(Arc<Schema>, Judge)>,
}

/// What was planned for a collection.
struct Program {
    collection: String,
    key: Vec<String>,
    input: Schema,
    output: Arc<Schema>,
    arrow: SchemaRef,
    ops: Vec<Op>,
}

impl OpenTransform for Reshape {
    type Config = ReshapeConfig;

    fn open(config: ReshapeConfig, services: Services) -> Result<Self> {
        let steps = reading::steps(&config)?;
        steps.iter().try_for_each(checks::step)?;
        let rule = reading::rule(&config)?;
        if let Some(rule) = &rule {
            condition::check(rule, RULE_PLACE)?;
        }
        Ok(Self {
            services,
            steps,
            rule,
            program: None,
            judge: None,
        })
    }
}

impl Transform for Reshape {
    fn plan(&mut self, collection: &Collection) -> Result<Plan> {
        let planned = plan(collection, &self.steps)?;
        planned.collection.schema.validate()?;
        for warning in &planned.warnings {
            let text = format!("collection `{}`: {warning}", collection.name);
            self.services.log(LogLevel::Warn, text);
        }
        let output = Arc::new(planned.collection.schema.clone());
        self.program = Some(Program {
            collection: collection.name.clone(),
            key: collection.key.clone(),
            input: collection.schema.clone(),
            arrow: output.to_arrow(),
            output,
            ops: planned.ops,
        });
        Ok(Plan {
            outputs: vec![planned.collection],
        })
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied> {
        let program = self
            .program
            .as_ref()
            .filter(|program| program.takes(&batch.schema))
            .ok_or_else(|| Error::internal("a batch has a schema that was not planned"))?;
        let mut records = Records::new(batch);
        for op in &program.ops {
            self.services.check_cancelled()?;
            op.run(&mut records)?;
        }
        let output = records.finish(&program.output, &program.arrow)?;
        Ok(Applied {
            rejected: rejected(&records.rejected, batch, &program.key)?,
            filtered: records.filtered,
            ..Applied::one(&program.collection, output)
        })
    }

    fn rule(&mut self, batch: &Batch) -> Result<BooleanArray> {
        let rule = self.rule.as_ref().ok_or_else(no_rule)?;
        let is_known = matches!(&self.judge, Some((schema, _)) if *schema == batch.schema);
        if !is_known {
            self.judge = None;
        }
        let (_, judge) = match &mut self.judge {
            Some(known) => known,
            none => {
                let judge = Judge::new(rule, &batch.schema, RULE_PLACE)?;
                none.insert((Arc::clone(&batch.schema), judge))
            }
        };
        Ok(judge.judge(&Records::new(batch)).into_array())
    }
}

/// Of kind unsupported, as of a transform that judges nothing at all.
fn no_rule() -> Error {
    let message = "records are to be judged, and the config has no `rule`";
    Error::new(ErrorKind::Unsupported, "reshape.no_rule", message)
        .with_place(RULE_PLACE)
        .with_help("write the condition under `rule`; steps judge nothing")
}

impl Program {
    fn takes(&self, schema: &Schema) -> bool {
        schema.presence == self.input.presence && schema.fields == self.input.fields
    }
}

/// The rejected records, in the order in which they came in.
fn rejected(rejections: &[Rejection], batch: &Batch, key: &[String]) -> Result<Vec<RejectedRecord>> {
    if rejections.is_empty() {
        return Ok(Vec::new());
    }
    let names = Names::new(batch, key)?;
    let lines = RowEncoder::new(&batch.schema, &batch.records)?.with_json_null(JsonNull::AsNull);
    let mut rejections: Vec<&Rejection> = rejections.iter().collect();
    rejections.sort_unstable_by_key(|rejection| rejection.row);
    let record = |rejection: &Rejection| {
        let row = rejection.row;
        let mut line = Vec::new();
        // A record with JSON that is none has no line.
        let data = lines
            .write_line(row, &mut line)
            .ok()
            .and_then(|()| String::from_utf8(line).ok());
        RejectedRecord {
            record: names.name(row),
            row: Some(row as u64),
            code: rejection.fault.code.to_owned(),
            message: rejection.fault.message.to_string(),
            data,
        }
    };
    Ok(rejections.into_iter().map(record).collect())
}

/// What rejected records are called: their key as text, or their row.
struct Names(Vec<KeyColumn>);

enum KeyColumn {
    Text(TextEncoder),
    Json(JsonEncoder),
}

impl Names {
    fn new(batch: &Batch, key: &[String]) -> Result<Self> {
        let columns = key
            .iter()
            .filter_map(|name| batch.schema.index_of(name))
            .map(|index| {
                let (record_type, array) = (
                    &batch.schema.fields[index].record_type,
                    batch.records.column(index),
                );
                match TextEncoder::new(record_type, array) {
                    Ok(encoder) => Ok(KeyColumn::Text(encoder)),
                    Err(_) => Ok(KeyColumn::Json(JsonEncoder::new(record_type, array)?)),
                }
            });
        columns.collect::<Result<_>>().map(Self)
    }

    fn name(&self, row: usize) -> String {
        let mut name = String::new();
        for column in &self.0 {
            if !name.is_empty() {
                name.push_str(", ");
            }
            match column {
                KeyColumn::Text(encoder) => encoder.write(row, &mut name),
                KeyColumn::Json(encoder) => {
                    let mut json = Vec::new();
                    if encoder.write(row, &mut json).is_ok() {
                        name.push_str(&String::from_utf8_lossy(&json));
                    }
                }
            }
        }
        if name.is_empty() {
            format!("row {row}")
        } else {
            name
        }
    }
}
