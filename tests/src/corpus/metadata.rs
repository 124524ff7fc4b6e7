//! Modes, owners, times, extended attributes, ACLs and capabilities, as bytes the kernel takes: no tool in between.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{bytes, directory, file, set_time};
use crate::compare::xattrs;

/// Tags of a POSIX ACL (`linux/posix_acl.h`).
const USER_OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OWNER: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The id of a tag that has none.
const NO_ID: u32 = u32::MAX;

pub(super) fn create(parent: &OwnedFd) -> Result<()> {
    modes_and_owners(parent)?;
    file(parent, c"user-xattrs", b"content")?;
    for (name, value) in [
        ("user.plain", &b"value"[..]),
        ("user.empty", b""),
        ("user.binary", b"\0\x01\xff\n\0"),
        ("user.\u{fc}ml\u{e4}ut", b"utf-8 name"),
    ] {
        xattrs::set(parent, c"user-xattrs", name, value)?;
    }
    file(parent, c"trusted-xattrs", b"content")?;
    xattrs::set(
        parent,
        c"trusted-xattrs",
        "trusted.capstan",
        b"only root sees this",
    )?;
    file(parent, c"large-xattr", b"content")?;
    large_xattr(parent)?;
    file(parent, c"capability", b"#!/bin/true\n")?;
    xattrs::set(parent, c"capability", "security.capability", &capability())
        .context("a file capability")?;
    file(parent, c"access-acl", b"content")?;
    let access = acl(&[
        (USER_OWNER, 6, NO_ID),
        (USER, 4, 1000),
        (USER, 7, 3_000_000_000),
        (GROUP_OWNER, 4, NO_ID),
        (GROUP, 5, 33),
        (MASK, 7, NO_ID),
        (OTHER, 0, NO_ID),
    ]);
    xattrs::set(parent, c"access-acl", "system.posix_acl_access", &access)
        .context("an access ACL")?;
    let inherited = acl(&[
        (USER_OWNER, 7, NO_ID),
        (USER, 5, 1001),
        (GROUP_OWNER, 5, NO_ID),
        (MASK, 5, NO_ID),
        (OTHER, 0, NO_ID),
    ]);
    let with_default = directory(parent, c"default-acl")?;
    xattrs::set(
        parent,
        c"default-acl",
        "system.posix_acl_default",
        &inherited,
    )
    .context("a default ACL")?;
    xattrs::set(parent, c"default-acl", "user.on-directory", b"yes")?;
    // What is created now inherits; what is restored must not inherit a second time.
    file(&with_default, c"inherits", b"content")?;
    directory(&with_default, c"inherits-too")?;
    file(&with_default, c"inherits-not", b"content")?;
    xattrs::remove(&with_default, c"inherits-not", "system.posix_acl_access")?;
    Ok(())
}

/// Times before 1970, to the nanosecond, and as far ahead as the filesystem keeps them.
pub(super) fn create_times(parent: &OwnedFd) -> Result<()> {
    for (name, seconds, nanoseconds) in [
        (c"1901-earliest", -2_147_483_648, 0),
        (c"1905", -2_051_222_400, 123_456_789),
        (c"1969-last-nanosecond", -1, 999_999_999),
        (c"1970", 0, 0),
        (c"1970-one-nanosecond", 0, 1),
        (c"2001", 1_000_000_000, 987_654_321),
        (c"2038-border", 2_147_483_648, 5),
        (c"2106-border", 4_294_967_296, 7),
        (c"2440", 14_831_769_600, 500_000_001),
        (c"2500", 16_725_225_600, 999_999_999),
    ] {
        file(parent, name, name.to_bytes())?;
        set_time(parent, name, seconds, nanoseconds)?;
    }
    Ok(())
}

/// Directories that only root can read or write in.
pub(super) fn create_locked(parent: &OwnedFd) -> Result<()> {
    for mode in [0o555, 0o111, 0o000, 0o1777, 0o2775, 0o3000] {
        let name = CString::new(format!("mode-{mode:04o}"))?;
        let locked = directory(parent, &name)?;
        file(&locked, c"inside", b"content")?;
        let below = directory(&locked, c"below")?;
        file(&below, c"deeper", b"content")?;
        rustix::fs::fchmod(&below, Mode::from_raw_mode(mode))?;
        rustix::fs::fchmod(&locked, Mode::from_raw_mode(mode))?;
    }
    directory(parent, c"empty-directory")?;
    Ok(())
}

fn modes_and_owners(parent: &OwnedFd) -> Result<()> {
    for mode in [
        0o0000, 0o0400, 0o0644, 0o0777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777,
    ] {
        let name = CString::new(format!("mode-{mode:04o}"))?;
        let made = file(parent, &name, b"#!/bin/true\n")?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
    }
    for (uid, gid, mode) in [
        (1, 2, 0o644),
        (12_345, 54_321, 0o640),
        (65_534, 65_534, 0o600),
        (3_000_000_001, 4_000_000_001, 0o4711),
    ] {
        let name = CString::new(format!("owner-{uid}-{gid}"))?;
        file(parent, &name, b"owned")?;
        rustix::fs::chownat(
            parent,
            &name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        // A change of owner clears setuid, so the mode comes last, here as in a restore.
        rustix::fs::chmodat(parent, &name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    Ok(())
}

/// The largest value this filesystem takes: ext4 without `ea_inode` ends near 4 KiB, others take 64 KiB.
fn large_xattr(parent: &OwnedFd) -> Result<()> {
    for length in [65_000, 16_000, 3_900, 2_000] {
        match xattrs::set(
            parent,
            c"large-xattr",
            "user.large",
            &bytes::incompressible(length as u64, length),
        ) {
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
            result => return result.context("a large attribute"),
        }
    }
    anyhow::bail!("this filesystem takes no attribute of 2,000 bytes")
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// `cap_net_raw,cap_net_bind_service=ep`, in the kernel's second revision.
fn capability() -> Vec<u8> {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    const NET_BIND_SERVICE_AND_RAW: u32 = (1 << 10) | (1 << 13);
    [REVISION_2_EFFECTIVE, NET_BIND_SERVICE_AND_RAW, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}
