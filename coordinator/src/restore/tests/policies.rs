//! What exists, what is selected, and what is asked for in options.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use bytes::Bytes;
use formats::listing::entry::EntryKind;
use formats::seal::run_header::Purpose;
use tempfile::tempdir;

use super::{expect_ok, is_root, names_in, noise, options, run, run_all};
use crate::restore::error::RestoreError;
use crate::restore::options::{MetadataOptions, Overwrite, Owner, RestoreOptions};
use crate::restore::staging::STAGING_NAME;
use crate::restore::summary::{ProblemKind, RestoreOutcome};
use crate::snapshot::tree_builder::{Built, RepositoryBuilder, entry, xattr};

fn simple() -> Built {
    let mut builder = RepositoryBuilder::new();
    builder
        .directory("etc", 0o755)
        .directory("etc/ssh", 0o750)
        .directory("srv", 0o711);
    builder
        .file("etc/fstab", b"fstab")
        .file("etc/ssh/config", b"config");
    builder
        .file("etc/ssh/key.tmp", b"tmp")
        .file("srv/data", &noise(1, 100_000));
    builder.symlink("srv/link", "data");
    builder.build()
}

#[tokio::test]
async fn a_target_that_holds_something_is_refused_and_left_alone() {
    let built = simple();
    let out = tempdir().unwrap();
    fs::write(out.path().join("mine"), "mine").unwrap();
    let refused = run(&built, options(out.path())).await.unwrap_err();
    assert!(
        matches!(refused, RestoreError::NotEmpty { .. }),
        "{refused}"
    );
    assert_eq!(names_in(out.path()), ["mine"]);
    let file = out.path().join("mine");
    let refused = run(&built, options(&file)).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Target { .. }), "{refused}");
}

#[tokio::test]
async fn a_path_that_is_not_there_is_refused_before_anything_is_made() {
    let built = simple();
    let out = tempdir().unwrap();
    let target = out.path().join("new/dir");
    for (path, bad) in [
        ("/etc/nothing", false),
        ("/srv/link/x", false),
        ("/etc/../x", true),
    ] {
        let options = RestoreOptions {
            paths: vec![b"/srv".to_vec(), path.into()],
            ..options(&target)
        };
        let refused = run(&built, options).await.unwrap_err();
        let expected = match bad {
            true => matches!(refused, RestoreError::BadPath { .. }),
            false => matches!(refused, RestoreError::NoSuchPath { .. }),
        };
        assert!(expected, "{path}: {refused}");
        assert!(!out.path().join("new").exists());
    }
}

#[tokio::test]
async fn selected_paths_come_with_the_directories_above_them() {
    let built = simple();
    let out = tempdir().unwrap();
    let target = out.path().join("new/dir");
    let options = RestoreOptions {
        paths: vec![
            b"/etc/ssh/".to_vec(),
            b"srv/data".to_vec(),
            b"/etc/ssh/config".to_vec(),
        ],
        ..options(&target)
    };
    let summary = run(&built, options).await.unwrap();
    expect_ok(&summary);
    assert_eq!((summary.files, summary.directories), (3, 3));
    assert_eq!(names_in(&target), ["etc", "srv"]);
    assert_eq!(names_in(&target.join("etc")), ["ssh"]);
    assert_eq!(names_in(&target.join("etc/ssh")), ["config", "key.tmp"]);
    assert_eq!(names_in(&target.join("srv")), ["data"]);
    let mode = fs::metadata(target.join("srv")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o711);
}

#[tokio::test]
async fn patterns_include_and_leave_out() {
    let built = simple();
    let out = tempdir().unwrap();
    let without = RestoreOptions {
        exclude: vec!["*.tmp".into(), "/srv".into()],
        ..options(&out.path().join("without"))
    };
    expect_ok(&run(&built, without).await.unwrap());
    assert_eq!(names_in(&out.path().join("without")), ["etc"]);
    assert_eq!(names_in(&out.path().join("without/etc/ssh")), ["config"]);
    let only = RestoreOptions {
        include: vec!["conf*".into()],
        ..options(&out.path().join("only"))
    };
    let summary = run(&built, only).await.unwrap();
    expect_ok(&summary);
    assert_eq!((summary.files, summary.directories), (1, 2));
    assert_eq!(names_in(&out.path().join("only")), ["etc"]);
    assert_eq!(names_in(&out.path().join("only/etc")), ["ssh"]);
    let mode = fs::metadata(out.path().join("only/etc/ssh"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o750);
}

#[tokio::test]
async fn a_further_name_whose_first_is_not_selected_still_gets_its_content() {
    let mut builder = RepositoryBuilder::new();
    builder.directory("a", 0o755).directory("b", 0o755);
    let content = noise(7, 150_000);
    builder.file("a/first", &content);
    builder
        .hard_link("b/second", "a/first")
        .hard_link("b/third", "a/first");
    builder.hard_link("b/fourth", "a/first");
    let built = builder.build();
    let out = tempdir().unwrap();
    let options = RestoreOptions {
        paths: vec![b"b".to_vec()],
        ..options(out.path())
    };
    let summary = run(&built, options).await.unwrap();
    expect_ok(&summary);
    assert_eq!(summary.files, 3);
    let inode = |name: &str| fs::metadata(out.path().join("b").join(name)).unwrap().ino();
    for name in ["second", "third", "fourth"] {
        assert!(
            fs::read(out.path().join("b").join(name)).unwrap() == content,
            "{name}"
        );
        assert_eq!(inode(name), inode("second"), "{name}");
    }
}

#[tokio::test]
async fn policies_decide_what_is_replaced() {
    let built = simple();
    for (policy, replaced) in [
        (Overwrite::Always, [true, true]),
        (Overwrite::IfChanged, [false, true]),
        (Overwrite::IfNewer, [false, false]),
        (Overwrite::Never, [false, false]),
    ] {
        let out = tempdir().unwrap();
        expect_ok(&run_all(&built, out.path()).await);
        let same = out.path().join("etc/fstab");
        let changed = out.path().join("etc/ssh/config");
        let inode = |path: &std::path::Path| fs::metadata(path).unwrap().ino();
        fs::write(&changed, "locally changed").unwrap();
        fs::remove_file(out.path().join("srv/data")).unwrap();
        fs::write(out.path().join("etc/extra"), "stays").unwrap();
        let before = [inode(&same), inode(&changed)];
        let options = RestoreOptions {
            overwrite: Some(policy),
            ..options(out.path())
        };
        let summary = run(&built, options).await.unwrap();
        expect_ok(&summary);
        let now = [inode(&same), inode(&changed)];
        assert_eq!(
            [before[0] != now[0], before[1] != now[1]],
            replaced,
            "{policy:?}"
        );
        let read = fs::read(&changed).unwrap();
        assert_eq!(read == b"config", replaced[1], "{policy:?}");
        assert!(out.path().join("srv/data").exists() && out.path().join("etc/extra").exists());
        assert_eq!(summary.files + summary.skipped, 5, "{policy:?}");
        assert!(!out.path().join(STAGING_NAME).exists());
    }
}

#[tokio::test]
async fn damage_leaves_no_file_and_a_repaired_repository_completes_it() {
    let mut builder = RepositoryBuilder::new();
    for number in 0..40u8 {
        builder.file(&format!("f{number:02}"), &noise(number, 30_000));
    }
    let mut long = builder.file_entry(b"long", &noise(99, 600_000));
    long.stat.mode = 0o444;
    builder.add("", long).hard_link("long-2", "long");
    let built = builder.build();
    let (pack, _) = *built
        .packs
        .iter()
        .find(|(_, purpose)| *purpose == Purpose::Data)
        .unwrap();
    let good = built.repository.pack(pack).unwrap();
    let mut bad = good.to_vec();
    // Past the first frame: some files are whole, some are not.
    bad[300_000] ^= 1;
    bad[1_250_000] ^= 1;
    built.repository.replace_pack(pack, Some(Bytes::from(bad)));
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    assert_eq!(summary.outcome, RestoreOutcome::Failed);
    assert!(summary.found_damage());
    assert!(
        summary.problem_count > 2 && summary.files > 10,
        "{summary:?}"
    );
    assert_eq!(
        summary.files + summary.problem_count,
        42,
        "{:?}",
        summary.problems
    );
    assert!(summary.problems.len() <= 20);
    assert!(!out.path().join("long").exists() && !out.path().join("long-2").exists());
    let names = names_in(out.path());
    assert_eq!(names.len() as u64, summary.files, "{names:?}");
    for name in names {
        let number: u8 = name[1..].parse().unwrap();
        assert!(fs::read(out.path().join(&name)).unwrap() == noise(number, 30_000));
    }
    built.repository.replace_pack(pack, Some(good));
    let options = RestoreOptions {
        overwrite: Some(Overwrite::IfChanged),
        ..options(out.path())
    };
    let again = run(&built, options).await.unwrap();
    expect_ok(&again);
    assert_eq!(again.skipped, summary.files);
    assert_eq!(again.files, 42 - summary.files);
    assert_eq!(fs::metadata(out.path().join("long-2")).unwrap().nlink(), 2);
}

#[tokio::test]
async fn what_an_interrupted_restore_left_is_taken_over() {
    let built = simple();
    let out = tempdir().unwrap();
    let staging = out.path().join(STAGING_NAME);
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("0"), "half a file").unwrap();
    expect_ok(&run_all(&built, out.path()).await);
    assert!(!staging.exists());

    let held = tempdir().unwrap();
    let staging = held.path().join(STAGING_NAME);
    fs::create_dir(&staging).unwrap();
    let lock = fs::File::open(&staging).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = run(&built, options(held.path())).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Busy { .. }), "{refused}");
}

#[tokio::test]
async fn options_leave_out_what_they_say() {
    if !is_root() {
        return;
    }
    let mut builder = RepositoryBuilder::new();
    let mut device = entry(b"null", EntryKind::CharDevice, 0o666);
    device.stat.device = (1, 3);
    builder.add("", device);
    let mut setuid = builder.file_entry(b"setuid", b"x");
    setuid.stat.mode = 0o6755;
    setuid.stat.uid = 1234;
    setuid.xattrs = vec![xattr("user.a", b"b")];
    builder.add("", setuid);
    let built = builder.build();
    let out = tempdir().unwrap();
    let bare = RestoreOptions {
        metadata: MetadataOptions {
            owner: Owner::Nobody,
            devices: false,
            setuid: false,
            xattrs: false,
        },
        ..options(&out.path().join("bare"))
    };
    let summary = run(&built, bare).await.unwrap();
    expect_ok(&summary);
    assert_eq!((summary.files, summary.left_out), (1, 1));
    let metadata = fs::metadata(out.path().join("bare/setuid")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, 0));
    let mut value = [0u8; 10];
    let path = out.path().join("bare/setuid");
    assert!(rustix::fs::getxattr(&path, "user.a", &mut value[..]).is_err());

    let not_mine = RestoreOptions {
        metadata: MetadataOptions {
            owner: Owner::Nobody,
            ..MetadataOptions::default()
        },
        ..options(&out.path().join("not-mine"))
    };
    let summary = run(&built, not_mine).await.unwrap();
    assert_eq!(summary.outcome, RestoreOutcome::Warnings);
    assert_eq!(summary.problem_kinds.get(&ProblemKind::Metadata), Some(&1));
    let metadata = fs::metadata(out.path().join("not-mine/setuid")).unwrap();
    assert_eq!(
        metadata.mode() & 0o7777,
        0o2755,
        "setuid root would be a gift"
    );
}

#[tokio::test]
async fn things_in_the_way_are_refused_or_replaced_but_never_followed_or_emptied() {
    let built = simple();
    let outside = tempdir().unwrap();
    for policy in [
        Overwrite::Always,
        Overwrite::IfChanged,
        Overwrite::IfNewer,
        Overwrite::Never,
    ] {
        let out = tempdir().unwrap();
        let before = fs::metadata(out.path()).unwrap().permissions().mode();
        symlink(outside.path(), out.path().join("etc")).unwrap();
        fs::create_dir_all(out.path().join("srv/data/full")).unwrap();
        fs::create_dir_all(out.path().join("srv/link")).unwrap();
        let options = RestoreOptions {
            overwrite: Some(policy),
            ..options(out.path())
        };
        let summary = run(&built, options).await.unwrap();
        assert!(
            names_in(outside.path()).is_empty(),
            "{policy:?} followed a link"
        );
        assert!(out.path().join("srv/data/full").exists(), "{policy:?}");
        let etc = fs::symlink_metadata(out.path().join("etc")).unwrap();
        let replaces = matches!(policy, Overwrite::Always | Overwrite::IfChanged);
        assert_eq!(etc.is_dir(), replaces, "{policy:?}");
        if replaces {
            assert_eq!(summary.problem_kinds.get(&ProblemKind::Refused), Some(&1));
            assert!(out.path().join("etc/ssh/config").exists());
            let link = fs::symlink_metadata(out.path().join("srv/link")).unwrap();
            assert!(link.is_symlink(), "an empty directory gives way");
        } else {
            assert!(summary.problem_kinds.contains_key(&ProblemKind::Refused));
        }
        assert!(!summary.found_damage());
        let mode = fs::metadata(out.path()).unwrap().permissions().mode();
        assert_eq!(mode, before, "the target itself is left as it was");
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_a_restore_does_and_does_nothing() {
    use crate::restore::dry_run::{Action, dry_run};
    let built = simple();
    let out = tempdir().unwrap();
    let target = out.path().join("new");
    let mut told = Vec::new();
    let mut tell = |object: crate::restore::dry_run::PlannedObject| {
        told.push((String::from_utf8(object.path).unwrap(), object.action));
        Ok(())
    };
    let options = options(&target);
    let planned = dry_run(built.listing().await, &options, &mut tell)
        .await
        .unwrap();
    assert!(!target.exists());
    assert!(told.iter().all(|(_, action)| *action == Action::Create) && told.len() == 8);
    let done = run(&built, options.clone()).await.unwrap();
    assert_eq!(
        (planned.files, planned.directories, planned.bytes),
        (done.files, done.directories, done.bytes)
    );
    fs::write(target.join("etc/fstab"), "changed").unwrap();
    fs::remove_file(target.join("srv/link")).unwrap();
    let refused = dry_run(built.listing().await, &options, &mut |_| Ok(())).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })));
    let again = RestoreOptions {
        overwrite: Some(Overwrite::IfChanged),
        ..options
    };
    told = Vec::new();
    let mut tell = |object: crate::restore::dry_run::PlannedObject| {
        told.push((String::from_utf8(object.path).unwrap(), object.action));
        Ok(())
    };
    dry_run(built.listing().await, &again, &mut tell)
        .await
        .unwrap();
    let acting: Vec<_> = told
        .iter()
        .filter(|(_, action)| *action != Action::Skip)
        .map(|(path, action)| (path.as_str(), *action))
        .collect();
    assert_eq!(
        acting,
        [("etc/fstab", Action::Replace), ("srv/link", Action::Create)]
    );
    assert_eq!(fs::read(target.join("etc/fstab")).unwrap(), b"changed");
}
