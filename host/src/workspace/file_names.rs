//! Names of files for names from outside, which may hold anything.
//! Not unique in itself: the list as a whole is.

use std::collections::HashSet;

/// Letters of the outside name that are kept; the rest tells nothing that the content does not.
const CHARS_MAX: usize = 80;

/// One file name for each of `names`, without ending, in their order.
///
/// Letters, digits, `.`, `_` and `-` of ASCII stay. A name that had to change, begins with a dot, or differs from an
/// earlier one only in case gets eight digits of its digest. A name that stands in the list twice gets one file name.
pub fn file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut known: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
    names
        .into_iter()
        .map(|name| {
            known
                .entry(name)
                .or_insert_with(|| {
                    let plain: String = name.chars().take(CHARS_MAX).map(safe).collect();
                    let is_as_it_was = plain == name && !plain.is_empty() && !plain.starts_with('.');
                    if is_as_it_was && taken.insert(plain.to_lowercase()) {
                        return plain;
                    }
                    let digest = blake3::hash(name.as_bytes()).to_hex();
                    let marked = format!("{}-{}", plain.trim_start_matches('.'), &digest[..8]);
                    taken.insert(marked.to_lowercase());
                    marked
                })
                .clone()
        })
        .collect()
}

fn safe(char: char) -> char {
    if char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-') {
        char
    } else {
        '_'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay() {
        assert_eq!(file_names(["todos", "a.b-c_1"]), ["todos", "a.b-c_1"]);
    }

    #[test]
    fn hostile_names_become_safe_and_distinct() {
        let long = "x".repeat(300);
        let names = [
            "../../etc/passwd",
            "..",
            ".",
            "",
            ".hidden",
            "a/b",
            "a\\b",
            "a b",
            "a\0b",
            "鳥",
            "Todos",
            "todos",
            "\u{202e}evil",
            "<script>",
            &long,
            &format!("{long}y"),
        ];
        let safe = file_names(names);
        let distinct: HashSet<String> = safe.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(distinct.len(), names.len(), "{safe:?}");
        for name in &safe {
            assert!(
                !name.starts_with('.') && !name.is_empty() && name.len() <= 100,
                "{name}"
            );
            assert!(
                name.chars()
                    .all(|char| char.is_ascii_alphanumeric() || "._-".contains(char)),
                "{name}"
            );
        }
        assert_eq!(safe[11].split('-').next(), Some("todos"));
    }

    #[test]
    fn the_same_name_gets_the_same_file() {
        assert_eq!(file_names(["a b", "a b"])[0], file_names(["a b"])[0]);
    }
}
