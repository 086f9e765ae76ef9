//! What can be wrong with the form of a file, in words for people who do not know YAML's grammar.
//!
//! The parser's frequent complaints have a sentence and a remedy of their own; the rest is said in its words, which
//! hold no text of the file. Names of tags and aliases are not repeated either: a password may begin with `!` or `*`.

use std::collections::BTreeSet;

use granit_parser::{ErrorKind, ScalarStyle, ScanError, Span, Tag};

use super::fault::{Fault, quoted_key};
use super::nearest::nearest;
use super::scalar::{KNOWN_TAGS, ScalarFault};
use super::spans::Place;
use super::yaml::{DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX};

const QUOTE_HELP: &str =
    "text that holds `: `, ` #`, or begins with one of `[ ] { } , & * ! | > % @` needs quotes";
const FLOW_HELP: &str =
    "separate entries with `, `, close every bracket, and put text that holds brackets in quotes";
const INDENT_HELP: &str = "keys of one mapping begin in the same column; use spaces, not tabs";

/// The fault that stopped the parser.
pub(crate) fn not_yaml(error: &ScanError) -> Fault {
    let place = place_at(error.marker().line(), error.marker().col());
    let (what, help) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(place),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => ("a tab stands where only spaces may".to_owned(), INDENT_HELP),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => (
            "a quote is not closed".to_owned(),
            "close it; inside '...' write a quote twice, inside \"...\" write \\\"",
        ),
        ErrorKind::InvalidQuotedScalarIndent => (
            "a quote is not closed on its line, and the next line is not indented".to_owned(),
            "close the quote",
        ),
        ErrorKind::UnexpectedCharacter { character } if character.is_control() => (
            "it holds a control character".to_owned(),
            "remove it, or write it as an escape inside \"...\"",
        ),
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("`{open}` is not closed"), "add what closes it")
        }
        ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping => (
            "the file ends inside brackets".to_owned(),
            "close `[` with `]` and `{` with `}`",
        ),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => (
            format!("`{close}` stands where `{open}` was opened"),
            "close `[` with `]` and `{` with `}`",
        ),
        ErrorKind::MisplacedFlowCollectionEnd => {
            ("a bracket is closed that was not opened".to_owned(), QUOTE_HELP)
        }
        ErrorKind::ExpectedFlowMappingSeparator => ("`,` or `}` is missing".to_owned(), FLOW_HELP),
        ErrorKind::ExpectedFlowSequenceSeparator => ("`,` or `]` is missing".to_owned(), FLOW_HELP),
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::InvalidColonPlacement => ("`:` stands where no key can be".to_owned(), QUOTE_HELP),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (
            "a line in a mapping has no `:`".to_owned(),
            "write `key: value`, with a space after the colon",
        ),
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidBlockScalarIndent => (
            "the indentation does not fit the lines above".to_owned(),
            INDENT_HELP,
        ),
        ErrorKind::MissingAnchorOrAliasName
        | ErrorKind::UnexpectedCharacter { .. }
        | ErrorKind::MissingTagUri
        | ErrorKind::InvalidTagTerminator
        | ErrorKind::UndeclaredTagHandle
        | ErrorKind::InvalidGlobalTagCharacter => (
            "text begins with a character that means something else in YAML".to_owned(),
            QUOTE_HELP,
        ),
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidUnicodeEscape => (
            "a `\\` inside \"...\" is followed by no valid escape".to_owned(),
            "write \\\\ for a backslash, or use '...'",
        ),
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => (
            "something follows a closing quote".to_owned(),
            "put the whole text inside the quotes",
        ),
        other => (lower_first(&other.to_string()), "see yaml.org/spec/1.2.2"),
    };
    Fault::new(
        place,
        "config.bad_yaml",
        format!("the file is not valid YAML: {what}"),
    )
    .with_help(help)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "the parser cannot say why".to_owned(),
    }
}

/// The first character of what an event is about.
pub(crate) fn place_of(span: &Span) -> Place {
    place_at(span.start.line(), span.start.col())
}

/// The parser counts lines from 1 and columns from 0.
fn place_at(line: usize, column: usize) -> Place {
    Place {
        line: line.max(1),
        column: column + 1,
    }
}

/// Whether a key or value is not there at all, as in `key:`.
pub(crate) fn is_absent(span: &Span) -> bool {
    span.start.index() >= span.end.index()
}

pub(crate) fn second_document(place: Place) -> Fault {
    Fault::new(
        place,
        "config.multiple_documents",
        "a second document begins (a job file holds one)",
    )
    .with_help("remove the `---`, or move what follows to a file of its own")
}

pub(crate) fn too_deep(place: Place) -> Fault {
    let message = format!("lists and mappings stand too deep inside each other (at most {DEPTH_MAX} levels)");
    Fault::new(place, "config.too_deep", message).with_help("look for brackets that are not closed")
}

pub(crate) fn too_much(place: Place, by_alias: bool) -> Fault {
    let limits = format!("limits: {VALUES_MAX} values, {TEXT_BYTES_MAX} bytes of text");
    if by_alias {
        Fault::new(
            place,
            "config.alias",
            format!("aliases stand for too much ({limits})"),
        )
        .with_help("write the values out instead of nesting aliases")
    } else {
        Fault::new(
            place,
            "config.too_large",
            format!("the file holds too many values ({limits})"),
        )
        .with_help("split the job into several")
    }
}

pub(crate) fn unknown_alias(place: Place, name: &str, anchors: &BTreeSet<String>) -> Fault {
    let help = match nearest(name, anchors.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `*{meant}`?"),
        None => "text that begins with `*` needs quotes".to_owned(),
    };
    Fault::new(
        place,
        "config.alias",
        "an alias names no anchor that stands before it",
    )
    .with_help(help)
}

pub(crate) fn alias_in_itself(place: Place) -> Fault {
    Fault::new(
        place,
        "config.alias",
        "an alias stands inside the value that it names",
    )
    .with_help("write the value out, or name another anchor")
}

pub(crate) fn alias_as_key(place: Place) -> Fault {
    Fault::new(place, "config.alias", "an alias cannot be a key").with_help("write the key out")
}

pub(crate) fn key_is_no_text(place: Place) -> Fault {
    Fault::new(
        place,
        "config.wrong_type",
        "a key must be text, not a list or a mapping",
    )
    .with_help("put the key in quotes if it holds brackets")
}

pub(crate) fn second_key(key: &str, place: Place, first: Place) -> Fault {
    let message = format!("key {} stands twice in one mapping", quoted_key(key));
    let help = format!("it stands first in line {}, column {}", first.line, first.column);
    Fault::new(place, "config.duplicate_key", message).with_help(help)
}

/// What is wrong with a key on its own.
pub(crate) fn wrong_key(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Option<Fault> {
    let place = place_of(span);
    if tag.is_some_and(|tag| !tag.is_yaml_core_schema_tag("str")) {
        return Some(tag_fault(span, "a key is text and has no tag"));
    }
    if is_absent(span) {
        return Some(
            Fault::new(place, "config.bad_yaml", "a key is missing before `:`")
                .with_help("text that begins with `:` needs quotes"),
        );
    }
    (text == "<<" && style == ScalarStyle::Plain).then(|| {
        Fault::new(
            place,
            "config.unknown_key",
            "merge key `<<` is not part of YAML 1.2",
        )
        .with_help("an alias may stand for a whole value: `config: *name`")
    })
}

/// A tag on a list or mapping that is not `!!` and `expected`.
pub(crate) fn wrong_tag(tag: &Tag, expected: &str, span: &Span) -> Option<Fault> {
    if tag.is_yaml_core_schema_tag(expected) {
        return None;
    }
    Some(tag_fault(
        span,
        if tag.is_yaml_core_schema() {
            MISMATCH
        } else {
            UNKNOWN
        },
    ))
}

pub(crate) fn no_scalar(fault: ScalarFault, place: Place, span: &Span) -> Fault {
    match fault {
        ScalarFault::UnknownTag => tag_fault(span, UNKNOWN),
        ScalarFault::TagMismatch => tag_fault(span, MISMATCH),
        ScalarFault::UnfitNumber => {
            let help = format!(
                "whole numbers go from {} to {}; put it in quotes if it is text",
                i64::MIN,
                u64::MAX
            );
            Fault::new(
                place,
                "config.bad_value",
                "a number is infinite, not a number, or too large",
            )
            .with_help(help)
        }
    }
}

const UNKNOWN: &str = "a tag is not known here";
const MISMATCH: &str = "a value is not what its tag says";

fn tag_fault(span: &Span, what: &str) -> Fault {
    let place = span
        .tag_start()
        .map_or_else(|| place_of(span), |mark| place_at(mark.line(), mark.col()));
    Fault::new(place, "config.tag", format!("{what} (known tags: {KNOWN_TAGS})"))
        .with_help("text that begins with `!` needs quotes")
}
