//! The paths that a run was asked for, and the check that every entry belongs to them: a host may not put into
//! its snapshots what the configuration does not name.

use formats::listing::entry::join;
use formats::listing::order::is_within;

use crate::backup::error::RunError;

/// The source paths, without the slash in front.
#[derive(Debug, Clone)]
pub struct Sources {
    paths: Vec<Vec<u8>>,
}

impl Sources {
    /// These paths.
    pub fn new(paths: &[Vec<u8>]) -> Self {
        Self {
            paths: paths.to_vec(),
        }
    }

    /// Refuses an entry that is neither at or below a source nor on the way to one.
    pub fn check(&self, directory: &[u8], name: &[u8]) -> Result<(), RunError> {
        if self.paths.iter().any(|path| is_within(directory, path)) {
            return Ok(());
        }
        let entry = join(directory, name);
        let on_the_way = |path: &Vec<u8>| *path == entry || is_within(path, &entry);
        match self.paths.iter().any(on_the_way) {
            true => Ok(()),
            false => Err(RunError::NotAsked { path: entry }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sources;

    #[test]
    fn only_sources_and_the_way_to_them_are_let_in() {
        let sources = Sources::new(&[b"etc".to_vec(), b"srv/www".to_vec()]);
        for (directory, name) in [
            ("", "etc"),
            ("etc", "x"),
            ("", "srv"),
            ("srv", "www"),
            ("srv/www/a", "b"),
        ] {
            assert!(sources.check(directory.as_bytes(), name.as_bytes()).is_ok());
        }
        for (directory, name) in [
            ("", "home"),
            ("srv", "ftp"),
            ("", "et"),
            ("etcetera", "x"),
            ("srv", "www2"),
        ] {
            assert!(
                sources
                    .check(directory.as_bytes(), name.as_bytes())
                    .is_err()
            );
        }
        let all = Sources::new(&[Vec::new()]);
        assert!(all.check(b"any", b"where").is_ok());
    }
}
