//! What is asked of a restore.

use std::path::PathBuf;

use formats::wire::control::names::Names;

/// Which existing files are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Every file.
    Always,
    /// Files whose type, size or modification time differs. A restore that was interrupted goes on with it.
    IfChanged,
    /// Files that are older than the snapshot's.
    IfNewer,
    /// No file: only missing ones are restored.
    Never,
}

/// Which owner restored objects get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    /// The local user and group of the same name; by number where there is none.
    #[default]
    ByName,
    /// The same numbers as on the host.
    Numeric,
    /// Whoever runs the restore. Setuid and setgid bits are then cleared.
    Nobody,
}

/// Which metadata is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Owners and groups.
    pub owner: Owner,
    /// Device nodes; without, they are left out.
    pub devices: bool,
    /// Setuid and setgid bits and file capabilities.
    pub setuid: bool,
    /// Extended attributes, ACLs and capabilities among them.
    pub xattrs: bool,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            owner: Owner::ByName,
            devices: true,
            setuid: true,
            xattrs: true,
        }
    }
}

/// A restore to a local directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The directory to restore into; made if it is missing.
    pub to: PathBuf,
    /// What to restore, as it was on the host; everything if empty.
    pub paths: Vec<Vec<u8>>,
    /// What to do with files that are there; without, the directory must be empty.
    pub overwrite: Option<Overwrite>,
    /// Restore only what matches one of these, or is below what does; everything if empty.
    pub include: Vec<String>,
    /// Leave out what matches; the last match wins.
    pub exclude: Vec<String>,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// Which metadata is restored.
    pub metadata: MetadataOptions,
    /// The snapshot's user and group names.
    pub names: Names,
    /// Wait at the end until everything is on stable storage.
    pub sync: bool,
}

impl RestoreOptions {
    /// Everything, with all metadata, into an empty directory.
    pub fn everything_to(to: PathBuf, names: Names) -> Self {
        Self {
            to,
            paths: Vec::new(),
            overwrite: None,
            include: Vec::new(),
            exclude: Vec::new(),
            dry_run: false,
            metadata: MetadataOptions::default(),
            names,
            sync: true,
        }
    }
}
