//! What becomes of a record whose document is there, and of one whose document is not: as a condition on the write, which the
//! service holds to, and as the meaning of its refusal.
//!
//! Neighbours: `send` carries writes out and asks here what an answer means; `version` decides where the higher or the lower
//! version wins.

use gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{Document, DocumentMask, Precondition, Write};
use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind, ErrorScope, Result};

use crate::config::{Guarantee, OnMissing, Writing};
use crate::error::{Class, Fault, RowFault, TOO_LARGE};
use crate::read::field_path;

/// What is done with the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is what the record is, whatever was there.
    Replace,
    /// Fields of the record replace its own.
    Merge,
    /// It is made, unless it is there.
    Create { rejects_existing: bool },
    /// It is replaced if the record has the higher version.
    Newest,
    /// It is replaced if the record has the lower version.
    Oldest,
    /// It is removed.
    Delete,
}

/// A [`Rule`], and whether the document has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) rule: Rule,
    pub(super) needs_document: bool,
}

/// What a refusal means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// The record is rejected.
    Rejected(RowFault),
    /// The document is there and stays, as the policy wants it.
    Skipped,
    /// A document is there that an earlier attempt with an unknown outcome may have made.
    Doubtful,
    /// The document has changed since its version was looked at.
    Changed,
    /// The same may succeed later.
    Again,
    /// It is not about this record.
    Fatal,
}

/// The policies that are carried out.
pub(crate) fn offered() -> Vec<ConflictPolicy> {
    vec![
        ConflictPolicy::Overwrite,
        ConflictPolicy::Merge,
        ConflictPolicy::Skip,
        ConflictPolicy::Fail,
        ConflictPolicy::KeepNewest,
        ConflictPolicy::KeepOldest,
    ]
}

/// The policies under which each record's document is looked at before it is written. Of records that are sent as they come the
/// service itself judges whether the document is there.
pub(crate) fn looks(writing: &Writing) -> Vec<ConflictPolicy> {
    let sends = writing.guarantee == Guarantee::Idempotent;
    let looks = |policy: &ConflictPolicy| {
        Policy::new(*policy, writing.on_missing).is_ok_and(|policy| match sends {
            true => policy.compares_versions(),
            false => policy.depends_on_stored(),
        })
    };
    offered().into_iter().filter(looks).collect()
}

impl Policy {
    /// Documents are what their records are.
    pub(super) const REPLACE: Self = Self {
        rule: Rule::Replace,
        needs_document: false,
    };

    /// Removes documents.
    pub(super) const DELETE: Self = Self {
        rule: Rule::Delete,
        needs_document: false,
    };

    /// # Errors
    /// Of scope write: `plugin.unsupported`; `firestore.nothing_to_write` for policies that only make documents if only those that
    /// are there may be written.
    pub(super) fn new(policy: ConflictPolicy, on_missing: OnMissing) -> Result<Self> {
        let rule = match policy {
            ConflictPolicy::Overwrite => Rule::Replace,
            ConflictPolicy::Merge => Rule::Merge,
            ConflictPolicy::Skip => Rule::Create {
                rejects_existing: false,
            },
            ConflictPolicy::Fail => Rule::Create {
                rejects_existing: true,
            },
            ConflictPolicy::KeepNewest => Rule::Newest,
            ConflictPolicy::KeepOldest => Rule::Oldest,
            // An id made up for each record would make a second document when a record comes again.
            ConflictPolicy::Append => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "plugin.unsupported",
                    "documents are not appended: each has its id from the key of its record",
                )
                .with_scope(ErrorScope::Write));
            }
        };
        let needs_document = on_missing == OnMissing::Reject;
        if needs_document && matches!(rule, Rule::Create { .. }) {
            return Err(Error::config(
                "firestore.nothing_to_write",
                "`writing.on_missing` is `reject`, and the policy writes only documents that are not there",
            )
            .with_help("leave `writing.on_missing` out, or choose `overwrite`, `merge`, `keep-newest` or `keep-oldest`")
            .with_scope(ErrorScope::Write));
        }
        Ok(Self { rule, needs_document })
    }

    /// Whether the version of the document has to be looked at first.
    pub(super) fn compares_versions(self) -> bool {
        matches!(self.rule, Rule::Newest | Rule::Oldest)
    }

    /// Whether documents that are there are left alone.
    pub(super) fn makes_only(self) -> bool {
        matches!(self.rule, Rule::Create { .. })
    }

    /// Whether it matters if a document that is there is the run's own, from an earlier attempt.
    pub(super) fn tells_own(self) -> bool {
        self.makes_only() || self.compares_versions()
    }

    /// Whether what is there decides about a record before it is written.
    pub(super) fn depends_on_stored(self) -> bool {
        self.needs_document || self.makes_only() || self.compares_versions()
    }

    /// The write of a document.
    pub(super) fn write(self, document: Document) -> Write {
        let (update_mask, exists) = match self.rule {
            Rule::Merge => {
                let field_paths = document.fields.keys().map(|name| field_path(name)).collect();
                (
                    Some(DocumentMask { field_paths }),
                    self.needs_document.then_some(true),
                )
            }
            Rule::Create { .. } => (None, Some(false)),
            Rule::Delete => {
                return Write {
                    operation: Some(Operation::Delete(document.name)),
                    ..Write::default()
                };
            }
            Rule::Replace | Rule::Newest | Rule::Oldest => (None, self.needs_document.then_some(true)),
        };
        Write {
            update_mask,
            current_document: exists.map(|exists| condition(ConditionType::Exists(exists))),
            operation: Some(Operation::Update(document)),
            ..Write::default()
        }
    }

    /// What it means that the service has refused the write. `is_doubtful`: an earlier attempt may have been carried out.
    pub(super) fn meaning(self, fault: &Fault, is_doubtful: bool) -> Meaning {
        if fault.class != Class::Permanent {
            return Meaning::Again;
        }
        match (fault.status.code(), self.rule) {
            (Code::AlreadyExists, Rule::Create { .. }) if is_doubtful => Meaning::Doubtful,
            (Code::AlreadyExists, Rule::Create { .. }) => self.existing(),
            (Code::AlreadyExists | Code::FailedPrecondition, Rule::Newest | Rule::Oldest) => Meaning::Changed,
            (Code::NotFound, Rule::Newest | Rule::Oldest) => Meaning::Changed,
            (Code::NotFound, _) if self.needs_document => Meaning::Rejected(missing()),
            _ => match Error::from(fault.clone()) {
                error if error.kind == ErrorKind::InvalidData => Meaning::Rejected(refused(&error)),
                _ => Meaning::Fatal,
            },
        }
    }

    /// What becomes of the record if a document is there that only others can have made.
    pub(super) fn existing(self) -> Meaning {
        match self.rule {
            Rule::Create {
                rejects_existing: true,
            } => Meaning::Rejected(RowFault::new(
                "firestore.exists",
                "a record with this key is there already",
            )),
            _ => Meaning::Skipped,
        }
    }

    /// Whether a whole request may have been refused because of such a write, so that the others are tried without it.
    pub(super) fn may_be_at_fault(self, fault: &Fault) -> bool {
        !matches!(self.meaning(fault, true), Meaning::Fatal | Meaning::Again)
    }
}

/// A condition on the document as it is.
pub(super) fn condition(condition: ConditionType) -> Precondition {
    Precondition {
        condition_type: Some(condition),
    }
}

/// The record has no document, and may not make one.
pub(super) fn missing() -> RowFault {
    RowFault::new(
        "firestore.missing",
        "there is no document with this key, and `writing.on_missing` is `reject`",
    )
}

/// Neither version is newer.
pub(super) fn not_comparable(field: &str) -> RowFault {
    RowFault::new(
        "firestore.bad_version",
        format!(
            "the field `{field}` of the document that is there is of another kind, so that neither is newer"
        ),
    )
}

/// The service does not take the record.
pub(super) fn refused(error: &Error) -> RowFault {
    match error.code.as_str() {
        TOO_LARGE => RowFault::new(
            "firestore.document_too_large",
            "the document alone is larger than a request may be",
        ),
        _ => RowFault::new(
            "firestore.refused",
            match error.causes.first() {
                Some(cause) => format!("the service refuses the document ({cause})"),
                None => "the service refuses the document".to_owned(),
            },
        ),
    }
}
