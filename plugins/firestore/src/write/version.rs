//! Which of two versions of a record wins, where the policy is `keep-newest` or `keep-oldest`.
//!
//! The service cannot compare, so the stored version is looked at, and the write has the condition that the document has not changed
//! since. A null is older than everything; of equal ones the stored one stays.

use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::Value;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use whimbrel_plugin_api::RecordType;

use super::policy::Rule;

/// Whether values of the type are stored so that the stored values can be ordered.
pub(crate) fn can_be_version(record_type: &RecordType) -> bool {
    match record_type {
        RecordType::Int { .. }
        | RecordType::Float { .. }
        | RecordType::Text
        | RecordType::TimestampTz
        | RecordType::Timestamp
        | RecordType::Date
        | RecordType::Uuid => true,
        // Wider ones are stored as texts of digits, of which `9` comes behind `10`.
        RecordType::Decimal { precision, .. } => *precision <= 15,
        _ => false,
    }
}

/// Whether the version that comes wins over the one that is stored; `None` if the two are of kinds that have no order.
pub(super) fn wins(rule: Rule, coming: Option<&Value>, stored: Option<&Value>) -> Option<bool> {
    let order = compare(coming, stored)?;
    Some(match rule {
        Rule::Oldest => order == Ordering::Less,
        _ => order == Ordering::Greater,
    })
}

fn compare(left: Option<&Value>, right: Option<&Value>) -> Option<Ordering> {
    let known = |value: Option<&Value>| -> Option<ValueType> {
        match value?.value_type.clone()? {
            ValueType::NullValue(_) => None,
            other => Some(other),
        }
    };
    let (left, right) = match (known(left), known(right)) {
        (None, None) => return Some(Ordering::Equal),
        (None, Some(_)) => return Some(Ordering::Less),
        (Some(_), None) => return Some(Ordering::Greater),
        (Some(left), Some(right)) => (left, right),
    };
    Some(match (&left, &right) {
        (ValueType::IntegerValue(left), ValueType::IntegerValue(right)) => left.cmp(right),
        (ValueType::TimestampValue(left), ValueType::TimestampValue(right)) => {
            (left.seconds, left.nanos).cmp(&(right.seconds, right.nanos))
        }
        (ValueType::StringValue(left), ValueType::StringValue(right)) => left.cmp(right),
        (ValueType::DoubleValue(left), ValueType::DoubleValue(right)) => compare_doubles(*left, *right),
        (ValueType::IntegerValue(left), ValueType::DoubleValue(right)) => mixed(*left, *right),
        (ValueType::DoubleValue(left), ValueType::IntegerValue(right)) => mixed(*right, *left).reverse(),
        _ => return None,
    })
}

/// Not-a-number is above every number, as databases have it.
fn compare_doubles(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// An integer against a double, exactly.
fn mixed(integer: i64, double: f64) -> Ordering {
    // 2^63, which a double holds exactly.
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double >= TOP {
        return Ordering::Less;
    }
    if double < -TOP {
        return Ordering::Greater;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is within the bounds of the type"
    )]
    let whole = double.trunc() as i64;
    integer.cmp(&whole).then_with(|| {
        let rest = double.fract();
        0.0_f64.partial_cmp(&rest).unwrap_or(Ordering::Equal)
    })
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::prost_types::Timestamp;

    use super::*;

    #[test]
    fn versions_of_one_kind_are_ordered_and_a_null_is_oldest() {
        let value = |value_type| Value {
            value_type: Some(value_type),
        };
        let int = |number| value(ValueType::IntegerValue(number));
        let double = |number| value(ValueType::DoubleValue(number));
        let text = |text: &str| value(ValueType::StringValue(text.to_owned()));
        let at = |seconds, nanos| value(ValueType::TimestampValue(Timestamp { seconds, nanos }));
        let null = value(ValueType::NullValue(0));
        let ascending = [
            (int(-1), int(1)),
            (int(i64::MAX - 1), double(9_223_372_036_854_775_808.0)),
            (double(-1e300), int(i64::MIN)),
            (int(1), double(1.5)),
            (double(-1.5), int(-1)),
            (double(1e300), double(f64::NAN)),
            (text("2024-12-31"), text("2025-01-01")),
            (at(-1, 999_999_000), at(0, 0)),
            (at(1, 1_000), at(1, 2_000)),
            (null.clone(), int(i64::MIN)),
        ];
        for (low, high) in &ascending {
            let shown = format!("{low:?} {high:?}");
            let of = |rule, coming, stored| wins(rule, Some(coming), Some(stored)).unwrap();
            assert!(
                of(Rule::Newest, high, low) && !of(Rule::Newest, low, high),
                "{shown}"
            );
            assert!(
                of(Rule::Oldest, low, high) && !of(Rule::Oldest, high, low),
                "{shown}"
            );
            assert!(
                !of(Rule::Newest, low, low) && !of(Rule::Oldest, high, high),
                "{shown}"
            );
        }
        assert_eq!(wins(Rule::Newest, None, Some(&null)), Some(false));
        assert_eq!(wins(Rule::Newest, Some(&int(1)), None), Some(true));
        assert_eq!(wins(Rule::Newest, Some(&int(1)), Some(&text("1"))), None);
    }
}
