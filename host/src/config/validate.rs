//! Compares a value with a JSON Schema and says every fault in our own words, with its place in the job file.
//!
//! Both the job itself ([`super::Job::schema`]) and the plugins' configs go through here. No value of the file
//! appears in a message: it may be a secret. Unions of forms are in `union.rs`.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::fault::{Fault, Subject, quoted_key, quoted_path, without_echoes};
use super::nearest::nearest;
use super::schema::{
    bounds, description, known_keys, list_keys, list_values, required_keys, resolve, type_list, type_of,
};
use super::spans::{Spans, join};
use super::union;

/// Stands for a config that the job leaves out.
static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(serde_json::Map::new()));

/// Fits keys that are needed and keys that are not.
const EMPTY_HELP: &str = "give it a value; a key that is not needed can be left out";

/// Faults that are looked for; a hundredth of them is listed.
const FAULTS_FOUND_MAX: usize = 10_000;

/// What is compared with what.
pub(crate) struct Comparison<'a> {
    /// The schema.
    pub(crate) schema: &'a Value,
    /// The whole job file.
    pub(crate) document: &'a Value,
    /// Which part of it the schema describes.
    pub(crate) base: &'a str,
    /// The places.
    pub(crate) spans: &'a Spans,
    /// What the whole document is called.
    pub(crate) whole: &'static str,
}

impl Comparison<'_> {
    /// All faults.
    ///
    /// # Errors
    /// The schema itself is not valid, or refers to something outside itself.
    pub(crate) fn faults(&self) -> Result<Vec<Fault>, ValidationError<'static>> {
        // Another crate may switch the fetching of schemas on; a plugin's schema must not make the host fetch.
        let validator = jsonschema::options().offline().build(self.schema)?;
        let part = self.document.pointer(self.base).unwrap_or(&EMPTY);
        let mut faults = Vec::new();
        for error in validator.iter_errors(part) {
            if faults.len() >= FAULTS_FOUND_MAX {
                break;
            }
            self.say(&error, &mut faults);
        }
        for fault in &mut faults {
            fault.layer = self.spans.layer(&fault.pointer);
        }
        Ok(without_echoes(faults))
    }

    /// Adds what `error` means.
    pub(crate) fn say(&self, error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
        let pointer = self.pointer(error);
        if self.spans.is_unreadable(&pointer) {
            return;
        }
        let schema_path = error.schema_path().as_str();
        let keyword = self.schema.pointer(schema_path).unwrap_or(&Value::Null);
        let owner = schema_path
            .rfind('/')
            .and_then(|end| self.schema.pointer(&schema_path[..end]))
            .unwrap_or(&Value::Null);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                let known = known_keys(self.schema, owner);
                faults.extend(
                    unexpected
                        .iter()
                        .take(FAULTS_FOUND_MAX)
                        .map(|key| self.unknown_key(&pointer, key, &known)),
                );
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                faults.push(self.missing_key(&pointer, key, owner));
            }
            Kind::Type { .. } => {
                let kinds: Vec<&str> = match keyword {
                    Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
                    kind => kind.as_str().into_iter().collect(),
                };
                faults.push(self.wrong_type(&pointer, &kinds, &required_keys(owner), error.instance()));
            }
            Kind::Enum { options } => {
                let values: Vec<&Value> = options.as_array().into_iter().flatten().collect();
                faults.push(self.not_one_of(&pointer, &values, error.instance()));
            }
            Kind::Constant { expected_value } => {
                faults.push(self.not_one_of(&pointer, &[expected_value.as_ref()], error.instance()));
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                union::say(self, &pointer, keyword, context, error.instance(), faults);
            }
            Kind::OneOfMultipleValid { .. } => faults.push(union::ambiguous(self, &pointer, keyword)),
            other => {
                let (what, help) = self.rule(other, owner);
                let mut fault = self.value_fault(&pointer, "config.bad_value", &what);
                fault.help = help;
                faults.push(fault);
            }
        }
    }

    /// A rule on a value's size, form or parts, and what helps.
    fn rule(&self, kind: &Kind, owner: &Value) -> (String, Option<String>) {
        let must = |text: String| (format!("must {text}"), None);
        let bounded = |low, high, lead: &str, unit: &str| {
            must(format!(
                "{lead} {}{unit}",
                bounds(owner, low, high).unwrap_or_else(|| "within its bounds".to_owned())
            ))
        };
        match kind {
            Kind::Minimum { .. } | Kind::Maximum { .. } => bounded("minimum", "maximum", "be", ""),
            Kind::ExclusiveMinimum { limit } => must(format!("be above {limit}")),
            Kind::ExclusiveMaximum { limit } => must(format!("be below {limit}")),
            Kind::MultipleOf { multiple_of } => must(format!("be a multiple of {multiple_of}")),
            Kind::MinLength { limit: 1 } | Kind::MinItems { limit: 1 } | Kind::MinProperties { limit: 1 } => {
                (String::from("must not be empty"), Some(String::from(EMPTY_HELP)))
            }
            Kind::MinLength { .. } | Kind::MaxLength { .. } => {
                bounded("minLength", "maxLength", "have", " characters")
            }
            Kind::MinItems { .. } | Kind::MaxItems { .. } => {
                bounded("minItems", "maxItems", "have", " items")
            }
            Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
                bounded("minProperties", "maxProperties", "have", " keys")
            }
            Kind::AdditionalItems { limit } => must(format!("have at most {limit} items")),
            Kind::UniqueItems => (String::from("holds the same item twice"), None),
            Kind::Pattern { pattern } => (format!("must match `{pattern}`"), description(owner)),
            Kind::Format { format } => (format!("must have the format `{format}`"), description(owner)),
            Kind::PropertyNames { error } => {
                let what = match error.kind() {
                    Kind::Pattern { pattern } => format!("has a key that does not match `{pattern}`"),
                    _ => String::from("has a key that is not allowed"),
                };
                (what, description(owner))
            }
            Kind::FalseSchema => (String::from("is not allowed here"), None),
            _ => (
                format!("breaks the rule `{}` of its schema", kind.keyword()),
                description(owner),
            ),
        }
    }

    /// The pointer in the job file of what `error` is about.
    pub(crate) fn pointer(&self, error: &ValidationError<'_>) -> String {
        format!("{}{}", self.base, error.instance_path().as_str())
    }

    /// A fault of the value at `pointer`; `what` goes on after its path.
    pub(crate) fn value_fault(&self, pointer: &str, code: &'static str, what: &str) -> Fault {
        let message = format!("{} {what}", self.path(pointer));
        Fault::new(self.spans.value(pointer), code, message).at(pointer)
    }

    fn path(&self, pointer: &str) -> String {
        quoted_path(pointer, self.document, self.whole)
    }

    pub(crate) fn unknown_key(&self, pointer: &str, key: &str, known: &[&str]) -> Fault {
        let own = join(pointer, key);
        let meant = nearest(key, known.iter().copied());
        let known = if known.is_empty() {
            String::from("no key is known here")
        } else {
            format!("known keys: {}", list_keys(known))
        };
        let message = format!(
            "unknown key {} in {} ({known})",
            quoted_key(key),
            self.path(pointer)
        );
        let mut fault = Fault::new(self.spans.key(&own), "config.unknown_key", message).at(own);
        fault.help = match meant {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None => self.home_of(key, pointer),
        };
        fault.about(Subject::UnknownKey {
            meant: meant.map(str::to_owned),
        })
    }

    /// Where a key that is unknown at `pointer` is known: at the top of the schema, or one level below.
    fn home_of(&self, key: &str, pointer: &str) -> Option<String> {
        let members = self.schema.get("properties")?.as_object()?;
        if members.contains_key(key) && pointer != self.base {
            return Some(match self.path(self.base).as_str() {
                path if path == self.whole => format!("`{key}` belongs at the top level of {path}"),
                path => format!("`{key}` belongs in {path}"),
            });
        }
        let (home, _) = members.iter().find(|(_, schema)| {
            let properties = resolve(self.schema, schema).get("properties");
            properties.is_some_and(|properties| properties.get(key).is_some())
        })?;
        let home = join(self.base, home);
        (home != pointer).then(|| format!("`{key}` belongs in {}", self.path(&home)))
    }

    pub(crate) fn missing_key(&self, pointer: &str, key: &str, owner: &Value) -> Fault {
        let required = required_keys(owner);
        let required = if required.is_empty() {
            String::new()
        } else {
            format!(" (required keys: {})", list_keys(&required))
        };
        let message = format!(
            "missing key {} in {}{required}",
            quoted_key(key),
            self.path(pointer)
        );
        let mut fault = Fault::new(self.spans.key(pointer), "config.missing_key", message).at(pointer);
        fault.help = owner
            .get("properties")
            .and_then(|properties| properties.get(key))
            .and_then(|schema| description(schema).or_else(|| description(resolve(self.schema, schema))))
            .map(|text| format!("`{key}`: {text}"));
        fault.about(Subject::MissingKey { key: key.to_owned() })
    }

    /// `required` are the keys that a mapping here must have, for the example in the help.
    pub(crate) fn wrong_type(
        &self,
        pointer: &str,
        kinds: &[&str],
        required: &[&str],
        found: &Value,
    ) -> Fault {
        let found = type_of(found);
        let what = match found {
            "null" => format!("must be {}, but it is empty", type_list(kinds)),
            "number" => format!("must be {}, not a fraction", type_list(kinds)),
            found => format!("must be {}, not {}", type_list(kinds), type_list(&[found])),
        };
        let mut fault = self.value_fault(pointer, "config.wrong_type", &what);
        fault.help = remedy(kinds, required, found);
        fault.about(Subject::WrongType)
    }

    pub(crate) fn not_one_of(&self, pointer: &str, values: &[&Value], found: &Value) -> Fault {
        let valid: Vec<&Value> = values.iter().copied().filter(|value| !value.is_null()).collect();
        let what = match valid.as_slice() {
            [] => String::from("must be empty"),
            [only] => format!("must be `{}`", list_values(&[only])),
            many => format!("must be one of {}", list_values(many)),
        };
        let mut fault = self.value_fault(pointer, "config.bad_value", &what);
        fault.help = found
            .as_str()
            .and_then(|found| nearest(found, valid.iter().filter_map(|value| value.as_str())))
            .map(|meant| format!("did you mean `{meant}`?"));
        fault.about(Subject::NotOneOf)
    }
}

/// What usually corrects a wrong type.
fn remedy(kinds: &[&str], required: &[&str], found: &str) -> Option<String> {
    let expected = |kind: &str| kinds.contains(&kind);
    let help = match found {
        "null" => EMPTY_HELP,
        "string" if expected("boolean") => {
            "write true or false without quotes; yes, no, on and off are text in YAML 1.2"
        }
        "string" if expected("integer") || expected("number") => {
            "write digits, without quotes, units and separators"
        }
        "number" if expected("integer") => "write it without a fraction",
        _ if expected("array") => "write a list: `[one, two]`",
        "integer" | "number" | "boolean" if expected("string") => "put it in quotes",
        _ if expected("object") => {
            let key = required.first().copied().unwrap_or("key");
            return Some(format!(
                "write `{{ {key}: ... }}`, or one `key: value` a line, indented"
            ));
        }
        _ => return None,
    };
    Some(help.to_owned())
}
