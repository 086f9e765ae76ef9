//! Puts a job together: settings file, job file, variables, flags, in this order, the last one winning.
//!
//! Then parameters, references and environments are resolved, and what came of it is compared with the schema
//! (`validate.rs`) and the rules (`rules.rs`). A step runs whenever the one before left something to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use whimbrel_plugin_api::Error;

use super::fault::{Fault, Subject, into_errors};
use super::job::Job;
use super::layers::{self, Tree, overlay};
use super::load::LoadedJob;
use super::origin::{Layer, Origin};
use super::overrides::Overrides;
use super::parameters::{self, Given};
use super::references::{Resolver, may_refer};
use super::secrets::Secrets;
use super::spans::{Place, Spans};
use super::validate::Comparison;
use super::variables::{Sets, VARIABLES, Variables};
use super::yaml::{self, Document};
use super::{coercion, environments, rules, settings};

/// The layer of the settings file; that of the job file is 0.
const SETTINGS_LAYER: u16 = 1;

/// The folder of a job's runs, beside its file, unless something else is said.
const WORKING_DIR: &str = ".whimbrel";

/// What a job is made of.
pub(crate) struct Inputs<'a> {
    /// The job file, as it was named.
    pub(crate) path: &'a Path,
    /// What it holds.
    pub(crate) octets: &'a [u8],
    /// The settings file, and what it holds.
    pub(crate) settings: Option<(&'a Path, &'a [u8])>,
    pub(crate) overrides: &'a Overrides,
    pub(crate) variables: &'a Variables,
}

/// Puts the job together.
pub(crate) fn resolve(inputs: &Inputs<'_>) -> Result<LoadedJob, Vec<Error>> {
    let mut spans = Spans::default();
    spans.layer_of(Layer::File(inputs.path.to_owned()));
    let mut folders = vec![folder_of(inputs.path)];
    let mut faults = Vec::new();
    let mut settings = None;
    if let Some((path, octets)) = inputs.settings {
        spans.layer_of(Layer::File(path.to_owned()));
        folders.push(folder_of(path));
        settings = read_settings(octets, &spans.layers, &mut faults);
    }
    let job = read(inputs.octets, "the job file", 0, &mut faults);
    if job.is_none() && faults.is_empty() {
        faults.push(empty());
    }
    let Some(job) = job.filter(|_| !faults.iter().any(|fault| fault.layer == SETTINGS_LAYER)) else {
        return Err(into_errors(faults, &spans));
    };
    let secrets = Secrets::default();
    let mut whole = Whole {
        inputs,
        spans,
        faults,
        resolver: Resolver {
            variables: inputs.variables,
            folders: &folders,
            parameters: None,
            secrets: &secrets,
            used: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            faults: Vec::new(),
            findings: layers::unknown_variables(inputs.variables),
        },
    };
    whole.finish(job, settings)
}

/// A job on its way.
struct Whole<'a> {
    inputs: &'a Inputs<'a>,
    spans: Spans,
    faults: Vec<Fault>,
    resolver: Resolver<'a>,
}

impl<'a> Whole<'a> {
    fn finish(&mut self, job: Tree, settings: Option<Tree>) -> Result<LoadedJob, Vec<Error>> {
        let job_schema = Job::schema();
        let mut tree = match settings.as_ref().and_then(|settings| settings.part("/defaults")) {
            Some(defaults) if job.value.is_object() => overlay(defaults, job),
            _ => job,
        };
        let overrides = self.inputs.overrides;
        for (side, flag, name) in [
            ("source", "--source", &overrides.source),
            ("sink", "--sink", &overrides.sink),
        ] {
            let chosen = name.as_deref().map(|name| (flag, name));
            environments::choose(&mut tree, side, chosen, &mut self.spans);
        }
        let laid = layers::lay_over(
            &mut tree,
            &mut self.spans,
            &job_schema,
            self.inputs.variables,
            overrides,
        );
        self.faults.extend(laid);
        let given = parameters::given(&tree, &overrides.parameters, &mut self.spans, &mut self.resolver);
        let (working_dir, working_dir_origin, without_plugin) =
            self.resolve_references(&mut tree, settings.as_ref(), &given);
        coercion::coerce(&job_schema, &mut tree.value, &mut tree.span);
        coercion::hide_suspects(&tree.value, &mut tree.span);
        let Tree { value, span } = tree;
        self.spans.root = span;
        self.compare(&job_schema, &value, &without_plugin);
        if !self.faults.is_empty() {
            let clean = into_errors(std::mem::take(&mut self.faults), &self.spans);
            let secrets = self.resolver.secrets;
            return Err(clean
                .into_iter()
                .map(|error| secrets.scrub_error(error))
                .collect());
        }
        let job = to_job(value).map_err(|fault| into_errors(vec![fault], &self.spans))?;
        Ok(LoadedJob {
            job,
            path: self.inputs.path.to_owned(),
            folder: folder_of(self.inputs.path),
            settings: self.inputs.settings.map(|(path, _)| path.to_owned()),
            working_dir,
            working_dir_origin,
            parameters: values(given),
            secrets: self.resolver.secrets.clone(),
            findings: std::mem::take(&mut self.resolver.findings),
            spans: std::mem::take(&mut self.spans),
        })
    }

    /// The folder of the runs with its origin, and the sides whose plugin is missing for a reason that has been said.
    fn resolve_references(
        &mut self,
        tree: &mut Tree,
        settings: Option<&Tree>,
        given: &BTreeMap<String, Given>,
    ) -> (PathBuf, Origin, Vec<&'static str>) {
        let mut resolver = Resolver {
            parameters: Some(given),
            variables: self.resolver.variables,
            folders: self.resolver.folders,
            secrets: self.resolver.secrets,
            used: BTreeSet::new(),
            unresolved: std::mem::take(&mut self.resolver.unresolved),
            faults: std::mem::take(&mut self.resolver.faults),
            findings: std::mem::take(&mut self.resolver.findings),
        };
        // Defaults of parameters have been resolved, and their patterns may look like references.
        let parameters = take_out(tree, "parameters");
        resolver.resolve(tree, "", "");
        let mut without_plugin = Vec::new();
        for (side, pointer) in [("source", "/source"), ("sink", "/sink")] {
            if !environments::resolve(tree, settings, side, &mut resolver) {
                without_plugin.push(pointer);
            }
        }
        let working_dir = self.inputs.working_dir(settings, &mut resolver);
        if let Some(parameters) = parameters {
            tree.put("parameters", parameters);
        }
        if resolver.faults.is_empty() {
            resolver.faults = parameters::unused(tree, &resolver.used);
        }
        self.resolver.findings = resolver.findings;
        self.resolver.unresolved = resolver.unresolved;
        self.faults.extend(resolver.faults);
        (working_dir.0, working_dir.1, without_plugin)
    }

    fn compare(&mut self, job_schema: &Value, value: &Value, without_plugin: &[&str]) {
        let comparison = Comparison {
            schema: job_schema,
            document: value,
            base: "",
            spans: &self.spans,
            whole: "the job",
        };
        let unresolved = &self.resolver.unresolved;
        let is_echo = |fault: &Fault| {
            unresolved.contains(&fault.pointer)
                || without_plugin.contains(&fault.pointer.as_str())
                    && matches!(&fault.subject, Subject::MissingKey { key } if key == "plugin")
        };
        match comparison.faults() {
            Ok(found) => self
                .faults
                .extend(found.into_iter().filter(|fault| !is_echo(fault))),
            Err(_) => self.faults.push(Fault::new(
                Place::START,
                "config.schema",
                "the schema of jobs is not valid",
            )),
        }
        rules::apply(value, &self.spans, &mut self.faults);
    }
}

impl Inputs<'_> {
    /// The folder of the runs, and what it comes from.
    fn working_dir(&self, settings: Option<&Tree>, resolver: &mut Resolver<'_>) -> (PathBuf, Origin) {
        let here = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(path) = &self.overrides.working_dir {
            let name = "--working-dir".to_owned();
            return (here(path), Origin::Flag { name });
        }
        let mut names = VARIABLES
            .iter()
            .filter(|variable| variable.sets == Sets::WorkingDir)
            .flat_map(|variable| variable.names);
        if let Some((name, path)) = names.find_map(|name| Some((*name, self.variables.filled(name)?))) {
            let name = name.to_owned();
            return (here(Path::new(path)), Origin::Variable { name });
        }
        if let (Some((path, _)), Some(mut part)) = (
            self.settings,
            settings.and_then(|settings| settings.part("/working_dir")),
        ) {
            resolver.resolve(&mut part, "/working_dir", "working_dir");
            let origin = Origin::File {
                path: path.to_owned(),
                place: part.span.value,
            };
            return (
                folder_of(path).join(part.value.as_str().unwrap_or(WORKING_DIR)),
                origin,
            );
        }
        (folder_of(self.path).join(WORKING_DIR), Origin::Default)
    }
}

fn take_out(tree: &mut Tree, key: &str) -> Option<Tree> {
    let value = tree.value.as_object_mut()?.remove(key)?;
    let span = tree.span.parts.remove(key).unwrap_or_default();
    Some(Tree { value, span })
}

fn values(given: BTreeMap<String, Given>) -> BTreeMap<String, String> {
    given
        .into_iter()
        .filter_map(|(name, given)| match given {
            Given::Value { text, .. } => Some((name, text)),
            Given::Missing => None,
        })
        .collect()
}

/// The absolute folder of a file.
fn folder_of(path: &Path) -> PathBuf {
    std::path::absolute(path)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// The values of a file; `None` if it holds none, or if that is beyond reading, which is then among `faults`.
fn read(octets: &[u8], whole: &str, layer: u16, faults: &mut Vec<Fault>) -> Option<Tree> {
    let text = match std::str::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => {
            faults.push(not_utf8(octets, error.valid_up_to(), whole).in_layer(layer));
            return None;
        }
    };
    let Document {
        value,
        spans,
        faults: found,
    } = yaml::read(text);
    let is_readable = found.is_empty();
    faults.extend(found.into_iter().map(|fault| fault.in_layer(layer)));
    let value = value.filter(|value| !(value.is_null() && is_readable))?;
    let mut span = spans.root;
    if layer > 0 {
        span.put_in_layer(layer);
    }
    Some(Tree { value, span })
}

fn read_settings(octets: &[u8], layers: &[Layer], faults: &mut Vec<Fault>) -> Option<Tree> {
    let tree = read(octets, "the settings file", SETTINGS_LAYER, faults)?;
    let mut spans = Spans::new(tree.span);
    spans.layers = layers.to_vec();
    let schema = settings::schema();
    let comparison = Comparison {
        schema: &schema,
        document: &tree.value,
        base: "",
        spans: &spans,
        whole: "the settings",
    };
    // What a reference stands for is judged where it is used.
    let refers = |fault: &Fault| {
        let text = tree.value.pointer(&fault.pointer).and_then(Value::as_str);
        text.is_some_and(may_refer)
    };
    match comparison.faults() {
        Ok(found) => faults.extend(found.into_iter().filter(|fault| !refers(fault))),
        Err(_) => faults.push(
            Fault::new(
                Place::START,
                "config.schema",
                "the schema of settings is not valid",
            )
            .in_layer(SETTINGS_LAYER),
        ),
    }
    Some(Tree {
        value: tree.value,
        span: spans.root,
    })
}

/// A settings file by itself, without a job: its values and where they stand.
pub(crate) fn settings_alone(path: &Path, octets: &[u8]) -> Result<(Value, Spans), Vec<Error>> {
    // The first layer is that of a job file, which is not there.
    let layers = [path, path].map(|path| Layer::File(path.to_owned())).to_vec();
    let mut faults = Vec::new();
    let settings = read_settings(octets, &layers, &mut faults);
    let mut spans = Spans::new(
        settings
            .as_ref()
            .map(|tree| tree.span.clone())
            .unwrap_or_default(),
    );
    spans.layers = layers;
    if faults.is_empty() {
        Ok((settings.map(|tree| tree.value).unwrap_or_default(), spans))
    } else {
        Err(into_errors(faults, &spans))
    }
}

/// A settings file as far as it can be read, whatever is wrong with it; `None` if it says nothing.
///
/// # Errors
/// What keeps the file as a whole from being read.
pub(crate) fn settings_readable(path: &Path, octets: &[u8]) -> Result<Option<Tree>, Vec<Error>> {
    let mut faults = Vec::new();
    let tree = read(octets, "the settings file", SETTINGS_LAYER, &mut faults);
    if tree.is_none() && !faults.is_empty() {
        let spans = Spans {
            layers: [path, path].map(|path| Layer::File(path.to_owned())).to_vec(),
            ..Spans::default()
        };
        return Err(into_errors(faults, &spans));
    }
    Ok(tree)
}

/// The absolute folder of a file.
pub(crate) fn folder_of_file(path: &Path) -> PathBuf {
    folder_of(path)
}

/// The schema has been satisfied; should it allow more than the type holds, this still ends with an error.
fn to_job(value: Value) -> Result<Job, Fault> {
    serde_json::from_value(value).map_err(|_| {
        Fault::new(
            Place::START,
            "config.bad_value",
            "the job holds a value that does not fit",
        )
        .with_help("compare it with the job's schema")
    })
}

fn empty() -> Fault {
    Fault::new(
        Place::START,
        "config.missing_key",
        "the job file is empty (required keys: name, sink, source)",
    )
    .with_help("begin with `name: my-job`")
}

fn not_utf8(octets: &[u8], valid: usize, whole: &str) -> Fault {
    let before = String::from_utf8_lossy(&octets[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let help = if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        "the file looks like UTF-16; save it as UTF-8"
    } else {
        "save it as UTF-8"
    };
    let message = format!("{whole} is not UTF-8 text");
    Fault::new(Place { line, column }, "config.not_utf8", message).with_help(help)
}
