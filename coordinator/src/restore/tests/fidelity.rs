//! Everything a filesystem can hold comes back as it was.

use formats::listing::content::{Content, Extent};
use formats::listing::entry::EntryKind;
use tempfile::tempdir;

use super::{at, expect_ok, expect_tree, is_root, noise, run_all};
use crate::snapshot::tree_builder::{RepositoryBuilder, below, entry, xattr};

/// A minimal access ACL: user::rw-, user:1000:r--, group::r--, mask::r--, other::---.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[tokio::test]
async fn contents_of_every_shape_come_back() {
    let mut builder = RepositoryBuilder::new();
    let big = noise(1, 40 * (64 << 10) + 5);
    let same = noise(2, 70_000);
    builder
        .file("empty", b"")
        .file("small", b"small")
        .file("big", &big)
        .file("same-1", &same)
        .file("same-2", &same);
    let mut zeros = builder.file_entry(b"zeros", &vec![0; 300_000]);
    zeros.stat.mode = 0o600;
    builder.add("", zeros);
    let mut sparse = entry(b"sparse", EntryKind::File, 0o640);
    let piece = builder.chunk(&noise(3, 4096));
    sparse.stat.size = 1 << 40;
    sparse.content = Content::Extents(vec![
        Extent::Hole { bytes: 1 << 39 },
        piece,
        Extent::Hole {
            bytes: (1 << 39) - 4096,
        },
    ]);
    builder.add("", sparse);
    let mut hole = entry(b"hole", EntryKind::File, 0o640);
    hole.stat.size = 1 << 30;
    hole.content = Content::Extents(vec![Extent::Hole { bytes: 1 << 30 }]);
    builder.add("", hole);
    let blocks = builder.blocks.clone();
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    expect_ok(&summary);
    assert_eq!(summary.files, 8);
    assert_eq!(
        summary.bytes,
        (5 + big.len() + 2 * same.len() + 300_000 + 4096) as u64
    );
    expect_tree(out.path(), &blocks);
    let read = |name| std::fs::read(out.path().join(name)).unwrap();
    assert!(read("big") == big && read("same-1") == same && read("same-2") == same);
    assert_eq!(read("small"), b"small");
    assert!(read("zeros").iter().all(|byte| *byte == 0));
    let sparse = std::fs::File::open(out.path().join("sparse")).unwrap();
    let mut middle = vec![0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&sparse, &mut middle, 1 << 39).unwrap();
    assert_eq!(middle, noise(3, 4096));
    for name in ["sparse", "hole"] {
        let metadata = std::fs::metadata(out.path().join(name)).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
        assert!(blocks < 128, "{name} takes {blocks} blocks");
    }
}

#[tokio::test]
async fn metadata_of_every_kind_comes_back() {
    let mut builder = RepositoryBuilder::new();
    builder.directory("ro", 0o555).file("ro/inside", b"x");
    builder.directory("sticky", 0o1777);
    builder.directory("none", 0o000).file("none/inside", b"y");
    builder
        .directory("setgid", 0o2750)
        .directory("setgid/below", 0o755);
    builder
        .symlink("dangling", "/nowhere/at/all")
        .symlink("loop", "loop");
    builder.add("", entry(b"fifo", EntryKind::Fifo, 0o644));
    builder.add("", entry(b"socket", EntryKind::Socket, 0o755));
    let mut attributes = builder.file_entry(b"attributes", b"has some");
    attributes.stat.mode = 0o640;
    attributes.xattrs = vec![
        xattr("system.posix_acl_access", &acl()),
        xattr("user.empty", b""),
        xattr("user.text", &noise(4, 900)),
    ];
    builder.add("", attributes);
    let mut readonly = builder.file_entry(b"readonly", b"attributes on what cannot be written");
    readonly.stat.mode = 0o400;
    readonly.xattrs = vec![xattr("user.text", b"value")];
    builder.add("", readonly);
    let mut inherits = entry(b"inherits", EntryKind::Directory, 0o750);
    inherits.xattrs = vec![xattr("system.posix_acl_default", &acl())];
    builder.add("", inherits);
    builder
        .directory("inherits/below", 0o777)
        .file("inherits/file", b"no acl");
    builder.add("inherits", entry(b"fifo", EntryKind::Fifo, 0o666));
    for name in [&b"\xff\xfe"[..], b"new\nline", b"\x1b[2J", &[b'n'; 255]] {
        let mut file = builder.file_entry(name, name);
        file.stat.mode = 0o604;
        builder.add("", file);
    }
    let mut blocks = builder.blocks.clone();
    let built = builder.build();
    let out = tempdir().unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    if !is_root() {
        // Nobody but root can look into it now.
        blocks.remove(&vec![b"none".to_vec()]);
    }
    expect_tree(out.path(), &blocks);
    let below_acl = out.path().join("inherits/below");
    let mut none = vec![0; 100];
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        let read = rustix::fs::getxattr(&below_acl, name, none.as_mut_slice());
        assert!(read.is_err(), "inherited {name}");
    }
}

#[tokio::test]
async fn times_before_1970_and_far_ahead_come_back_to_the_nanosecond() {
    let mut builder = RepositoryBuilder::new();
    let times = [
        ("past", at(-2_000_000_000, 1)),
        ("y1969", at(-1, 999_999_999)),
        ("y2100", at(4_102_444_800, 7)),
        ("nanoseconds", at(1_700_000_000, 1)),
    ];
    for (name, time) in times {
        let mut file = builder.file_entry(name.as_bytes(), name.as_bytes());
        file.stat.mtime = time;
        builder.add("", file);
        let mut link = entry(format!("{name}.link").as_bytes(), EntryKind::Symlink, 0o777);
        link.link_target = b"x".to_vec();
        link.stat.mtime = time;
        builder.add("", link);
        let mut directory = entry(
            format!("{name}.dir").as_bytes(),
            EntryKind::Directory,
            0o700,
        );
        directory.stat.mtime = time;
        builder.add("", directory);
        builder.file(&format!("{name}.dir/changes-it"), b"");
    }
    let blocks = builder.blocks.clone();
    let built = builder.build();
    let out = tempdir().unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    expect_tree(out.path(), &blocks);
}

#[tokio::test]
async fn what_only_root_can_restore_comes_back() {
    if !is_root() {
        return;
    }
    let mut builder = RepositoryBuilder::new();
    for (name, kind, device) in [
        (&b"null"[..], EntryKind::CharDevice, (1, 3)),
        (b"disk", EntryKind::BlockDevice, (259, 70_000)),
    ] {
        let mut device_entry = entry(name, kind, 0o666);
        device_entry.stat.device = device;
        device_entry.stat.gid = 6;
        builder.add("", device_entry);
    }
    let mut setuid = builder.file_entry(b"setuid", b"#!/bin/sh\n");
    setuid.stat.mode = 0o6755;
    setuid.stat.uid = 1234;
    setuid.stat.gid = 4321;
    // VFS_CAP_REVISION_2, effective, CAP_NET_RAW.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let mut capable = builder.file_entry(b"capable", b"ping");
    capable.stat.uid = 1234;
    capable.stat.mode = 0o755;
    capable.xattrs = vec![
        xattr("security.capability", &capability),
        xattr("trusted.x", b"1"),
    ];
    builder.add("", setuid).add("", capable);
    let mut link = entry(b"link", EntryKind::Symlink, 0o777);
    link.link_target = b"/etc/passwd".to_vec();
    link.stat.uid = 1234;
    link.stat.gid = 99;
    link.xattrs = vec![xattr("trusted.on-a-link", b"yes")];
    builder.add("", link);
    let mut owned = entry(b"owned", EntryKind::Directory, 0o3770);
    owned.stat.uid = 77;
    owned.stat.gid = 78;
    builder.add("", owned).file("owned/file", b"");
    let blocks = builder.blocks.clone();
    let passwd = std::fs::metadata("/etc/passwd").unwrap();
    let built = builder.build();
    let out = tempdir().unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    expect_tree(out.path(), &blocks);
    let after = std::fs::metadata("/etc/passwd").unwrap();
    assert_eq!(
        (
            passwd.modified().unwrap(),
            std::os::unix::fs::MetadataExt::uid(&passwd)
        ),
        (
            after.modified().unwrap(),
            std::os::unix::fs::MetadataExt::uid(&after)
        ),
        "a link was followed"
    );
}

#[tokio::test]
async fn a_target_hands_nothing_on_to_what_is_restored_in_it() {
    if !is_root() {
        return;
    }
    let mut builder = RepositoryBuilder::new();
    builder.file("file", b"content").file("empty", b"");
    builder.add("", entry(b"directory", EntryKind::Directory, 0o750));
    builder.file("directory/file", b"content");
    let built = builder.build();
    let out = tempdir().unwrap();
    let directory = std::fs::File::open(out.path()).unwrap();
    rustix::fs::fchown(&directory, None, Some(rustix::fs::Gid::from_raw(4321))).unwrap();
    rustix::fs::fchmod(&directory, rustix::fs::Mode::from_raw_mode(0o2755)).unwrap();
    let set = rustix::fs::fsetxattr(
        &directory,
        "system.posix_acl_default",
        &acl(),
        rustix::fs::XattrFlags::empty(),
    );
    if set == Err(rustix::io::Errno::OPNOTSUPP) {
        return;
    }
    set.unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    for name in ["file", "empty", "directory", "directory/file"] {
        let path = out.path().join(name);
        let group = std::os::unix::fs::MetadataExt::gid(&path.metadata().unwrap());
        assert_eq!(group, 0, "group of {name}");
        for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
            let found = rustix::fs::getxattr(&path, acl, &mut [0u8; 0]);
            assert_eq!(found, Err(rustix::io::Errno::NODATA), "{acl} of {name}");
        }
    }
}

#[tokio::test]
async fn hard_links_of_files_and_of_other_things_come_back() {
    let mut builder = RepositoryBuilder::new();
    builder.directory("a", 0o755).directory("z", 0o755);
    builder.file("first", &noise(5, 200_000));
    builder
        .hard_link("second", "first")
        .hard_link("z/third", "first");
    builder.file("a/own", b"own").hard_link("z/own", "a/own");
    builder.symlink("a/link", "target");
    let mut further = entry(b"link", EntryKind::Symlink, 0o777);
    further.link_target = b"target".to_vec();
    further.hard_link_to = Some(b"a/link".to_vec());
    builder.add("z", further);
    let mut blocks = builder.blocks.clone();
    for block in builder.blocks.values_mut().chain(blocks.values_mut()) {
        for entry in block.iter_mut() {
            match entry.name.as_slice() {
                b"link" => entry.stat.links = 2,
                b"first" | b"second" | b"third" => entry.stat.links = 3,
                _ => {}
            }
        }
    }
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    expect_ok(&summary);
    assert_eq!(summary.files, 7);
    expect_tree(out.path(), &blocks);
    let inode = |name: &str| {
        let metadata = std::fs::symlink_metadata(out.path().join(name)).unwrap();
        std::os::unix::fs::MetadataExt::ino(&metadata)
    };
    assert_eq!(inode("first"), inode("second"));
    assert_eq!(inode("first"), inode("z/third"));
    assert_eq!(inode("a/own"), inode("z/own"));
    assert_eq!(inode("a/link"), inode("z/link"));
}

#[tokio::test]
async fn paths_deeper_than_path_max_come_back() {
    let mut builder = RepositoryBuilder::new();
    let mut path = String::new();
    for level in 0..120 {
        path = below(&path, &format!("{level:03}{}", "d".repeat(200)));
        builder.directory(&path, 0o755);
        builder.file(&below(&path, "file"), path.as_bytes());
        if level % 50 == 0 {
            builder.directory(&below(&path, "zz-sibling"), 0o711);
            builder.file(&below(&path, "zz-sibling/late"), b"late");
        }
    }
    assert!(path.len() > 20_000);
    builder.hard_link(&below(&path, "top"), "top-file");
    builder.file("top-file", b"top");
    let mut blocks = builder.blocks.clone();
    for block in builder.blocks.values_mut().chain(blocks.values_mut()) {
        for entry in block.iter_mut() {
            if entry.name == b"top" || entry.name == b"top-file" {
                entry.stat.links = 2;
                entry.stat.size = 3;
            }
        }
    }
    let built = builder.build();
    let out = tempdir().unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    expect_tree(out.path(), &blocks);
}

#[tokio::test]
async fn many_small_files_in_many_directories_take_several_windows() {
    let mut builder = RepositoryBuilder::new();
    for outer in 0..30 {
        let directory = format!("d{outer:02}");
        builder.directory(&directory, 0o755);
        for inner in 0..300 {
            let content = format!("{outer} {inner}");
            builder.file(&format!("{directory}/f{inner:03}"), content.as_bytes());
            if inner % 3 == 0 {
                builder.symlink(&format!("{directory}/l{inner:03}"), "x");
            }
        }
        let empty = entry(b"empty", EntryKind::File, 0o444);
        builder.add(&directory, empty);
    }
    let blocks = builder.blocks.clone();
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    expect_ok(&summary);
    assert_eq!((summary.files, summary.directories), (30 * 401, 30));
    expect_tree(out.path(), &blocks);
    let read = std::fs::read_to_string(out.path().join("d17/f123")).unwrap();
    assert_eq!(read, "17 123");
}
