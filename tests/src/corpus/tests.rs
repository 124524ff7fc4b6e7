//! The corpus holds what it promises, and the same seed gives the same tree.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

use std::os::unix::fs::MetadataExt as _;

use super::{Corpus, CorpusOptions};
use crate::compare::differences;

#[test]
fn the_same_options_give_the_same_tree() {
    let directory = crate::world::temporary_directory().unwrap();
    let one = Corpus::create(&directory.path().join("one"), &CorpusOptions::tiny()).unwrap();
    let two = Corpus::create(&directory.path().join("two"), &CorpusOptions::tiny()).unwrap();
    assert_eq!(differences(one.root(), two.root()).unwrap(), vec![]);
}

#[test]
fn sparse_files_take_little_room() {
    let directory = crate::world::temporary_directory().unwrap();
    let options = CorpusOptions {
        sparse_bytes: 1 << 40,
        ..CorpusOptions::tiny()
    };
    let corpus = Corpus::create(&directory.path().join("corpus"), &options).unwrap();
    let sparse = corpus.root().join("files/sparse").metadata().unwrap();
    assert_eq!(sparse.len(), 1 << 40);
    assert!(
        sparse.blocks() * 512 < 1 << 20,
        "{} blocks",
        sparse.blocks()
    );
}
