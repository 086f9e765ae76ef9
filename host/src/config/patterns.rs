//! Patterns of collection names: `*` stands for any characters, `?` for one, `\` takes both their meaning.
//!
//! `*` also stands for `/`, since names of collections are no paths to people who choose some. Not here: which
//! collections there are (`plan`).

/// One pattern, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(char),
}

impl Pattern {
    /// Reads a pattern; `None` if it ends with a `\` that has nothing to stand before.
    pub fn new(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Exactly(chars.next()?),
                c => Part::Exactly(c),
            });
        }
        Some(Self(parts))
    }

    /// Whether it stands for every name.
    pub fn is_everything(&self) -> bool {
        self.0 == [Part::Any]
    }

    /// The only name that it stands for; `None` if there are several.
    pub fn only_name(&self) -> Option<String> {
        let char_of = |part: &Part| match part {
            Part::Exactly(c) => Some(*c),
            Part::Any | Part::One => None,
        };
        self.0.iter().map(char_of).collect()
    }

    /// Whether it stands for `name` as a whole. Takes at most the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not fit: one character further.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.0.get(part) {
                Some(Part::Any) => {
                    retry = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::One) if at < name.len() => (part, at) = (part + 1, at + 1),
                Some(Part::Exactly(c)) if name.get(at) == Some(c) => (part, at) = (part + 1, at + 1),
                None if at == name.len() => return true,
                _ => match retry {
                    Some((any, tried)) if tried < name.len() => {
                        retry = Some((any, tried + 1));
                        (part, at) = (any + 1, tried + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

/// Which collections of a source a job moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Patterns {
    /// Reads the patterns of a job. One that is not valid, which loading has refused, stands for nothing.
    pub fn new(include: &[String], exclude: &[String]) -> Self {
        let read = |texts: &[String]| texts.iter().filter_map(|text| Pattern::new(text)).collect();
        Self {
            include: read(include),
            exclude: read(exclude),
        }
    }

    /// Whether the collection called `name` is moved: one of `include` stands for it, or there are none, and none of
    /// `exclude` does.
    pub fn matches(&self, name: &str) -> bool {
        self.includes(name) && !self.excludes(name)
    }

    /// Whether one of `include` stands for `name`, or there are none.
    pub fn includes(&self, name: &str) -> bool {
        self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether one of `exclude` stands for `name`.
    pub fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn stars_question_marks_and_escapes_mean_what_they_should() {
        for (pattern, name, wanted) in [
            ("users", "users", true),
            ("users", "user", false),
            ("user", "users", false),
            ("*", "", true),
            ("*", "a/b/c", true),
            ("users/*", "users/1/posts", true),
            ("*_log", "audit_log", true),
            ("*_log", "audit_log2", false),
            ("a*b*c", "aXXbYYbZc", true),
            ("a*b*c", "aXXbYYbZ", false),
            ("?", "\u{e4}", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("**a**", "xax", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\?", "a?", true),
            ("\\\\", "\\", true),
            ("[ab]", "[ab]", true),
            ("{a,b}", "a", false),
            ("Users", "users", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        assert_eq!(Pattern::new("a\\"), None);
        assert!(Pattern::new("a\\\\").is_some());
    }

    #[test]
    fn a_pattern_without_stars_and_question_marks_is_one_name() {
        for (pattern, name) in [
            ("users", Some("users")),
            ("a\\*", Some("a*")),
            ("users/*/orders", None),
            ("a?", None),
            ("*", None),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().only_name().as_deref(),
                name,
                "{pattern}"
            );
        }
        assert!(Pattern::new("**").unwrap().is_everything());
        assert!(!Pattern::new("*a").unwrap().is_everything());
        assert!(!Pattern::new("\\*").unwrap().is_everything());
    }

    #[test]
    fn exclude_goes_before_include_and_no_include_is_all() {
        let patterns = |include: &[&str], exclude: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Patterns::new(&own(include), &own(exclude))
        };
        assert!(patterns(&[], &[]).matches("a"));
        assert!(!patterns(&[], &["a"]).matches("a"));
        assert!(patterns(&["a*", "b"], &["ab"]).matches("ac"));
        assert!(!patterns(&["a*", "b"], &["ab"]).matches("ab"));
        assert!(!patterns(&["a*", "b"], &["ab"]).matches("c"));
    }

    #[test]
    fn a_pattern_of_stars_takes_no_exponential_time() {
        assert!(!matches(&"*a".repeat(1_000), &"a".repeat(999)));
        assert!(!matches(&format!("{}b", "a*".repeat(2_000)), &"a".repeat(6_000)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_regular_expression(pattern in "[ab*?]{0,8}", name in "[ab/]{0,10}") {
            let regex = pattern.replace('*', ".*").replace('?', ".");
            let regex = regex::Regex::new(&format!("^(?s:{regex})$")).unwrap();
            prop_assert_eq!(matches(&pattern, &name), regex.is_match(&name));
        }
    }
}
