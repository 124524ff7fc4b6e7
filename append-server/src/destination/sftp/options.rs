//! What an SFTP destination is configured with. Plain values: parsed and checked by the configuration.

use crate::destination::bandwidth::Bandwidth;
use crate::ssh::target::SshTarget;

/// Where the objects are.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// The server, who logs in, and its pinned keys.
    pub server: SshTarget,
    /// The root's path there, without a slash at its end; absolute, or from the login's directory.
    pub path: String,
    /// The most that objects take per second, both ways together.
    pub bandwidth: Option<Bandwidth>,
}
