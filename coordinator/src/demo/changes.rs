//! What happens on a host between two backups: some files are edited, some go, some come, some are only
//! touched. The same every time for the same tree.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::demo::error::DemoError;
use crate::demo::seeded::Seeded;

const SEED: u64 = 0x00c4_a11e;
/// How many of each, if the tree has as many.
const EACH: usize = 12;
/// Larger files are left alone.
const EDITED_BYTES_MAX: u64 = 16 << 20;
/// The longest part that an edit replaces.
const EDIT_BYTES: usize = 2_000;

/// How much later a touched file seems to be.
const TOUCHED_BY: Duration = Duration::from_secs(24 * 3600);

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Files with other content.
    pub edited: usize,
    /// Files that are gone.
    pub deleted: usize,
    /// Files with another time alone.
    pub touched: usize,
    /// Files that are new.
    pub added: usize,
}

/// Changes some of the tree.
pub fn change_some(root: &Path) -> Result<Changes, DemoError> {
    let mut random = Seeded::new(SEED);
    let mut files = ordinary_files(root).map_err(DemoError::file("look through", root))?;
    let mut pick = |count: usize, random: &mut Seeded| -> Vec<PathBuf> {
        let count = count.min(files.len() / 4);
        let picked = |_| files.swap_remove(random.below(files.len()));
        (0..count).map(picked).collect()
    };
    let edited = pick(EACH, &mut random);
    let deleted = pick(EACH, &mut random);
    let touched = pick(EACH, &mut random);
    for path in &edited {
        edit(path, &mut random).map_err(DemoError::file("edit", path))?;
    }
    for path in &deleted {
        fs::remove_file(path).map_err(DemoError::file("delete", path))?;
    }
    for path in &touched {
        let touch = || {
            let file = File::open(path)?;
            file.set_modified(file.metadata()?.modified()? + TOUCHED_BY)
        };
        touch().map_err(DemoError::file("touch", path))?;
    }
    let added = add(&root.join("new since yesterday"), &mut random)?;
    Ok(Changes {
        edited: edited.len(),
        deleted: deleted.len(),
        touched: touched.len(),
        added,
    })
}

/// Files with one name that their owner may write, sorted.
fn ordinary_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.is_file()
                && metadata.nlink() == 1
                && metadata.len() <= EDITED_BYTES_MAX
                && metadata.mode() & 0o600 == 0o600
            {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces a part in the middle, and appends a line.
fn edit(path: &Path, random: &mut Seeded) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let bytes = file.metadata()?.len();
    let inside = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(bytes / 4).unwrap_or(0).min(EDIT_BYTES);
    inside.write_all_at(&random.text(length), bytes / 3)?;
    file.write_all(b"\nedited\n")
}

fn add(directory: &Path, random: &mut Seeded) -> Result<usize, DemoError> {
    let make = |random: &mut Seeded| {
        fs::create_dir(directory)?;
        for number in 0..EACH {
            let count = 100 + random.below(60_000);
            let text = random.text(count);
            fs::write(directory.join(format!("added-{number:02}")), text)?;
        }
        fs::write(directory.join("incompressible"), random.bytes(1 << 20))
    };
    make(random).map_err(DemoError::file("add to", directory))?;
    Ok(EACH + 1)
}
