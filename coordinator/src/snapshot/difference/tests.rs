//! Comparing listings built in memory.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use formats::listing::content::Content;
use formats::listing::entry::{EntryFlags, EntryKind};
use proptest::prelude::{ProptestConfig, proptest};

use super::{Change, Differences, Facet, Totals};
use crate::restore::error::RestoreError;
use crate::snapshot::listing::Listing;
use crate::snapshot::tree_builder::{RepositoryBuilder, entry, xattr};

/// Every change as `letter path` and what differs, and the totals.
async fn changes(before: &Listing, after: &Listing, paths: &[&str]) -> (Vec<String>, Totals) {
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut differences = Differences::between(before.clone(), after.clone(), &paths)
        .await
        .unwrap();
    let mut lines = Vec::new();
    while let Some((path, change)) = differences.next_change().await.unwrap() {
        let path = String::from_utf8(path).unwrap();
        lines.push(match change {
            Change::Added(_) => format!("+ {path}"),
            Change::Removed(_) => format!("- {path}"),
            Change::Changed { facets, .. } => {
                let words: Vec<&str> = facets.iter().map(|facet| facet.as_str()).collect();
                format!("{path}: {}", words.join(" "))
            }
        });
    }
    (lines, differences.totals())
}

async fn built(fill: impl FnOnce(&mut RepositoryBuilder)) -> Listing {
    let mut builder = RepositoryBuilder::new();
    fill(&mut builder);
    builder.build().listing().await
}

#[tokio::test]
async fn each_kind_of_change_is_told_once_and_in_listing_order() {
    let before = built(|tree| {
        tree.directory("etc", 0o755)
            .directory("gone", 0o755)
            .directory("was-directory", 0o755)
            .file("gone/inside", b"1234")
            .file("was-directory/inside", b"12")
            .symlink("etc/link", "a")
            .file("etc/same", b"same")
            .file("etc/content", b"before")
            .file("etc/mode", b"x");
    })
    .await;
    let after = built(|tree| {
        tree.directory("etc", 0o755)
            .file("was-directory", b"now a file")
            .symlink("etc/link", "b")
            .file("etc/same", b"same")
            .file("etc/content", b"after!")
            .file("etc/new", b"12345678");
        let mut mode = tree.file_entry(b"mode", b"x");
        mode.stat.mode = 0o4600;
        mode.stat.uid += 1;
        mode.stat.mtime.seconds += 1;
        mode.xattrs.push(xattr("user.x", b"y"));
        tree.add("etc", mode);
    })
    .await;
    let (lines, totals) = changes(&before, &after, &[]).await;
    assert_eq!(
        lines,
        [
            "- gone",
            "was-directory: type mode",
            "etc/content: content",
            "etc/link: target",
            "etc/mode: mode owner mtime xattrs",
            "+ etc/new",
            "- gone/inside",
            "- was-directory/inside",
        ]
    );
    assert_eq!((totals.added.files, totals.added.bytes), (1, 8));
    assert_eq!((totals.removed.files, totals.removed.directories), (2, 1));
    assert_eq!(totals.removed.bytes, 6);
    assert_eq!((totals.content_changed, totals.type_changed), (2, 1));
    assert_eq!((totals.metadata_changed, totals.unchanged), (1, 2));
    let (_, backwards) = changes(&after, &before, &[]).await;
    assert_eq!(backwards.added, totals.removed);
    assert_eq!(backwards.removed, totals.added);
}

#[tokio::test]
async fn a_file_that_gets_a_name_before_its_own_is_the_file_that_it_was() {
    let with = |tree: &mut RepositoryBuilder, name: &[u8], value: &[u8]| {
        let mut file = tree.file_entry(name, b"content");
        file.xattrs.push(xattr("user.key", value));
        tree.add("", file);
    };
    let further = |tree: &mut RepositoryBuilder, changed: i64| {
        let mut file = entry(b"b", EntryKind::File, 0o640);
        file.stat.ctime.seconds += changed;
        file.hard_link_to = Some(b"a".to_vec());
        tree.add("", file);
    };
    let before = built(|tree| with(tree, b"b", b"value")).await;
    let linked = built(|tree| {
        with(tree, b"a", b"value");
        further(tree, 1);
    })
    .await;
    let (lines, _) = changes(&before, &linked, &["/b"]).await;
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("xattrs") || line.contains("content")),
        "{lines:?}"
    );
    let changed = built(|tree| {
        with(tree, b"a", b"other");
        further(tree, 2);
    })
    .await;
    let (lines, _) = changes(&linked, &changed, &["/b"]).await;
    assert_eq!(lines, ["b: xattrs"]);
}

#[tokio::test]
async fn what_only_helps_to_back_up_is_no_difference() {
    let tree = |touched: i64| {
        move |tree: &mut RepositoryBuilder| {
            let mut directory = entry(b"d", EntryKind::Directory, 0o755);
            directory.stat.mtime.seconds += touched;
            tree.add("", directory);
            let mut file = tree.file_entry(b"f", b"content");
            file.stat.ctime.seconds += touched;
            file.stat.links += touched.unsigned_abs();
            if touched > 0 {
                tree.symlink("other", "shifts the inodes");
                file.flags = EntryFlags::UNSETTLED;
            }
            tree.add("d", file);
        }
    };
    let (lines, totals) = changes(&built(tree(0)).await, &built(tree(5)).await, &[]).await;
    assert_eq!(lines, ["+ other"]);
    assert_eq!(totals.unchanged, 2);
}

#[tokio::test]
async fn moved_files_are_counted_and_paths_restrict_what_is_compared() {
    let before = built(|tree| {
        tree.directory("a", 0o755)
            .directory("b", 0o755)
            .file("a/file", b"moves")
            .file("b/file", b"stays");
    })
    .await;
    let after = built(|tree| {
        tree.directory("a", 0o755)
            .directory("b", 0o755)
            .file("b/moved", b"moves")
            .file("b/file", b"stays");
    })
    .await;
    let (lines, totals) = changes(&before, &after, &[]).await;
    assert_eq!(lines, ["- a/file", "+ b/moved"]);
    assert_eq!(totals.moved, 1);
    let (lines, totals) = changes(&before, &after, &["/b/", "b/moved"]).await;
    assert_eq!(lines, ["+ b/moved"]);
    assert_eq!((totals.moved, totals.unchanged), (0, 2));
    let (lines, _) = changes(&before, &after, &["/a/file"]).await;
    assert_eq!(lines, ["- a/file"]);
    let missing = Differences::between(before, after, &[b"/c".to_vec()]).await;
    assert!(matches!(missing, Err(RestoreError::NoSuchPath { .. })));
}

#[tokio::test]
async fn a_further_name_is_compared_by_the_content_of_its_first() {
    let linked = |content: &'static [u8]| {
        move |tree: &mut RepositoryBuilder| {
            tree.file("a", content).hard_link("b", "a");
        }
    };
    let before = built(linked(b"before")).await;
    let (lines, _) = changes(&before, &built(linked(b"before")).await, &[]).await;
    assert!(lines.is_empty(), "{lines:?}");
    // The same times and inode: only the chunk tells.
    let after = built(|tree| {
        tree.file("0", b"shifts the inode");
        linked(b"after!")(tree);
    })
    .await;
    let (lines, _) = changes(&before, &after, &["/a", "/b"]).await;
    assert_eq!(lines, ["a: content", "b: content"]);
    // The first name went, and the second one has the content now.
    let alone = built(|tree| {
        tree.file("b", b"before");
    })
    .await;
    let (lines, _) = changes(&before, &alone, &[]).await;
    assert_eq!(lines, ["- a"]);
}

#[tokio::test]
async fn what_could_not_be_read_and_what_is_kept_are_told() {
    let before = built(|tree| {
        tree.file("carried", b"x").file("secret", b"x");
    })
    .await;
    let after = built(|tree| {
        let mut carried = tree.file_entry(b"carried", b"x");
        carried.flags = EntryFlags::CARRIED;
        tree.add("", carried);
        let mut secret = entry(b"secret", EntryKind::File, 0o644);
        secret.stat.size = 1;
        secret.flags = EntryFlags::UNREADABLE;
        secret.content = Content::Missing;
        tree.add("", secret);
    })
    .await;
    let (lines, totals) = changes(&before, &after, &[]).await;
    assert_eq!(lines, ["carried: kept-deleted", "secret: unreadable"]);
    assert_eq!((totals.content_changed, totals.metadata_changed), (1, 1));
    assert!(Facet::Unreadable.is_content());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random trees compare as two maps of their paths do.
    #[test]
    fn two_trees_compare_as_their_maps_do(
        before in proptest::collection::btree_map("[ab](/[ab]){0,2}", 0u8..3, 0..10),
        after in proptest::collection::btree_map("[ab](/[ab]){0,2}", 0u8..3, 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let before = with_parents(&before);
            let after = with_parents(&after);
            let (lines, totals) = changes(&of_map(&before).await, &of_map(&after).await, &[]).await;
            let mut expected: Vec<String> = Vec::new();
            for (path, was) in &before {
                match after.get(path) {
                    None => expected.push(format!("- {path}")),
                    Some(is) if was == is => {}
                    Some(is) if was.is_some() != is.is_some() => expected.push(format!("{path}: type mode")),
                    Some(_) => expected.push(format!("{path}: content")),
                }
            }
            let added = after.keys().filter(|path| !before.contains_key(*path));
            expected.extend(added.map(|path| format!("+ {path}")));
            let unchanged = before.iter().filter(|(path, was)| after.get(*path) == Some(*was)).count();
            assert_eq!(totals.unchanged, unchanged as u64);
            let mut found = lines;
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        });
    }
}

/// What is above another path is a directory (`None`), everything else a file.
fn with_parents(paths: &BTreeMap<String, u8>) -> BTreeMap<String, Option<u8>> {
    let mut tree: BTreeMap<String, Option<u8>> = BTreeMap::new();
    for (path, content) in paths {
        tree.entry(path.clone()).or_insert(Some(*content));
        for (end, _) in path.match_indices('/') {
            tree.insert(path[..end].to_owned(), None);
        }
    }
    tree
}

async fn of_map(tree: &BTreeMap<String, Option<u8>>) -> Listing {
    built(|builder| {
        for (path, content) in tree {
            match content {
                Some(content) => builder.file(path, &[*content; 100]),
                None => builder.directory(path, 0o755),
            };
        }
    })
    .await
}
