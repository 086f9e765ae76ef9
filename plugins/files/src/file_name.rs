//! How a collection's name becomes the name of its files, on every file system and without two names meeting.
//!
//! The true name is kept in the schema file; nothing is decoded from file names.

use std::fmt::Write as _;

/// Octets of a stem at most; with `.schema.json.partial` behind it a name stays below the 255 of common file systems.
const STEM_BYTES_MAX: usize = 200;
/// Hexadecimal digits of the hash behind a name that was cut.
const HASH_DIGITS: usize = 32;

/// The stem of the files of the collection called `name`. Everything outside `A-Z a-z 0-9 . _ -` is percent-encoded,
/// and so are leading dots (hidden files) and the dot of a final `.schema` (else `a.schema` written as `.json` would
/// be the schema file of `a`). A long name is cut and ends in `~` and a hash. The empty name is `%`.
pub(crate) fn stem(name: &str) -> String {
    let leading_dots = name.len() - name.trim_start_matches('.').len();
    let octets = name.as_bytes();
    let schema_dot = octets
        .len()
        .checked_sub(".schema".len())
        .filter(|at| octets[*at..].eq_ignore_ascii_case(b".schema"));
    let mut stem = String::with_capacity(name.len());
    // Where the last octet begins that leaves room for the hash.
    let mut cut = 0;
    for (index, octet) in name.bytes().enumerate() {
        if stem.len() < STEM_BYTES_MAX - HASH_DIGITS - 3 {
            cut = stem.len();
        }
        let is_plain = octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-');
        if is_plain && index >= leading_dots && Some(index) != schema_dot {
            stem.push(octet as char);
        } else {
            write!(stem, "%{octet:02X}").expect("writing to a string does not fail");
        }
    }
    if stem.is_empty() {
        stem.push('%');
    }
    if stem.len() > STEM_BYTES_MAX {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        stem.truncate(cut);
        stem.push('~');
        stem.push_str(&hash[..HASH_DIGITS]);
    }
    stem
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_tame_files() {
        for (name, expected) in [
            ("orders", "orders"),
            ("a/b", "a%2Fb"),
            ("../../etc/passwd", "%2E%2E%2F..%2Fetc%2Fpasswd"),
            ("", "%"),
            ("%", "%25"),
            (".hidden", "%2Ehidden"),
            ("a.schema", "a%2Eschema"),
            ("a.Schema", "a%2ESchema"),
            ("\"; DROP TABLE x", "%22%3B%20DROP%20TABLE%20x"),
            ("😀", "%F0%9F%98%80"),
            ("a\0b\n", "a%00b%0A"),
        ] {
            assert_eq!(stem(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let long = "é".repeat(500);
        let twin = format!("{long}x");
        assert!(stem(&long).len() <= STEM_BYTES_MAX);
        assert_ne!(stem(&long), stem(&twin));
        assert_eq!(stem(&"a".repeat(STEM_BYTES_MAX)), "a".repeat(STEM_BYTES_MAX));
        assert_eq!(stem(&"a".repeat(STEM_BYTES_MAX + 1)).len(), 197);
    }

    proptest! {
        #[test]
        fn a_stem_is_one_tame_path_component(names in proptest::collection::vec(".{0,80}", 1..20)) {
            let mut seen = HashMap::new();
            for name in names {
                let stem = stem(&name);
                prop_assert!(stem.len() <= STEM_BYTES_MAX && !stem.is_empty() && !stem.starts_with('.'));
                prop_assert!(stem.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-%~".contains(&octet)));
                prop_assert!(!stem.ends_with(".schema"));
                if let Some(other) = seen.insert(stem, name.clone()) {
                    prop_assert_eq!(other, name);
                }
            }
        }
    }
}
