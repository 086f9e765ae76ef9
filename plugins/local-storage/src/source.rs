//! The source role: one export file or profile, read whole on the first call and kept for the object's life.
//!
//! Every collection is one partition, since all of it is in memory already. Streams share the data and may run side by
//! side.

use std::sync::Arc;

use whimbrel_plugin_api::check::Finding;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, Error, ErrorKind, LogLevel, OpenSource, ReadRequest, RecordStream,
    RecordType, Result, Services, Source, SourceCapabilities, TypeMapping,
};

use crate::config::{Format, LocalStorageConfig};
use crate::error;
use crate::export_file::{self, Export};
use crate::grouping::{self, Group, Slot};
use crate::inference::{self, Layout};
use crate::profile;
use crate::refusal;
use crate::stream::{Dataset, ExportStream};

/// A browser's `localStorage`, as an export file or a profile holds it.
pub struct LocalStorage {
    config: LocalStorageConfig,
    services: Services,
    loaded: Option<Loaded>,
}

struct Loaded {
    data: Arc<Dataset>,
    collections: Vec<Collection>,
    findings: Vec<Finding>,
}

impl OpenSource for LocalStorage {
    type Config = LocalStorageConfig;

    fn open(config: LocalStorageConfig, services: Services) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            services,
            loaded: None,
        })
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            resume: true,
            ..SourceCapabilities::default()
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        let exact = |record_type: RecordType, stored_as: &str| TypeMapping {
            record_type,
            stored_as: stored_as.to_owned(),
            losses: Vec::new(),
        };
        vec![
            exact(RecordType::Bool, "true, false"),
            exact(RecordType::INT64, "whole numbers of 63 bits and a sign"),
            exact(
                RecordType::Decimal {
                    precision: 20,
                    scale: 0,
                },
                "whole numbers of 64 bits",
            ),
            exact(
                RecordType::FLOAT64,
                "numbers that a 64-bit float holds without rounding",
            ),
            exact(RecordType::Numeric, "other numbers"),
            exact(RecordType::Text, "string"),
            exact(RecordType::Json, "object, array"),
            exact(RecordType::Variant, "values of several kinds"),
        ]
    }
}

impl Source for LocalStorage {
    fn check(&mut self) -> Result<Vec<Finding>> {
        match self.loaded() {
            Ok(loaded) => Ok(loaded.findings.clone()),
            Err(error) if matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Internal) => Err(error),
            Err(error) => Ok(vec![blocker(&error)]),
        }
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let is_wanted =
            |collection: &&Collection| request.names.is_empty() || request.names.contains(&collection.name);
        Ok(self
            .loaded()?
            .collections
            .iter()
            .filter(is_wanted)
            .cloned()
            .collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        if request.predicate.is_some() {
            return Err(Error::unsupported("read with a predicate"));
        }
        let services = self.services.clone();
        let loaded = self.loaded()?;
        let collection = loaded.index_of(&request.collection)?;
        Ok(Box::new(ExportStream::open(
            Arc::clone(&loaded.data),
            collection,
            request,
            services,
        )?))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let loaded = self.loaded()?;
        let collection = loaded.index_of(&request.collection)?;
        Ok(loaded.collections[collection].estimate.record_count)
    }
}

impl LocalStorage {
    /// The file's content; read on the first call, and again if that failed.
    fn loaded(&mut self) -> Result<&Loaded> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => Loaded::load(&self.config, &self.services)?,
        };
        Ok(self.loaded.insert(loaded))
    }
}

fn blocker(error: &Error) -> Finding {
    Finding::of_error(error)
}

impl Loaded {
    fn load(config: &LocalStorageConfig, services: &Services) -> Result<Self> {
        let profile = profile::load(config, services)?;
        let (text, form, not_read, notes) = match profile {
            Some(profile) => (profile.text, profile.form, profile.not_read, profile.notes),
            None => (export_file::load(config)?, config.format, Vec::new(), Vec::new()),
        };
        let mut export = export_file::parse(&text, form, config, services)?;
        export.not_read.extend(not_read);
        let groups = grouping::group(&text, &mut export, config, services)?;
        let form = export.form.name();
        services.log(
            LogLevel::Debug,
            format!("read {} entries in the form `{form}`", export.entries.len()),
        );
        let fingerprint = fingerprint(&text, export.form, config);
        drop(text);

        let findings = [notes, findings(&export, &groups)].concat();
        let mut data = Dataset {
            path: config.path.clone(),
            arena: export.arena.0,
            origins: export.origins.clone().unwrap_or_default(),
            collections: Vec::with_capacity(groups.len()),
            fingerprint,
        };
        for mut group in groups {
            let layout = inference::infer(
                &mut group,
                &data.arena,
                export.origins.is_some(),
                config.fields_max,
                services,
            )?;
            data.collections.push((group, layout));
        }
        let collections = data
            .collections
            .iter()
            .map(|(group, layout)| announce(group, layout))
            .collect();
        Ok(Self {
            data: Arc::new(data),
            collections,
            findings,
        })
    }

    fn index_of(&self, name: &str) -> Result<usize> {
        self.collections
            .iter()
            .position(|collection| collection.name == name)
            .ok_or_else(|| error::collection_missing(name))
    }
}

fn announce(group: &Group, layout: &Layout) -> Collection {
    let mut collection =
        Collection::new(group.name.clone(), layout.schema.clone()).with_key(layout.key.clone());
    // Rejected records are in the source too.
    collection.estimate.record_count = Some(group.slots.len() as u64);
    collection.estimate.size_bytes = Some(group.records().map(grouping::Record::size_bytes).sum());
    collection.estimate.exact = true;
    collection.losses = layout.losses.clone();
    collection
}

/// What an operator should know before the run.
fn findings(export: &Export, groups: &[Group]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (what, count) in &export.not_read {
        let holder = error::holder(export.form);
        let message = format!("the {holder} also holds {count} of `{what}`, which are not read");
        findings.push(Finding::info("local_storage.not_read", message));
    }
    for group in groups {
        for (code, what) in [
            (
                refusal::KEY_TWICE,
                "entries have a key that stands earlier in the file",
            ),
            (refusal::LONE_SURROGATE, "records hold half of a surrogate pair"),
        ] {
            let is_such = |slot: &&Slot| matches!(slot, Slot::Rejected(record) if record.code == code);
            let count = group.slots.iter().filter(is_such).count();
            if count > 0 {
                let finding = Finding::warning(code, format!("{count} {what} and will be rejected"));
                findings.push(finding.with_collection(group.name.clone()));
            }
        }
        if group.name != group.exact_name {
            let message = format!(
                "the collection `{}` is called `{}`, since another name differs from it in case only",
                group.exact_name, group.name
            );
            findings.push(
                Finding::info("local_storage.collection_renamed", message)
                    .with_collection(group.name.clone()),
            );
        }
    }
    findings
}

/// FNV-1a (64 bits) over the file and all of the config that decides which record has which index.
fn fingerprint(text: &str, form: Format, config: &LocalStorageConfig) -> u64 {
    let LocalStorageConfig {
        path: _,
        format: _,
        origin,
        origins,
        lone_surrogates,
        collection_names,
        size_bytes_max: _,
        fields_max,
    } = config;
    let rules =
        format!("{form:?} {origin:?} {origins:?} {lone_surrogates:?} {collection_names:?} {fields_max}");
    let mix = |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
    text.as_bytes()
        .iter()
        .chain(rules.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325, mix)
}
