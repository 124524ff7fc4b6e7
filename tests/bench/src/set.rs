//! The data sets: made once by `gen.py`, or copied from a tree, and kept with what turns state 0 into state 1.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::ground::{Ground, copy_tree};
use crate::options::{GeneratedSet, Options};

/// Where the data come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// `gen.py`.
    Generated(GeneratedSet),
    /// A copy of a tree.
    Tree(PathBuf),
}

impl Origin {
    /// Every set that the options ask for.
    pub fn all(options: &Options) -> Vec<Self> {
        let sets = if options.sets.is_empty() && options.tree.is_none() {
            &GeneratedSet::ALL[..]
        } else {
            &options.sets
        };
        let generated = sets.iter().copied().map(Self::Generated);
        let tree = options.tree.clone().map(Self::Tree);
        generated.chain(tree).collect()
    }

    /// Its name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Generated(set) => set.name(),
            Self::Tree(_) => "tree",
        }
    }

    fn key(&self, scale: f64) -> String {
        match self {
            Self::Generated(set) => format!("{} at scale {scale}", set.name()),
            Self::Tree(path) => format!("copy of {}", path.display()),
        }
    }
}

/// A set that lies on disk, in state 0.
#[derive(Debug)]
pub struct Set {
    /// What is backed up.
    pub tree: PathBuf,
    /// Takes it to state 1 and back.
    pub change: Change,
    /// What is in it.
    pub facts: Facts,
}

/// What is in a set, as it was found when it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// Entries of all kinds.
    pub entries: u64,
    /// Logical bytes of regular files.
    pub bytes: u64,
    /// Bytes that they occupy.
    pub allocated_bytes: u64,
    /// What the change touched.
    pub change: ChangeFacts,
}

/// What the generator says of the change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// Files that were edited, appended to, added or deleted.
    pub changed: u64,
    /// Files there were.
    pub of: u64,
    /// Bytes in the changed files; of an image, bytes overwritten.
    pub bytes_in_changed: u64,
}

/// The mark of a set that is complete.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    key: String,
    facts: Facts,
}

impl Set {
    /// Makes a set, or takes the one that was made before.
    pub fn prepare(ground: &Ground, origin: &Origin, scale: f64) -> Result<Self> {
        let directory = ground.data().join(origin.name());
        let stamp_path = directory.join("complete");
        let change = Change::new(&directory.join("tree"), &directory.join("change"));
        let known = fs::read(&stamp_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok())
            .filter(|stamp| stamp.key == origin.key(scale));
        let facts = if let Some(stamp) = known {
            change.revert_what_was_interrupted()?;
            stamp.facts
        } else {
            let facts = make(&directory, origin, scale, &change)?;
            let stamp = Stamp {
                key: origin.key(scale),
                facts: facts.clone(),
            };
            fs::write(&stamp_path, serde_json::to_vec_pretty(&stamp)?)?;
            facts
        };
        Ok(Self {
            tree: directory.join("tree"),
            change,
            facts,
        })
    }
}

/// An entry of a tree, relative to its root.
#[derive(Debug)]
pub struct Entry {
    /// Its path below the root.
    pub path: PathBuf,
    /// What `lstat` says.
    pub metadata: fs::Metadata,
}

/// Every entry below a directory, by directory and name.
pub fn entries(root: &Path) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let listed = root.join(&directory);
        let mut names = fs::read_dir(&listed)
            .with_context(|| format!("listing {}", listed.display()))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = directory.join(name);
            let metadata = root.join(&path).symlink_metadata()?;
            if metadata.is_dir() {
                waiting.push(path.clone());
            }
            found.push(Entry { path, metadata });
        }
    }
    Ok(found)
}

fn make(directory: &Path, origin: &Origin, scale: f64, change: &Change) -> Result<Facts> {
    eprintln!("bench: making the set {}", origin.name());
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("removing the unfinished {}", directory.display()))?;
    }
    fs::create_dir_all(directory)?;
    let (tree, save) = (directory.join("tree"), directory.join("change"));
    match origin {
        Origin::Generated(set) => {
            generate(scale, &[set.name().as_ref(), tree.as_os_str()])?;
        }
        Origin::Tree(path) => copy_tree(path, &tree)?,
    }
    let mut facts = Facts {
        entries: 0,
        bytes: 0,
        allocated_bytes: 0,
        change: ChangeFacts {
            changed: 0,
            of: 0,
            bytes_in_changed: 0,
        },
    };
    for entry in entries(&tree)? {
        facts.entries += 1;
        if entry.metadata.is_file() {
            facts.bytes += entry.metadata.len();
            facts.allocated_bytes += entry.metadata.blocks() * 512;
        }
    }
    let image = tree.join("disk.img");
    let printed = if matches!(origin, Origin::Generated(GeneratedSet::Big)) {
        generate(
            scale,
            &["bigchange".as_ref(), image.as_os_str(), save.as_os_str()],
        )?
    } else {
        generate(
            scale,
            &["change".as_ref(), tree.as_os_str(), save.as_os_str()],
        )?
    };
    facts.change = serde_json::from_str(&printed)
        .with_context(|| format!("reading what the generator printed: {printed}"))?;
    change.revert()?;
    Ok(facts)
}

/// Runs `gen.py` with the interpreter that Debian's numpy belongs to.
fn generate(scale: f64, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/gen.py"))
        .args(["--scale", &scale.to_string()])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("running gen.py")?;
    ensure!(output.status.success(), "gen.py failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
