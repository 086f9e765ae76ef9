//! The statement that removes a record by its key, and the keys for it.
//! Pure: how it is carried out is the matter of `session`, near and far.

use rusqlite::types::Value;
use whimbrel_plugin_api::{Batch, Error, ErrorScope, Result};

use crate::encode::{Encoder, Scratch};
use crate::names::quote;
use crate::write_plan::Target;

/// The statement, and its values for each of the keys.
///
/// # Errors
/// Of scope write: a table without a key, keys that lack a field, or that no record can have.
pub(crate) fn statement(target: &Target, keys: &Batch) -> Result<(String, Vec<Vec<Value>>)> {
    let of_write = |error: Error| error.with_scope(ErrorScope::Write);
    if target.key.is_empty() {
        return Err(of_write(Error::unsupported("remove from a table without a key")));
    }
    let mut conditions = Vec::with_capacity(target.key.len());
    let mut encoders = Vec::with_capacity(target.key.len());
    for name in &target.key {
        let stored = target.fields.iter().find(|stored| stored.field.name == *name);
        let (Some(stored), Some(index)) = (stored, keys.schema.index_of(name)) else {
            return Err(of_write(Error::invalid_data(
                "turso.bad_keys",
                format!("the keys lack the field `{name}`"),
            )));
        };
        conditions.push(format!("{} = ?", quote(&stored.column)));
        let encoder = Encoder::new(&keys.schema.fields[index].record_type, keys.records.column(index));
        encoders.push(encoder.map_err(of_write)?);
    }
    let mut scratch = Scratch::default();
    let mut values = Vec::with_capacity(keys.record_count());
    for row in 0..keys.record_count() {
        let mut key = Vec::with_capacity(encoders.len());
        for encoder in &encoders {
            let value = encoder.value(row, &mut scratch);
            let value = value.map_err(|fault| of_write(Error::invalid_data(fault.code, fault.message)))?;
            key.push(Value::from(value));
        }
        values.push(key);
    }
    let sql = format!(
        "DELETE FROM {} WHERE {}",
        quote(&target.table),
        conditions.join(" AND ")
    );
    Ok((sql, values))
}
