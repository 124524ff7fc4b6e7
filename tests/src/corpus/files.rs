//! Regular files of every size and shape: empty, one byte, around chunk and page borders, sparse, big, many.

use std::ffi::CString;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;

use super::bytes::{Numbers, incompressible, text, write_big};
use super::{CorpusOptions, directory, file};

/// Sizes at and around borders that formats like to get wrong.
const BORDER_SIZES: [usize; 12] = [
    1, 2, 511, 4095, 4096, 4097, 65_535, 65_536, 131_071, 524_288, 524_289, 1_048_577,
];

pub(super) fn create(parent: &OwnedFd, options: &CorpusOptions) -> Result<()> {
    file(parent, c"empty", b"")?;
    file(
        parent,
        c"one-mebibyte",
        &incompressible(options.seed, 1 << 20),
    )?;
    file(parent, c"text", &text(options.seed, 300_000))?;
    file(parent, c"zeros", &vec![0; 200_000])?;
    file(parent, c"twin-a", b"the same bytes, two inodes")?;
    file(parent, c"twin-b", b"the same bytes, two inodes")?;
    for size in BORDER_SIZES {
        file(
            parent,
            &CString::new(format!("size-{size}"))?,
            &incompressible(size as u64, size),
        )?;
    }
    sparse(parent, options)?;
    let big = BufWriter::with_capacity(1 << 20, File::from(file(parent, c"big", b"")?));
    write_big(big, options.seed, options.big_file_bytes)?;
    small_files(&directory(parent, c"small")?, options)
}

/// Data at the start, after a short hole, in the middle, and just before a hole that reaches the end.
fn sparse(parent: &OwnedFd, options: &CorpusOptions) -> Result<()> {
    let sparse = File::from(file(parent, c"sparse", b"")?);
    sparse.set_len(options.sparse_bytes)?;
    sparse.write_all_at(b"first", 0)?;
    sparse.write_all_at(&incompressible(11, 100_000), 1 << 20)?;
    sparse.write_all_at(&incompressible(12, 4096), options.sparse_bytes / 2 + 3)?;
    sparse.write_all_at(b"late", options.sparse_bytes - (9 << 20))?;
    let all_hole = File::from(file(parent, c"all-hole", b"")?);
    all_hole.set_len(options.sparse_bytes / 3 + 1)?;
    let ends_in_data = File::from(file(parent, c"ends-in-data", b"")?);
    ends_in_data.write_all_at(b"end", 10 << 20)?;
    Ok(())
}

fn small_files(parent: &OwnedFd, options: &CorpusOptions) -> Result<()> {
    const FILES_PER_DIRECTORY: u32 = 100;
    let mut numbers = Numbers::new(options.seed);
    let mut current = directory(parent, c"d0")?;
    for index in 0..options.small_files {
        if index > 0 && index % FILES_PER_DIRECTORY == 0 {
            current = directory(
                parent,
                &CString::new(format!("d{}", index / FILES_PER_DIRECTORY))?,
            )?;
        }
        let length = usize::try_from(numbers.below(12_000))?;
        let content = if index % 3 == 0 {
            incompressible(numbers.next_number(), length)
        } else {
            text(numbers.next_number(), length)
        };
        file(&current, &CString::new(format!("f{index}"))?, &content)?;
    }
    Ok(())
}
