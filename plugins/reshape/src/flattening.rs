//! Plans `flatten`: which fields a struct or a json field is taken apart into, and how to get at each.
//!
//! A part of [`crate::plan`], which owns the rest of the planner.

use whimbrel_plugin_api::{Field, RecordType, Result};

use crate::config::Flatten;
use crate::parts::Pointer;
use crate::plan::{Planner, fault};
use crate::program::{Op, Part};
use crate::reading::wrong;

impl Planner {
    /// Plans a `flatten`.
    pub(crate) fn flatten(&mut self, settings: &Flatten, place: &str) -> Result<()> {
        let name = &settings.field;
        let column = self.index(name, &format!("{place}.field"))?;
        let field = self.fields()[column].clone();
        let prefix = match &settings.prefix {
            Some(prefix) => prefix.clone(),
            None => format!("{name}{}", settings.separator),
        };
        let keeps = settings.keep.unwrap_or(settings.paths.is_some());
        if !keeps && self.is_key(name) {
            return Err(wrong(
                "key_dropped",
                format!("the field `{name}` belongs to the key and cannot be left out"),
                place,
            ));
        }
        let is_json = matches!(field.record_type, RecordType::Json | RecordType::Variant);
        let (fields, op) = match (&settings.paths, members_of(&field.record_type)) {
            (Some(_), _) if is_json => parts(settings, &field, column, keeps, place),
            (None, Some(members)) => {
                let depth = settings.depth.unwrap_or(u32::MAX);
                let mut leaves = Leaves {
                    separator: &settings.separator,
                    found: Vec::new(),
                };
                leaves.collect(&members, &prefix, &mut Vec::new(), field.nullable, depth);
                let (fields, members) = leaves.found.into_iter().unzip();
                let op = Op::Unnest {
                    column,
                    members,
                    keeps,
                };
                (fields, op)
            }
            (paths, _) => {
                let what = match paths {
                    Some(_) => "`paths` are for json and variant fields",
                    None if is_json => "it takes `paths` to flatten a json or variant field",
                    None => "only structs, geopoints, json and variant fields can be flattened",
                };
                let message = format!("the field `{name}` is `{}`: {what}", field.record_type);
                return Err(wrong("bad_flatten", message, place));
            }
        };
        if !keeps {
            self.forget(name);
        }
        let range = if keeps {
            column + 1..column + 1
        } else {
            column..column + 1
        };
        self.fields().splice(range, fields);
        self.ops.push(op);
        self.check_names(place)
    }
}

fn members_of(record_type: &RecordType) -> Option<Vec<Field>> {
    match record_type {
        RecordType::Struct { fields } => Some(fields.clone()),
        RecordType::Geopoint => Some(
            ["lat", "lng"]
                .map(|name| Field::required(name, RecordType::FLOAT64))
                .into(),
        ),
        _ => None,
    }
}

/// The fields that a struct is taken apart into, with the positions that lead to each.
struct Leaves<'s> {
    separator: &'s str,
    found: Vec<(Field, Vec<usize>)>,
}

impl Leaves<'_> {
    fn collect(
        &mut self,
        members: &[Field],
        prefix: &str,
        path: &mut Vec<usize>,
        nullable: bool,
        depth: u32,
    ) {
        for (position, member) in members.iter().enumerate() {
            path.push(position);
            let name = format!("{prefix}{}", member.name);
            let nullable = nullable || member.nullable;
            match members_of(&member.record_type) {
                Some(inner) if depth > 1 => {
                    let prefix = format!("{name}{}", self.separator);
                    self.collect(&inner, &prefix, path, nullable, depth - 1);
                }
                _ => {
                    let field = Field {
                        name,
                        record_type: member.record_type.clone(),
                        nullable,
                    };
                    self.found.push((field, path.clone()));
                }
            }
            path.pop();
        }
    }
}

/// The fields and the operation of a `flatten` with paths.
fn parts(settings: &Flatten, field: &Field, column: usize, keeps: bool, place: &str) -> (Vec<Field>, Op) {
    let prefix = settings.prefix.as_deref().unwrap_or_default();
    let mut fields = Vec::new();
    let mut parts = Vec::new();
    for (index, part) in settings.paths.iter().flatten().enumerate() {
        // Its form was checked when the job was read.
        let Some(pointer) = Pointer::parse(&part.path) else {
            continue;
        };
        let record_type = part.record_type.0.clone();
        fields.push(Field::new(format!("{prefix}{}", part.to), record_type.clone()));
        parts.push(Part {
            pointer,
            fault: fault(settings.on_failure, "reshape.part_not_convertible", || {
                format!(
                    "the part `{}` of the field `{}` is no `{record_type}` ({place}.paths[{index}])",
                    part.path, field.name
                )
            }),
            record_type,
        });
    }
    let op = Op::Extract {
        column,
        is_variant: field.record_type == RecordType::Variant,
        parts,
        keeps,
    };
    (fields, op)
}
