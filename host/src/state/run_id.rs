//! The name of a run: when it was started and 24 random bits, so that names sort by time and hosts need not agree.
//! Not a secret and no proof of anything.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;

use super::moment::now;

/// `20261121-045612` of an id.
const TIME_FORMAT: &str = "%Y%m%d-%H%M%S";
/// The letters of `20261121-045612-3f9a2c`.
const LETTERS: usize = 22;
/// Letters before the random ones.
const TIME_LETTERS: usize = 15;

/// The name of a run, such as `20261121-045612-3f9a2c`; the time is UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// A new one for a run that is started now.
    pub fn new() -> Self {
        Self::at(now(), fastrand::u32(..))
    }

    /// The one of a run started at `time`; of `random`, 24 bits are used.
    pub fn at(time: DateTime<Utc>, random: u32) -> Self {
        Self(format!("{}-{:06x}", time.format(TIME_FORMAT), random & 0xff_ffff))
    }

    /// Reads a whole id.
    ///
    /// # Errors
    /// `run.id` if it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_id = text.is_ascii()
            && text.len() == LETTERS
            && NaiveDateTime::parse_from_str(&text[..TIME_LETTERS], TIME_FORMAT).is_ok()
            && text[TIME_LETTERS..].starts_with('-')
            && text[TIME_LETTERS + 1..].chars().all(is_lower_hex);
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err(malformed())
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` can be how an id begins.
    pub fn can_begin_with(text: &str) -> bool {
        !text.is_empty()
            && text.len() <= LETTERS
            && text.chars().all(|letter| is_lower_hex(letter) || letter == '-')
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

fn is_lower_hex(letter: char) -> bool {
    matches!(letter, '0'..='9' | 'a'..='f')
}

fn malformed() -> Error {
    Error::config("run.id", "that is not the id of a run")
        .with_help("an id looks like `20261121-045612-3f9a2c`; `whimbrel runs` lists them")
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_and_is_read_back() {
        let time = DateTime::from_timestamp(1_795_323_372, 0).unwrap();
        let id = RunId::at(time, 0xff3f_9a2c);
        assert_eq!(id.to_string(), "20261122-045612-3f9a2c");
        assert_eq!(RunId::parse(id.as_str()).unwrap(), id);
        let fresh = RunId::new();
        assert_eq!(RunId::parse(fresh.as_str()).unwrap(), fresh);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"20261122-045612-3f9a2c\"");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [
            "",
            "20261121",
            "20261121-045612-3F9A2C",
            "20261321-045612-3f9a2c",
            "20261121-045612-3f9a2g",
            "20261121-045612-3f9a2c0",
            "20261121045612--3f9a2c",
            "../../../../etc/passwd",
            "20261121-045612\u{e9}3f9a2",
        ] {
            assert_eq!(RunId::parse(bad).unwrap_err().code, "run.id", "{bad}");
        }
        assert!(RunId::can_begin_with("2026112"));
        assert!(RunId::can_begin_with("20261121-045612-3f9"));
        assert!(!RunId::can_begin_with(""));
        assert!(!RunId::can_begin_with("%"));
        assert!(!RunId::can_begin_with("2026_"));
    }
}
