//! Puts the plugin and the config of a named environment in the place of its name in `source` or `sink`.
//!
//! The environments stand in the settings file (`settings.rs`). What a job writes under `config` beside the name is
//! laid over the environment's; what it writes beside a plugin belongs to that plugin.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::layers::{Tree, overlay};
use super::nearest::nearest;
use super::origin::Layer;
use super::references::{Resolver, known_words};
use super::spans::{Spans, join};

/// Where an environment's name came to stand at fault: its plugin is not missed then.
pub(crate) const ENVIRONMENT: &str = "environment";

/// Lets a flag choose the environment of `side`, which is `source` or `sink`.
pub(crate) fn choose(tree: &mut Tree, side: &str, flag: Option<(&str, &str)>, spans: &mut Spans) {
    let Some((flag, name)) = flag else {
        return;
    };
    let layer = spans.layer_of(Layer::Flag(flag.to_owned()));
    let keeps_config = tree
        .value
        .get(side)
        .is_some_and(|side| side.get(ENVIRONMENT).is_some());
    if !keeps_config {
        tree.set(&format!("/{side}"), Value::Object(Map::new()), layer);
    }
    tree.set(&format!("/{side}/{ENVIRONMENT}"), Value::from(name), layer);
}

/// Resolves the environment of `side`; `tree` has its references resolved, `settings` not. Returns whether nothing
/// was wrong with it.
pub(crate) fn resolve(
    tree: &mut Tree,
    settings: Option<&Tree>,
    side: &str,
    resolver: &mut Resolver<'_>,
) -> bool {
    let pointer = format!("/{side}/{ENVIRONMENT}");
    let Some(Value::String(name)) = tree.value.pointer(&pointer).cloned() else {
        return tree.value.pointer(&pointer).is_none();
    };
    let Some(job) = tree.part(&format!("/{side}")) else {
        return true;
    };
    if tree.value.pointer(&format!("/{side}/plugin")).is_some() {
        let message = format!("`{side}` names both a plugin and an environment");
        resolver.faults.push(
            at(tree, &pointer, "config.exclusive_keys", message)
                .with_help("keep one of them: an environment has its plugin"),
        );
        return false;
    }
    let known = settings.and_then(|settings| settings.value.get("environments"));
    let names: Vec<&str> = known
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let found = settings.and_then(|settings| settings.part(&join("/environments", &name)));
    let Some(mut environment) = found else {
        let message = format!(
            "`{side}.environment` names an unknown environment ({})",
            known_words(&names)
        );
        let help = match nearest(&name, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "add it under `environments` of the settings file, `{}` beside the job file or `--settings FILE`",
                super::settings::SETTINGS_FILE
            ),
        };
        let fault = at(tree, &pointer, "config.unknown_environment", message);
        resolver.faults.push(fault.with_help(help));
        return false;
    };
    let before = resolver.faults.len();
    resolver.resolve(&mut environment, &format!("/{side}"), side);
    let joined = overlay(environment, job);
    tree.put(side, joined);
    resolver.faults.len() == before
}

fn at(tree: &Tree, pointer: &str, code: &'static str, message: String) -> Fault {
    let span = tree.part(pointer).unwrap_or_default().span;
    Fault::new(span.value, code, message)
        .in_layer(span.layer)
        .at(pointer)
}
