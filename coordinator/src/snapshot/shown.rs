//! Names and paths of a snapshot as text. They come from a host that may be hostile: nothing printed here can
//! drive a terminal, and two different names never look alike.

use std::fmt::Write as _;

/// Backslash as `\\`; control characters, characters that hide or reverse text, and bytes outside valid
/// UTF-8 as `\xNN`.
pub fn shown_name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ if hidden(character) => {
                    let mut buffer = [0u8; 4];
                    push_hex(&mut text, character.encode_utf8(&mut buffer).as_bytes());
                }
                _ => text.push(character),
            }
        }
        push_hex(&mut text, part.invalid());
    }
    text
}

/// A path of a listing, absolute: the slash that listings leave out is put back.
pub fn shown_path(path: &[u8]) -> String {
    format!("/{}", shown_name(path))
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
    }
}

fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::{shown_name, shown_path};

    #[test]
    fn nothing_shown_can_drive_a_terminal_or_pass_for_another_name() {
        assert_eq!(shown_name(b"a\x1b[2Jb\n\\"), "a\\x1b[2Jb\\x0a\\\\");
        assert_eq!(shown_name("x\u{202e}y".as_bytes()), "x\\xe2\\x80\\xaey");
        assert_eq!(shown_path(b"caf\xc3\xa9/\xff"), "/caf\u{e9}/\\xff");
        assert_ne!(shown_name(b"\\x0a"), shown_name(b"\n"));
    }
}
