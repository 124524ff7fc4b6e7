//! Values of a login that are neither address nor name: host key fingerprints and the `become` command.
//! Never runs anything.

use std::fmt;
use std::str::FromStr;

use russh::keys::ssh_key::Fingerprint;

/// The most words a `become` command may have.
const BECOME_WORDS_MAX: usize = 16;

/// Why a text is not a fingerprint or a `become` command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginFieldError {
    /// Not `SHA256:` and 43 characters of base64.
    #[error(
        "host key {text:?} is not a SHA-256 fingerprint: write \"SHA256:…\" as `ssh-keygen -lf KEY.pub` shows it, or let `coordinator host trust` write it"
    )]
    BadFingerprint {
        /// The refused text.
        text: String,
    },
    /// Holds a character that a shell on the host would interpret.
    #[error(
        "become command {text:?} holds {character:?}: write plain words, such as \"sudo -n\" or \"doas -n\" (no shell runs it)"
    )]
    ShellCharacter {
        /// The refused text.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Has too many words, or starts with an option.
    #[error(
        "become command {text:?} is not a program with options: write \"sudo -n\" or \"doas -n\""
    )]
    NotACommand {
        /// The refused text.
        text: String,
    },
}

/// The SHA-256 fingerprint of a host key that a host may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostKeyFingerprint(Fingerprint);

impl HostKeyFingerprint {
    /// The fingerprint as the SSH library compares it.
    pub fn as_ssh(&self) -> &Fingerprint {
        &self.0
    }
}

impl FromStr for HostKeyFingerprint {
    type Err = LoginFieldError;

    fn from_str(text: &str) -> Result<Self, LoginFieldError> {
        match text.parse::<Fingerprint>() {
            Ok(fingerprint @ Fingerprint::Sha256(_)) => Ok(Self(fingerprint)),
            _ => Err(LoginFieldError::BadFingerprint {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for HostKeyFingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A command that the agent is started through, word by word; empty when the login itself is enough.
///
/// Every word is made of characters that no shell interprets: SSH hands a command to the login shell as
/// one line, and this is what makes that line mean the same as the words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BecomeCommand {
    words: Vec<String>,
}

impl BecomeCommand {
    /// The program and its options.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether the agent is started as the login user.
    pub fn is_none(&self) -> bool {
        self.words.is_empty()
    }
}

impl FromStr for BecomeCommand {
    type Err = LoginFieldError;

    fn from_str(text: &str) -> Result<Self, LoginFieldError> {
        if let Some(character) = text.chars().find(|character| !harmless(*character)) {
            return Err(LoginFieldError::ShellCharacter {
                text: text.to_owned(),
                character,
            });
        }
        let words: Vec<String> = text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let option_first = words.first().is_some_and(|word| word.starts_with('-'));
        // A word with "=" in front would be an assignment to the shell.
        let assignment_first = words.first().is_some_and(|word| word.contains('='));
        if words.len() > BECOME_WORDS_MAX || option_first || assignment_first {
            return Err(LoginFieldError::NotACommand {
                text: text.to_owned(),
            });
        }
        Ok(Self { words })
    }
}

impl fmt::Display for BecomeCommand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.words.join(" "))
    }
}

fn harmless(character: char) -> bool {
    character.is_ascii_alphanumeric() || " ._-/=@%+:,".contains(character)
}
