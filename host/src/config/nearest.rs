//! The word that somebody probably meant: the nearest of the valid ones.
//!
//! Used for keys, for values of a closed list and for file names. It answers with a valid word only, so that what
//! was written, which may be a secret, is not repeated.

/// Below this similarity (1 = equal) a suggestion would be a guess.
const SIMILARITY_MIN: f64 = 0.6;

/// Longer words are not compared: the comparison is quadratic.
const WORD_CHARS_MAX: usize = 64;

/// The candidate most like `word`, if one is like it at all. Case, hyphens and underscores do not count.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.chars().nth(WORD_CHARS_MAX).is_some() {
        return None;
    }
    let word = fold(word);
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        if candidate.chars().nth(WORD_CHARS_MAX).is_some() {
            continue;
        }
        let score = similarity(&word, &fold(candidate));
        if score >= SIMILARITY_MIN && best.is_none_or(|(best, _)| score > best) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn similarity(word: &str, candidate: &str) -> f64 {
    let shorter = word.len().min(candidate.len());
    // An abbreviation, such as `conf` for `config`, or an unfinished word.
    if shorter >= 3 && (candidate.starts_with(word) || word.starts_with(candidate)) {
        return 0.9 + shorter as f64 / (10.0 * word.len().max(candidate.len()) as f64);
    }
    strsim::normalized_damerau_levenshtein(word, candidate)
}

fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_recognised_and_other_words_are_not() {
        let keys = ["batch_records", "config", "max_errors", "on_conflict", "plugin"];
        for (word, meant) in [
            ("conf", Some("config")),
            ("confg", Some("config")),
            ("Config", Some("config")),
            ("max-errors", Some("max_errors")),
            ("maxErrors", Some("max_errors")),
            ("on_conflcit", Some("on_conflict")),
            ("onconflict", Some("on_conflict")),
            ("pugin", Some("plugin")),
            ("password", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"c".repeat(100_000), keys), None);
    }
}
