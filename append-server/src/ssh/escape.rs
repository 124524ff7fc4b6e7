//! Makes bytes from a target safe to put into one field of a log line or onto a terminal.
//! Never lets through a control character, an escape sequence or a line break.

use std::fmt::Write as _;

/// The bytes as one printable line: controls, text-direction marks, backslashes and bytes that are
/// not UTF-8 become visible escapes.
#[must_use]
pub fn escape_for_log(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in part.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// Like [`escape_for_log`], with blank ends removed, for messages that end in a line break.
#[must_use]
pub fn escape_trimmed(bytes: &[u8]) -> String {
    escape_for_log(bytes.trim_ascii())
}

/// As much of the beginning as takes no more than so many bytes when it is escaped, and how many of the bytes that is.
#[must_use]
pub fn escape_within(bytes: &[u8], escaped_bytes_max: usize) -> (String, usize) {
    let mut out = String::new();
    let mut taken = 0;
    for part in bytes.utf8_chunks() {
        let characters = part.valid().split_inclusive(|_: char| true);
        let characters = characters.map(str::as_bytes);
        for piece in characters.chain(part.invalid().chunks(1)) {
            let escaped = escape_for_log(piece);
            if out.len() + escaped.len() > escaped_bytes_max {
                return (out, taken);
            }
            out.push_str(&escaped);
            taken += piece.len();
        }
    }
    (out, taken)
}

/// Bytes in no more than so many escaped ones, with how many there are more.
#[must_use]
pub fn escape_cut(bytes: &[u8], escaped_bytes_max: usize) -> String {
    escape_cut_of_more(bytes, escaped_bytes_max, 0)
}

/// The same, where so many bytes more came and were not kept.
#[must_use]
pub fn escape_cut_of_more(bytes: &[u8], escaped_bytes_max: usize, dropped: u64) -> String {
    let (mut text, taken) = escape_within(bytes, escaped_bytes_max);
    let more = (bytes.len() - taken) as u64 + dropped;
    if more > 0 {
        write!(text, " [and {more} bytes more]").expect("writing to a String cannot fail");
    }
    text
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        c if c.is_control() || is_invisible(c) => {
            write!(out, "\\u{{{:x}}}", u32::from(c)).expect("writing to a String cannot fail");
        }
        c => out.push(c),
    }
}

/// Characters that draw nothing but change how the rest of the line is read.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}
