//! Lists a folder on an SFTP server in byte order. What is not an object's name is left out; an error is never an empty
//! or a short list.

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileMode, StatusCode};

use crate::destination::list_page::{ListPage, is_shard};
use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::session::Session;
use crate::destination::{DestinationError, ObjectList};
use crate::limits::SFTP_FOLDER_NAMES_MAX;

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
            let session = self.session().await?;
            let listing = async {
                self.check_root(&session).await?;
                fill(&mut page, &session, &root, kind).await?;
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
            let session = self.session().await?;
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
            add_folder(page, session, root, &format!("{folder}/")).await?;
        }
        ObjectKind::Pack | ObjectKind::Meta => {
            let mut shards = session.names_if_there(&format!("{root}/{folder}")).await?;
            shards.retain(|shard| is_shard(shard));
            shards.sort_unstable();
            for shard in shards {
                let prefix = format!("{folder}/{shard}/");
                if page.is_past(&prefix) {
                    continue;
                }
                add_folder(page, session, root, &prefix).await?;
                if page.list.more {
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn add_folder(
    page: &mut ListPage,
    session: &Session,
    root: &str,
    prefix: &str,
) -> Result<(), SftpFailure> {
    let path = format!("{root}/{}", prefix.trim_end_matches('/'));
    let mut files = session.files_if_there(&path).await?;
    files.sort_unstable();
    files.dedup_by(|next, first| next.0 == first.0);
    for (leaf, bytes) in files {
        add(page, &format!("{prefix}{leaf}"), bytes);
        if page.list.more {
            break;
        }
    }
    Ok(())
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

    async fn read_names(&self, handle: &str, path: &str) -> Result<Vec<Named>, SftpFailure> {
        let mut names = Vec::new();
        loop {
            let answer = match self.sftp.readdir(handle).await {
                Ok(answer) => answer,
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                    return Ok(names);
                }
                Err(error) => return Err(error.into()),
            };
            if answer.files.is_empty() {
                let what = format!("a page of {path} without a name");
                return Err(SftpFailure::Answer(what));
            }
            for file in answer.files {
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
        }
    }
}
