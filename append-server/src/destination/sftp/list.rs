//! Lists a folder on an SFTP server in byte order. What is not an object's name is left out; an error is never an empty
//! or a short list.

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::join_all;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{File, FileMode, StatusCode};
use tokio::join;

use crate::destination::list_page::{ListPage, is_shard};
use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::session::{Load, Session};
use crate::destination::{DestinationError, ObjectList};
use crate::limits::SFTP_FOLDER_NAMES_MAX;

/// Folders that are read at once: each is a handle of the server's while it is, of which an operation has five at most.
const FOLDERS_AT_ONCE: usize = 4;

impl Inner {
    /// Objects after a name, at most `limit`.
    pub(super) async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, DestinationError> {
        let _under_way = self.operations.acquire().await;
        let root = self.path(&repository.to_string());
        let mut page = ListPage::new(after, limit);
        let listed = async {
            let session = self.session(Load::Questions).await?;
            let listing = async {
                let (there, filled) = join!(
                    self.check_root(&session),
                    fill(&mut page, &session, &root, kind)
                );
                there?;
                filled?;
                // What was not there counts only while the root is.
                self.check_root(&session).await
            };
            session.until_over(listing).await
        };
        let listed = listed.await;
        let subject = || format!("{repository}/{}", kind.folder());
        listed.map_err(|failure| self.error("list", subject(), failure))?;
        Ok(page.list)
    }
}

impl Inner {
    /// The folders that are named like repositories.
    pub(super) async fn repositories(&self) -> Result<Vec<RepositoryId>, DestinationError> {
        let _under_way = self.operations.acquire().await;
        let listed = async {
            let session = self.session(Load::Questions).await?;
            let listing = async {
                self.check_root(&session).await?;
                session.names(&self.options.path).await
            };
            session.until_over(listing).await
        };
        let names = listed
            .await
            .map_err(|failure: SftpFailure| self.error("list", &self.options.path, failure))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

async fn fill(
    page: &mut ListPage,
    session: &Session,
    root: &str,
    kind: ObjectKind,
) -> Result<(), SftpFailure> {
    let folder = kind.folder();
    match kind {
        ObjectKind::Config => {
            if let Some(bytes) = session.size_of(&format!("{root}/{folder}")).await? {
                add(page, folder, bytes);
            }
        }
        ObjectKind::Keys | ObjectKind::Log => {
            let prefix = format!("{folder}/");
            let files = files_of(session, root, &prefix).await?;
            add_files(page, &prefix, files);
        }
        ObjectKind::Pack | ObjectKind::Meta => {
            let mut shards = session.names_if_there(&format!("{root}/{folder}")).await?;
            shards.retain(|shard| is_shard(shard));
            shards.sort_unstable();
            let prefixes = shards.iter().map(|shard| format!("{folder}/{shard}/"));
            let prefixes: Vec<String> = prefixes.filter(|prefix| !page.is_past(prefix)).collect();
            for some in prefixes.chunks(FOLDERS_AT_ONCE) {
                let files = some.iter().map(|prefix| files_of(session, root, prefix));
                for (prefix, files) in some.iter().zip(join_all(files).await) {
                    add_files(page, prefix, files?);
                }
                if page.list.more {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The files of one folder.
async fn files_of(
    session: &Session,
    root: &str,
    prefix: &str,
) -> Result<Vec<(String, u64)>, SftpFailure> {
    let path = format!("{root}/{}", prefix.trim_end_matches('/'));
    session.files_if_there(&path).await
}

fn add_files(page: &mut ListPage, prefix: &str, mut files: Vec<(String, u64)>) {
    if page.list.more {
        return;
    }
    files.sort_unstable();
    files.dedup_by(|next, first| next.0 == first.0);
    for (leaf, bytes) in files {
        add(page, &format!("{prefix}{leaf}"), bytes);
        if page.list.more {
            break;
        }
    }
}

fn add(page: &mut ListPage, text: &str, bytes: u64) {
    if let Some(name) = page.wanted(text) {
        page.push(name, bytes);
    }
}

/// One name of a folder, as the server tells it.
struct Named {
    name: String,
    kind: FileMode,
    bytes: u64,
    changed_unix_secs: Option<u64>,
}

impl Session {
    /// A folder's names that were last changed before a time.
    pub(super) async fn names_changed_before(
        &self,
        path: &str,
        unix_secs: u64,
    ) -> Result<Vec<String>, SftpFailure> {
        let found = self.read_folder(path).await?.into_iter();
        let old = found.filter(|entry| {
            entry
                .changed_unix_secs
                .is_some_and(|changed| changed < unix_secs)
        });
        Ok(old.map(|entry| entry.name).collect())
    }

    /// A folder's names.
    pub(super) async fn names(&self, path: &str) -> Result<Vec<String>, SftpFailure> {
        let found = self.read_folder(path).await?;
        Ok(found.into_iter().map(|entry| entry.name).collect())
    }

    async fn names_if_there(&self, path: &str) -> Result<Vec<String>, SftpFailure> {
        match self.names(path).await {
            Err(failure) if failure.is_absent() => Ok(Vec::new()),
            names => names,
        }
    }

    /// A folder's files and their bytes; none when there is no such folder.
    async fn files_if_there(&self, path: &str) -> Result<Vec<(String, u64)>, SftpFailure> {
        let found = match self.read_folder(path).await {
            Err(failure) if failure.is_absent() => return Ok(Vec::new()),
            found => found?,
        };
        let files = found
            .into_iter()
            .filter(|entry| entry.kind == FileMode::REG);
        Ok(files.map(|entry| (entry.name, entry.bytes)).collect())
    }

    async fn read_folder(&self, path: &str) -> Result<Vec<Named>, SftpFailure> {
        let handle = self.sftp.opendir(path).await?.handle;
        let read = self.read_names(&handle, path).await;
        let closed = self.sftp.close(handle).await;
        let names = read?;
        closed?;
        Ok(names)
    }

    /// Reads an opened folder to its end. Two pages are asked for at once: most folders have one, and the second question
    /// brings their end.
    async fn read_names(&self, handle: &str, path: &str) -> Result<Vec<Named>, SftpFailure> {
        let mut names = Vec::new();
        loop {
            let (first, second) = join!(self.sftp.readdir(handle), self.sftp.readdir(handle));
            let mut has_ended = false;
            for answer in [first, second] {
                match answer {
                    Ok(page) => take_page(&mut names, page.files, path)?,
                    Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                        has_ended = true;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if has_ended {
                return Ok(names);
            }
        }
    }
}

fn take_page(names: &mut Vec<Named>, page: Vec<File>, path: &str) -> Result<(), SftpFailure> {
    if page.is_empty() {
        let what = format!("a page of {path} without a name");
        return Err(SftpFailure::Answer(what));
    }
    for file in page {
        if file.filename == "." || file.filename == ".." {
            continue;
        }
        let (Some(mode), Some(bytes)) = (file.attrs.permissions, file.attrs.size) else {
            let what = format!("{path} with a name whose kind and size it does not say");
            return Err(SftpFailure::Answer(what));
        };
        names.push(Named {
            name: file.filename,
            kind: FileMode::from_bits_truncate(mode & 0xF000),
            bytes,
            changed_unix_secs: file.attrs.mtime.map(u64::from),
        });
    }
    if names.len() > SFTP_FOLDER_NAMES_MAX {
        let what = format!("more than {SFTP_FOLDER_NAMES_MAX} names in {path}");
        return Err(SftpFailure::Answer(what));
    }
    Ok(())
}
