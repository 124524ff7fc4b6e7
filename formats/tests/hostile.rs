//! Hostile inputs: bombs, lying lengths, impossible counts, names and orders. Each is refused, and refused
//! before memory is taken for it: this binary's allocator remembers its peak.

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    reason = "this test drives the bodies by the list of all of them"
)]
mod bodies;
mod samples;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use formats::chunk::ChunkKind;
use formats::codec::{DecodeError, Put as _, Reader};
use formats::keys::bundle::{BundleError, KeyBundle, Unlock};
use formats::keys::secret::{DataKey, TableKey};
use formats::limits::{FRAME_PLAIN_MAX, PACK_CHUNKS_MAX, PACK_FRAMES_MAX};
use formats::listing::entry::{Entry, EntryKind};
use formats::listing::order::OrderChecker;
use formats::listing::page::PageReader;
use formats::pack::assemble::PackAssembler;
use formats::pack::open::{PackError, Trailer};
use formats::pack::table::{Table, TableChunk};
use formats::seal::aead;
use formats::seal::frame::{Compression, FrameError, FrameOpener, FrameShape};
use formats::seal::run_header::{Purpose, RunHeader};
use formats::wire::control::FromAgent;
use formats::wire::framing::frame_length;

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// One measurement at a time: the peak is the whole process's.
static MEASURING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MEASURING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The most bytes that `body` held at once.
fn peak_of(body: impl FnOnce()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    body();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

const MIB: usize = 1 << 20;
/// More than the test harness itself takes meanwhile, far less than any lie asks for.
const LITTLE: usize = 64 << 10;

/// Seals any stored bytes as a frame of any shape.
fn forge_frame(compression: Compression, plain_bytes: u32, stored: &[u8]) -> (FrameShape, Vec<u8>) {
    let mut associated = b"capstan 2026-11 frame".to_vec();
    samples::context(Purpose::Data).put(&mut associated);
    associated.put_u8(ChunkKind::Data.tag());
    associated.put_u8(compression.tag());
    associated.put_u32(plain_bytes);
    let mut sealed = Vec::new();
    aead::seal(&[7; 32], &associated, stored, &mut sealed).expect("the kernel is random");
    let shape = FrameShape {
        kind: ChunkKind::Data,
        compression,
        plain_bytes,
        sealed_bytes: u32::try_from(sealed.len()).expect("short frames"),
    };
    (shape, sealed)
}

fn open_forged(shape: &FrameShape, sealed: &[u8]) -> (Result<(), FrameError>, usize) {
    let mut opener = FrameOpener::new(
        samples::context(Purpose::Data),
        DataKey::from_bytes([7; 32]),
    )
    .expect("zstd starts");
    let mut plain = Vec::new();
    let opened = opener.open(shape, sealed, &mut plain);
    (opened, plain.len())
}

#[test]
fn a_bomb_grows_no_further_than_the_length_it_declares() {
    let _alone = alone();
    let bomb = zstd::bulk::compress(&vec![0; 64 * MIB], 3).expect("zstd compresses");
    assert!(bomb.len() < 16_384, "64 MiB in {} bytes", bomb.len());
    let (shape, sealed) = forge_frame(Compression::Zstd, 1_000, &bomb);
    let peak = peak_of(|| {
        let (opened, left) = open_forged(&shape, &sealed);
        assert_eq!(opened, Err(FrameError::Length { declared: 1_000 }));
        assert_eq!(left, 0);
    });
    assert!(peak < MIB, "{peak} bytes");
}

#[test]
fn a_frame_opens_to_its_declared_length_and_no_other() {
    let _alone = alone();
    let stored = zstd::bulk::compress(&[1; 1_000], 3).expect("zstd compresses");
    for declared in [0, 1, 999, 1_001, FRAME_PLAIN_MAX] {
        let (shape, sealed) = forge_frame(Compression::Zstd, declared, &stored);
        assert!(open_forged(&shape, &sealed).0.is_err(), "{declared}");
        let (shape, sealed) = forge_frame(Compression::None, declared, &[1; 1_000]);
        assert!(open_forged(&shape, &sealed).0.is_err(), "{declared} raw");
    }
    let (shape, sealed) = forge_frame(Compression::Zstd, u32::MAX, &stored);
    let peak = peak_of(|| {
        let opened = open_forged(&shape, &sealed).0;
        assert!(matches!(opened, Err(FrameError::TooLarge { .. })));
    });
    assert!(peak < MIB, "{peak} bytes");
}

/// A table of one frame that says these numbers.
fn table_of(plain_bytes: u64, sealed_bytes: u64, chunks: u64, chunk_bytes: &[u64]) -> Vec<u8> {
    let mut body = vec![1, 0, 1, 0];
    body.put_varint(plain_bytes);
    body.put_varint(sealed_bytes);
    body.put_varint(chunks);
    for bytes in chunk_bytes {
        body.put(&[9; 32]);
        body.put_varint(*bytes);
    }
    let mut out = Vec::new();
    out.put_prefixed(&body);
    out
}

#[test]
fn a_table_with_lying_numbers_is_refused_before_memory_is_taken() {
    let _alone = alone();
    let over = u64::from(FRAME_PLAIN_MAX) + 1;
    assert!(Table::decode(&table_of(10, 50, 1, &[10]), 1).is_ok());
    let bad = [
        table_of(0, 40, 0, &[]),
        table_of(0, 40, 1, &[0]),
        table_of(1 << 63, 50, 1, &[10]),
        table_of(over, over + 40, 1, &[over]),
        table_of(10, 50, 1, &[9]),
        table_of(10, 50, 1, &[11]),
        table_of(10, 50, 2, &[5, 6]),
        table_of(10, 50, 2, &[10, 0]),
        table_of(10, 51, 1, &[10]),
        table_of(10, 39, 1, &[10]),
        table_of(10, 1 << 63, 1, &[10]),
        table_of(10, 50, PACK_CHUNKS_MAX + 1, &[10]),
        table_of(10, 50, u64::MAX, &[10]),
        table_of(10, 50, 4, &[10]),
    ];
    for (index, bytes) in bad.iter().enumerate() {
        let peak = peak_of(|| assert!(Table::decode(bytes, 1).is_err(), "table {index}"));
        assert!(peak < LITTLE, "table {index}: {peak} bytes");
    }
    let mut many_frames = Vec::new();
    many_frames.put_varint(PACK_FRAMES_MAX + 1);
    many_frames.resize(2 * MIB, 1);
    let mut table = Vec::new();
    table.put_prefixed(&many_frames);
    let peak = peak_of(|| assert!(Table::decode(&table, 1).is_err()));
    assert!(peak < LITTLE, "{peak} bytes");
}

#[test]
fn a_pack_whose_table_tells_other_frame_bytes_is_refused() {
    let _alone = alone();
    let (header, run) =
        RunHeader::create(samples::context(Purpose::Data), &samples::public()).expect("it works");
    for (told, found) in [(53, 52), (53, 54), (53, 0)] {
        let mut assembler = PackAssembler::new(header.clone(), run.table.clone());
        let shape = FrameShape {
            kind: ChunkKind::Data,
            compression: Compression::None,
            plain_bytes: told - 40,
            sealed_bytes: told,
        };
        let id = samples::data_chunk(samples::SMALL_PLAIN);
        assembler.add_frame(shape, vec![TableChunk { id, bytes: 13 }]);
        let mut pack = vec![0; found];
        pack.extend(assembler.finish().expect("finishing works"));
        let trailer = Trailer::decode(&pack, pack.len() as u64).expect("it reads");
        let opened = trailer.open_table(&run.table);
        assert!(matches!(opened, Err(PackError::FramesLength { .. })));
        assert!(trailer.open_table(&TableKey::from_bytes([0; 32])).is_err());
    }
}

fn entry_named(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entry = Entry {
        name: name.to_vec(),
        ..samples::entry_file()
    };
    entry.put(&mut bytes);
    bytes
}

#[test]
fn hostile_names_are_refused_everywhere() {
    let _alone = alone();
    let long = vec![b'a'; 256];
    let names: [&[u8]; 8] = [b"", b".", b"..", b"/", b"a/b", b"a\0", b"../../etc", &long];
    for name in names {
        let bytes = entry_named(name);
        assert!(Entry::read(&mut Reader::new(&bytes)).is_err());
        let mut page = vec![1, 1, 0, 2];
        page.put(&bytes);
        assert!(
            PageReader::new(&page)
                .expect("a version")
                .next_entry()
                .is_err()
        );
        let mut entries = vec![3, 0, 1, 0, 1];
        entries.put_prefixed(name);
        samples::entry_file().stat.put(&mut entries);
        entries.put_varint(1);
        assert!(FromAgent::decode(&entries).is_err());
    }
    for directory in [
        &b"/"[..],
        b"/etc",
        b"etc/",
        b"a//b",
        b"..",
        b"a/../b",
        b"a/./b",
        b"\0",
    ] {
        let mut page = vec![1, 1];
        page.put_prefixed(directory);
        page.put_u8(2);
        page.put(&entry_named(b"name"));
        assert!(
            PageReader::new(&page)
                .expect("a version")
                .next_entry()
                .is_err()
        );
        let mut link = Entry {
            ..samples::entry_hard_link()
        };
        link.hard_link_to = Some(directory.to_vec());
        let mut bytes = Vec::new();
        link.put(&mut bytes);
        assert!(Entry::read(&mut Reader::new(&bytes)).is_err());
    }
}

#[test]
fn duplicate_cyclic_and_unordered_listings_are_refused() {
    let _alone = alone();
    use EntryKind::{Directory, File};
    /// A listing: blocks of a directory and its children.
    type Blocks<'a> = &'a [(&'a [u8], &'a [(&'a [u8], EntryKind)])];
    let bad: [Blocks<'_>; 9] = [
        &[(b"", &[(b"a", File), (b"a", File)])],
        &[(b"", &[(b"a", File), (b"a", Directory)])],
        &[(b"", &[(b"b", File), (b"a", File)])],
        &[
            (b"", &[(b"a", Directory)]),
            (b"a", &[]),
            (b"", &[(b"b", File)]),
        ],
        &[
            (b"", &[(b"a", Directory)]),
            (b"a", &[(b"x", File)]),
            (b"a/a", &[]),
        ],
        &[
            (b"", &[(b"a", Directory)]),
            (b"a", &[(b"a", Directory)]),
            (b"a/a", &[]),
            (b"a", &[]),
        ],
        &[(b"", &[(b"a", File)]), (b"a", &[])],
        &[
            (b"", &[(b"a", Directory), (b"b", Directory)]),
            (b"b", &[]),
            (b"a", &[]),
        ],
        &[(b"a", &[])],
    ];
    for (index, blocks) in bad.iter().enumerate() {
        let mut order = OrderChecker::new();
        let mut refused = false;
        for (directory, entries) in *blocks {
            refused = refused || order.block(directory).is_err();
            for (name, kind) in *entries {
                refused = refused || order.entry(name, *kind).is_err();
            }
        }
        assert!(refused, "listing {index}");
    }
}

#[test]
fn hostile_password_parameters_take_no_memory() {
    let _alone = alone();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/key_bundle_password.bin");
    let bundle = fs::read(path).expect("golden files are checked in");
    // Memory stands after magic, version, the name with its length, role and protection.
    let memory = 8 + 2 + 1 + 6 + 1 + 1;
    let cases = [
        (0, u32::MAX),
        (0, 0),
        (0, 8),
        (4, 0),
        (4, u32::MAX),
        (8, 0),
        (8, u32::MAX),
    ];
    for (offset, value) in cases {
        let mut hostile = bundle.clone();
        let at = memory + offset;
        hostile.splice(at..at + 4, value.to_le_bytes());
        let peak = peak_of(|| {
            let opened = KeyBundle::open(&hostile, &Unlock::Password(samples::PASSWORD));
            assert!(
                matches!(opened, Err(BundleError::Decode(_))),
                "{offset} {value}"
            );
        });
        assert!(peak < LITTLE, "{peak} bytes");
    }
}

#[test]
fn numbers_have_one_form_and_fit() {
    let _alone = alone();
    let bad: [&[u8]; 6] = [
        &[0x80, 0x00],
        &[0xff; 10],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00,
        ],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        &[0x80],
    ];
    for bytes in bad {
        assert!(Reader::new(bytes).varint("number").is_err(), "{bytes:02x?}");
    }
    let five = [0xff, 0xff, 0xff, 0xff, 0x1f];
    assert!(matches!(
        Reader::new(&five).varint32("number"),
        Err(DecodeError::AboveLimit { .. })
    ));
    for length in [0, (1 << 20) + 1, u32::MAX] {
        assert!(frame_length(length.to_le_bytes()).is_err());
    }
}

/// Every golden file, with a huge number at every place, through every decoder.
#[test]
fn no_lying_length_takes_more_than_a_little_memory() {
    let _alone = alone();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let huge: [&[u8]; 3] = [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0x03],
    ];
    // Bodies that seal or encapsulate what they are given are slow, and read the same formats as others.
    let slow = ["log_payload", "log_record", "pack", "run_header", "config"];
    for entry in fs::read_dir(golden).expect("golden files are checked in") {
        let path = entry.expect("it can be listed").path();
        let bytes = match path.is_file() {
            true => fs::read(&path).expect("it can be read"),
            false => continue,
        };
        for at in 0..bytes.len().min(300) {
            for huge in huge {
                let mut lying = bytes.clone();
                lying.splice(at..at + 1, huge.iter().copied());
                for (name, body) in bodies::ALL.iter().filter(|(name, _)| !slow.contains(name)) {
                    let peak = peak_of(|| body(&lying));
                    // A frame's room is what it declares, which its limit bounds.
                    let most = if *name == "frame" { 4 * MIB } else { MIB };
                    assert!(peak < most, "{name}, {path:?} at {at}: {peak} bytes");
                }
            }
        }
    }
}
