//! Unix sockets: paths of any length, private directories, and stale files of a server that died. Never removes
//! a socket that somebody still listens on.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

use crate::claimed_dir::make_private_dir;
use crate::limits::SOCKET_PATH_BYTES_MAX;

/// A socket could not be made or reached.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system said no.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may write to its directory.
    #[error("other users may write to {}; chmod go-w it", path.display())]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A server is listening.
    #[error("another server listens on {}; end it first", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
}

/// Who may reach a socket's file. Who may use it is decided by peer credentials, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This user: directory 0700, socket 0600.
    Owner,
    /// Everybody, because `allow_uids` names other users: directory 0711, socket 0666.
    Everybody,
}

/// Listens on a path, in a directory that is made when it is missing.
pub async fn listen(path: &Path, reach: Reach) -> Result<UnixListener, SocketError> {
    let io = |action| {
        move |source| SocketError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let (dir_mode, socket_mode) = match reach {
        Reach::Owner => (0o700, 0o600),
        Reach::Everybody => (0o711, 0o666),
    };
    if !dir.exists() {
        make_private_dir(dir).map_err(io("make the directory of"))?;
        std::fs::set_permissions(dir, Permissions::from_mode(dir_mode))
            .map_err(io("open the directory of"))?;
    }
    let facts = dir.metadata().map_err(io("look at the directory of"))?;
    if facts.mode() & 0o022 != 0 {
        return Err(SocketError::OpenDirectory {
            path: dir.to_owned(),
        });
    }
    if path.exists() {
        if connect(path).await.is_ok() {
            return Err(SocketError::InUse {
                path: path.to_owned(),
            });
        }
        std::fs::remove_file(path).map_err(io("remove the stale socket"))?;
    }
    let address = Address::of(path).map_err(io("open the directory of"))?;
    let listener = UnixListener::bind(&address.path).map_err(io("listen on"))?;
    std::fs::set_permissions(path, Permissions::from_mode(socket_mode))
        .map_err(io("set the mode of"))?;
    Ok(listener)
}

/// Connects to a path of any length.
pub async fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let io = |source| SocketError::Io {
        action: "connect to",
        path: path.to_owned(),
        source,
    };
    let address = Address::of(path).map_err(io)?;
    UnixStream::connect(&address.path).await.map_err(io)
}

/// A path that fits into a socket's address: its own, or one by way of its directory's descriptor.
struct Address {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl Address {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _dir: None,
            });
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        Ok(Self {
            path: Path::new("/proc/self/fd")
                .join(dir.as_raw_fd().to_string())
                .join(name),
            _dir: Some(dir),
        })
    }
}
