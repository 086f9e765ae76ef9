//! From the octets of an export file to a list of entries (origin, key, value), for each of the four forms.
//!
//! Everything that is wrong with the file as a whole is an error with its line and column. What is wrong with single
//! entries (repeated keys, text that is not valid Unicode) is only marked here; `grouping` decides.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;

use whimbrel_plugin_api::{Error, Result, Services};

use crate::arena::{Arena, Span};
use crate::config::{Format, LocalStorageConfig};
use crate::error::{self, Place, Places};
use crate::json_text;

/// One key with its value.
#[derive(Debug)]
pub struct Entry {
    /// Index into [`Export::origins`].
    pub origin: Option<u32>,
    /// Decoded key, in the arena.
    pub key: Span,
    /// Decoded value, in the arena. If it is JSON, halves of surrogate pairs stand there as escapes.
    pub value: Span,
    /// Whether halves of surrogate pairs in key or origin were replaced.
    pub key_replaced: bool,
    /// Whether halves of surrogate pairs in a value that is no JSON were replaced.
    pub value_replaced: bool,
    /// Where the entry stands.
    pub place: Place,
    /// Key and value as they stand in the file.
    pub raw: (Span, Span),
}

/// What an export file holds.
#[derive(Debug)]
pub struct Export {
    /// The form in which it was read.
    pub form: Format,
    /// The origins, if the form names them.
    pub origins: Option<Vec<String>>,
    /// The entries, in the order of the file.
    pub entries: Vec<Entry>,
    /// Their texts.
    pub arena: Arena,
    /// Things in the file that are no local storage, each with its number.
    pub not_read: Vec<(String, usize)>,
}

/// Reads the file that the config names, whole.
pub fn load(config: &LocalStorageConfig) -> Result<String> {
    let path = config.path.as_str();
    let unreadable = |cause: std::io::Error| error::unreadable(path, &cause);
    // Looked at before it is opened: opening a named pipe would block.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(error::not_a_file(path));
    }
    if metadata.len() > config.size_bytes_max {
        return Err(error::too_large(path, config.size_bytes_max));
    }
    let mut octets = Vec::with_capacity(metadata.len() as usize + 1);
    let file = File::open(path).map_err(unreadable)?;
    file.take(config.size_bytes_max + 1)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    if octets.len() as u64 > config.size_bytes_max {
        return Err(error::too_large(path, config.size_bytes_max));
    }
    let text = String::from_utf8(octets).map_err(|cause| {
        let valid = String::from_utf8_lossy(&cause.as_bytes()[..cause.utf8_error().valid_up_to()]);
        let place = Places::new(&valid).at(valid.len());
        error::bad_file(path, "not_utf8", "the file is not valid UTF-8", place)
            .with_help("save the export as UTF-8")
    })?;
    // A byte order mark, as Windows programs write it.
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

/// Reads the entries of `text`, which is of the form `asked`.
pub fn parse(text: &str, asked: Format, config: &LocalStorageConfig, services: &Services) -> Result<Export> {
    if let Err(cause) = serde_json::from_str::<&serde_json::value::RawValue>(text) {
        let place = syntax_place(text, &cause);
        return Err(
            error::bad_file(&config.path, "malformed", "the file is not valid JSON", place)
                .with_cause(&cause),
        );
    }
    let document = text.trim_ascii();
    let mut reader = Reader {
        text,
        config,
        services,
        places: Places::new(text),
        origins: Vec::new(),
        origin_numbers: HashMap::new(),
        not_read: Vec::new(),
        export: Export {
            form: Format::Auto,
            origins: None,
            entries: Vec::new(),
            arena: Arena::default(),
            not_read: Vec::new(),
        },
    };
    let form = reader.form(document, asked)?;
    match form {
        Format::Auto | Format::Flat => reader.flat(document, None)?,
        Format::PerOrigin | Format::Chromium | Format::Firefox => reader.per_origin(document)?,
        Format::Pairs => reader.pairs(document)?,
        Format::StorageState => reader.storage_state(document)?,
    }
    reader.finish(form)
}

/// Where the parser stopped. It counts a line break as column 0 of the line that follows.
fn syntax_place(text: &str, cause: &serde_json::Error) -> Place {
    let (line, column) = (cause.line().max(1), cause.column());
    match line
        .checked_sub(2)
        .and_then(|before| text.split('\n').nth(before))
    {
        Some(before) if column == 0 => Place {
            line: line as u32 - 1,
            column: before.len() as u32 + 1,
        },
        _ => Place {
            line: line as u32,
            column: column.max(1) as u32,
        },
    }
}

struct Reader<'a> {
    text: &'a str,
    config: &'a LocalStorageConfig,
    services: &'a Services,
    places: Places<'a>,
    origins: Vec<Origin>,
    origin_numbers: HashMap<String, u32>,
    not_read: Vec<(String, usize)>,
    export: Export,
}

struct Origin {
    name: String,
    replaced: bool,
}

impl<'a> Reader<'a> {
    /// The form of the document: what was asked for, or what its outermost values look like.
    fn form(&mut self, document: &'a str, asked: Format) -> Result<Format> {
        let is_object = document.starts_with('{');
        let wants_object = asked != Format::Pairs;
        if asked != Format::Auto {
            return if is_object == wants_object {
                Ok(asked)
            } else {
                let valid = if wants_object { "an object" } else { "a list" };
                Err(self.bad(document, "wrong_form", &format!("the file is not {valid}")))
            };
        }
        if document.starts_with('[') {
            return Ok(Format::Pairs);
        }
        if !is_object {
            return Err(self.bad(document, "wrong_form", "the file is neither an object nor a list"));
        }
        let members = self.members(document)?;
        // In a flat export every value is a string, so a list under `origins` tells a storage state apart.
        if members
            .iter()
            .any(|(name, value)| json_text::text(name).text == "origins" && value.starts_with('['))
        {
            return Ok(Format::StorageState);
        }
        match members.first() {
            Some((_, first)) if first.starts_with('{') => Ok(Format::PerOrigin),
            _ => Ok(Format::Flat),
        }
    }

    fn flat(&mut self, object: &'a str, origin: Option<u32>) -> Result<()> {
        for (key, value) in self.members(object)? {
            self.entry(origin, key, value)?;
        }
        Ok(())
    }

    fn per_origin(&mut self, document: &'a str) -> Result<()> {
        for (origin, entries) in self.members(document)? {
            if !entries.starts_with('{') {
                return Err(self.bad(entries, "wrong_form", "the value of an origin is not an object"));
            }
            let origin = self.origin(origin);
            self.flat(entries, Some(origin))?;
        }
        Ok(())
    }

    fn pairs(&mut self, list: &'a str) -> Result<()> {
        for pair in self.elements(list)? {
            if pair.starts_with('{') {
                self.named_pair(pair, None)?;
                continue;
            }
            match self.elements(pair)?[..] {
                [key, value] if key.starts_with('"') => self.entry(None, key, value)?,
                _ => return Err(self.bad(pair, "bad_pair", "a pair is not a list of a key and a value")),
            }
        }
        Ok(())
    }

    /// `{"key": .., "value": ..}` or `{"name": .., "value": ..}`.
    fn named_pair(&mut self, object: &'a str, origin: Option<u32>) -> Result<()> {
        let (mut key, mut value) = (None, None);
        for (name, member) in self.members(object)? {
            let place = match json_text::text(name).text.as_ref() {
                "key" | "name" => &mut key,
                "value" => &mut value,
                _ => {
                    return Err(self.bad(
                        name,
                        "bad_pair",
                        "a pair has a member besides `key` (or `name`) and `value`",
                    ));
                }
            };
            if place.replace(member).is_some() {
                return Err(self.bad(name, "bad_pair", "a member of a pair stands twice"));
            }
        }
        match (key, value) {
            (Some(key), Some(value)) if key.starts_with('"') => self.entry(origin, key, value),
            _ => Err(self.bad(
                object,
                "bad_pair",
                "a pair lacks `key` (or `name`) or `value`, or its key is not text",
            )),
        }
    }

    fn storage_state(&mut self, document: &'a str) -> Result<()> {
        let mut has_origins = false;
        for (name, value) in self.members(document)? {
            let name = json_text::text(name).text;
            if name != "origins" {
                self.leave_out(&name, value);
                continue;
            }
            has_origins = true;
            for state in self.elements(value)? {
                self.origin_state(state)?;
            }
        }
        if has_origins {
            Ok(())
        } else {
            Err(self.bad(document, "wrong_form", "a storage state has a list `origins`"))
        }
    }

    fn origin_state(&mut self, state: &'a str) -> Result<()> {
        let (mut origin, mut entries) = (None, None);
        for (name, value) in self.members(state)? {
            let known = match json_text::text(name).text.as_ref() {
                "origin" if value.starts_with('"') => &mut origin,
                "localStorage" => &mut entries,
                other => {
                    self.leave_out(other, value);
                    continue;
                }
            };
            if known.replace(value).is_some() {
                return Err(self.bad(name, "wrong_form", "a member of an origin stands twice"));
            }
        }
        let Some(origin) = origin else {
            return Err(self.bad(state, "wrong_form", "a member of `origins` has no text `origin`"));
        };
        let origin = self.origin(origin);
        for entry in entries
            .map(|list| self.elements(list))
            .transpose()?
            .unwrap_or_default()
        {
            self.named_pair(entry, Some(origin))?;
        }
        Ok(())
    }

    /// Takes note of something that is no local storage, if there is anything in it.
    fn leave_out(&mut self, name: &str, value: &str) {
        let count = match json_text::elements(value) {
            Ok(elements) => elements.len(),
            Err(_) => 1,
        };
        match self.not_read.iter_mut().find(|(known, _)| known == name) {
            Some((_, total)) => *total += count,
            None if count > 0 => self.not_read.push((name.to_owned(), count)),
            None => {}
        }
    }

    fn origin(&mut self, raw: &str) -> u32 {
        let decoded = json_text::text(raw);
        if let Some(number) = self.origin_numbers.get(decoded.text.as_ref()) {
            let number = *number;
            self.origins[number as usize].replaced |= decoded.replaced;
            return number;
        }
        let number = self.origins.len() as u32;
        self.origin_numbers.insert(decoded.text.to_string(), number);
        self.origins.push(Origin {
            name: decoded.text.into_owned(),
            replaced: decoded.replaced,
        });
        number
    }

    fn entry(&mut self, origin: Option<u32>, key: &'a str, value: &'a str) -> Result<()> {
        if self.export.entries.len().is_multiple_of(CANCEL_CHECK_ENTRIES) {
            self.services.check_cancelled()?;
        }
        if !value.starts_with('"') {
            return Err(self
                .bad(
                    value,
                    "value_not_text",
                    "a value is not a string, as every value in local storage is",
                )
                .with_help("set `format` if the file is of another form than it looks"));
        }
        let origin_is = origin.map(|number| &self.origins[number as usize]);
        if origin_is.is_some_and(|origin| !self.config.wants(&origin.name)) {
            return Ok(());
        }
        let origin_replaced = origin_is.is_some_and(|origin| origin.replaced);
        let raw = (self.raw_span(key), self.raw_span(value));
        let place = self.places.at(raw.0.start as usize);
        let key = json_text::text(key);
        let plain = json_text::text(value);
        let as_json = if plain.replaced {
            json_text::text_as_json(value)
        } else {
            None
        };
        let as_json = as_json.filter(|text| json_text::is_json(&text.text));
        let value_replaced = plain.replaced && as_json.is_none();
        let arena = &mut self.export.arena;
        let entry = Entry {
            origin,
            key: arena.add(&key.text),
            value: arena.add(&as_json.unwrap_or(plain).text),
            key_replaced: key.replaced || origin_replaced,
            value_replaced,
            place,
            raw,
        };
        self.export.entries.push(entry);
        Ok(())
    }

    fn finish(self, form: Format) -> Result<Export> {
        let has_origins = matches!(form, Format::PerOrigin | Format::StorageState) || form.is_profile();
        for wanted in self.config.wanted_origins() {
            if !has_origins {
                return Err(error::no_origins(form.name()));
            }
            if !self.origin_numbers.contains_key(wanted) {
                let present: Vec<&str> = self.origins.iter().map(|origin| origin.name.as_str()).collect();
                return Err(error::origin_missing(wanted, form, &present));
            }
        }
        let names = self.origins.into_iter().map(|origin| origin.name).collect();
        Ok(Export {
            form,
            origins: has_origins.then_some(names),
            not_read: self.not_read,
            ..self.export
        })
    }

    fn members(&mut self, object: &'a str) -> Result<Vec<(&'a str, &'a str)>> {
        json_text::members(object).map_err(|_| self.bad(object, "wrong_form", "an object is expected here"))
    }

    fn elements(&mut self, list: &'a str) -> Result<Vec<&'a str>> {
        json_text::elements(list).map_err(|_| self.bad(list, "wrong_form", "a list is expected here"))
    }

    fn raw_span(&self, part: &str) -> Span {
        let start = part.as_ptr().addr() - self.text.as_ptr().addr();
        Span {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }

    fn bad(&mut self, part: &str, code: &str, message: &str) -> Error {
        let place = self.places.at(self.raw_span(part).start as usize);
        error::bad_file(&self.config.path, code, message, place)
    }
}

/// How often the host is asked whether to go on: a multiple of what takes about a millisecond.
const CANCEL_CHECK_ENTRIES: usize = 4_096;
