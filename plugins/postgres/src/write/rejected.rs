//! Why a record was refused, as it stands in receipts, and which SQLSTATEs records may be the cause of.
//!
//! Neighbour: `error` turns most SQLSTATEs into codes and sentences without a value of the record.

use std::fmt::Write as _;

use whimbrel_plugin_api::Batch;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::text_form::TextEncoder;

use super::layout::Layout;
use crate::codec::RowFault;
use crate::error::refusal;

/// The state that the statements of `pieces` give a record whose key is there already.
pub(super) const EXISTS: &str = "exists";
/// What the server says of values that must be unique.
pub(super) const UNIQUE: &str = "23505";
/// What the server says of row-level security, and of missing rights.
pub(super) const ROW_SECURITY: &str = "42501";
/// The state that they raise if a statement stored fewer records than it was given.
pub(super) const DROPPED: &str = "P0W01";

/// The SQLSTATEs that single records may be the cause of, as a regular expression of PostgreSQL: data, integrity, a view's
/// check, limits such as that of an index row, and what triggers raise, by `RAISE` or with a code of their own.
pub(super) const OF_RECORDS: &str = "^(2[123]|44|54|P0|[689I-OQ-WYZ]|7[^2])";

/// Whether single records may be the cause of an error with this SQLSTATE; as [`OF_RECORDS`] says.
pub(super) fn is_of_records(sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    matches!(class, "21" | "22" | "23" | "44" | "54" | "P0") || is_of_trigger(sqlstate)
}

/// Whether only a trigger or a function can have made this SQLSTATE up.
fn is_of_trigger(sqlstate: &str) -> bool {
    !sqlstate.starts_with("72")
        && sqlstate.starts_with(|first| matches!(first, '6'..='9' | 'I'..='O' | 'Q'..='W' | 'Y' | 'Z'))
}

/// A reason of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) state: String,
    pub(super) constraint: String,
    pub(super) column: String,
}

impl Reason {
    /// Code and sentence.
    fn meaning(&self) -> (&'static str, String) {
        let name = |name: &'_ String| Some(name.clone()).filter(|name| !name.is_empty());
        let (constraint, column) = (name(&self.constraint), name(&self.column));
        match self.state.as_str() {
            EXISTS => (
                "postgres.exists",
                "a record with this key is there already".to_owned(),
            ),
            DROPPED => (
                "postgres.trigger_refused",
                "a trigger of the table dropped the record".to_owned(),
            ),
            ROW_SECURITY => (
                "postgres.row_security",
                "the row-level security of the table does not let the record in".to_owned(),
            ),
            state if is_of_trigger(state) => (
                "postgres.trigger_refused",
                format!("a trigger or a function refuses a record (SQLSTATE {state})"),
            ),
            state => refusal(state, constraint.as_deref(), column.as_deref()),
        }
    }
}

/// Names the records of a batch by their keys.
pub(super) struct Labels(Vec<TextEncoder>);

impl Labels {
    pub(super) fn new(layout: &Layout, batch: &Batch) -> Self {
        let key = layout.key.iter().map(|place| layout.columns[*place].index);
        let encoders = key.map(|index| {
            let field = &batch.schema.fields[index];
            TextEncoder::new(&field.record_type, batch.records.column(index)).ok()
        });
        Self(encoders.collect::<Option<_>>().unwrap_or_default())
    }

    /// A record that could not be sent; `row` counts in its batch.
    pub(super) fn faulty(&self, row: usize, fault: RowFault) -> RejectedRecord {
        let message = match fault.help() {
            Some(help) => format!("{} ({help})", fault.message),
            None => fault.message,
        };
        RejectedRecord {
            record: self.label(row),
            row: Some(row as u64),
            code: fault.code.to_owned(),
            message,
            data: None,
        }
    }

    /// A record that the server refused; `row` counts in its batch, `number` in the transaction.
    pub(super) fn refused(&self, row: usize, number: u64, reason: &Reason) -> RejectedRecord {
        let (code, message) = reason.meaning();
        RejectedRecord {
            record: self.label(row),
            row: Some(number),
            code: code.to_owned(),
            message,
            data: None,
        }
    }

    fn label(&self, row: usize) -> String {
        let mut label = String::new();
        for encoder in &self.0 {
            if !label.is_empty() {
                label.push_str(", ");
            }
            encoder.write(row, &mut label);
        }
        if label.is_empty() {
            write!(label, "row {row} of its batch").expect("writing to a string does not fail");
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_whole_statement_is_no_fault_of_a_record() {
        for state in [
            "21000", "23505", "22P05", "P0001", "44000", "54000", "UE001", "71000", DROPPED,
        ] {
            assert!(is_of_records(state), "{state}");
        }
        for state in [
            "40001", "40P01", "42P01", "42501", "53100", "55P03", "57014", "08006", "XX000", "F0000",
            "72000", "HV000", "0A000", "",
        ] {
            assert!(!is_of_records(state), "{state}");
        }
    }

    #[test]
    fn reasons_name_the_constraint_and_no_value() {
        let reason = |state: &str, constraint: &str, column: &str| Reason {
            state: state.to_owned(),
            constraint: constraint.to_owned(),
            column: column.to_owned(),
        };
        for (reason, code, message) in [
            (
                reason("23514", "price_positive", ""),
                "postgres.check_failed",
                "a check of the table refuses a record (constraint `price_positive`)",
            ),
            (
                reason("23502", "", "name"),
                "postgres.null_in_required",
                "a column takes no null (column `name`)",
            ),
            (
                reason("UE001", "", ""),
                "postgres.trigger_refused",
                "a trigger or a function refuses a record (SQLSTATE UE001)",
            ),
        ] {
            assert_eq!(reason.meaning(), (code, message.to_owned()));
        }
    }
}
