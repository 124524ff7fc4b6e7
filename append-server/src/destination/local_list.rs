//! Lists a folder of a local destination in byte order. What is not an object's name is left out; an error is
//! never an empty or a short list.

use std::io;
use std::os::fd::OwnedFd;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use rustix::fs::{AtFlags, Dir, FileType};

use crate::destination::ObjectList;
use crate::destination::beneath::Beneath;
use crate::destination::list_page::{ListPage, is_shard};

/// Objects after a name, at most `limit`.
pub(super) fn list(
    beneath: &Beneath,
    repository: RepositoryId,
    kind: ObjectKind,
    after: Option<&ObjectName>,
    limit: usize,
) -> io::Result<ObjectList> {
    let mut page = ListPage::new(after, limit);
    let folder = kind.folder();
    match kind {
        ObjectKind::Config => {
            let Some(root) = open_if_there(beneath, &repository.to_string())? else {
                return Ok(page.list);
            };
            add(&mut page, &root, "", folder)?;
        }
        ObjectKind::Keys | ObjectKind::Log => {
            let path = format!("{repository}/{folder}");
            add_folder(&mut page, beneath, &path, &format!("{folder}/"))?;
        }
        ObjectKind::Pack | ObjectKind::Meta => {
            let path = format!("{repository}/{folder}");
            let Some(shards) = open_if_there(beneath, &path)? else {
                return Ok(page.list);
            };
            for shard in sorted_names(&shards)? {
                let prefix = format!("{folder}/{shard}/");
                if !is_shard(&shard) || page.is_past(&prefix) {
                    continue;
                }
                add_folder(&mut page, beneath, &format!("{path}/{shard}"), &prefix)?;
                if page.list.more {
                    break;
                }
            }
        }
    }
    Ok(page.list)
}

/// The folders that are named like repositories.
pub(super) fn repositories(beneath: &Beneath) -> io::Result<Vec<RepositoryId>> {
    let names = sorted_names(&beneath.open_folder("")?)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn add_folder(page: &mut ListPage, beneath: &Beneath, path: &str, prefix: &str) -> io::Result<()> {
    let Some(folder) = open_if_there(beneath, path)? else {
        return Ok(());
    };
    for leaf in sorted_names(&folder)? {
        add(page, &folder, prefix, &leaf)?;
        if page.list.more {
            break;
        }
    }
    Ok(())
}

fn add(page: &mut ListPage, folder: &OwnedFd, prefix: &str, leaf: &str) -> io::Result<()> {
    let Some(name) = page.wanted(&format!("{prefix}{leaf}")) else {
        return Ok(());
    };
    let facts = match rustix::fs::statat(folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(facts) => facts,
        // Deleted in this moment, or `config` is not there yet.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile {
        page.push(name, u64::try_from(facts.st_size).unwrap_or_default());
    }
    Ok(())
}

fn open_if_there(beneath: &Beneath, path: &str) -> io::Result<Option<OwnedFd>> {
    match beneath.open_folder(path) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A folder's names, sorted. Those that are not text cannot be objects.
fn sorted_names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    names.sort_unstable();
    Ok(names)
}
