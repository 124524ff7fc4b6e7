//! What an SFTP server's failures mean: passing or lasting, and what to do about them.

use std::error::Error;
use std::fmt;

use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::StatusCode;

use crate::destination::{DestinationError, DestinationName, Outlook, peer_words};
use crate::ssh::error::SshError;
use crate::ssh::subsystem::SubsystemError;

/// A server did not do what was asked.
#[derive(Debug)]
pub(super) enum SftpFailure {
    /// The server said no.
    Refused { code: StatusCode, message: String },
    /// The server said no, and has no space left.
    Full,
    /// No connection could be made.
    Connect(Box<SshError>),
    /// A connection without SFTP.
    Subsystem(SubsystemError),
    /// The connection broke, or was too slow.
    Connection(SftpError),
    /// The connection ended under an operation.
    Lost,
    /// The answer makes no sense.
    Answer(String),
    /// The root is not what it should be.
    Root(String),
    /// The spooled object could not be read.
    Source(std::io::Error),
}

impl SftpFailure {
    pub(super) fn is_code(&self, expected: StatusCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == expected)
    }

    pub(super) fn is_absent(&self) -> bool {
        self.is_code(StatusCode::NoSuchFile)
    }

    /// Whether the connection it happened on cannot be trusted any more.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Lost)
    }

    fn outlook(&self) -> Outlook {
        let passes = match self {
            // OpenSSH says "failure" for whatever has no code of its own, such as a disk that fails.
            Self::Refused { code, .. } => !matches!(
                code,
                StatusCode::PermissionDenied | StatusCode::NoSuchFile | StatusCode::OpUnsupported
            ),
            Self::Full => return Outlook::Full,
            Self::Connect(error) => is_passing(error),
            Self::Connection(_) | Self::Lost | Self::Answer(_) => true,
            Self::Subsystem(error) => !matches!(error, SubsystemError::Refused { .. }),
            Self::Root(_) | Self::Source(_) => false,
        };
        if passes {
            Outlook::Passes
        } else {
            Outlook::Lasts
        }
    }

    pub(super) fn into_error(
        self,
        destination: DestinationName,
        action: &'static str,
        subject: String,
    ) -> DestinationError {
        DestinationError::judged(self.outlook(), destination, action, subject, Box::new(self))
    }
}

/// Whether a connection may succeed when it is tried again. A wrong key is no accident of the network.
fn is_passing(error: &SshError) -> bool {
    !matches!(
        error,
        SshError::HostKeyMismatch { .. }
            | SshError::HostKeyNotPinned { .. }
            | SshError::HostKeyChanged { .. }
            | SshError::NoUsableHostKey { .. }
            | SshError::NoCommonAlgorithm { .. }
            | SshError::WeakAlgorithms { .. }
            | SshError::AuthRefused { .. }
            | SshError::Credentials { .. }
    )
}

impl From<SftpError> for SftpFailure {
    fn from(error: SftpError) -> Self {
        match error {
            SftpError::Status(status) => Self::Refused {
                code: status.status_code,
                message: peer_words(&status.error_message),
            },
            other => Self::Connection(other),
        }
    }
}

impl fmt::Display for SftpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } => {
                write!(f, "the server answered \"{code}\"")?;
                if !message.is_empty() && *message != code.to_string() {
                    write!(f, ": {message}")?;
                }
                Ok(())
            }
            Self::Full => f.write_str("the server has no space left"),
            Self::Connect(_) => f.write_str("could not connect to the server"),
            Self::Subsystem(_) => f.write_str("the server gives no SFTP"),
            Self::Connection(_) => f.write_str("the connection to the server failed"),
            Self::Lost => f.write_str("the connection to the server ended"),
            Self::Answer(what) => write!(f, "the server's answer cannot be used: {what}"),
            Self::Root(what) => f.write_str(what),
            Self::Source(_) => f.write_str("the object could not be read from the spool"),
        }
    }
}

impl Error for SftpFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(source) => Some(source),
            Self::Subsystem(source) => Some(source),
            Self::Connection(source) => Some(source),
            Self::Source(source) => Some(source),
            Self::Refused { .. } | Self::Full | Self::Lost | Self::Answer(_) | Self::Root(_) => {
                None
            }
        }
    }
}
