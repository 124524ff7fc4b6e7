//! The table of what patterns mean.

use super::Filter;

/// Patterns, path, whether it is a directory, whether it is excluded.
const TABLE: &[(&[&str], &str, bool, bool)] = &[
    // Without a slash: a name anywhere.
    (&["*.tmp"], "a.tmp", false, true),
    (&["*.tmp"], "srv/deep/a.tmp", false, true),
    (&["*.tmp"], "srv/a.tmp.gz", false, false),
    (&["node_modules"], "srv/x/node_modules", true, true),
    (&["node_modules"], "srv/x/node_modules", false, true),
    // A slash at the end: directories only.
    (&["cache/"], "home/cache", true, true),
    (&["cache/"], "home/cache", false, false),
    (&["/var/cache/"], "var/cache", true, true),
    (&["/var/cache/"], "srv/var/cache", true, false),
    // A slash at the front or in the middle: anchored at the root.
    (&["/tmp"], "tmp", true, true),
    (&["/tmp"], "var/tmp", true, false),
    (&["var/tmp"], "var/tmp", true, true),
    (&["var/tmp"], "srv/var/tmp", true, false),
    (&["/home/*/.cache"], "home/ann/.cache", true, true),
    (&["/home/*/.cache"], "home/ann/x/.cache", true, false),
    // Two stars.
    (&["/var/cache/**"], "var/cache", true, false),
    (&["/var/cache/**"], "var/cache/apt", true, true),
    (&["/var/cache/**"], "var/cache/apt/pkg.bin", false, true),
    (&["**/logs"], "logs", true, true),
    (&["**/logs"], "a/b/logs", true, true),
    (&["a/**/z"], "a/z", false, true),
    (&["a/**/z"], "a/b/c/z", false, true),
    (&["a/**/z"], "b/a/z", false, false),
    // One star and the question mark stay within a name.
    (&["/a/*"], "a/b", false, true),
    (&["/a/*"], "a/b/c", false, false),
    (&["/a?c"], "a/c", false, false),
    (&["/a?c"], "abc", false, true),
    (&["[ab].log"], "x/a.log", false, true),
    (&["[!ab].log"], "x/a.log", false, false),
    // The last that matches decides.
    (&["*.log", "!keep.log"], "x/keep.log", false, false),
    (&["!keep.log", "*.log"], "x/keep.log", false, true),
    (&["*.log", "!/x/*.log", "bad.log"], "x/bad.log", false, true),
    (&["*", "!keep/"], "keep", true, false),
    (&["*", "!keep/"], "keep", false, true),
    // Characters as they are.
    (&["\\!important"], "important", false, false),
    (&["\\!important"], "!important", false, true),
    (&["#*#"], "x/#draft#", false, true),
    (&["a\\*b"], "a*b", false, true),
    (&["a\\*b"], "axb", false, false),
    // Nothing.
    (&[], "a", false, false),
    (&["", "/", "!"], "a", true, false),
];

#[test]
fn every_pattern_means_what_the_table_says() {
    for (patterns, path, is_directory, excluded) in TABLE {
        let filter = Filter::new(patterns.iter().copied()).expect("the patterns are good");
        assert_eq!(
            filter.excludes(path.as_bytes(), *is_directory),
            *excluded,
            "{patterns:?} on {path:?}"
        );
    }
}

#[test]
fn names_that_are_not_text_match_by_their_bytes() {
    let filter = Filter::new(["*.tmp", "/a/?"]).expect("the patterns are good");
    assert!(filter.excludes(b"x/\xff\xfe.tmp", false));
    assert!(filter.excludes(b"a/\xff", false));
    assert!(!filter.excludes(b"a/\xff\xff", false));
}

#[test]
fn a_bad_pattern_is_named() {
    let error = Filter::new(["*.ok", "a[b"]).expect_err("it has no end");
    assert!(error.to_string().contains("a[b"), "{error}");
}
