//! What is promised of the collections if a run is interrupted, in words: those that are promised the same for the same reason
//! together. Neighbours: the plan, the summary for those who decide, and the page.

use super::figures::{count, printable};
use crate::events::{Guarantee, RunSummary};

/// Names that a line has.
const NAMES_MAX: usize = 5;

/// Collections of which the same is promised.
pub struct Promise<'a> {
    /// What.
    pub guarantee: Guarantee,
    /// Why.
    pub reason: &'a str,
    /// Their names in the source, in the order of the plan.
    pub collections: Vec<&'a str>,
    /// Whether these are all that there are.
    pub is_of_all: bool,
}

/// What is promised, in the order of the plan.
pub fn promises(summary: &RunSummary) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    for each in &summary.guarantees {
        let same = promises
            .iter_mut()
            .find(|promise| promise.guarantee == each.guarantee && promise.reason == each.reason);
        match same {
            Some(promise) => promise.collections.push(&each.collection),
            None => promises.push(Promise {
                guarantee: each.guarantee,
                reason: &each.reason,
                collections: vec![&each.collection],
                is_of_all: false,
            }),
        }
    }
    if let [only] = promises.as_mut_slice() {
        only.is_of_all = true;
    }
    promises
}

impl Promise<'_> {
    /// The first names, each made harmless by `name`, and how many more there are.
    pub fn names(&self, name: impl Fn(&str) -> String) -> String {
        let names: Vec<String> = self
            .collections
            .iter()
            .take(NAMES_MAX)
            .map(|each| name(each))
            .collect();
        match self.collections.len().saturating_sub(NAMES_MAX) {
            0 => names.join(", "),
            more => format!("{} and {} more", names.join(", "), count(more as u64)),
        }
    }
}

/// For people at a terminal; empty if nothing is known.
pub fn guarantees_text(summary: &RunSummary) -> String {
    let promises = promises(summary);
    let mut text = String::new();
    if promises.len() > 1 {
        text.push_str("guarantees:\n");
    }
    for promise in &promises {
        let (word, reason) = (promise.guarantee.word(), printable(promise.reason));
        text.push_str(&match promise.is_of_all {
            true => format!("guarantee: {word}: {reason}\n"),
            false => format!("  {word}, {}: {reason}\n", promise.names(printable)),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::CollectionGuarantee;

    fn summary(each: &[(&str, Guarantee, &str)]) -> RunSummary {
        let one = |(collection, guarantee, reason): &(&str, Guarantee, &str)| CollectionGuarantee {
            collection: (*collection).to_owned(),
            guarantee: *guarantee,
            reason: (*reason).to_owned(),
        };
        RunSummary {
            guarantees: each.iter().map(one).collect(),
            ..RunSummary::default()
        }
    }

    #[test]
    fn collections_that_are_promised_the_same_are_named_together() {
        let many = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, Guarantee::ExactlyOnce, "lanes"));
        assert_eq!(
            guarantees_text(&summary(&many)),
            "guarantee: exactly once: lanes\n"
        );
        let mut more = many.to_vec();
        more.push(("log", Guarantee::AtLeastOnce, "no key"));
        assert_eq!(
            guarantees_text(&summary(&more)),
            "guarantees:\n  exactly once, a, b, c, d, e and 2 more: lanes\n  at least once, log: no key\n"
        );
        assert_eq!(guarantees_text(&summary(&[])), "");
    }
}
