//! `trim` and `normalise`: texts with one spelling for what means the same.
//!
//! A column in which nothing is to be changed goes on as it is; one of ASCII only has its case changed in one piece.

use std::sync::Arc;

use unicode_normalization::{
    IsNormalized, UnicodeNormalization as _, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick,
};

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, StringArray};
use whimbrel_plugin_api::arrow_buffer::Buffer;

use crate::columns::{TextColumn, nulls_at};
use crate::config::{Case, Normalise, UnicodeForm, Whitespace};

/// What is done to a text column.
#[derive(Debug, Clone)]
pub(crate) enum Cleaning {
    /// White space at both ends goes.
    Trim,
    /// What `normalise` asks for.
    Normalise(Spelling),
}

/// The settings of `normalise`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spelling {
    unicode: Option<UnicodeForm>,
    case: Option<Case>,
    whitespace: Option<Whitespace>,
    empty_to_null: bool,
}

impl Spelling {
    pub(crate) const fn new(settings: &Normalise) -> Self {
        Self {
            unicode: settings.unicode,
            case: settings.case,
            whitespace: settings.whitespace,
            empty_to_null: settings.empty_to_null,
        }
    }

    /// Whether nothing is asked for.
    pub(crate) const fn is_empty(&self) -> bool {
        self.unicode.is_none() && self.case.is_none() && self.whitespace.is_none() && !self.empty_to_null
    }

    pub(crate) const fn makes_nulls(&self) -> bool {
        self.empty_to_null
    }

    const fn changes_text(&self) -> bool {
        self.unicode.is_some() || self.case.is_some() || self.whitespace.is_some()
    }
}

impl Cleaning {
    /// Cleans a column.
    pub(crate) fn run(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let texts = array.as_string::<i32>();
        match self {
            Self::Trim => trim(array, texts),
            Self::Normalise(spelling) => {
                let cleaned = if spelling.changes_text() {
                    spelling.rewrite(array, texts)?
                } else {
                    Arc::clone(array)
                };
                Ok(if spelling.empty_to_null {
                    empty_to_null(cleaned)
                } else {
                    cleaned
                })
            }
        }
    }
}

fn trim(array: &ArrayRef, texts: &StringArray) -> Result<ArrayRef> {
    let is_clean = |text: &str| match text.as_bytes() {
        [] => true,
        [first, .., last] | [first @ last] if first.is_ascii() && last.is_ascii() => {
            !is_ascii_space(*first) && !is_ascii_space(*last)
        }
        _ => text.trim().len() == text.len(),
    };
    let Some(first) = (0..texts.len()).find(|row| texts.is_valid(*row) && !is_clean(texts.value(*row)))
    else {
        return Ok(Arc::clone(array));
    };
    let mut column = TextColumn::new(texts.len(), texts.values().len());
    for row in 0..texts.len() {
        if texts.is_valid(row) {
            let text = texts.value(row);
            column
                .text()
                .push_str(if row < first { text } else { text.trim() });
        }
        column.end()?;
    }
    column.finish(texts.nulls().cloned())
}

/// White space as Unicode has it, among ASCII: with the vertical tab, which Rust's own test for ASCII leaves out.
const fn is_ascii_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t'..=b'\r')
}

fn empty_to_null(array: ArrayRef) -> ArrayRef {
    let texts = array.as_string::<i32>();
    let offsets = texts.value_offsets();
    let empty: Vec<usize> = (0..texts.len())
        .filter(|row| offsets[*row] == offsets[row + 1] && texts.is_valid(*row))
        .collect();
    if empty.is_empty() {
        return array;
    }
    let nulls = nulls_at(texts.nulls(), &empty, texts.len());
    Arc::new(StringArray::new(
        texts.offsets().clone(),
        texts.values().clone(),
        nulls,
    ))
}

impl Spelling {
    fn rewrite(&self, array: &ArrayRef, texts: &StringArray) -> Result<ArrayRef> {
        if texts.values().is_ascii() && self.whitespace.is_none() {
            // Every normalisation form leaves ASCII as it is.
            return self.recase_ascii(array, texts);
        }
        let mut column = TextColumn::new(texts.len(), texts.values().len());
        let mut scratch = String::new();
        for row in 0..texts.len() {
            if texts.is_valid(row) {
                self.write(texts.value(row), &mut scratch, column.text());
            }
            column.end()?;
        }
        column.finish(texts.nulls().cloned())
    }

    fn recase_ascii(&self, array: &ArrayRef, texts: &StringArray) -> Result<ArrayRef> {
        let changed = match self.case {
            None => return Ok(Arc::clone(array)),
            Some(Case::Lower) => texts.values().to_ascii_lowercase(),
            Some(Case::Upper) => texts.values().to_ascii_uppercase(),
        };
        let offsets = texts.offsets().clone();
        let array = StringArray::try_new(offsets, Buffer::from_vec(changed), texts.nulls().cloned())?;
        Ok(Arc::new(array))
    }

    /// Appends the cleaned text. Case follows normalisation, since composed look-alikes have a case of their own, and is
    /// followed by it, since a changed case may come in pieces.
    fn write(&self, text: &str, scratch: &mut String, out: &mut String) {
        scratch.clear();
        let start = out.len();
        if text.is_ascii() {
            scratch.push_str(text);
            match self.case {
                Some(Case::Lower) => scratch.make_ascii_lowercase(),
                Some(Case::Upper) => scratch.make_ascii_uppercase(),
                None => {}
            }
        } else {
            compose(self.unicode, text, scratch);
            if let Some(case) = self.case {
                match case {
                    Case::Lower => out.push_str(&scratch.to_lowercase()),
                    Case::Upper => out.push_str(&scratch.to_uppercase()),
                }
                scratch.clear();
                compose(self.unicode, &out[start..], scratch);
                out.truncate(start);
            }
        }
        match self.whitespace {
            None => out.push_str(scratch),
            Some(Whitespace::Collapse) => {
                for word in scratch.split_whitespace() {
                    if out.len() > start {
                        out.push(' ');
                    }
                    out.push_str(word);
                }
            }
        }
    }
}

fn compose(form: Option<UnicodeForm>, text: &str, out: &mut String) {
    let Some(form) = form else {
        return out.push_str(text);
    };
    let is_there = match form {
        UnicodeForm::Nfc => is_nfc_quick(text.chars()),
        UnicodeForm::Nfd => is_nfd_quick(text.chars()),
        UnicodeForm::Nfkc => is_nfkc_quick(text.chars()),
        UnicodeForm::Nfkd => is_nfkd_quick(text.chars()),
    };
    if is_there == IsNormalized::Yes {
        return out.push_str(text);
    }
    match form {
        UnicodeForm::Nfc => out.extend(text.nfc()),
        UnicodeForm::Nfd => out.extend(text.nfd()),
        UnicodeForm::Nfkc => out.extend(text.nfkc()),
        UnicodeForm::Nfkd => out.extend(text.nfkd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn spelling(
        unicode: Option<UnicodeForm>,
        case: Option<Case>,
        collapse: bool,
        empty_to_null: bool,
    ) -> Cleaning {
        Cleaning::Normalise(Spelling {
            unicode,
            case,
            whitespace: collapse.then_some(Whitespace::Collapse),
            empty_to_null,
        })
    }

    fn clean(cleaning: &Cleaning, text: &str) -> Option<String> {
        let array: ArrayRef = Arc::new(StringArray::from(vec![None, Some(text), Some("é")]));
        let cleaned = cleaning.run(&array).unwrap();
        let cleaned = cleaned.as_string::<i32>();
        assert!(cleaned.is_null(0));
        cleaned.is_valid(1).then(|| cleaned.value(1).to_owned())
    }

    #[test]
    fn white_space_of_every_kind_goes() {
        for (text, trimmed) in [
            (" a b ", "a b"),
            ("\u{b}a\r\n", "a"),
            ("\u{a0}a\u{3000}", "a"),
            ("\u{2003}", ""),
            ("", ""),
            ("\0 a\0", "\0 a\0"),
            // Not white space in Unicode.
            ("\u{200b}a", "\u{200b}a"),
            ("😀 ", "😀"),
        ] {
            assert_eq!(clean(&Cleaning::Trim, text).as_deref(), Some(trimmed), "{text:?}");
        }
        let collapse = spelling(None, None, true, false);
        assert_eq!(clean(&collapse, "\t a\u{a0}\u{2003}b \n").as_deref(), Some("a b"));
    }

    #[test]
    fn letters_follow_unicode_and_no_language() {
        let lower = spelling(None, Some(Case::Lower), false, false);
        let upper = spelling(None, Some(Case::Upper), false, false);
        for (text, small) in [
            ("İ", "i\u{307}"),
            ("I", "i"),
            ("ΣΑΣ", "σας"),
            ("ẞ", "ß"),
            ("ǅ", "ǆ"),
        ] {
            assert_eq!(clean(&lower, text).as_deref(), Some(small));
        }
        for (text, capital) in [("ı", "I"), ("ß", "SS"), ("ŉ", "ʼN"), ("ﬁ", "FI")] {
            assert_eq!(clean(&upper, text).as_deref(), Some(capital));
        }
        // Composed again after its case changed.
        let both = spelling(Some(UnicodeForm::Nfc), Some(Case::Upper), false, false);
        assert_eq!(clean(&both, "e\u{301}").as_deref(), Some("É"));
        let compatible = spelling(Some(UnicodeForm::Nfkc), Some(Case::Lower), false, false);
        assert_eq!(clean(&compatible, "ℂ").as_deref(), Some("c"));
    }

    #[test]
    fn a_lone_combining_mark_stays() {
        let composed = spelling(Some(UnicodeForm::Nfc), None, true, false);
        assert_eq!(clean(&composed, "\u{301}").as_deref(), Some("\u{301}"));
        assert_eq!(clean(&composed, "a \u{301}").as_deref(), Some("a \u{301}"));
    }

    #[test]
    fn empty_becomes_null_only_if_asked() {
        assert_eq!(clean(&spelling(None, None, true, true), " \u{a0} "), None);
        assert_eq!(
            clean(&spelling(None, None, true, false), "  ").as_deref(),
            Some("")
        );
        assert_eq!(
            clean(&spelling(None, None, false, true), "\0").as_deref(),
            Some("\0")
        );
    }

    #[test]
    fn a_clean_column_is_not_copied() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        for cleaning in [
            Cleaning::Trim,
            spelling(Some(UnicodeForm::Nfc), None, false, false),
        ] {
            assert!(Arc::ptr_eq(&cleaning.run(&array).unwrap(), &array));
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing_more(text in any::<String>(), which in 0_usize..4, upper in any::<bool>()) {
            let forms = [UnicodeForm::Nfc, UnicodeForm::Nfd, UnicodeForm::Nfkc, UnicodeForm::Nfkd];
            let cleaning = spelling(Some(forms[which]), upper.then_some(Case::Upper), true, false);
            let once = clean(&cleaning, &text).unwrap();
            prop_assert_eq!(clean(&cleaning, &once), Some(once));
        }
    }
}
