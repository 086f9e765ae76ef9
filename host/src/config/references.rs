//! References in texts: `${env:NAME}`, `${file:PATH}` and `${param:NAME}`; `$${` stands for a plain `${`.
//!
//! Works on values before they are compared with a schema, and on those of files only: what a variable or a flag says
//! is taken as it is. What `env` and `file` bring in is a secret. Neighbours: `parameters.rs`, `secret_file.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use whimbrel_plugin_api::Finding;

use super::fault::{Fault, path_with};
use super::layers::Tree;
use super::nearest::nearest;
use super::parameters::Given;
use super::secret_file;
use super::secrets::{SECRET_CHARS_MIN, Secrets};
use super::spans::{SpanNode, join};
use super::variables::Variables;

/// The longest name of a variable or a parameter.
const NAME_CHARS_MAX: usize = 128;

const PLAIN_HELP: &str = "write `$${` for a plain `${`";

/// What references are resolved with, and what came of it.
pub(crate) struct Resolver<'a> {
    pub(crate) variables: &'a Variables,
    /// The folder in which relative paths of each file start; by layer, of which files are the first.
    pub(crate) folders: &'a [PathBuf],
    /// The parameters; `None` where none may be referred to.
    pub(crate) parameters: Option<&'a BTreeMap<String, Given>>,
    pub(crate) secrets: &'a Secrets,
    /// Names of parameters that were referred to.
    pub(crate) used: BTreeSet<String>,
    /// Pointers to texts that could not be resolved.
    pub(crate) unresolved: BTreeSet<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) findings: Vec<Finding>,
}

/// A text of which every reference was resolved.
pub(crate) struct Resolved {
    pub(crate) text: String,
    pub(crate) is_secret: bool,
    /// Whether it was one reference and nothing else.
    pub(crate) is_reference: bool,
}

/// The way to a value. Its pointer is made only where something is wrong: long keys would make it dear.
struct Trail<'a> {
    pointer: &'a str,
    path: &'a str,
    /// Keys and indexes, and whether it is an index.
    steps: Vec<(String, bool)>,
}

impl Trail<'_> {
    fn pointer(&self) -> String {
        let steps = self.steps.iter();
        steps.fold(self.pointer.to_owned(), |pointer, (key, _)| join(&pointer, key))
    }

    fn path(&self) -> String {
        let steps = self.steps.iter();
        steps.fold(self.path.to_owned(), |path, (key, is_index)| {
            path_with(&path, key, *is_index)
        })
    }
}

/// Why a reference has no value.
struct Refusal {
    code: &'static str,
    message: String,
    help: String,
}

/// Whether a text may hold references.
pub(crate) fn may_refer(text: &str) -> bool {
    text.contains("${")
}

impl Resolver<'_> {
    /// Resolves all texts of `tree`, which stands at `pointer`, called `path` by people.
    pub(crate) fn resolve(&mut self, tree: &mut Tree, pointer: &str, path: &str) {
        let mut trail = Trail {
            pointer,
            path,
            steps: Vec::new(),
        };
        self.walk(&mut tree.value, &mut tree.span, &mut trail);
    }

    fn walk(&mut self, value: &mut Value, span: &mut SpanNode, trail: &mut Trail<'_>) {
        match value {
            // What a variable or a flag says is taken as it is; files come first among the layers.
            Value::String(text) if may_refer(text) && usize::from(span.layer) < self.folders.len() => {
                let written = text.clone();
                let (pointer, path) = (trail.pointer(), trail.path());
                if let Some(resolved) = self.text(text, span, &pointer, &path) {
                    *text = resolved.text;
                    span.written = Some(written.into());
                    span.is_reference = resolved.is_reference;
                    span.is_secret |= resolved.is_secret;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let key = index.to_string();
                    let part = span.parts.entry(key.clone()).or_default();
                    trail.steps.push((key, true));
                    self.walk(item, part, trail);
                    trail.steps.pop();
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    let part = span.parts.entry(key.clone()).or_default();
                    trail.steps.push((key.clone(), false));
                    self.walk(member, part, trail);
                    trail.steps.pop();
                }
            }
            _ => {}
        }
    }

    /// `text` with its references resolved; `None` if one has no value, which has been said.
    pub(crate) fn text(
        &mut self,
        text: &str,
        span: &SpanNode,
        pointer: &str,
        path: &str,
    ) -> Option<Resolved> {
        let mut resolved = Resolved {
            text: String::with_capacity(text.len()),
            is_secret: false,
            is_reference: false,
        };
        let mut rest = text;
        let mut is_whole = true;
        while let Some(at) = rest.find('$') {
            let (before, found) = rest.split_at(at);
            resolved.text.push_str(before);
            if let Some(after) = found.strip_prefix("$${") {
                resolved.text.push_str("${");
                rest = after;
            } else if let Some(inside) = found.strip_prefix("${") {
                match self.reference(inside, span, path) {
                    Ok((value, is_secret, after)) => {
                        resolved.is_reference |= text.len() == found.len() && after.is_empty();
                        resolved.is_secret |= is_secret;
                        resolved.text.push_str(&value);
                        rest = after;
                    }
                    Err((refusal, after)) => {
                        self.faults.extend(refusal.map(|refusal| {
                            Fault::new(span.value, refusal.code, refusal.message)
                                .with_help(refusal.help)
                                .in_layer(span.layer)
                                .at(pointer)
                        }));
                        self.unresolved.insert(pointer.to_owned());
                        is_whole = false;
                        rest = after;
                    }
                }
            } else {
                resolved.text.push('$');
                rest = &found[1..];
            }
        }
        resolved.text.push_str(rest);
        is_whole.then_some(resolved)
    }

    /// The value of the reference whose `${` stands before `inside`, whether it is a secret, and what follows.
    fn reference<'text>(
        &mut self,
        inside: &'text str,
        span: &SpanNode,
        path: &str,
    ) -> Result<(String, bool, &'text str), (Option<Refusal>, &'text str)> {
        let Some((reference, after)) = inside.split_once('}') else {
            let refusal = bad(format!("`{path}` holds a reference without its `}}`"));
            return Err((Some(refusal), ""));
        };
        let value = match reference.split_once(':') {
            Some(("env", name)) => self.variable(name, path).map(|value| (value, true)).map_err(Some),
            Some(("file", file)) => self
                .file(file, span, path)
                .map(|value| (value, true))
                .map_err(Some),
            Some(("param", name)) => self.parameter(name, path),
            _ => {
                // The text is not repeated: it may be a password with a `${` in it.
                let known = "known kinds: `${env:NAME}`, `${file:PATH}`, `${param:NAME}`";
                Err(Some(bad(format!(
                    "`{path}` holds a reference of no known kind ({known})"
                ))))
            }
        };
        match value {
            Ok((value, is_secret)) => Ok((value, is_secret, after)),
            Err(refusal) => Err((refusal, after)),
        }
    }

    fn variable(&mut self, name: &str, path: &str) -> Result<String, Refusal> {
        if !is_name(name, false) {
            return Err(bad(format!(
                "`{path}` refers to a variable whose name is not valid"
            )));
        }
        let missing = |what: &str| Refusal {
            code: "config.secret_missing",
            message: format!("`{path}` refers to variable `{name}`, which is {what}"),
            help: format!("set `{name}` where whimbrel is started"),
        };
        let value = self.variables.get(name).ok_or_else(|| missing("not set"))?;
        if value.is_empty() {
            return Err(missing("empty"));
        }
        let value = value.to_str().ok_or_else(|| Refusal {
            code: "config.secret_not_utf8",
            message: format!("`{path}` refers to variable `{name}`, which is not UTF-8 text"),
            help: "write it as base64 if the plugin takes that, or put it into a file".to_owned(),
        })?;
        self.keep(value, path, &format!("variable `{name}`"));
        Ok(value.to_owned())
    }

    fn file(&mut self, file: &str, span: &SpanNode, path: &str) -> Result<String, Refusal> {
        if file.is_empty() || file.contains('\0') {
            return Err(bad(format!("`{path}` refers to a file without a name")));
        }
        let folder = self.folders.get(usize::from(span.layer));
        let full = folder.map_or(Path::new(""), PathBuf::as_path).join(file);
        let value = secret_file::read(&full).map_err(|refusal| Refusal {
            code: refusal.code,
            message: format!("`{path}` refers to file `{file}`, which {}", refusal.what),
            help: refusal.help,
        })?;
        self.keep(&value, path, &format!("file `{file}`"));
        Ok(value)
    }

    /// `None` as an error: it was said where the parameter stands.
    fn parameter(&mut self, name: &str, path: &str) -> Result<(String, bool), Option<Refusal>> {
        let Some(parameters) = self.parameters else {
            return Err(Some(Refusal {
                code: "config.bad_reference",
                message: format!("`{path}` refers to a parameter, which is not possible here"),
                help: "write the value itself, `${env:NAME}` or `${file:PATH}`".to_owned(),
            }));
        };
        self.used.insert(name.to_owned());
        match parameters.get(name) {
            Some(Given::Value { text, is_secret }) => Ok((text.clone(), *is_secret)),
            Some(Given::Missing) => Err(None),
            None => {
                let known: Vec<&str> = parameters.keys().map(String::as_str).collect();
                let shown = if is_name(name, true) {
                    format!("`{name}`")
                } else {
                    "whose name is not valid".to_owned()
                };
                Err(Some(Refusal {
                    code: "config.unknown_parameter",
                    message: format!(
                        "`{path}` refers to a parameter {shown} that `parameters` does not have ({})",
                        known_words(&known)
                    ),
                    help: match nearest(name, known.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "add it to `parameters` of the job".to_owned(),
                    },
                }))
            }
        }
    }

    fn keep(&mut self, value: &str, path: &str, from: &str) {
        if !self.secrets.add(value) {
            self.findings.push(
                Finding::warning(
                    "config.short_secret",
                    format!(
                        "the secret of `{path}` ({from}) has fewer than {SECRET_CHARS_MIN} characters: it is not \
                         taken out of logs and reports"
                    ),
                )
                .with_help("use a longer secret"),
            );
        }
    }
}

/// Names for a message.
pub(crate) fn known_words(known: &[&str]) -> String {
    if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("known: {}", super::schema::list_keys(known))
    }
}

fn bad(message: String) -> Refusal {
    Refusal {
        code: "config.bad_reference",
        message,
        help: PLAIN_HELP.to_owned(),
    }
}

/// Whether `name` may be one of a variable, or of a parameter, which may also hold hyphens.
pub(crate) fn is_name(name: &str, with_hyphens: bool) -> bool {
    let first = name.chars().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= NAME_CHARS_MAX
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || (with_hyphens && c == '-'))
}
