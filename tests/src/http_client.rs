//! The plainest HTTP client: one request a connection, so that a test sees what came over the wire.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers as they came.
    pub headers: String,
    /// Its body.
    pub body: String,
}

/// Gets a path of a server on this machine.
pub fn http_get(port: u16, path: &str, token: Option<&str>) -> Result<Answer> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    http_raw(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n"),
    )
}

/// Sends these bytes, and reads until the server closes.
pub fn http_raw(port: u16, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        headers: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}
