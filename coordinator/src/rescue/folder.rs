//! A plain directory of pack files, whatever their names. What a file is, it says itself at its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use formats::codec::DecodeError;
use formats::ids::{PackId, RepositoryId};
use formats::limits::PACK_BYTES_MAX;
use formats::pack::trailer::{FOOTER_BYTES, Footer};
use formats::seal::run_header::{Purpose, RUN_HEADER_BYTES, RunHeader};

use crate::rescue::error::RescueError;
use crate::rescue::opening::Refusal;
use crate::rescue::shelf::{FoundPack, FoundPacks};
use crate::snapshot::shown::shown_name;

/// The deepest directory that is looked into.
const DEPTH_MAX: usize = 16;

/// The files of a directory.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    paths: HashMap<PackId, PathBuf>,
    has_other_names: bool,
    packs: BTreeMap<RepositoryId, Vec<FoundPack>>,
    refused: Vec<(String, Refusal)>,
}

impl Folder {
    /// Looks at every file below a directory; follows no link.
    pub(crate) fn scan(root: &Path) -> Result<Self, RescueError> {
        let mut folder = Self::default();
        let mut waiting = vec![(root.to_owned(), 0)];
        while let Some((directory, depth)) = waiting.pop() {
            let failed = |source| RescueError::Folder {
                action: "list",
                path: directory.clone(),
                source,
            };
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() && depth < DEPTH_MAX {
                    waiting.push((entry.path(), depth + 1));
                } else if kind.is_file() {
                    folder.take(&entry.path());
                }
            }
        }
        Ok(folder)
    }

    fn take(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        let named: Option<PackId> = name.to_str().and_then(|name| name.parse().ok());
        match look_at(path) {
            Ok((header, bytes)) => {
                let by_path = || PackId(blake3::hash(path.as_os_str().as_encoded_bytes()).into());
                let is_copy = |pack: &PackId| self.paths.contains_key(pack);
                let pack = named.filter(|pack| !is_copy(pack)).unwrap_or_else(by_path);
                self.has_other_names |= named.is_none();
                self.paths.insert(pack, path.to_owned());
                let found = FoundPack {
                    pack,
                    purpose: header.context.purpose,
                    bytes,
                };
                let repository = header.context.repository;
                self.packs.entry(repository).or_default().push(found);
            }
            // A file of another kind is no pack, unless its name says that it was one.
            Err(_) if named.is_none() => {
                tracing::debug!(path = %path.display(), "not a pack");
            }
            Err(refusal) => {
                let shown = shown_name(path.as_os_str().as_encoded_bytes());
                self.refused.push((shown, refusal));
            }
        }
    }

    /// The repositories that some file names.
    pub(crate) fn repositories(&self) -> Vec<RepositoryId> {
        let all: BTreeSet<RepositoryId> = self.packs.keys().copied().collect();
        all.into_iter().collect()
    }

    /// A repository's packs. Whose the refused files were, nobody knows: they count for every one.
    pub(crate) fn packs(&self, repository: RepositoryId) -> FoundPacks {
        let packs = self.packs.get(&repository).map_or(&[][..], Vec::as_slice);
        let (meta, data) = packs
            .iter()
            .partition(|found| found.purpose == Purpose::Meta);
        FoundPacks {
            meta,
            data,
            has_ids: !self.has_other_names,
            refused: self.refused.clone(),
        }
    }

    pub(crate) fn path_of(&self, pack: PackId) -> Option<String> {
        let path = self.paths.get(&pack)?;
        Some(shown_name(path.as_os_str().as_encoded_bytes()))
    }

    /// Some bytes of a pack; nothing for one that is not here. Blocks.
    pub(crate) fn read(
        &self,
        pack: PackId,
        offset: u64,
        bytes: u64,
    ) -> Option<io::Result<Vec<u8>>> {
        let path = self.paths.get(&pack)?;
        Some(File::open(path).and_then(|file| read_at(&file, offset, bytes)))
    }

    /// A pack's bytes; nothing for one that is not here.
    pub(crate) fn bytes(&self, pack: PackId) -> Option<io::Result<u64>> {
        let path = self.paths.get(&pack)?;
        Some(fs::metadata(path).map(|facts| facts.len()))
    }
}

fn read_at(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(bytes.min(PACK_BYTES_MAX)).map_err(io::Error::other)?;
    let mut read = vec![0; bytes];
    file.read_exact_at(&mut read, offset)?;
    Ok(read)
}

/// The first run header of a file that ends as a pack does, and the file's bytes.
fn look_at(path: &Path) -> Result<(RunHeader, u64), Refusal> {
    let file = File::open(path).map_err(Refusal::unreadable)?;
    let total = file.metadata().map_err(Refusal::unreadable)?.len();
    let truncated = || Refusal::damaged(&DecodeError::Truncated { what: "pack" });
    let tail = |back: u64, bytes: u64| -> Result<Vec<u8>, Refusal> {
        let offset = total.checked_sub(back).ok_or_else(truncated)?;
        read_at(&file, offset, bytes).map_err(Refusal::unreadable)
    };
    let footer = tail(FOOTER_BYTES as u64, FOOTER_BYTES as u64)?;
    let footer = footer.first_chunk::<FOOTER_BYTES>().ok_or_else(truncated)?;
    let footer = Footer::decode(footer, total).map_err(|error| Refusal::damaged(&error))?;
    let back = footer.headers_bytes() + FOOTER_BYTES as u64;
    let header = tail(back, RUN_HEADER_BYTES as u64)?;
    let header = RunHeader::decode(&header).map_err(|error| Refusal::damaged(&error))?;
    Ok((header, total))
}
