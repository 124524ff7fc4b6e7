//! Which machine a target says that it is: its machine-id and its DMI UUID, in files of the test instead of this machine's own.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Lines for [`crate::sshd::SshdOptions::setup`]. What [`become_machine`] wrote stays when the target is switched off and on.
pub fn setup(machine_id: &str, board: &str) -> Vec<String> {
    let mut lines: Vec<String> = [("machine-id", machine_id), ("product_uuid", board)]
        .map(|(file, fact)| format!("[ -e \"$1/{file}\" ] || echo {fact} > \"$1/{file}\""))
        .to_vec();
    lines.extend(
        [
            "mount --bind \"$1/machine-id\" /etc/machine-id",
            "mount -t tmpfs tmpfs /sys/class",
            "mkdir -p /sys/class/dmi/id",
            "touch /sys/class/dmi/id/product_uuid",
            "mount --bind \"$1/product_uuid\" /sys/class/dmi/id/product_uuid",
        ]
        .map(str::to_owned),
    );
    lines
}

/// From now on the target whose sshd keeps its files in `directory` is this machine.
pub fn become_machine(directory: &Path, machine_id: &str, board: &str) -> Result<()> {
    fs::write(directory.join("machine-id"), machine_id)?;
    fs::write(directory.join("product_uuid"), board)?;
    Ok(())
}
