//! As much HTTP/1.1 as one client of one server needs: a `PUT` with a chunked body, and a strict reading of
//! the answer. Anything else than what the append-server sends is refused, within fixed limits.

use std::io::{self, Read, Write};

use formats::limits::SMALL_BODY_BYTES_MAX;
use formats::wire::upload::PATH_PACKS;

/// The most bytes of an answer's status line and headers.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub keeps_alive: bool,
}

/// An answer that is not HTTP as this client speaks it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection failed.
    #[error("the append-server's connection failed")]
    Io(#[from] io::Error),
    /// The answer breaks a rule.
    #[error("the append-server's answer {rule}")]
    Answer {
        /// Which.
        rule: &'static str,
    },
}

const fn broken(rule: &'static str) -> HttpError {
    HttpError::Answer { rule }
}

/// Begins to upload a pack.
pub fn begin_put(stream: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let head = format!(
        "PUT {PATH_PACKS} HTTP/1.1\r\nHost: append-server\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

/// Sends some of the body; no bytes would end it, so they are not sent.
pub fn put_bytes(stream: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}

/// Ends the body.
pub fn end_put(stream: &mut (impl Write + ?Sized)) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

/// Reads the answer to a request.
pub fn read_answer(stream: &mut (impl Read + ?Sized)) -> Result<Answer, HttpError> {
    let head = read_head(stream)?;
    let text = std::str::from_utf8(&head).map_err(|_| broken("is not text"))?;
    let mut lines = text.split("\r\n");
    let status = status_of(lines.next().unwrap_or_default())?;
    let mut length = None;
    let mut keeps_alive = true;
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or(broken("has a header without a colon"))?;
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("content-length") {
            if length.is_some() {
                return Err(broken("has two lengths"));
            }
            length = Some(length_of(value)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(broken("has no fixed length"));
        } else if name.eq_ignore_ascii_case("connection") {
            keeps_alive = !value.eq_ignore_ascii_case("close");
        }
    }
    let length = length.ok_or(broken("has no length"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer {
        status,
        body,
        keeps_alive,
    })
}

/// Status line and headers without the empty line that ends them. Byte by byte: nothing of the body is taken,
/// and answers are short and few.
fn read_head(stream: &mut (impl Read + ?Sized)) -> Result<Vec<u8>, HttpError> {
    let mut head = Vec::with_capacity(256);
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(done) = head.strip_suffix(b"\r\n\r\n") {
            return Ok(done.to_vec());
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Err(broken("has headers without end"));
        }
    }
}

fn status_of(line: &str) -> Result<u16, HttpError> {
    let wrong = broken("does not begin as HTTP/1.1 does");
    let Some(rest) = line.strip_prefix("HTTP/1.1 ") else {
        return Err(wrong);
    };
    let (digits, reason) = rest.split_at_checked(3).unwrap_or((rest, ""));
    let well_formed = digits.len() == 3
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (reason.is_empty() || reason.starts_with(' '));
    match digits.parse() {
        Ok(status) if well_formed => Ok(status),
        _ => Err(wrong),
    }
}

fn length_of(value: &str) -> Result<usize, HttpError> {
    let is_number = (1..=6).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(length) if is_number && length <= SMALL_BODY_BYTES_MAX => Ok(length),
        _ => Err(broken("has a length that cannot be")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, begin_put, end_put, put_bytes, read_answer};

    #[test]
    fn a_request_is_what_the_standard_says() {
        let mut sent = Vec::new();
        begin_put(&mut sent).expect("writes");
        put_bytes(&mut sent, &[b'x'; 17]).expect("writes");
        put_bytes(&mut sent, b"").expect("writes nothing");
        end_put(&mut sent).expect("writes");
        let text = String::from_utf8(sent).expect("it is text");
        assert!(text.starts_with("PUT /v1/packs HTTP/1.1\r\nHost: "));
        assert!(text.ends_with("\r\n\r\n11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n"));
    }

    #[test]
    fn a_good_answer_is_read_and_nothing_after_it() {
        let mut bytes = &b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\nDate: x\r\n\r\nabcnext"[..];
        let answer = read_answer(&mut bytes).expect("it is good");
        let expected = Answer {
            status: 201,
            body: b"abc".to_vec(),
            keeps_alive: true,
        };
        assert_eq!(answer, expected);
        assert_eq!(bytes, b"next");
        let mut last = &b"HTTP/1.1 507\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"[..];
        assert!(!read_answer(&mut last).expect("it is good").keeps_alive);
    }

    #[test]
    fn every_other_answer_is_refused() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(10_000));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 2000\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            &endless,
        ] {
            assert!(read_answer(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
