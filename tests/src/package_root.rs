//! A machine with Capstan installed, as far as files go: a directory into which `systemd/install` installed, whose users
//! systemd-sysusers and whose directories systemd-tmpfiles made, and in which programs are started as those users, with
//! that directory as their root. Changes nothing of the machine of the tests.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::coordinator_process::{DEADLINE, Finished, Running, binary};
use crate::world::temporary_directory;

/// Becomes a user inside the root and goes on as the program. Programs come from the machine, below those of the package.
const ENTER: &str = "set -eu
mount --make-rprivate /
mount -t overlay -o \"lowerdir=$1/usr:/usr\" overlay \"$1/usr\"
mount --rbind /dev \"$1/dev\"
mount --rbind /proc \"$1/proc\"
root=$1 user=$2
shift 2
exec chroot \"$root\" setpriv --reuid=\"$user\" --regid=\"$user\" --init-groups --no-new-privs \\
    --inh-caps=-all --bounding-set=-all -- \"$@\"";

/// What a service may still do as root in there, to stand for an administrator.
const ENTER_AS_ROOT: &str = "set -eu
mount --make-rprivate /
mount -t overlay -o \"lowerdir=$1/usr:/usr\" overlay \"$1/usr\"
mount --rbind /dev \"$1/dev\"
mount --rbind /proc \"$1/proc\"
root=$1
shift 2
exec chroot \"$root\" \"$@\"";

/// The directory that stands for the machine.
#[derive(Debug)]
pub struct PackageRoot {
    directory: TempDir,
}

/// The project, which the tests were built in.
pub fn project() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

impl PackageRoot {
    /// Installs below this prefix, makes users and directories.
    pub fn install(prefix: &str) -> Result<Self> {
        let directory = temporary_directory()?;
        let root = directory.path();
        for name in ["etc", "run", "var", "srv", "tmp", "dev", "proc", "usr"] {
            fs::create_dir(root.join(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let of_machine = Path::new("/").join(name);
            if let Ok(target) = fs::read_link(&of_machine) {
                std::os::unix::fs::symlink(target, root.join(name))?;
            }
        }
        // Every machine has it; who else there is comes with the package.
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\n")?;
        let programs = binary("coordinator")?;
        let programs = programs.parent().context("programs lie in a directory")?;
        succeed(
            Command::new(project().join("systemd/install"))
                .env("DESTDIR", root)
                .env("PREFIX", prefix)
                .env("BIN", programs),
        )?;
        let installed = Self { directory };
        for (program, arguments, directory) in [
            ("systemd-sysusers", &[][..], "sysusers.d"),
            ("systemd-tmpfiles", &["--create"][..], "tmpfiles.d"),
        ] {
            let mut below = OsString::from("--root=");
            below.push(installed.path("/"));
            let file = Path::new(prefix).join("lib").join(directory);
            let mut command = Command::new(program);
            command.arg(below).args(arguments);
            command.arg(installed.path(file.join("capstan.conf")));
            succeed(&mut command)?;
        }
        Ok(installed)
    }

    /// Where a path of the root is on the machine of the tests.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        let below = path.strip_prefix("/").unwrap_or(path);
        self.directory.path().join(below)
    }

    /// The number of a user that systemd-sysusers made.
    pub fn uid(&self, user: &str) -> Result<u32> {
        number(&self.path("/etc/passwd"), user)
    }

    /// The number of a group that systemd-sysusers made.
    pub fn gid(&self, group: &str) -> Result<u32> {
        number(&self.path("/etc/group"), group)
    }

    /// Gives a file or directory to a user, with these permissions.
    pub fn give(&self, path: &str, user: &str, mode: u32) -> Result<()> {
        let (uid, gid) = match user {
            "root" => (0, 0),
            user => (self.uid(user)?, self.gid(user)?),
        };
        let path = self.path(path);
        std::os::unix::fs::chown(&path, Some(uid), Some(gid))
            .with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Starts a program in there as this user, with these variables besides.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        user: &str,
        variables: &[(&str, &str)],
        arguments: &[A],
    ) -> Result<Running> {
        let script = match user {
            "root" => ENTER_AS_ROOT,
            _ => ENTER,
        };
        let root = self.directory.path();
        let mut all: Vec<&OsStr> = ["--mount", "sh", "-c", script, "sh"].map(OsStr::new).into();
        all.extend([root.as_os_str(), OsStr::new(user)]);
        all.extend(arguments.iter().map(AsRef::as_ref));
        Running::spawn(&"/usr/bin/unshare".into(), &all, variables)
    }

    /// The same to its end.
    pub fn run<A: AsRef<OsStr>>(&self, user: &str, arguments: &[A]) -> Result<Finished> {
        self.start(user, &[], arguments)?.finish(DEADLINE)
    }
}

fn number(file: &Path, name: &str) -> Result<u32> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    let field = line.and_then(|line| line.split(':').nth(2));
    let field = field.with_context(|| format!("{} has no {name}: {text}", file.display()))?;
    Ok(field.parse()?)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
