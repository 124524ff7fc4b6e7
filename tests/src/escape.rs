//! Paths as text that cannot drive a terminal, by the rule of [`crate::shapes`]. It never loses a byte.

use std::fmt::Write as _;

/// Backslash as `\\`; control characters and bytes outside valid UTF-8 as `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ if character.is_control() => {
                    let mut buffer = [0_u8; 4];
                    push_hex(&mut text, character.encode_utf8(&mut buffer).as_bytes());
                }
                _ => text.push(character),
            }
        }
        push_hex(&mut text, part.invalid());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn control_characters_and_broken_utf8_become_hex() {
        assert_eq!(
            escape(b"a\x1b[2Jb\n\\c\xff\xc3\xa9"),
            "a\\x1b[2Jb\\x0a\\\\c\\xff\u{e9}"
        );
    }
}
