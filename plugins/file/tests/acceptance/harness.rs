//! What the tests share: opening through the boundary, a notification, and reading the file back as a stranger would.
//! Not here: any expectation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use whimbrel_file::WhimbrelPlugin;
use whimbrel_plugin_api::abi::ForeignPlugin;
use whimbrel_plugin_api::abi::notifier::ForeignNotifier;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::Delivered;
use whimbrel_plugin_api::serde_json::{self, Value as Json, json};
use whimbrel_plugin_api::services::HostServices;
use whimbrel_plugin_api::{LogLevel, Notification, Notifier as _, Result, Severity};

/// A host that keeps the log.
#[derive(Default)]
pub struct Host(pub Mutex<Vec<String>>);

impl HostServices for Host {
    fn log(&self, level: LogLevel, message: &str) {
        self.0.lock().unwrap().push(format!("{level:?} {message}"));
    }
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

pub fn plugin() -> ForeignPlugin {
    local::<WhimbrelPlugin>()
}

pub fn open(config: &Json) -> Result<ForeignNotifier> {
    plugin().open_notifier(config, Arc::new(Host::default()))
}

pub fn open_at(path: &Path) -> ForeignNotifier {
    open(&json!({ "path": path })).unwrap()
}

pub fn told(key: &str) -> Notification {
    Notification {
        dedupe_key: key.to_owned(),
        event: "completed".to_owned(),
        title: format!("title of {key}"),
        body: format!("body of {key}"),
        at: "2024-02-29T23:59:59Z".to_owned(),
        ..Notification::default()
    }
}

/// Sends, and gives the id of the receipt.
pub fn send(notifier: &mut ForeignNotifier, key: &str) -> Result<String> {
    let receipt = notifier.send(&told(key))?;
    Ok(receipt.id.unwrap())
}

/// What stands in the file and the old ones before it, oldest first.
pub fn delivered_in_all(path: &Path) -> Vec<Delivered> {
    let old = (1..=99)
        .rev()
        .map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    old.chain([path.to_owned()])
        .flat_map(|path| delivered(&path))
        .collect()
}

/// The keys of the lines of the file, in order.
pub fn keys(path: &Path) -> Vec<String> {
    let key = |one: Delivered| one.dedupe_key.unwrap();
    delivered(path).into_iter().map(key).collect()
}

/// The notifications of the file, by the rules that its README gives to readers.
pub fn delivered(path: &Path) -> Vec<Delivered> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line has no end"
    );
    let line = |line: &str| match serde_json::from_str::<Notification>(line) {
        Ok(notification) => notification.into(),
        Err(_) => of_text(line),
    };
    text.split_terminator('\n').map(line).collect()
}

fn of_text(line: &str) -> Delivered {
    let fields: Vec<&str> = line.split('\t').collect();
    let [at, severity, event, title, body, facts, key] = fields[..] else {
        panic!("a line has {} fields: {line:?}", fields.len());
    };
    let severity = Severity::ALL.into_iter().find(|one| one.name() == severity);
    let pairs = split(facts, ';')
        .into_iter()
        .enumerate()
        .filter(|(_, pair)| !pair.is_empty());
    let facts = pairs.map(|(number, pair)| {
        let pair = if number == 0 {
            pair
        } else {
            pair.strip_prefix(' ').unwrap()
        };
        let parts = split(pair, '=');
        let [name, value] = parts[..] else {
            panic!("a fact has {} parts: {line:?}", parts.len());
        };
        (plain(name), plain(value))
    });
    Delivered {
        dedupe_key: Some(plain(key.strip_prefix('[').unwrap().strip_suffix(']').unwrap())),
        event: Some(plain(event)),
        severity: Some(severity.unwrap()),
        title: Some(plain(title)),
        body: Some(plain(body)),
        facts: Some(facts.collect()),
        at: Some(plain(at)),
    }
}

/// Splits at each `mark` that no backslash stands before.
fn split(text: &str, mark: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        if letter == mark && !escaped {
            parts.push(&text[start..at]);
            start = at + mark.len_utf8();
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn plain(field: &str) -> String {
    let mut plain = String::new();
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        assert!(!letter.is_control(), "a control character in {field:?}");
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next().unwrap() {
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'u' => {
                let digits: String = letters.by_ref().skip(1).take_while(|one| *one != '}').collect();
                plain.push(char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap());
            }
            other => plain.push(other),
        }
    }
    plain
}
