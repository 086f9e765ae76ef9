//! The one question that google-cloud-auth does not ask the metadata server: which project its machine belongs to.
//!
//! One plain HTTP request on this network. Whoever does not answer as the metadata server does has no project to tell.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Where it is, unless `GCE_METADATA_HOST` says otherwise, which google-cloud-auth heeds too.
const HOST: &str = "metadata.google.internal";
/// An answer is a word with some headers.
const BYTES_MAX: u64 = 64 * 1024;

/// The project's id, asked at `url` (`http://host:port`) or at the usual place; each step takes `wait_max` at most.
pub(super) async fn project(url: Option<String>, wait_max: Duration) -> Option<String> {
    let host = match url {
        Some(url) => url.trim_start_matches("http://").to_owned(),
        None => std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| HOST.to_owned()),
    };
    let answer = tokio::task::spawn_blocking(move || ask(&host, wait_max))
        .await
        .ok()?;
    read(&answer.ok()?)
}

fn ask(host: &str, wait_max: Duration) -> std::io::Result<String> {
    let address = match host.to_socket_addrs() {
        Ok(mut addresses) => addresses.next(),
        // Without a port it is that of HTTP.
        Err(_) => (host, 80).to_socket_addrs()?.next(),
    };
    let address = address.ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, wait_max)?;
    stream.set_read_timeout(Some(wait_max))?;
    stream.set_write_timeout(Some(wait_max))?;
    // HTTP/1.0, so that the answer ends with its connection and has no parts.
    let request = format!(
        "GET /computeMetadata/v1/project/project-id HTTP/1.0\r\nHost: {host}\r\nMetadata-Flavor: Google\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The word in an answer of the metadata server.
fn read(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let is_found = lines.next()?.split(' ').nth(1) == Some("200");
    // Anybody may answer at that name; only the metadata server says this.
    let is_google = lines.any(|line| line.to_ascii_lowercase().replace(' ', "") == "metadata-flavor:google");
    let project = body.trim();
    (is_found && is_google && !project.is_empty()).then(|| project.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metadata_server_names_the_project() {
        let google = "Metadata-Flavor: Google\r\nContent-Type: text/plain";
        for (answer, expected) in [
            (
                format!("HTTP/1.0 200 OK\r\n{google}\r\n\r\nmy-project\n"),
                Some("my-project"),
            ),
            (
                format!("HTTP/1.0 404 Not Found\r\n{google}\r\n\r\nmy-project"),
                None,
            ),
            ("HTTP/1.0 200 OK\r\nServer: other\r\n\r\nsign in".to_owned(), None),
            (format!("HTTP/1.0 200 OK\r\n{google}\r\n\r\n"), None),
            ("my-project".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(read(&answer).as_deref(), expected, "{answer:?}");
        }
    }
}
