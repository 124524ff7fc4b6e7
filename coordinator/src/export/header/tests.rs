//! Headers as the specification has them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use formats::listing::entry::{Timestamp, Xattr};

use super::{BLOCK_BYTES, TarEntry, TarKind, padding, put_header, time_text};

fn plain(path: &[u8]) -> TarEntry<'_> {
    TarEntry {
        path,
        kind: TarKind::File,
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        user: "backup",
        group: "users",
        size: 5,
        mtime: Timestamp {
            seconds: 1_600_000_000,
            nanoseconds: 0,
        },
        link: b"",
        device: (0, 0),
        xattrs: &[],
    }
}

fn header(entry: &TarEntry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(entry, &mut out);
    assert_eq!(out.len() % BLOCK_BYTES, 0);
    out
}

/// The records of the pax header, which must be there.
fn records(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    assert_eq!(bytes[156], b'x');
    let size = std::str::from_utf8(&bytes[124..135]).unwrap();
    let size = usize::from_str_radix(size, 8).unwrap();
    let mut rest = &bytes[BLOCK_BYTES..BLOCK_BYTES + size];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..space])
            .unwrap()
            .parse()
            .unwrap();
        let record = &rest[space + 1..length];
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        assert_eq!(record.last(), Some(&b'\n'));
        found.push((
            record[..equals].to_vec(),
            record[equals + 1..record.len() - 1].to_vec(),
        ));
        rest = &rest[length..];
    }
    found
}

#[test]
fn what_fits_needs_one_block() {
    let bytes = header(&plain(b"etc/fstab"));
    assert_eq!(bytes.len(), BLOCK_BYTES);
    assert!(bytes.starts_with(b"etc/fstab\0"));
    assert_eq!(&bytes[100..108], b"0004755\0");
    assert_eq!(&bytes[124..136], b"00000000005\0");
    assert_eq!((bytes[156], &bytes[257..265]), (b'0', &b"ustar\x0000"[..]));
    let told = std::str::from_utf8(&bytes[148..154]).unwrap();
    let blanked = bytes.iter().enumerate().map(|(at, byte)| match at {
        148..156 => 32,
        _ => u32::from(*byte),
    });
    assert_eq!(u32::from_str_radix(told, 8).unwrap(), blanked.sum::<u32>());
    assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
}

#[test]
fn what_does_not_fit_gets_a_record() {
    let long = [b'a'; 100];
    let xattrs = [Xattr {
        name: b"user.a=b%".to_vec(),
        value: b"\x00\n=\xff".to_vec(),
    }];
    let entry = TarEntry {
        kind: TarKind::Directory,
        uid: 3_000_000,
        size: 1 << 33,
        user: "caf\u{e9}",
        mtime: Timestamp {
            seconds: -2,
            nanoseconds: 500_000_000,
        },
        device: (0, 1 << 21),
        xattrs: &xattrs,
        ..plain(&long)
    };
    let found = records(&header(&entry));
    let found: Vec<(&[u8], &[u8])> = found.iter().map(|(a, b)| (&a[..], &b[..])).collect();
    let path = [&long[..], b"/"].concat();
    assert_eq!(
        found,
        [
            (&b"path"[..], &path[..]),
            (b"uname", "caf\u{e9}".as_bytes()),
            (b"uid", b"3000000"),
            (b"size", b"8589934592"),
            (b"SCHILY.devminor", b"2097152"),
            (b"mtime", b"-1.500000000"),
            (b"SCHILY.xattr.user.a%3Db%25", b"\x00\n=\xff"),
        ]
    );
}

#[test]
fn names_that_are_no_text_are_told_to_be_bytes() {
    let found = records(&header(&plain(b"\xff\xfe")));
    assert_eq!(found[0].0, b"hdrcharset");
    assert_eq!(found[1], (b"path".to_vec(), b"\xff\xfe".to_vec()));
}

#[test]
fn a_length_counts_its_own_digits() {
    for length in 35..60 {
        let path = "\u{e9}".repeat(length).into_bytes();
        let found = records(&header(&plain(&path)));
        assert_eq!(found[0].1, path);
    }
}

#[test]
fn times_are_decimal_numbers() {
    for (seconds, nanoseconds, text) in [
        (0, 0, "0"),
        (5, 7, "5.000000007"),
        (-1, 0, "-1"),
        (-1, 999_999_999, "-0.000000001"),
        (-3, 250_000_000, "-2.750000000"),
    ] {
        let time = Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(time_text(time), text);
    }
}
