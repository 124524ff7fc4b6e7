//! Names of any bytes and any length, depth past PATH_MAX, and one very wide directory.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use anyhow::Result;

use super::bytes::Numbers;
use super::{CorpusOptions, directory, file};

/// Levels of the deep directory; with names of 200 bytes its bottom lies past 5,000 bytes.
const DEEP_LEVELS: usize = 26;
const DEEP_NAME_BYTES: usize = 200;

const ODD_NAMES: [&CStr; 24] = [
    c" ",
    c"-rf",
    c"...",
    c"..hidden",
    c"~",
    c"*",
    c"a b",
    c"a\tb",
    c"a\nb",
    c"a\\b",
    c"\\x41",
    c"quote\"'`$(id)",
    c"percent%s%n",
    c"\x1b[2J\x1b[31mred",
    c"\x1b]52;c;aGk=\x07",
    c"\x7f",
    c"\xff\xfe",
    c"\xc3\x28",
    c"\xed\xa0\x80",
    c"\xe2\x80\xaegnp.exe",
    c"u\xcc\x88",
    c"\xc3\xbc",
    c"UPPER",
    c"upper",
];

pub(super) fn create(parent: &OwnedFd, options: &CorpusOptions) -> Result<()> {
    for name in ODD_NAMES {
        file(parent, name, name.to_bytes())?;
    }
    let odd = directory(parent, c"directory-\xff\n\x1b[0m")?;
    file(&odd, c"inside", b"content")?;
    file(parent, &CString::new(vec![b'n'; 255])?, b"255 bytes")?;
    file(
        parent,
        &CString::new("\u{20ac}".repeat(85))?,
        b"255 bytes of three-byte characters",
    )?;
    file(
        parent,
        &CString::new(vec![0xfe; 255])?,
        b"255 bytes, none of them UTF-8",
    )?;
    // Sorts between a directory and what a careless joined path of that directory would be.
    let sorted = directory(parent, c"sorted")?;
    file(&directory(&sorted, c"a")?, c"b", b"")?;
    file(&sorted, c"a.b", b"")?;
    file(&sorted, c"a-b", b"")?;
    deep(&directory(parent, c"deep")?, DEEP_NAME_BYTES, DEEP_LEVELS)?;
    deep(
        &directory(parent, c"deep-many")?,
        1,
        usize::try_from(options.deep_levels)?,
    )
}

pub(super) fn create_wide(parent: &OwnedFd, entries: u32) -> Result<()> {
    let mut numbers = Numbers::new(u64::from(entries));
    for index in 0..entries {
        let name = CString::new(format!(
            "{:08x}-{index}",
            numbers.next_number() & 0xffff_ffff
        ))?;
        let content = if index % 10 == 0 {
            format!("entry {index}\n")
        } else {
            String::new()
        };
        file(parent, &name, content.as_bytes())?;
    }
    Ok(())
}

fn deep(top: &OwnedFd, name_bytes: usize, levels: usize) -> Result<()> {
    let name = CString::new(vec![b'p'; name_bytes])?;
    let mut current = directory(top, &name)?;
    for _ in 1..levels {
        current = directory(&current, &name)?;
    }
    file(&current, c"bottom", b"deep down")?;
    Ok(())
}
