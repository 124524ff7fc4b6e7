//! The recovery kit's text: the master key in groups that a person can type, with a check per line, so that
//! one wrong digit is named by its line.

use zeroize::Zeroizing;

use crate::ids::{parse_hex, to_hex};
use crate::keys::derive::context;
use crate::keys::secret::MasterKey;

const PREFIX: &str = "master key ";
const LINE_BYTES: usize = 8;

/// Why a kit's text gives no master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KitError {
    /// Not every line of the key is there.
    #[error("the recovery kit has {found} of its 4 \"master key\" lines")]
    LinesMissing {
        /// How many were found.
        found: usize,
    },
    /// A line was mistyped or damaged.
    #[error(
        "line \"master key {line}\" of the recovery kit does not match its check; compare it with the print"
    )]
    LineWrong {
        /// Which of the four.
        line: usize,
    },
}

/// The key's four lines: `master key 1: 0011 2233 4455 6677  check ab12`.
pub fn write(master: &MasterKey) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (index, bytes) in master.expose().chunks(LINE_BYTES).enumerate() {
        let line = index + 1;
        let groups: Vec<String> = bytes.chunks(2).map(to_hex).collect();
        let check = to_hex(&check(line, bytes));
        text.push_str(&format!(
            "{PREFIX}{line}: {}  check {check}\n",
            groups.join(" ")
        ));
    }
    text
}

/// Finds the key in a kit's text; other lines are for people.
pub fn read(text: &str) -> Result<MasterKey, KitError> {
    let mut key = Zeroizing::new(Vec::new());
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(PREFIX));
    for (index, line) in lines.enumerate() {
        let number = index + 1;
        let wrong = KitError::LineWrong { line: number };
        let (label, rest) = line.split_once(':').ok_or_else(|| wrong.clone())?;
        let (digits, found) = rest.split_once("check").ok_or_else(|| wrong.clone())?;
        let digits: Zeroizing<String> =
            Zeroizing::new(digits.split_whitespace().collect::<String>().to_lowercase());
        let bytes: [u8; LINE_BYTES] = parse_hex(&digits).map_err(|_| wrong.clone())?;
        let labelled = label.trim() == number.to_string();
        if !labelled || to_hex(&check(number, &bytes)) != found.trim().to_lowercase() {
            return Err(wrong);
        }
        key.extend_from_slice(&bytes);
    }
    let found = key.len() / LINE_BYTES;
    match <[u8; 32]>::try_from(key.as_slice()) {
        Ok(bytes) => Ok(MasterKey::from_bytes(bytes)),
        Err(_) => Err(KitError::LinesMissing { found }),
    }
}

fn check(line: usize, bytes: &[u8]) -> [u8; 2] {
    let mut hasher = blake3::Hasher::new_derive_key(context::KIT_CHECK);
    hasher.update(&(line as u64).to_le_bytes());
    hasher.update(bytes);
    let mut check = [0u8; 2];
    hasher.finalize_xof().fill(&mut check);
    check
}

#[cfg(test)]
mod tests {
    use super::{KitError, read, write};
    use crate::keys::secret::MasterKey;

    #[test]
    fn a_kit_reads_back_and_names_the_line_with_a_wrong_digit() {
        let master = MasterKey::from_bytes(std::array::from_fn(|i| i as u8));
        let text = write(&master);
        let kit = format!("Keep this safe.\n\n{}\nMore words.\n", text.as_str());
        assert_eq!(read(&kit).expect("it reads back").expose(), master.expose());
        let mistyped = kit.replace("1011", "1010");
        assert_eq!(read(&mistyped).err(), Some(KitError::LineWrong { line: 3 }));
        assert_eq!(
            read("nothing").err(),
            Some(KitError::LinesMissing { found: 0 })
        );
    }
}
