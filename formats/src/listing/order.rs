//! The listing order, and the check that a stream keeps it. Nothing out of order, twice, or in a directory
//! that was never listed gets past it.

use std::cmp::Ordering;

use crate::limits::PATH_DEPTH_MAX;
use crate::listing::entry::{EntryKind, join};

/// Compares two directory paths by their names, parents before children.
pub fn compare_directories(a: &[u8], b: &[u8]) -> Ordering {
    // A slash sorts before every byte of a name, so comparing names is comparing bytes with slash lowest.
    let rank = |byte: &u8| {
        if *byte == b'/' {
            0u16
        } else {
            u16::from(*byte) + 1
        }
    };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Compares two entries' places: directory first, then name.
pub fn compare_places(a: (&[u8], &[u8]), b: (&[u8], &[u8])) -> Ordering {
    compare_directories(a.0, b.0).then_with(|| a.1.cmp(b.1))
}

/// Whether `path` is `directory` or below it.
pub fn is_within(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        _ if directory.is_empty() => true,
        Some(rest) => rest.first().is_none_or(|byte| *byte == b'/'),
        None => false,
    }
}

/// How a stream breaks the listing order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A block that is not the next listed directory's, or comes twice.
    #[error("the block of directory {} is out of order or of no listed directory", shown(.directory))]
    Block {
        /// The block's directory.
        directory: Vec<u8>,
    },
    /// An entry that does not follow the one before it.
    #[error("entry {} of directory {} is out of order or there twice", shown(.name), shown(.directory))]
    Entry {
        /// The block's directory.
        directory: Vec<u8>,
        /// The entry's name.
        name: Vec<u8>,
    },
    /// A directory deeper than a listing may be.
    #[error("directory {} is deeper than {PATH_DEPTH_MAX}", shown(.directory))]
    TooDeep {
        /// The directory.
        directory: Vec<u8>,
    },
    /// More directories wait for their block than fit the limit.
    #[error("more than {limit} bytes of directories wait for their entries")]
    TooManyPending {
        /// The limit in bytes.
        limit: usize,
    },
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Memory of the names of listed directories that wait for their blocks: about two million.
const PENDING_BYTES_MAX: usize = 128 << 20;
/// What a waiting name takes besides its bytes.
const PENDING_NAME_BYTES: usize = 48;

/// Checks a stream of blocks and entries. A directory without a block is one without entries.
#[derive(Debug, Default)]
pub struct OrderChecker {
    started: bool,
    directory: Vec<u8>,
    last_name: Option<Vec<u8>>,
    /// The names of directories listed in the current block.
    found: Vec<Vec<u8>>,
    /// For each ancestor of the current directory: how much of its path is the ancestor's, and the
    /// directories in it still to come, last first.
    pending: Vec<(usize, Vec<Vec<u8>>)>,
    pending_bytes: usize,
}

impl OrderChecker {
    /// A checker before the first block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the block of `directory`, or goes on with it. The root's comes first.
    pub fn block(&mut self, directory: &[u8]) -> Result<(), OrderError> {
        if !self.started {
            self.started = true;
            return match directory {
                [] => Ok(()),
                _ => Err(self.block_error(directory)),
            };
        }
        if directory == self.directory.as_slice() {
            return Ok(());
        }
        self.close_block();
        while let Some((parent_bytes, names)) = self.pending.last_mut() {
            let parent = self.directory.get(..*parent_bytes).unwrap_or_default();
            // Only the part below the parent is compared: the rest is the same, and may be long.
            let below = below(directory, parent);
            while let Some(rest) = below
                && let Some(name) = names.pop()
            {
                self.pending_bytes -= cost(&name);
                match compare_directories(&name, rest) {
                    Ordering::Less => {}
                    Ordering::Equal => {
                        self.directory = directory.to_vec();
                        self.last_name = None;
                        return Ok(());
                    }
                    Ordering::Greater => return Err(self.block_error(directory)),
                }
            }
            let left: usize = names.iter().map(|name| cost(name)).sum();
            self.pending_bytes -= left;
            self.pending.pop();
        }
        Err(self.block_error(directory))
    }

    fn block_error(&self, directory: &[u8]) -> OrderError {
        OrderError::Block {
            directory: directory.to_vec(),
        }
    }

    fn close_block(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        found.reverse();
        self.pending.push((self.directory.len(), found));
    }

    /// The next entry of the current block.
    pub fn entry(&mut self, name: &[u8], kind: EntryKind) -> Result<(), OrderError> {
        if !self.started || self.last_name.as_deref().is_some_and(|last| last >= name) {
            return Err(OrderError::Entry {
                directory: self.directory.clone(),
                name: name.to_vec(),
            });
        }
        if kind == EntryKind::Directory {
            if self.pending.len() + 1 >= PATH_DEPTH_MAX {
                return Err(OrderError::TooDeep {
                    directory: join(&self.directory, name),
                });
            }
            self.pending_bytes += cost(name);
            if self.pending_bytes > PENDING_BYTES_MAX {
                return Err(OrderError::TooManyPending {
                    limit: PENDING_BYTES_MAX,
                });
            }
            self.found.push(name.to_vec());
        }
        let last = self.last_name.get_or_insert_default();
        last.clear();
        last.extend_from_slice(name);
        Ok(())
    }
}

fn cost(name: &[u8]) -> usize {
    name.len() + PENDING_NAME_BYTES
}

/// What of a path is below `directory`, if it is below it at all.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(directory)? {
        rest if directory.is_empty() => Some(rest),
        rest => rest.strip_prefix(b"/"),
    }
}

#[cfg(test)]
mod tests {
    use super::{OrderChecker, compare_directories, is_within};
    use crate::listing::entry::EntryKind::{Directory, File};
    use std::cmp::Ordering;

    #[test]
    fn directories_sort_by_names_not_by_bytes() {
        assert_eq!(compare_directories(b"a/b", b"a-b"), Ordering::Less);
        assert_eq!(compare_directories(b"a", b"a/b"), Ordering::Less);
        assert_eq!(compare_directories(b"", b"a"), Ordering::Less);
        assert_eq!(compare_directories(b"a/c", b"a/b/d"), Ordering::Greater);
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"") && !is_within(b"ab", b"a"));
    }

    #[test]
    fn a_good_stream_passes_and_each_kind_of_bad_one_is_refused() {
        let mut checker = OrderChecker::new();
        checker.block(b"").expect("root");
        checker.entry(b"a", Directory).expect("a");
        checker.entry(b"b", Directory).expect("b");
        checker.entry(b"c", File).expect("c");
        assert!(checker.entry(b"c", File).is_err(), "twice");
        assert!(checker.entry(b"b", File).is_err(), "backwards");
        checker.block(b"a").expect("a's block");
        checker.entry(b"x", Directory).expect("x");
        checker.block(b"a/x").expect("x's block");
        assert!(checker.block(b"a").is_err(), "a second time");

        for bad in [&b"c"[..], b"nowhere", b"a/x", b"b/"] {
            let mut checker = OrderChecker::new();
            checker.block(b"").expect("root");
            checker.entry(b"a", Directory).expect("a");
            checker.entry(b"b", Directory).expect("b");
            checker.entry(b"c", File).expect("c");
            assert!(checker.block(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(OrderChecker::new().block(b"a").is_err(), "root first");

        let mut skipping = OrderChecker::new();
        skipping.block(b"").expect("root");
        skipping.entry(b"a", Directory).expect("a");
        skipping.entry(b"b", Directory).expect("b");
        skipping.block(b"b").expect("a is empty");
        assert!(skipping.block(b"a").is_err(), "too late");
    }

    #[test]
    fn waiting_directories_are_bounded_by_the_memory_they_take() {
        let mut checker = OrderChecker::new();
        checker.block(b"").expect("root");
        let refused =
            (0u32..4 << 20).find(|number| checker.entry(&number.to_be_bytes(), Directory).is_err());
        assert!(
            refused.is_some(),
            "4 Mi short names take far more than 64 MiB"
        );
    }

    #[test]
    fn a_deep_directory_of_many_others_is_left_in_little_time() {
        let mut checker = OrderChecker::new();
        checker.block(b"").expect("root");
        let mut path = Vec::new();
        for _ in 0..250 {
            checker.entry(&[b'n'; 255], Directory).expect("deeper");
            path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
            path.extend_from_slice(&[b'n'; 255]);
            checker.block(&path).expect("its block");
        }
        for number in 0u32..400_000 {
            let name = format!("{number:08}");
            checker
                .entry(name.as_bytes(), Directory)
                .expect("one of many");
        }
        path.extend_from_slice(b"/00399999");
        // Comparing whole paths here took a minute, and a target could ask for it again and again.
        checker.block(&path).expect("the last of many");
    }
}
