//! Where a read stands: the last document, and as of when it was read, as a cursor.
//!
//! Names of documents mean the same for ever, so a cursor holds in any process and any part. Going on as of the same instant
//! gives what the first read would have given.

use gcloud_sdk::prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Cursor, Error, Result};

use super::partition::is_document;
use super::snapshot;

/// The form of cursors that is written and read here.
const VERSION: u32 = 1;

/// The last document of what was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    /// Its path.
    pub(super) after: String,
    /// As of when it was read.
    pub(super) read_time: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    firestore: u32,
    after: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl Position {
    /// The position as a cursor.
    pub(super) fn to_cursor(&self) -> Result<Cursor> {
        let form = Form {
            firestore: VERSION,
            after: self.after.clone(),
            at: self.read_time.map(snapshot::to_token),
        };
        let octets = serde_json::to_vec(&form)
            .map_err(|error| Error::internal("a cursor could not be written").with_cause(&error))?;
        Ok(Cursor(octets))
    }

    /// The position of a cursor that [`Self::to_cursor`] made; `None` for the start.
    ///
    /// # Errors
    /// `firestore.bad_cursor` for any other octets.
    pub(super) fn from_cursor(cursor: &Cursor) -> Result<Option<Self>> {
        if cursor.is_start() {
            return Ok(None);
        }
        Self::read(&cursor.0).map(Some).ok_or_else(|| {
            Error::invalid_data("firestore.bad_cursor", "the cursor is not one of this plugin")
                .with_help("read the collection from its start")
        })
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let form: Form = serde_json::from_slice(octets).ok()?;
        if form.firestore != VERSION || !is_document(&form.after) {
            return None;
        }
        let read_time = match form.at {
            Some(token) => Some(snapshot::from_token(&token).ok()?),
            None => None,
        };
        Some(Self {
            after: form.after,
            read_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_as_cursors_and_anything_else_is_refused() {
        for at in [None, Some("2024-12-31T23:59:59.999999Z")] {
            let position = Position {
                after: "users/ünn \"*\u{1F426}/orders/7".into(),
                read_time: at.map(|at| snapshot::from_token(at).unwrap()),
            };
            let cursor = position.to_cursor().unwrap();
            assert_eq!(Position::from_cursor(&cursor).unwrap(), Some(position));
            for length in 1..cursor.0.len() {
                let cut = Cursor(cursor.0[..length].to_vec());
                assert_eq!(
                    Position::from_cursor(&cut).unwrap_err().code,
                    "firestore.bad_cursor"
                );
            }
        }
        assert_eq!(Position::from_cursor(&Cursor::start()).unwrap(), None);
        for bad in [
            r#"{"firestore":2,"after":"users/ann"}"#,
            r#"{"firestore":1,"after":"users"}"#,
            r#"{"firestore":1,"after":""}"#,
            r#"{"firestore":1,"after":"users/ann","at":"yesterday"}"#,
            r#"{"firestore":1,"after":"users/ann","more":1}"#,
            "k\0\0",
        ] {
            let error = Position::from_cursor(&Cursor(bad.into())).unwrap_err();
            assert_eq!(error.code, "firestore.bad_cursor", "{bad}");
        }
    }
}
