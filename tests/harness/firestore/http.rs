//! One HTTP request to the emulator over a connection of its own, as its owner.
//!
//! The standard library is all it needs. Neighbours: `process` asks whether the emulator is ready, `../firestore.rs` writes and
//! reads documents.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take on a loaded machine, with a warm-up of the JVM in it.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The status and the body that it answers to a request, whose body is JSON or empty.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    connection.set_nodelay(true)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer owner\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes())?;
    read_answer(&mut connection)
}

/// Reads an answer to its own end: the emulator does not always close a connection that it was asked to close.
fn read_answer(connection: &mut TcpStream) -> Result<(u16, String)> {
    let mut answer = Vec::new();
    let body_start = loop {
        if let Some(position) = find(&answer, b"\r\n\r\n") {
            break position + 4;
        }
        read_more(connection, &mut answer)?;
    };
    let head = String::from_utf8_lossy(&answer[..body_start]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::other("no HTTP answer"))?;
    let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let body = if header(&head, "transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(connection, answer.split_off(body_start))?
    } else if let Some(length) = length {
        while answer.len() < body_start + length {
            read_more(connection, &mut answer)?;
        }
        answer[body_start..body_start + length].to_vec()
    } else {
        connection.read_to_end(&mut answer)?;
        answer.split_off(body_start)
    };
    let body = String::from_utf8(body).map_err(Error::other)?;
    Ok((status, body))
}

fn read_chunks(connection: &mut TcpStream, mut answer: Vec<u8>) -> Result<Vec<u8>> {
    let (mut body, mut position) = (Vec::new(), 0);
    loop {
        let Some(line_length) = find(&answer[position..], b"\r\n") else {
            read_more(connection, &mut answer)?;
            continue;
        };
        let line = String::from_utf8_lossy(&answer[position..position + line_length]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(Error::other)?;
        let start = position + line_length + 2;
        while answer.len() < start + size + 2 {
            read_more(connection, &mut answer)?;
        }
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&answer[start..start + size]);
        position = start + size + 2;
    }
}

fn read_more(connection: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let mut part = [0; 16 * 1024];
    match connection.read(&mut part)? {
        0 => Err(Error::other("the answer ends too early")),
        length => {
            answer.extend_from_slice(&part[..length]);
            Ok(())
        }
    }
}

fn header<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn find(octets: &[u8], part: &[u8]) -> Option<usize> {
    octets.windows(part.len()).position(|window| window == part)
}
