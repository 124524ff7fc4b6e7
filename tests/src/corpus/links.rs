//! Hard links, symlinks, and the entries that must never be opened: FIFOs, sockets, devices.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use anyhow::Result;
use rustix::fs::{AtFlags, FileType, Mode, linkat, makedev, mknodat, symlinkat};

use super::{directory, file};
use crate::compare::xattrs;

pub(super) fn create_links(parent: &OwnedFd) -> Result<()> {
    file(parent, c"hard-a", &super::bytes::incompressible(21, 70_000))?;
    linkat(parent, c"hard-a", parent, c"hard-b", AtFlags::empty())?;
    let below = directory(parent, c"below")?;
    let earlier = directory(parent, c"aaa")?;
    linkat(parent, c"hard-a", &below, c"hard-c", AtFlags::empty())?;
    linkat(parent, c"hard-a", &earlier, c"hard-d", AtFlags::empty())?;
    // Another group, with names in two directories only, and one of empty files.
    file(&below, c"pair", b"pair")?;
    linkat(&below, c"pair", &earlier, c"pair", AtFlags::empty())?;
    file(parent, c"empty-a", b"")?;
    linkat(parent, c"empty-a", &below, c"empty-b", AtFlags::empty())?;
    for (name, target) in [
        (c"dangling", c"nowhere/at/all"),
        (c"to-itself", c"to-itself"),
        (c"loop-a", c"loop-b"),
        (c"loop-b", c"loop-a"),
        (c"to-directory", c"below"),
        (c"to-parent", c".."),
        (c"absolute", c"/etc/passwd"),
        (c"non-utf8-target", c"bytes-\xff\xfe-\x01"),
        (c"with-slashes", c".//below///hard-c"),
    ] {
        symlinkat(target, parent, name)?;
    }
    let long = std::ffi::CString::new("x/".repeat(2040))?;
    symlinkat(long.as_c_str(), parent, c"long-target")?;
    xattrs::set(
        parent,
        c"to-directory",
        "trusted.on-symlink",
        b"not on what it points to",
    )?;
    // A symlink with two names.
    linkat(
        parent,
        c"dangling",
        &below,
        c"dangling-too",
        AtFlags::empty(),
    )?;
    rustix::fs::chownat(
        parent,
        c"absolute",
        Some(uid(12_345)),
        Some(gid(54_321)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(())
}

pub(super) fn create_special(parent: &OwnedFd) -> Result<()> {
    let make = |name: &CStr, kind: FileType, mode: u32, device: u64| -> Result<()> {
        mknodat(parent, name, kind, Mode::from_raw_mode(mode), device)?;
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok(())
    };
    make(c"fifo", FileType::Fifo, 0o620, 0)?;
    make(c"socket", FileType::Socket, 0o755, 0)?;
    make(c"char", FileType::CharacterDevice, 0o666, makedev(1, 3))?;
    make(
        c"char-large-numbers",
        FileType::CharacterDevice,
        0o600,
        makedev(4000, 1_000_000),
    )?;
    make(c"block", FileType::BlockDevice, 0o660, makedev(7, 200))?;
    xattrs::set(parent, c"fifo", "trusted.on-fifo", b"yes")?;
    xattrs::set(parent, c"char", "trusted.on-device", b"yes")?;
    linkat(parent, c"fifo", parent, c"fifo-hard-link", AtFlags::empty())?;
    linkat(parent, c"char", parent, c"char-hard-link", AtFlags::empty())?;
    rustix::fs::chownat(
        parent,
        c"socket",
        Some(uid(4242)),
        Some(gid(4243)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(())
}

fn uid(raw: u32) -> rustix::process::Uid {
    rustix::process::Uid::from_raw(raw)
}

fn gid(raw: u32) -> rustix::process::Gid {
    rustix::process::Gid::from_raw(raw)
}
