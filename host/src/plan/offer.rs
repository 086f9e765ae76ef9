//! What a job wants of a source, by name, and what the source has answered.
//!
//! Pure, as its neighbours: [`crate::phases::asking`] asks the source, `plan` makes a plan of the offer. Since a source may
//! have to read a collection before it can describe it, nothing is asked that the job does not need.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::{Collection, Cost};

use super::known_names;
use crate::config::{CollectionJob, Job, Pattern, Patterns};

/// Which collections a job wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are.
    Everything,
    /// Those of these names, and no others.
    Named(Vec<String>),
    /// What the patterns of the job stand for. Those that are texts of patterns may be names themselves, as `users/*/orders` is
    /// one in some sources: such a one stands for that collection alone.
    Chosen {
        /// What may be a name.
        names: Vec<String>,
    },
}

/// What is wanted for `job`.
pub fn wanted(job: &Job) -> Wanted {
    if job.collections.is_some() {
        return Wanted::Named(
            rules(job)
                .map(|rule| rule.source.clone())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        );
    }
    let include: Vec<(&String, Pattern)> = job
        .include
        .iter()
        .filter_map(|text| Some((text, Pattern::new(text)?)))
        .collect();
    let takes_all = include.is_empty() || include.iter().any(|(_, pattern)| pattern.is_everything());
    if takes_all {
        return match job.exclude.is_empty() {
            true => Wanted::Everything,
            false => Wanted::Chosen { names: Vec::new() },
        };
    }
    let patterns = Patterns::new(&job.include, &job.exclude);
    let names: BTreeSet<String> = include
        .iter()
        .filter_map(|(text, pattern)| match pattern.only_name() {
            Some(name) => Some(name),
            // Nobody writes a `\` to name a collection whose name has stars.
            None => (!text.contains('\\')).then(|| (*text).clone()),
        })
        .filter(|name| !patterns.excludes(name))
        .collect();
    let names = names.into_iter().collect();
    match include.iter().all(|(_, pattern)| pattern.only_name().is_some()) {
        true => Wanted::Named(names),
        false => Wanted::Chosen { names },
    }
}

/// The rules of `job` whose collections are moved.
pub fn rules(job: &Job) -> impl Iterator<Item = &CollectionJob> {
    let patterns = Patterns::new(&job.include, &job.exclude);
    job.collections
        .iter()
        .flatten()
        .filter(move |rule| patterns.matches(&rule.source))
}

/// Whether something can be found that is not among `found`, the collections whose names were in the job.
pub fn has_open_patterns(job: &Job, found: &BTreeSet<&str>) -> bool {
    job.include.is_empty() || open_patterns(job, found).next().is_some()
}

/// Those of `listed` that the patterns of the job stand for, in their order. `found` are the collections whose names were in
/// the job.
pub fn chosen(job: &Job, listed: &[Collection], found: &BTreeSet<&str>) -> Vec<String> {
    let patterns = Patterns::new(&job.include, &job.exclude);
    let open: Vec<Pattern> = open_patterns(job, found).collect();
    let is_chosen = |name: &str| {
        let is_included = job.include.is_empty()
            || found.contains(name)
            || open.iter().any(|pattern| pattern.matches(name));
        is_included && !patterns.excludes(name)
    };
    listed
        .iter()
        .map(|collection| collection.name.clone())
        .filter(|name| is_chosen(name))
        .collect()
}

fn open_patterns<'a>(job: &'a Job, found: &'a BTreeSet<&str>) -> impl Iterator<Item = Pattern> + 'a {
    job.include
        .iter()
        .filter(|text| !found.contains(text.as_str()))
        .filter_map(|text| Pattern::new(text))
        .filter(|pattern| pattern.only_name().is_none())
}

/// What a source has answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// The collections that may be copied, described, in the order in which they are planned.
    pub collections: Vec<Collection>,
    /// Further ones that these refer to. Those without fields were not described.
    pub others: Vec<Collection>,
    /// The names of all collections, if they were listed.
    pub listed: Option<Vec<String>>,
    /// What the answers have cost.
    pub spent: Spent,
}

impl Offer {
    /// The names that there are, as an error lists them.
    pub(super) fn known(&self) -> String {
        match &self.listed {
            Some(names) => known_names(names.iter().map(String::as_str)),
            None => known_names(
                self.collections
                    .iter()
                    .chain(&self.others)
                    .map(|collection| collection.name.as_str()),
            ),
        }
    }
}

/// Units that descriptions have taken, by collection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spent {
    /// Units by collection, copied or not.
    pub units: BTreeMap<String, u64>,
    /// What is counted and what it costs; none if nobody bills anything.
    pub price: Option<Price>,
}

impl Spent {
    /// Adds one answer of the source.
    pub fn add(&mut self, answer: &[Collection]) {
        for collection in answer {
            let Some(cost) = &collection.cost else {
                continue;
            };
            self.price.get_or_insert_with(|| Price::of(cost));
            let units = self.units.entry(collection.name.clone()).or_default();
            *units = units.saturating_add(cost.description_units);
        }
    }

    /// Units of the collection called `name`.
    pub fn of(&self, name: &str) -> u64 {
        self.units.get(name).copied().unwrap_or(0)
    }
}

/// A unit and its price.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// What is billed, in the plural.
    pub unit: String,
    /// US dollars for a million units.
    pub usd_per_million: f64,
    /// Units that a run may take.
    pub units_max: Option<u64>,
}

impl Price {
    /// As a collection announces it.
    pub fn of(cost: &Cost) -> Self {
        Self {
            unit: cost.unit.clone(),
            usd_per_million: cost.usd_per_million,
            units_max: cost.units_max,
        }
    }

    /// What `units` cost, in US dollars.
    pub fn usd(&self, units: u64) -> f64 {
        units as f64 * self.usd_per_million / 1e6
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::Schema;

    use super::*;

    fn job(text: &str) -> Job {
        let sides = r#""name": "j", "source": { "plugin": "a" }, "sink": { "plugin": "b" }"#;
        serde_json::from_str(&format!("{{ {sides}, {text} }}")).unwrap()
    }

    fn listed(names: &[&str]) -> Vec<Collection> {
        let collection = |name: &&str| Collection::new(*name, Schema::default());
        names.iter().map(collection).collect()
    }

    fn named(names: &[&str]) -> Wanted {
        Wanted::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn chosen_of(names: &[&str]) -> Wanted {
        Wanted::Chosen {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_job_wants_what_it_names_and_no_more() {
        for (text, expected) in [
            (r#""include": []"#, Wanted::Everything),
            (r#""include": ["*"]"#, Wanted::Everything),
            (r#""exclude": ["logs"]"#, chosen_of(&[])),
            (
                r#""include": ["*", "users"], "exclude": ["logs"]"#,
                chosen_of(&[]),
            ),
            (r#""include": ["users", "a\\*"]"#, named(&["a*", "users"])),
            (r#""include": ["users"], "exclude": ["u*"]"#, named(&[])),
            (r#""include": ["users/*/orders"]"#, chosen_of(&["users/*/orders"])),
            (r#""include": ["a\\**", "b"]"#, chosen_of(&["b"])),
            (
                r#""collections": [{ "source": "b" }, { "source": "a*" }, { "source": "b", "sink": "c" }]"#,
                named(&["a*", "b"]),
            ),
            (
                r#""collections": [{ "source": "a" }, { "source": "b" }], "exclude": ["b"]"#,
                named(&["a"]),
            ),
        ] {
            assert_eq!(wanted(&job(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_is_a_name_stands_for_this_collection_alone() {
        let job = job(r#""include": ["users/*/orders", "l*"], "exclude": ["logs2"]"#);
        let there = listed(&["logs", "logs2", "users/*/orders", "users/*/shops/*/orders"]);
        let literally = BTreeSet::from(["users/*/orders"]);
        assert_eq!(chosen(&job, &there, &literally), ["logs", "users/*/orders"]);
        let all = ["logs", "users/*/orders", "users/*/shops/*/orders"];
        assert_eq!(chosen(&job, &there, &BTreeSet::new()), all);
        assert!(has_open_patterns(&job, &literally));
        assert!(!has_open_patterns(
            &job,
            &BTreeSet::from(["users/*/orders", "l*"])
        ));
    }

    #[test]
    fn answers_add_up_by_collection() {
        let mut answer = listed(&["a", "b", "c"]);
        for (collection, units) in answer.iter_mut().zip([3, 4]) {
            collection.cost = Some(Cost {
                unit: "reads".to_owned(),
                description_units: units,
                usd_per_million: 0.5,
                ..Cost::default()
            });
        }
        let mut spent = Spent::default();
        spent.add(&answer);
        spent.add(&answer[1..]);
        assert_eq!((spent.of("a"), spent.of("b"), spent.of("c")), (3, 8, 0));
        assert_eq!(spent.price.unwrap().usd(2_000_000), 1.0);
        let mut free = Spent::default();
        free.add(&listed(&["a"]));
        assert_eq!(free, Spent::default());
    }
}
