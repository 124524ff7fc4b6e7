//! The sample values behind the golden files, the examples of `formats/docs` and the damage tests: one of
//! each format, under fixed keys. Nothing here is random; what is sealed is made by `golden.rs` alone.
#![allow(dead_code, reason = "every test that includes this uses some of it")]

pub mod messages;
pub mod reader;
pub mod repository;

use formats::audit::{AuditActor, AuditHead, AuditRecord};
use formats::chunk::{ChunkKind, chunk_id};
use formats::codec::Put as _;
use formats::config::RepositoryConfig;
use formats::ids::{ActId, AuditId, ChunkId, CoordinatorId, PackId, RecordId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role, Unlock, header};
use formats::keys::certificate::Certificate;
use formats::keys::derive::{Use, root};
use formats::keys::repository::{PublicKeys, RepositoryKeys};
use formats::keys::secret::{FileKey, IdKey, MasterKey};
use formats::listing::content::{Content, ContentPage, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp, Xattr};
use formats::listing::page_index::PageRef;
use formats::log::lease::Lease;
use formats::log::record::RecordPlace;
use formats::log::retention::{Act, CondemnedPack, Prune, Retention};
use formats::log::settings::HostSettings;
use formats::log::snapshot::{ChunkRef, Snapshot, SnapshotTotals};
use formats::log::thinning::{ThinnedPack, Thinning};
use formats::pack::index::IndexedFrames;
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::{Purpose, RunContext};
use formats::wire::facts::HostFacts;

/// `first`, `first + 1`, … : bytes that show where they went.
pub fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(u8::try_from(index).expect("short arrays")))
}

pub const EPOCH: u32 = 1;
pub const PASSWORD: &[u8] = b"correct horse battery staple";

pub fn repository() -> RepositoryId {
    RepositoryId(counting(0x00))
}

pub fn run() -> RunId {
    RunId(counting(0x10))
}

pub fn meta_run() -> RunId {
    RunId(counting(0x50))
}

pub fn master() -> MasterKey {
    MasterKey::from_bytes(counting(0x00))
}

pub fn file_key() -> FileKey {
    FileKey::from_bytes(counting(0x20))
}

pub fn keys() -> RepositoryKeys {
    RepositoryKeys::derive(&KeyBundle::new(&master(), Role::Admin), repository(), EPOCH)
}

/// What says to a reader which key signs the sample repository.
pub fn certificate() -> Certificate {
    let signing = root(&master(), Use::Signing);
    Certificate::issue(&signing, repository(), EPOCH, &public().verifying)
}

/// The keys of a reader's bundle as it stands in the sample repository; none where it is refused.
pub fn reader_keys(stored: &[u8]) -> Option<RepositoryKeys> {
    let (user, bundle) = KeyBundle::open(stored, &Unlock::File(&file_key())).ok()?;
    let certificate = header::certificate(stored).ok()??;
    if user.as_str() != "box" || bundle.role() != Role::Read {
        return None;
    }
    RepositoryKeys::derive(&bundle, repository(), EPOCH)
        .certified(public().verifying, &certificate)
        .ok()
}

pub fn id_key() -> IdKey {
    keys().id().expect("the admin holds it").clone()
}

pub fn public() -> PublicKeys {
    keys().public().expect("the admin holds all")
}

pub fn config() -> RepositoryConfig {
    RepositoryConfig {
        repository: repository(),
        epoch: EPOCH,
        public: public(),
    }
}

pub fn context(purpose: Purpose) -> RunContext {
    RunContext {
        repository: repository(),
        epoch: EPOCH,
        run: match purpose {
            Purpose::Data => run(),
            Purpose::Meta => meta_run(),
        },
        purpose,
    }
}

/// The plaintext of the sample chunk and of the raw frame.
pub const SMALL_PLAIN: &[u8] = b"web1.example\n";

/// The plaintext of the compressed frame: two chunks of 300 bytes.
pub fn long_plain() -> Vec<u8> {
    b"what is committed can be restored\n"
        .iter()
        .copied()
        .cycle()
        .take(600)
        .collect()
}

pub fn data_chunk(plain: &[u8]) -> ChunkId {
    chunk_id(&id_key(), ChunkKind::Data, plain)
}

pub fn table() -> Table {
    let long = long_plain();
    let (first, second) = long.split_at(300);
    Table {
        frames: vec![
            TableFrame {
                run_header: 0,
                shape: FrameShape {
                    kind: ChunkKind::Data,
                    compression: Compression::None,
                    plain_bytes: 13,
                    sealed_bytes: 53,
                },
                chunks: vec![TableChunk {
                    id: data_chunk(SMALL_PLAIN),
                    bytes: 13,
                }],
            },
            TableFrame {
                run_header: 0,
                shape: FrameShape {
                    kind: ChunkKind::Data,
                    compression: Compression::Zstd,
                    plain_bytes: 600,
                    sealed_bytes: 100,
                },
                chunks: [first, second]
                    .map(|plain| TableChunk {
                        id: data_chunk(plain),
                        bytes: 300,
                    })
                    .to_vec(),
            },
        ],
    }
}

pub fn indexed() -> Vec<IndexedFrames> {
    vec![IndexedFrames {
        pack: PackId([0xaa; 32]),
        pack_bytes: 4_096,
        offset: 0,
        frames: table().frames,
    }]
}

pub fn stat(kind: EntryKind, size: u64) -> Stat {
    Stat {
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        size,
        mtime: Timestamp {
            seconds: 1_795_000_000,
            nanoseconds: 123_456_789,
        },
        ctime: Timestamp {
            seconds: -1,
            nanoseconds: 0,
        },
        inode: 131_073,
        links: 1,
        device: (0, 0),
    }
}

fn entry(name: &[u8], stat: Stat, content: Content) -> Entry {
    Entry {
        name: name.to_vec(),
        stat,
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content,
    }
}

/// A file of one chunk, with an attribute.
pub fn entry_file() -> Entry {
    let extents = vec![Extent::Chunk {
        id: data_chunk(SMALL_PLAIN),
        bytes: 13,
    }];
    Entry {
        xattrs: vec![Xattr {
            name: b"user.note".to_vec(),
            value: b"kept".to_vec(),
        }],
        ..entry(
            b"hostname",
            stat(EntryKind::File, 13),
            Content::Extents(extents),
        )
    }
}

pub fn entry_directory(name: &[u8]) -> Entry {
    let stat = Stat {
        mode: 0o755,
        ..stat(EntryKind::Directory, 0)
    };
    entry(name, stat, Content::None)
}

pub fn entry_symlink() -> Entry {
    Entry {
        link_target: b"../srv/disk.img".to_vec(),
        ..entry(b"link", stat(EntryKind::Symlink, 0), Content::None)
    }
}

pub fn entry_device() -> Entry {
    let stat = Stat {
        device: (8, 1),
        ..stat(EntryKind::BlockDevice, 0)
    };
    entry(b"sda1", stat, Content::None)
}

/// A second name of `etc/hostname`.
pub fn entry_hard_link() -> Entry {
    Entry {
        hard_link_to: Some(b"etc/hostname".to_vec()),
        ..entry(b"name2", stat(EntryKind::File, 13), Content::None)
    }
}

/// A file with a content page; it covers [`content_page`].
pub fn entry_pages() -> Entry {
    let pages = vec![ContentPage {
        id: ChunkId([0xcc; 32]),
        bytes: 39,
        covers: 1_048_589,
    }];
    entry(
        b"disk.img",
        stat(EntryKind::File, 1_048_589),
        Content::Pages(pages),
    )
}

/// A file that could not be read.
pub fn entry_missing() -> Entry {
    Entry {
        flags: EntryFlags::UNREADABLE,
        ..entry(b"secret", stat(EntryKind::File, 77), Content::Missing)
    }
}

pub fn content_page() -> Vec<Extent> {
    vec![
        Extent::Hole { bytes: 1 << 20 },
        Extent::Chunk {
            id: data_chunk(SMALL_PLAIN),
            bytes: 13,
        },
    ]
}

/// The entries of the sample page, each with its directory, in listing order.
pub fn listing() -> Vec<(Vec<u8>, Entry)> {
    let below = |directory: &[u8], entry| (directory.to_vec(), entry);
    vec![
        below(b"", entry_directory(b"etc")),
        below(b"", entry_directory(b"srv")),
        below(b"etc", entry_file()),
        below(b"etc", entry_symlink()),
        below(b"srv", entry_missing()),
    ]
}

pub fn page_index() -> Vec<PageRef> {
    let page = |id, first_directory: &[u8], first_name: &[u8]| PageRef {
        id: ChunkId([id; 32]),
        bytes: 70_000,
        entries: 512,
        first_directory: first_directory.to_vec(),
        first_name: first_name.to_vec(),
    };
    vec![
        page(0xdd, b"", b"etc"),
        page(0xee, b"usr/lib", b"libc.so.6"),
    ]
}

pub fn snapshot() -> Snapshot {
    Snapshot {
        host: "web1".into(),
        run: run(),
        started_nanos: 1_795_000_000_000_000_000,
        committed_nanos: 1_795_000_060_000_000_000,
        parent: None,
        verified: true,
        sources: vec![b"etc".to_vec(), b"srv".to_vec()],
        page_index: vec![ChunkRef {
            id: ChunkId([0x11; 32]),
            bytes: 99,
        }],
        index: vec![ChunkRef {
            id: ChunkId([0x22; 32]),
            bytes: 300,
        }],
        meta_packs: vec![PackId([0x33; 32])],
        totals: SnapshotTotals {
            files: 3,
            directories: 2,
            others: 1,
            bytes: 1_048_679,
            bytes_read: 26,
            bytes_new: 13,
            bytes_stored: 8_192,
            problems: 1,
        },
        problems: vec![messages::problem()],
        names: messages::names(),
        facts: facts(),
        agent: "0.1.0".into(),
    }
}

pub fn audit_record() -> AuditRecord {
    AuditRecord {
        sequence: 2,
        previous: AuditId([0x66; 32]),
        at_nanos: 1_795_000_000_000_000_000,
        actor: AuditActor::User {
            uid: 0,
            name: Some("root".into()),
            through: Some("kim".into()),
        },
        what: "pin-added".into(),
        host: Some("web1".into()),
        run: Some(run()),
        details: vec![("reason".into(), "audit".into())],
    }
}

pub fn audit_head() -> AuditHead {
    let (_, id) = audit_record().encode();
    AuditHead { sequence: 2, id }
}

pub fn lease() -> Lease {
    Lease {
        coordinator: CoordinatorId([0x44; 16]),
        machine: "backup1".into(),
        taken_nanos: 1_795_000_000_000_000_000,
    }
}

pub fn retention() -> Vec<(&'static str, Retention)> {
    let act = |act| Retention {
        id: ActId([0x55; 16]),
        at_nanos: 1_795_000_000_000_000_000,
        act,
    };
    let snapshots = vec![RecordId([0x66; 32])];
    let packs = vec![PackId([0x77; 32])];
    vec![
        (
            "forget",
            act(Act::Forget {
                by_person: false,
                snapshots: snapshots.clone(),
            }),
        ),
        (
            "undelete",
            act(Act::Undelete {
                snapshots: snapshots.clone(),
                packs: packs.clone(),
            }),
        ),
        ("prune", act(Act::Prune(prune()))),
        (
            "sweep",
            act(Act::Sweep {
                packs: packs.clone(),
            }),
        ),
        (
            "pin",
            act(Act::Pin {
                snapshot: RecordId([0x66; 32]),
                pinned: true,
                reason: "audit 2026".into(),
            }),
        ),
        (
            "thin",
            act(Act::Thin(Thinning {
                destination: "nas".into(),
                snapshots: 14,
                packs: 200,
                bytes: 6_000_000_000,
                dropped: snapshots,
                condemned: vec![ThinnedPack {
                    pack: PackId([0x77; 32]),
                    bytes: 33_554_432,
                }],
            })),
        ),
        (
            "sweep_at",
            act(Act::SweepAt {
                destination: "nas".into(),
                packs,
            }),
        ),
    ]
}

fn prune() -> Prune {
    Prune {
        marked: 41,
        snapshots: 20,
        packs: 300,
        bytes: 9_000_000_000,
        index: vec![ChunkRef {
            id: ChunkId([0x22; 32]),
            bytes: 300,
        }],
        meta_packs: vec![PackId([0x33; 32])],
        condemned: vec![CondemnedPack {
            pack: PackId([0x77; 32]),
            purpose: Purpose::Data,
            bytes: 33_554_432,
        }],
    }
}

pub fn settings() -> HostSettings {
    HostSettings {
        host: "web1".into(),
        toml: "[host.web1]\naddress = \"192.0.2.1\"\n".into(),
    }
}

pub fn facts() -> HostFacts {
    HostFacts {
        system: "Linux 6.12.0 x86_64".into(),
        hostname: "web1".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        uid: 0,
        clock_nanos: 1_795_000_000_500_000_000,
    }
}

pub fn first_place() -> RecordPlace {
    RecordPlace {
        repository: repository(),
        epoch: EPOCH,
        sequence: 1,
        previous: RecordId([0; 32]),
    }
}

/// A page's bytes, written by hand so that a change of the builder shows.
pub fn page_bytes(entries: &[(Vec<u8>, Entry)]) -> Vec<u8> {
    let mut out = vec![1];
    let mut current: Option<&[u8]> = None;
    for (directory, entry) in entries {
        if current != Some(directory) {
            out.put_u8(1);
            out.put_prefixed(directory);
            current = Some(directory);
        }
        out.put_u8(2);
        entry.put(&mut out);
    }
    out
}
