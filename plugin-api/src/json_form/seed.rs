//! How `serde_json` reads one value straight into a column, without a tree of values in between.
//!
//! One [`Seed`] per value; its visitor knows every shape that JSON has and refuses those that the column's
//! type does not take. On a failure the column may hold a part of the value: whoever started the record cuts
//! it back.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::text_form::Refusal;

use super::column::{Column, Data, Way, push_slice, push_string};
use super::fault::{Context, FaultKind};
use super::keys::Keys;
use super::row_decoder::UnknownKeys;

/// With the feature `arbitrary_precision`, which any crate of the process may turn on, `serde_json` shows a
/// number to a visitor as an object with a key that starts so; it is not an object.
const PRIVATE_KEY: &str = "$serde_json::private::";

/// Reads one value into a column.
pub(super) struct Seed<'c> {
    pub(super) column: &'c mut Column,
    pub(super) context: &'c mut Context,
}

impl Seed<'_> {
    fn null<E: serde::de::Error>(self) -> Result<(), E> {
        if !self.column.nullable {
            return Err(self.context.fail(FaultKind::Null));
        }
        self.column.push_null();
        Ok(())
    }

    fn refuse<E: serde::de::Error>(self) -> E {
        self.context.refuse(Refusal::BadValue, &self.column.record_type)
    }

    fn slice<E: serde::de::Error>(self, slice: &str) -> Result<(), E> {
        let Data::Scalar(way, values) = &mut self.column.data else {
            return Err(self.refuse());
        };
        // In a json column that may not be null, the only null there can be is the JSON one.
        if slice == "null" && (*way != Way::Raw || self.column.nullable) {
            return self.null();
        }
        push_slice(*way, values, slice)
            .map_err(|refusal| self.context.refuse(refusal, &self.column.record_type))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &self.column.data {
            Data::Scalar(way, _) if way.is_sliced() => {
                self.slice(<&RawValue>::deserialize(deserializer)?.get())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a value of the type `{}`", self.column.record_type)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.null()
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match &mut self.column.data {
            Data::Scalar(Way::Bool, values) => values
                .push_bool(value)
                .map_err(|refusal| self.context.refuse(refusal, &self.column.record_type)),
            _ => Err(self.refuse()),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match &mut self.column.data {
            Data::Scalar(way, values) => push_string(*way, values, text)
                .map_err(|refusal| self.context.refuse(refusal, &self.column.record_type)),
            _ => Err(self.refuse()),
        }
    }

    // Numbers reach only columns that take none; the others are sliced.
    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Data::List(list) = &mut self.column.data else {
            return Err(self.refuse());
        };
        loop {
            let seed = Seed {
                column: &mut list.item,
                context: self.context,
            };
            match items.next_element_seed(seed) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    self.context.within_list();
                    return Err(error);
                }
            }
        }
        list.end()
            .map_err(|refusal| self.context.refuse(refusal, &self.column.record_type))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let row = self.column.len();
        let Data::Struct(column) = &mut self.column.data else {
            return Err(self.refuse());
        };
        read_members(&column.keys, &mut column.members, row, map, self.context, |_| {})?;
        column.end();
        Ok(())
    }
}

/// Reads the keys of an object into the columns of its members, all of which have `row` rows before and one
/// more after. A member that is not there becomes null, and `miss` is told its position.
pub(super) fn read_members<'de, A: MapAccess<'de>>(
    keys: &Keys,
    members: &mut [Column],
    row: usize,
    mut map: A,
    context: &mut Context,
    mut miss: impl FnMut(usize),
) -> Result<(), A::Error> {
    let mut expected = 0;
    let mut read_count = 0;
    while let Some(found) = map.next_key_seed(KeySeed {
        keys,
        expected,
        context,
    })? {
        let Some(position) = found else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        let column = &mut members[position];
        // A member that has its value for this row already was read from the same object.
        let outcome = if column.len() > row {
            Err(context.fail(FaultKind::KeyTwice))
        } else {
            map.next_value_seed(Seed { column, context })
        };
        outcome.inspect_err(|_| context.within_field(keys.name(position)))?;
        expected = position + 1;
        read_count += 1;
    }
    if read_count == members.len() {
        return Ok(());
    }
    for (position, column) in members.iter_mut().enumerate() {
        if column.len() > row {
            continue;
        }
        if !column.nullable {
            let error = context.fail(FaultKind::Missing);
            context.within_field(keys.name(position));
            return Err(error);
        }
        column.push_null();
        miss(position);
    }
    Ok(())
}

/// Reads a key as the position of its field; `None` for an unknown key that is to be passed over.
struct KeySeed<'c> {
    keys: &'c Keys,
    expected: usize,
    context: &'c mut Context,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let found = self.keys.find(key, self.expected);
        if found.is_none() {
            if key.starts_with(PRIVATE_KEY) {
                return Err(E::custom("a number stands where an object is expected"));
            }
            if self.context.unknown_keys == UnknownKeys::Fail {
                let error = self.context.fail(FaultKind::UnknownKey);
                self.context.within_field(key);
                return Err(error);
            }
        }
        Ok(found)
    }
}
