//! What a role's login needs on an OpenSSH server: a block of sshd's configuration, directories and a line of
//! authorized_keys. Version 3 of SFTP has one right, to do everything; what keeps roles apart is the list of requests that
//! this one server answers, and nothing else does.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use append_server::places::Place;
use append_server::places::sftp::SftpPlace;

use crate::cli::destination::{DestinationPolicyArgs, DestinationRole};
use crate::commands::destination_policy::{PolicyError, does};
use crate::ssh::shell::quote;
use crate::terminal::printable;

/// What the login sees as `/` when nobody says.
const CHROOT_DEFAULT: &str = "/srv/capstan";

/// Where sshd looks for keys: not below the login's own directory, where it could add some.
const KEYS_DIRECTORY: &str = "/etc/ssh/authorized_keys.d";

/// What putting objects asks of a server (`append-server/src/destination/sftp/`). Without remove, rename and setstat, and
/// with files that are made read-only, nothing that is there can be removed, replaced or changed.
const CREATING_REQUESTS: &str = "open,close,read,write,lstat,stat,fstat,opendir,readdir,mkdir,realpath,fsync,hardlink,statvfs,limits";

/// No public key is longer.
const PUBLIC_KEY_BYTES_MAX: usize = 16 << 10;

/// A role's login on an SFTP server.
#[derive(Debug)]
pub(super) struct SftpRole<'a> {
    server: &'a SftpPlace,
    role: DestinationRole,
    login: String,
    chroot: PathBuf,
}

impl<'a> SftpRole<'a> {
    /// Checks that a block can be written for it.
    pub(super) fn of(
        server: &'a SftpPlace,
        args: &DestinationPolicyArgs,
    ) -> Result<Self, PolicyError> {
        let chroot = args.chroot.as_deref().unwrap_or(Path::new(CHROOT_DEFAULT));
        let text = chroot.to_string_lossy();
        // sshd's own syntax has quotes and % in it; a directory for this has no need of either.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let climbs = chroot.components().any(|part| part == Component::ParentDir);
        if !chroot.is_absolute() || climbs || !text.chars().all(plain) {
            let text = text.into_owned();
            return Err(PolicyError::Chroot { text });
        }
        let login = match args.role {
            DestinationRole::Ingest => server.user().to_owned(),
            role => format!("{}-{}", server.user(), role.word()),
        };
        Ok(Self {
            server,
            role: args.role,
            login,
            chroot: chroot.components().collect(),
        })
    }

    /// Everything for a person to read.
    pub(super) fn write(&self, place: &Place, out: &mut impl Write) -> io::Result<()> {
        let (role, does) = (self.role.word(), does(self.role));
        writeln!(
            out,
            "# {} ({}), role {role}: {does}.",
            place.name, place.url
        )?;
        if self.server.user() == "root" {
            writeln!(
                out,
                "#\n# The destination logs in as root, whom no mode of a file keeps from anything: use a user of its own."
            )?;
        }
        self.write_login(out)?;
        self.write_directories(out)?;
        self.write_key(out)?;
        self.write_block(out)?;
        self.write_limits(out)
    }

    fn write_login(&self, out: &mut impl Write) -> io::Result<()> {
        let (user, login) = (self.server.user(), &self.login);
        const NO_SHELL: &str = "--system --no-create-home --home-dir / --shell /usr/sbin/nologin";
        if self.role == DestinationRole::Ingest {
            return writeln!(
                out,
                "\n# 1. On the server, as root: the login.\n\n\
                 useradd {NO_SHELL} --user-group {user}"
            );
        }
        writeln!(
            out,
            "\n# 1. On the server, as root: the login. Another name of the same user, for the objects belong to that user\n\
             #    and nobody else may read them. Whoever does this work has {login} in the destination's url.\n\n\
             useradd {NO_SHELL} --non-unique --uid \"$(id -u {user})\" --gid \"$(id -g {user})\" {login}"
        )
    }

    fn write_directories(&self, out: &mut impl Write) -> io::Result<()> {
        let root = self.root();
        let above: Vec<_> = root
            .ancestors()
            .skip(1)
            .take_while(|path| path.starts_with(&self.chroot))
            .collect();
        let above: Vec<_> = above.into_iter().rev().map(shell_word).collect();
        let (user, root) = (self.server.user(), shell_word(&root));
        writeln!(
            out,
            "\n# 2. Its directories. sshd lets a login into no directory that anybody but root may change; the destination\n\
             #    itself is the user's. What the url calls {} is {root} there.\n\n\
             install -d -o root -g root -m 0755 {}\n\
             install -d -o {user} -g {user} -m 0700 {root}",
            self.server.path(),
            above.join(" ")
        )?;
        if self.role == DestinationRole::Ingest {
            writeln!(
                out,
                "\n#    The login may not remove even its own temporary files, which are further names of what it stored. Once\n\
                 #    a day, as root:\n\n\
                 find {root}/tmp -type f -mtime +1 -delete"
            )?;
        }
        Ok(())
    }

    fn write_key(&self, out: &mut impl Write) -> io::Result<()> {
        if self.uses_password() {
            return writeln!(
                out,
                "\n# 3. The destination logs in with a password: set it with `passwd {}`. A key (`identity_file`) is better.",
                self.login
            );
        }
        writeln!(
            out,
            "\n# 3. Its key: one line of {KEYS_DIRECTORY}/{}, which belongs to root (0644), and so does its directory (0755).\n\n\
             restrict {}",
            self.login,
            self.public_key()
        )
    }

    fn write_block(&self, out: &mut impl Write) -> io::Result<()> {
        let login = &self.login;
        writeln!(
            out,
            "\n# 4. At the end of /etc/ssh/sshd_config; then `sshd -t`, and reload sshd.\n\n\
             Match User {login}\n    ChrootDirectory {}\n    ForceCommand {}",
            self.chroot.display(),
            self.command()
        )?;
        if self.uses_password() {
            writeln!(
                out,
                "    AuthenticationMethods password\n    PasswordAuthentication yes"
            )?;
        } else {
            writeln!(
                out,
                "    AuthorizedKeysFile {KEYS_DIRECTORY}/%u\n    AuthenticationMethods publickey\n    PasswordAuthentication no"
            )?;
        }
        for line in [
            "KbdInteractiveAuthentication no",
            "DisableForwarding yes",
            "AllowTcpForwarding no",
            "AllowStreamLocalForwarding no",
            "AllowAgentForwarding no",
            "X11Forwarding no",
            "PermitTunnel no",
            "PermitTTY no",
            "PermitUserRC no",
        ] {
            writeln!(out, "    {line}")?;
        }
        Ok(())
    }

    fn write_limits(&self, out: &mut impl Write) -> io::Result<()> {
        let what = match self.role {
            DestinationRole::Ingest => {
                "# SFTP itself has no way to let somebody write and not remove. Here the list of requests after -p does it,\n\
                 # and only this sshd keeps to it: another make of server has no such list, and every other way in (a shell,\n\
                 # NFS, SMB, the server's own administration) goes past it. On such a server this login can remove everything."
            }
            DestinationRole::Restore => "# -R refuses every request that would change something.",
            DestinationRole::Maintain => {
                "# SFTP has no way to let somebody put a good copy in a damaged one's place and not remove the rest: this\n\
                 # login can remove everything. Only repairing needs it; checking is content with restore's."
            }
            DestinationRole::Prune => {
                "# This login can remove everything: give it to the machine that prunes, and to no other."
            }
        };
        writeln!(out, "\n{}", what)?;
        if self.role != DestinationRole::Restore {
            writeln!(
                out,
                "# So let the server take snapshots that no such login can reach, or keep the directory on a file system that\n\
                 # only grows (chattr +a), and let this never be the only copy."
            )?;
        }
        Ok(())
    }

    /// What sshd runs for the login. Relative paths begin at its `/`.
    fn command(&self) -> String {
        match self.role {
            DestinationRole::Ingest => format!("internal-sftp -d / -p {CREATING_REQUESTS}"),
            DestinationRole::Restore => "internal-sftp -d / -R".to_owned(),
            DestinationRole::Maintain | DestinationRole::Prune => "internal-sftp -d /".to_owned(),
        }
    }

    /// The destination's directory as the server itself calls it.
    fn root(&self) -> PathBuf {
        self.chroot.join(self.server.path().trim_start_matches('/'))
    }

    fn uses_password(&self) -> bool {
        self.server.identity_file().is_none() && self.server.has_password()
    }

    /// The public half of the key that logs in, or how to have it.
    fn public_key(&self) -> String {
        if self.role != DestinationRole::Ingest {
            return format!("<public key of whoever is to log in as {}>", self.login);
        }
        let Some(private) = self.server.identity_file() else {
            return "<public key from the SSH agent: ssh-add -L>".to_owned();
        };
        let mut public = private.as_os_str().to_owned();
        public.push(".pub");
        let text = std::fs::read_to_string(&public).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().trim();
        if line.contains(' ') && line.len() <= PUBLIC_KEY_BYTES_MAX {
            return printable(line.as_bytes());
        }
        format!("<output of: ssh-keygen -y -f {}>", shell_word(private))
    }
}

fn shell_word(path: &Path) -> String {
    quote(&path.to_string_lossy())
}
