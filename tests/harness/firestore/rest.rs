//! Documents over the emulator's REST interface, as JSON text, so that tests write and look without whimbrel.
//!
//! Values are as the interface has them: `{"integerValue":"1"}`. Neighbours: `http` carries a request, `node` is the client
//! for whole databases.

use super::Emulator;
use super::process::request;

/// The full resource name of a document (`users/ann`) of a project's default database.
pub fn document_name(project: &str, path: &str) -> String {
    format!("{}/{path}", documents(project))
}

/// A path for a URL: everything but letters, digits and a few others is percent-encoded, slashes stay.
pub fn encoded_path(path: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(letter).collect()
}

fn documents(project: &str) -> String {
    format!("projects/{project}/databases/(default)/documents")
}

impl Emulator {
    /// Carries out a JSON array of writes as one commit; the answer, which has the `commitTime`. See [`document_name`].
    pub fn commit(&self, project: &str, writes: &str) -> String {
        self.post(project, "commit", &format!(r#"{{"writes":{writes}}}"#))
    }

    /// Writes one document, with its fields as a JSON object of values. Neither may need escaping in JSON beyond what it has.
    pub fn put(&self, project: &str, path: &str, fields: &str) -> String {
        let name = document_name(project, path);
        self.commit(
            project,
            &format!(r#"[{{"update":{{"name":"{name}","fields":{fields}}}}}]"#),
        )
    }

    /// Removes one document, not what is below it.
    pub fn delete(&self, project: &str, path: &str) -> String {
        let name = document_name(project, path);
        self.commit(project, &format!(r#"[{{"delete":"{name}"}}]"#))
    }

    /// A document as JSON, or `None` if there is none.
    pub fn get(&self, project: &str, path: &str) -> Option<String> {
        let path = format!("/v1/{}/{}", documents(project), encoded_path(path));
        let (status, answer) = request(self.address, "GET", &path, "").expect("the emulator answers");
        match status {
            200 => Some(answer),
            404 => None,
            _ => panic!("{status}: {answer}"),
        }
    }

    /// What a structured query answers: a JSON array of objects, of which those with `document` are results.
    pub fn run_query(&self, project: &str, query: &str) -> String {
        self.post(project, "runQuery", &format!(r#"{{"structuredQuery":{query}}}"#))
    }

    /// How many documents a structured query has, now or at `read_time` (RFC 3339).
    pub fn count(&self, project: &str, query: &str, read_time: Option<&str>) -> u64 {
        let read_time = read_time.map_or(String::new(), |time| format!(r#","readTime":"{time}""#));
        let body = format!(
            r#"{{"structuredAggregationQuery":{{"structuredQuery":{query},"aggregations":[{{"alias":"n","count":{{}}}}]}}{read_time}}}"#
        );
        let answer = self.post(project, "runAggregationQuery", &body);
        let digits = answer
            .split_once(r#""integerValue":"#)
            .and_then(|(_, rest)| rest.split('"').nth(1));
        digits
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("no count: {answer}"))
    }

    /// [`Emulator::count`] of all collections with an id (`orders`), wherever they are.
    pub fn count_group(&self, project: &str, collection: &str, read_time: Option<&str>) -> u64 {
        let query = format!(r#"{{"from":[{{"collectionId":"{collection}","allDescendants":true}}]}}"#);
        self.count(project, &query, read_time)
    }

    /// Removes all documents of a project's default database.
    pub fn clear(&self, project: &str) {
        let (status, answer) = self.try_clear(project).expect("the emulator answers");
        assert_eq!(status, 200, "{answer}");
    }

    /// [`Emulator::clear`] of an emulator that may have gone.
    pub(super) fn try_clear(&self, project: &str) -> std::io::Result<(u16, String)> {
        let path = format!("/emulator/v1/{}", documents(project));
        request(self.address, "DELETE", &path, "")
    }

    fn post(&self, project: &str, method: &str, body: &str) -> String {
        let (status, answer) = self.try_post(project, method, body);
        assert_eq!(status, 200, "{method}: {answer}");
        answer
    }

    /// Calls a method of the documents (`commit`, `runQuery`, `batchWrite` and so on) with a body; the status and the answer.
    pub fn try_post(&self, project: &str, method: &str, body: &str) -> (u16, String) {
        let path = format!("/v1/{}:{method}", documents(project));
        request(self.address, "POST", &path, body).expect("the emulator answers")
    }
}
