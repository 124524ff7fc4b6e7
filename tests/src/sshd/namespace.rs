//! The target's own view of the machine: private memory filesystems, home directories, accounts and process ids.
//! It never changes a mount outside the namespace it creates.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{SshdOptions, UNPRIVILEGED_USER, namespaces_work};

/// Numeric id of the unprivileged account.
const UNPRIVILEGED_ID: u32 = 61_357;

/// Whether `unshare` may create the namespaces here.
pub(super) fn probe() -> bool {
    let script = "mount --make-rprivate / && mount -t tmpfs none /mnt && mount --bind /mnt /root";
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let works = status.is_ok_and(|status| status.success());
    if !works {
        eprintln!(
            "no mount or pid namespaces here: targets share the machine's temporary directories"
        );
    }
    works
}

/// Writes the files that are bound over the machine's own inside the namespace.
pub(super) fn prepare(directory: &Path, options: &SshdOptions) -> Result<()> {
    let home = directory.join("home");
    let unprivileged_home = home.join(UNPRIVILEGED_USER);
    fs::create_dir_all(home.join("root"))?;
    fs::create_dir_all(&unprivileged_home)?;
    fs::set_permissions(home.join("root"), fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::chown(
        &unprivileged_home,
        Some(UNPRIVILEGED_ID),
        Some(UNPRIVILEGED_ID),
    )
    .context("giving the unprivileged account its home; the system tests run as root")?;
    // The way to the homes must be open to the unprivileged account.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    writeln!(
        passwd,
        "{UNPRIVILEGED_USER}:x:{UNPRIVILEGED_ID}:{UNPRIVILEGED_ID}::{}:/bin/sh",
        unprivileged_home.display()
    )?;
    fs::write(directory.join("passwd"), passwd)?;
    let mut group = fs::read_to_string("/etc/group")?;
    writeln!(group, "{UNPRIVILEGED_USER}:x:{UNPRIVILEGED_ID}:")?;
    fs::write(directory.join("group"), group)?;
    // A star locks the password without locking the account, whatever the machine's own root has.
    fs::write(
        directory.join("shadow"),
        format!("root:*:19000::::::\n{UNPRIVILEGED_USER}:*:19000::::::\n"),
    )?;
    fs::set_permissions(directory.join("shadow"), fs::Permissions::from_mode(0o600))?;
    let sudoers = format!("root ALL=(ALL:ALL) ALL\n{}\n", options.sudoers.join("\n"));
    fs::write(directory.join("sudoers"), sudoers)?;
    fs::set_permissions(directory.join("sudoers"), fs::Permissions::from_mode(0o440))?;
    Ok(())
}

/// The command that becomes sshd in the foreground.
pub(super) fn command(
    directory: &Path,
    options: &SshdOptions,
    sshd: &Path,
    config: &Path,
) -> Command {
    if !namespaces_work() {
        let mut command = in_network(options, sshd);
        command.args(["-D", "-e", "-f"]).arg(config);
        return command;
    }
    let mut script = String::from(
        "set -eu\n\
         mount --make-rprivate /\n\
         mount -t tmpfs -o mode=1777 tmpfs /dev/shm\n\
         mount -t tmpfs -o mode=1777 tmpfs /tmp\n\
         mount -t tmpfs -o mode=1777 tmpfs /var/tmp\n\
         mount --bind \"$1/home/root\" /root\n\
         for file in passwd group shadow sudoers; do\n\
         if [ -e /etc/$file ]; then mount --bind \"$1/$file\" /etc/$file; fi\n\
         done\n",
    );
    for line in &options.setup {
        script.push_str(line);
        script.push('\n');
    }
    script.push_str("exec \"$2\" -D -e -f \"$3\"\n");
    let mut command = in_network(options, Path::new("unshare"));
    command
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
        ])
        .arg(script)
        .arg("sh")
        .arg(directory)
        .arg(sshd)
        .arg(config);
    command
}

/// Starts a program as the same process in the target's own network, where it has one.
fn in_network(options: &SshdOptions, program: &Path) -> Command {
    let Some(network) = &options.network else {
        return Command::new(program);
    };
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{}", network.namespace()))
        .arg("--")
        .arg(program);
    command
}
