//! Where a secret comes from, a destination's or another one of the configuration: the configuration itself, a file, a command's output, the environment, or
//! a credential of systemd. Fetched when a destination is opened; never printed.

mod command;

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::credential_file::VARIABLE;
use crate::places::FileFacts;
use crate::places::secret::command::run;
use crate::places::table::KeyError;

/// No secret is longer.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How long a program that prints a secret may take, where nothing else is said.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// What the keys of one table say about one secret; at most one of them may be given.
#[derive(Clone, Copy)]
pub struct SecretKeys<'a> {
    /// The key of the secret itself, to which the others add how it is to be had.
    pub key: &'static str,
    /// The secret itself.
    pub literal: Option<&'a str>,
    /// A file with it.
    pub file: Option<&'a str>,
    /// The words of a command that prints it.
    pub command: Option<&'a [String]>,
    /// An environment variable with it.
    pub variable: Option<&'a str>,
    /// A systemd credential with it.
    pub credential: Option<&'a str>,
}

impl SecretKeys<'_> {
    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> usize {
        usize::from(self.literal.is_some())
            + usize::from(self.file.is_some())
            + usize::from(self.command.is_some())
            + usize::from(self.variable.is_some())
            + usize::from(self.credential.is_some())
    }

    /// The one way that is given, if any is.
    pub fn source(self, file: FileFacts<'_>) -> Result<Option<SecretSource>, KeyError> {
        let key = self.key;
        let wrong = |problem: String| KeyError { key, problem };
        if self.count() > 1 {
            return Err(wrong(format!(
                "is given in more than one way: keep one of {key}, {key}_file, {key}_command, {key}_env and {key}_credential"
            )));
        }
        if let Some(literal) = self.literal {
            if !file.is_private {
                return Err(wrong(format!(
                    "stands in a file that others can read: run `chmod 600` on it, or use {key}_file"
                )));
            }
            let secret = Zeroizing::new(literal.to_owned());
            return Ok(Some(SecretSource::Literal(secret)));
        }
        if let Some(path) = self.file {
            return Ok(Some(SecretSource::File(file.directory.join(path))));
        }
        if let Some(words) = self.command {
            if words.is_empty() {
                return Err(wrong("has a command without a program".to_owned()));
            }
            return Ok(Some(SecretSource::Command(words.to_vec())));
        }
        if let Some(variable) = self.variable {
            return Ok(Some(SecretSource::Variable(variable.to_owned())));
        }
        if let Some(credential) = self.credential {
            if credential.contains('/') || credential.is_empty() {
                return Err(wrong("names a credential that is no file name".to_owned()));
            }
            return Ok(Some(SecretSource::Credential(credential.to_owned())));
        }
        Ok(None)
    }
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The configuration.
    Literal(Zeroizing<String>),
    /// A file that only its owner can read.
    File(PathBuf),
    /// What a program prints; its words, without a shell.
    Command(Vec<String>),
    /// An environment variable.
    Variable(String),
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Command(words) => f.debug_tuple("Command").field(words).finish(),
            Self::Variable(name) => f.debug_tuple("Variable").field(name).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
        }
    }
}

/// A secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file.
    #[error("could not read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{} is readable by group or others (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The program that prints it.
    #[error("could not run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program that prints it.
    #[error("{program} ended with {status} and gave no secret")]
    Failed {
        /// The program.
        program: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// The program that prints it does not end.
    #[error("{program} was not done after {} s, and was ended", time.as_secs_f32())]
    Deadline {
        /// The program.
        program: String,
        /// How long it had.
        time: Duration,
    },
    /// The environment does not have it.
    #[error("the environment variable {name} is not set")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// Nothing, or no text.
    #[error("{place} holds no secret: it must be one line of text")]
    NoSecret {
        /// Where it was looked for.
        place: String,
    },
}

impl SecretSource {
    /// The secret, without the end of line behind it. A program that asks a person for it has two minutes.
    pub fn fetch(&self) -> Result<Zeroizing<String>, SecretError> {
        self.fetch_within(COMMAND_DEADLINE)
    }

    /// The secret, which a program that prints it has to print and end within this time.
    pub fn fetch_within(&self, time: Duration) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::File(path) => read_file(path, true),
            Self::Command(words) => command_output(words, time),
            Self::Variable(name) => {
                let value =
                    std::env::var(name).map_err(|_| SecretError::NotSet { name: name.clone() })?;
                one_line(value.into_bytes(), &format!("the variable {name}"))
            }
            Self::Credential(name) => {
                let directory = std::env::var_os(VARIABLE).ok_or(SecretError::NotSet {
                    name: VARIABLE.to_owned(),
                })?;
                // systemd sees to who may read it.
                read_file(&Path::new(&directory).join(name), false)
            }
        }
    }
}

fn read_file(path: &Path, must_be_private: bool) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if must_be_private && mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    one_line(bytes, &path.display().to_string())
}

fn command_output(words: &[String], time: Duration) -> Result<Zeroizing<String>, SecretError> {
    let (status, printed) = run(words, time)?;
    let program = words.first().map_or("", String::as_str);
    if !status.success() {
        return Err(SecretError::Failed {
            program: program.to_owned(),
            status,
        });
    }
    one_line(printed, program)
}

fn one_line(bytes: Vec<u8>, place: &str) -> Result<Zeroizing<String>, SecretError> {
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes)
        .ok()
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .filter(|text| !text.is_empty() && !text.contains(['\r', '\n', '\0']));
    match text {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => Err(SecretError::NoSecret {
            place: place.to_owned(),
        }),
    }
}
