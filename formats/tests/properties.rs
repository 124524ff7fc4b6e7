//! Property tests: whatever can be written reads back as it was. proptest prints the values and the seed of a
//! failure, and `PROPTEST_RNG_SEED` runs one again.

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use formats::chunk::{ChunkKind, Chunker, chunk_id};
use formats::codec::{DecodeError, Put as _, Reader};
use formats::ids::{ChunkId, PackId, RecordId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Lock, Role, Unlock};
use formats::keys::derive::Use;
use formats::keys::kit;
use formats::keys::secret::{
    ChunkingKey, DataKey, FileKey, IdKey, MasterKey, RunToken, TableKey, random,
};
use formats::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CPU_PERCENT_MAX, FRAME_PLAIN_MAX};
use formats::listing::content::{
    Content, ContentPage, ContentPageCutter, Extent, decode_content_page, encode_content_page,
    extents_cover,
};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp, Xattr};
use formats::listing::order::{OrderChecker, compare_places};
use formats::listing::page::{PageBuilder, PageReader};
use formats::listing::page_index::{PageIndexBuilder, PageRef, decode_page_index};
use formats::log::snapshot::{ChunkRef, Snapshot, SnapshotTotals};
use formats::object::ObjectName;
use formats::pack::index::{decode_piece, encode_pieces};
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::frame::{Compression, FrameOpener, FrameSealer, FrameShape};
use formats::seal::run_header::{Purpose, RunContext};
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::chunks::{PackStored, Seen};
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::{Block, Entries, EntryRef, EntryStat};
use formats::wire::control::names::Names;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator, Hello, TunnelBytes};
use formats::wire::facts::HostFacts;
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::handshake::Opening;
use formats::wire::placing::{AskedPlaces, Copies, Placing};
use formats::wire::start::{AgentLimits, FsSnapshot, Rules, Start, Transport};
use formats::wire::streams::Stream;
use formats::wire::surroundings::{Mount, Store, Surroundings};
use formats::wire::upload::destinations::{
    ConditionalWrites, DESTINATIONS_MAX, DestinationState, DestinationStates, Placed, TriedWrites,
};
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::{Refusal, RefusalKind};
use formats::wire::upload::repairs::{HealedObject, LockOutcome, LockedObject, Queued};
use formats::wire::upload::{OpenRun, Stored};

/// Runs a property and prints what a failure needs to be seen again.
fn check<S: Strategy>(strategy: S, property: impl Fn(S::Value))
where
    S::Value: std::fmt::Debug,
{
    let seed = match std::env::var("PROPTEST_RNG_SEED") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => u64::from_le_bytes(random().expect("the kernel is random")),
    };
    println!("PROPTEST_RNG_SEED={seed}");
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    });
    let run = runner.run(&strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(failure) = &run {
        println!("{failure}");
    }
    assert!(run.is_ok());
}

fn round_trip<T: PartialEq + std::fmt::Debug>(
    value: &T,
    put: impl Fn(&T, &mut Vec<u8>),
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) {
    let mut bytes = Vec::new();
    put(value, &mut bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(read(&mut reader).as_ref(), Ok(value));
    assert_eq!(reader.finish("value"), Ok(()));
    for length in 0..bytes.len() {
        let cut = bytes.get(..length).unwrap_or_default();
        assert!(read(&mut Reader::new(cut)).is_err(), "cut at {length}");
    }
}

fn id() -> impl Strategy<Value = ChunkId> {
    any::<[u8; 32]>().prop_map(ChunkId)
}

fn pack_id() -> impl Strategy<Value = PackId> {
    any::<[u8; 32]>().prop_map(PackId)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(
        any::<u8>().prop_filter("a name's byte", |byte| *byte != 0 && *byte != b'/'),
        1..12,
    )
    .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(name(), 0..5).prop_map(|names| names.join(&b'/'))
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,30}"
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Timestamp {
        seconds,
        nanoseconds,
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    proptest::sample::select(EntryKind::ALL.to_vec())
}

fn stat() -> impl Strategy<Value = Stat> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    let rest = (0..0o10000u16, 0..i64::MAX as u64, any::<(u32, u32)>());
    (kind(), rest, timestamp(), timestamp(), numbers).prop_map(
        |(kind, (mode, size, device), mtime, ctime, (uid, gid, inode, links))| {
            let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
            Stat {
                kind,
                mode,
                uid,
                gid,
                size: if kind == EntryKind::File { size } else { 0 },
                mtime,
                ctime,
                inode,
                links,
                device: if is_device { device } else { (0, 0) },
            }
        },
    )
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let name = vec(1..=255u8, 1..10);
    btree_map(name, vec(any::<u8>(), 0..20), 0..4).prop_map(|map| {
        let xattr = |(name, value)| Xattr { name, value };
        map.into_iter().map(xattr).collect()
    })
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        (id(), 1..=CHUNK_BYTES_MAX).prop_map(|(id, bytes)| Extent::Chunk { id, bytes }),
        (1..u64::from(u32::MAX)).prop_map(|bytes| Extent::Hole { bytes }),
    ]
}

fn content_pages() -> impl Strategy<Value = Vec<ContentPage>> {
    let page = (id(), 1..=FRAME_PLAIN_MAX, 1..1u64 << 40);
    vec(
        page.prop_map(|(id, bytes, covers)| ContentPage { id, bytes, covers }),
        1..4,
    )
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        vec(extent(), 0..5).prop_map(Content::Extents),
        content_pages().prop_map(Content::Pages),
        Just(Content::Missing),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let link = (
        vec(1..=255u8, 1..20),
        proptest::option::of((path(), name())),
    );
    (name(), stat(), xattrs(), content(), link, any::<bool>()).prop_map(
        |(name, mut stat, xattrs, content, (link_target, link), unsettled)| {
            let is_file = stat.kind == EntryKind::File;
            let hard_link_to = link
                .filter(|_| stat.kind != EntryKind::Directory)
                .map(|(path, name)| formats::listing::entry::join(&path, &name));
            let content = match (is_file, &hard_link_to) {
                (true, None) => content,
                _ => Content::None,
            };
            if is_file && hard_link_to.is_none() && content != Content::Missing {
                stat.size = content.covers().expect("small sums");
            }
            let mut flags = EntryFlags::default();
            if content == Content::Missing {
                flags = flags.with(EntryFlags::UNREADABLE);
            }
            if unsettled {
                flags = flags.with(EntryFlags::UNSETTLED);
            }
            Entry {
                name,
                stat,
                flags,
                xattrs,
                link_target: match stat.kind {
                    EntryKind::Symlink => link_target,
                    _ => Vec::new(),
                },
                hard_link_to,
                content,
            }
        },
    )
}

fn frames() -> impl Strategy<Value = Vec<TableFrame>> {
    let chunks = vec((id(), 1..300_000u32), 1..6);
    let frame = (chunks, any::<bool>(), 0..1_000u32);
    vec(
        frame.prop_map(|(chunks, compressed, saved)| {
            let plain_bytes: u32 = chunks.iter().map(|(_, bytes)| bytes).sum();
            let shrunk = (plain_bytes.saturating_sub(saved + 1)).max(1);
            let compressed = compressed && shrunk < plain_bytes;
            TableFrame {
                run_header: 0,
                shape: FrameShape {
                    kind: ChunkKind::Data,
                    compression: match compressed {
                        true => Compression::Zstd,
                        false => Compression::None,
                    },
                    plain_bytes,
                    sealed_bytes: 40 + if compressed { shrunk } else { plain_bytes },
                },
                chunks: chunks
                    .into_iter()
                    .map(|(id, bytes)| TableChunk { id, bytes })
                    .collect(),
            }
        }),
        1..8,
    )
}

#[test]
fn numbers_and_texts_round_trip() {
    check(
        (any::<u64>(), any::<u32>(), any::<i64>(), text()),
        |(number, fixed, signed, text)| {
            let mut bytes = Vec::new();
            bytes.put_varint(number);
            bytes.put_u32(fixed);
            bytes.put_i64(signed);
            bytes.put_prefixed(text.as_bytes());
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("number"), Ok(number));
            assert_eq!(reader.u32("fixed"), Ok(fixed));
            assert_eq!(reader.i64("signed"), Ok(signed));
            assert_eq!(reader.text("text", 1_000), Ok(text));
        },
    );
}

#[test]
fn names_of_objects_round_trip() {
    let user = "[a-z0-9_-][a-z0-9._-]{0,63}"
        .prop_map(|user| ObjectName::Keys(user.parse().expect("a good user name")));
    let name = prop_oneof![
        Just(ObjectName::Config),
        pack_id().prop_map(ObjectName::Pack),
        pack_id().prop_map(ObjectName::Meta),
        any::<u64>().prop_map(ObjectName::Log),
        user,
    ];
    check(name, |name| assert_eq!(name.to_string().parse(), Ok(name)));
}

#[test]
fn keys_round_trip() {
    let role = proptest::sample::select(Role::ALL.to_vec());
    check(
        (any::<[u8; 32]>(), any::<[u8; 32]>(), role),
        |(master, file, role)| {
            let master = MasterKey::from_bytes(master);
            let again = kit::read(&kit::write(&master)).expect("a kit reads");
            assert_eq!(again.expose(), master.expose());
            let file = FileKey::from_bytes(file);
            let user = "someone".parse().expect("a good name");
            let bundle = KeyBundle::new(&master, role);
            let sealed = bundle
                .seal(&user, &Lock::File(&file))
                .expect("sealing works");
            let (found, opened) = KeyBundle::open(&sealed, &Unlock::File(&file)).expect("it opens");
            assert_eq!((found, opened.role()), (user, role));
            for use_ in Use::ALL {
                let bytes = |bundle: &KeyBundle| bundle.root(use_).map(|root| *root.expose());
                assert_eq!(bytes(&opened), bytes(&bundle));
            }
        },
    );
}

#[test]
fn frames_round_trip_and_chunk_ids_tell_them_apart() {
    let plain = prop_oneof![vec(any::<u8>(), 1..5_000), vec(0..2u8, 1..5_000)];
    check((plain, any::<[u8; 32]>()), |(plain, key)| {
        let context = RunContext {
            repository: RepositoryId([1; 16]),
            epoch: 1,
            run: RunId([2; 16]),
            purpose: Purpose::Data,
        };
        let key = || DataKey::from_bytes(key);
        let mut sealer = FrameSealer::new(context, key(), 3).expect("a level zstd has");
        let mut sealed = Vec::new();
        let shape = sealer
            .seal(ChunkKind::Data, &plain, &mut sealed)
            .expect("it seals");
        let mut opener = FrameOpener::new(context, key()).expect("zstd starts");
        let mut opened = Vec::new();
        assert_eq!(opener.open(&shape, &sealed, &mut opened), Ok(()));
        assert_eq!(opened, plain);
        for other in [
            RunContext {
                epoch: 2,
                ..context
            },
            RunContext {
                run: RunId([3; 16]),
                ..context
            },
            RunContext {
                purpose: Purpose::Meta,
                ..context
            },
            RunContext {
                repository: RepositoryId([3; 16]),
                ..context
            },
        ] {
            let mut opener = FrameOpener::new(other, key()).expect("zstd starts");
            assert!(opener.open(&shape, &sealed, &mut opened).is_err());
        }
        let as_page = FrameShape {
            kind: ChunkKind::Page,
            ..shape
        };
        assert!(opener.open(&as_page, &sealed, &mut opened).is_err());
        let id_key = IdKey::from_bytes([5; 32]);
        let mut longer = plain.clone();
        longer.push(0);
        assert_ne!(
            chunk_id(&id_key, ChunkKind::Data, &plain),
            chunk_id(&id_key, ChunkKind::Data, &longer)
        );
    });
}

#[test]
fn chunks_join_to_their_source_within_the_limits() {
    let pieces = vec((any::<u8>(), 1..400_000usize), 1..12);
    check((any::<[u8; 32]>(), pieces), |(key, pieces)| {
        let mut data = Vec::new();
        for (seed, bytes) in pieces {
            let mut piece = vec![0; bytes];
            blake3::Hasher::new()
                .update(&[seed])
                .finalize_xof()
                .fill(&mut piece);
            data.extend(piece);
        }
        let chunker = Chunker::new(&ChunkingKey::from_bytes(key));
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let cut = chunker.cut(rest);
            assert!(cut > 0 && cut <= CHUNK_BYTES_MAX as usize);
            assert!(cut >= CHUNK_BYTES_MIN as usize || cut == rest.len());
            rest = rest.get(cut..).unwrap_or_default();
        }
    });
}

#[test]
fn tables_and_index_pieces_round_trip() {
    check(
        (frames(), pack_id(), 0..3_000usize),
        |(frames, pack, padded)| {
            let table = Table { frames };
            assert_eq!(Table::decode(&table.encode(padded), 1).as_ref(), Ok(&table));
            let pack_bytes = table.frames_bytes() + 3_000;
            let pieces = encode_pieces([(pack, pack_bytes, &table)]);
            let mut found = Table::default();
            for piece in pieces {
                for group in decode_piece(&piece).expect("it reads") {
                    assert_eq!((group.pack, group.pack_bytes), (pack, pack_bytes));
                    assert_eq!(group.offset, found.frames_bytes());
                    found.frames.extend(group.frames);
                }
            }
            assert_eq!(found, table);
        },
    );
}

#[test]
fn entries_round_trip() {
    check(entry(), |entry| round_trip(&entry, Entry::put, Entry::read));
}

#[test]
fn listings_round_trip_through_pages_in_order() {
    let listing = vec((path(), entry()), 1..60);
    check((listing, any::<[u8; 32]>()), |(mut listing, key)| {
        listing.sort_by(|a, b| compare_places((&a.0, &a.1.name), (&b.0, &b.1.name)));
        let mut builder = PageBuilder::new(&ChunkingKey::from_bytes(key));
        let mut pages = Vec::new();
        for (directory, entry) in &listing {
            pages.extend(builder.push(directory, entry));
        }
        pages.extend(builder.finish());
        let mut found = Vec::new();
        for page in pages {
            let mut reader = PageReader::new(&page.plain).expect("it reads");
            while let Some(entry) = reader.next_entry().expect("it reads") {
                found.push((reader.directory().to_vec(), entry));
            }
        }
        assert_eq!(found, listing);
    });
}

#[test]
fn a_whole_tree_passes_the_order_check_and_no_swap_does() {
    // A tree of directories: every prefix of every path, once.
    check((vec(path(), 1..20), any::<u64>()), |(paths, choice)| {
        let mut places = std::collections::BTreeSet::new();
        for path in &paths {
            let mut directory = Vec::new();
            for name in path
                .split(|byte| *byte == b'/')
                .filter(|name| !name.is_empty())
            {
                places.insert((directory.clone(), name.to_vec()));
                directory = formats::listing::entry::join(&directory, name);
            }
        }
        let mut listing: Vec<(Vec<u8>, Vec<u8>)> = places.into_iter().collect();
        listing.sort_by(|a, b| compare_places((&a.0, &a.1), (&b.0, &b.1)));
        let passes = |listing: &[(Vec<u8>, Vec<u8>)]| {
            let mut order = OrderChecker::new();
            order.block(b"").is_ok()
                && listing.iter().all(|(directory, name)| {
                    order.block(directory).is_ok()
                        && order.entry(name, EntryKind::Directory).is_ok()
                })
        };
        assert!(passes(&listing), "{listing:?}");
        if listing.len() > 1 {
            let at = usize::try_from(choice % (listing.len() as u64 - 1)).expect("small");
            listing.swap(at, at + 1);
            assert!(!passes(&listing), "{listing:?}");
        }
    });
}

#[test]
fn content_and_page_indexes_round_trip() {
    check(
        (vec(extent(), 0..40), any::<[u8; 32]>()),
        |(extents, key)| {
            let covers = extents_cover(&extents).expect("small sums");
            let page = encode_content_page(&extents);
            assert_eq!(decode_content_page(&page, covers).as_ref(), Ok(&extents));
            assert!(decode_content_page(&page, covers + 1).is_err());
            let mut cutter = ContentPageCutter::new(&ChunkingKey::from_bytes(key));
            let mut found = Vec::new();
            extents
                .iter()
                .for_each(|extent| found.extend(cutter.push(*extent).unwrap_or_default()));
            found.extend(cutter.finish());
            assert_eq!(found, extents);
        },
    );
    let page = (id(), 1..=FRAME_PLAIN_MAX, 1..u32::MAX, path(), name());
    check(vec(page, 1..30), |pages| {
        let mut pages: Vec<PageRef> = pages
            .into_iter()
            .map(
                |(id, bytes, entries, first_directory, first_name)| PageRef {
                    id,
                    bytes,
                    entries,
                    first_directory,
                    first_name,
                },
            )
            .collect();
        fn place(page: &PageRef) -> (&[u8], &[u8]) {
            (&page.first_directory, &page.first_name)
        }
        pages.sort_by(|a, b| compare_places(place(a), place(b)));
        pages.dedup_by(|a, b| place(a) == place(b));
        let mut builder = PageIndexBuilder::new();
        pages
            .iter()
            .for_each(|page| assert_eq!(builder.push(page), None));
        let piece = builder.finish().expect("there are pages");
        assert_eq!(decode_page_index(&piece), Ok(pages));
    });
}

fn problem() -> impl Strategy<Value = Problem> {
    let kinds = [
        ProblemKind::SourceMissing,
        ProblemKind::Unreadable,
        ProblemKind::Vanished,
        ProblemKind::Changed,
        ProblemKind::BeyondLimit,
        ProblemKind::Other,
    ];
    let kind = proptest::sample::select(kinds.to_vec());
    (kind, path(), any::<u32>(), text()).prop_map(|(kind, path, errno, text)| Problem {
        kind,
        path,
        errno,
        text,
    })
}

fn names() -> impl Strategy<Value = Names> {
    let list =
        || btree_map(any::<u32>(), "[a-z]{1,9}", 0..4).prop_map(|map| map.into_iter().collect());
    (list(), list()).prop_map(|(users, groups)| Names { users, groups })
}

fn facts() -> impl Strategy<Value = HostFacts> {
    (text(), text(), text(), any::<u32>(), any::<i64>()).prop_map(
        |(system, hostname, machine_id, uid, clock_nanos)| HostFacts {
            system,
            hostname,
            machine_id,
            uid,
            clock_nanos,
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let refs = || {
        let chunk = (id(), 1..=FRAME_PLAIN_MAX);
        vec(chunk.prop_map(|(id, bytes)| ChunkRef { id, bytes }), 0..4)
    };
    let parent = proptest::option::of(any::<[u8; 32]>().prop_map(RecordId));
    let when = (any::<i64>(), any::<i64>(), any::<bool>(), any::<[u64; 8]>());
    let place = (text(), any::<[u8; 16]>(), parent, vec(path(), 0..4));
    let lists = (refs(), refs(), vec(pack_id(), 0..3), vec(problem(), 0..3));
    (place, when, lists, names(), facts(), text()).prop_map(
        |(
            (host, run, parent, sources),
            when,
            (page_index, index, meta_packs, problems),
            names,
            facts,
            agent,
        )| {
            let (started_nanos, committed_nanos, verified, totals) = when;
            let [
                files,
                directories,
                others,
                bytes,
                bytes_read,
                bytes_new,
                bytes_stored,
                count,
            ] = totals;
            Snapshot {
                host,
                run: RunId(run),
                started_nanos,
                committed_nanos,
                parent,
                verified,
                sources,
                page_index,
                index,
                meta_packs,
                totals: SnapshotTotals {
                    files,
                    directories,
                    others,
                    bytes,
                    bytes_read,
                    bytes_new,
                    bytes_stored,
                    problems: count,
                },
                problems,
                names,
                facts,
                agent,
            }
        },
    )
}

#[test]
fn snapshots_round_trip() {
    check(snapshot(), |snapshot| {
        round_trip(&snapshot, Snapshot::put, Snapshot::read)
    });
}

fn from_agent() -> impl Strategy<Value = FromAgent> {
    let of = || (any::<u64>(), any::<u32>()).prop_map(|(batch, entry)| EntryRef { batch, entry });
    let totals = || {
        any::<[u64; 9]>().prop_map(|[a, b, c, d, e, f, g, h, i]| Totals {
            entries: a,
            files_read: b,
            bytes_read: c,
            bytes_new: d,
            bytes_stored: e,
            packs: f,
            problems: g,
            memory_peak: h,
            cpu_millis: i,
        })
    };
    let entry = (name(), stat(), any::<u64>()).prop_map(|(name, stat, filesystem)| EntryStat {
        name,
        stat,
        filesystem,
    });
    let block =
        (path(), vec(entry, 0..4)).prop_map(|(directory, entries)| Block { directory, entries });
    let outcome = prop_oneof![
        Just(ReadOutcome::Read),
        Just(ReadOutcome::Vanished),
        any::<u32>().prop_map(|errno| ReadOutcome::Unreadable { errno }),
    ];
    let details = (of(), outcome, stat(), xattrs(), vec(1..=255u8, 1..9)).prop_map(
        |(of, outcome, stat, xattrs, link_target)| Details {
            of,
            outcome,
            flags: EntryFlags::UNSETTLED,
            stat,
            xattrs,
            link_target: match stat.kind {
                EntryKind::Symlink => link_target,
                _ => Vec::new(),
            },
        },
    );
    prop_oneof![
        (any::<[u8; 32]>(), facts()).prop_map(|(digest, facts)| FromAgent::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            digest,
            facts,
        })),
        Just(FromAgent::Ready),
        (any::<u64>(), vec(block, 0..4))
            .prop_map(|(batch, blocks)| FromAgent::Entries(Entries { batch, blocks })),
        (of(), vec(extent(), 0..6))
            .prop_map(|(of, extents)| FromAgent::Content(ContentPart { of, extents })),
        details.prop_map(FromAgent::Details),
        (any::<u64>(), vec((id(), 1..=CHUNK_BYTES_MAX), 0..6))
            .prop_map(|(query, chunks)| FromAgent::Seen(Seen { query, chunks })),
        (pack_id(), any::<u64>())
            .prop_map(|(pack, bytes)| FromAgent::PackStored(PackStored { pack, bytes })),
        problem().prop_map(FromAgent::Problem),
        names().prop_map(FromAgent::Names),
        totals().prop_map(FromAgent::Progress),
        tunnel().prop_map(FromAgent::Tunnel),
        totals().prop_map(FromAgent::Finished),
        text().prop_map(FromAgent::Abort),
        surroundings().prop_map(FromAgent::Surroundings),
    ]
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let mounts = vec(
        (path(), text()).prop_map(|(path, kind)| Mount { path, kind }),
        0..4,
    );
    let stores = vec(
        (path(), text()).prop_map(|(path, of)| Store { path, of }),
        0..4,
    );
    (text(), text(), mounts, stores).prop_map(|(machine_uuid, root_filesystem, mounts, stores)| {
        Surroundings {
            machine_uuid,
            root_filesystem,
            mounts,
            stores,
        }
    })
}

fn tunnel() -> impl Strategy<Value = TunnelBytes> {
    (any::<u8>(), vec(any::<u8>(), 0..50))
        .prop_map(|(connection, bytes)| TunnelBytes { connection, bytes })
}

fn streams() -> impl Strategy<Value = Vec<Stream>> {
    let stream = |name: Vec<u8>, command: Vec<Vec<u8>>, bounds: (u32, u64, Vec<u8>)| Stream {
        name,
        command,
        seconds_max: bounds.0,
        bytes_max: bounds.1,
        ending: bounds.2,
    };
    let command = vec(vec(1..=255u8, 1..9), 1..4);
    let bounds = (any::<u32>(), any::<u64>(), vec(any::<u8>(), 0..9));
    proptest::collection::btree_map(name(), (command, bounds), 0..4).prop_map(move |streams| {
        let streams = streams.into_iter();
        streams
            .map(|(name, (command, bounds))| stream(name, command, bounds))
            .collect::<Vec<_>>()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let sources = proptest::collection::btree_set(path(), 0..4);
    (
        sources,
        vec(text(), 0..4),
        vec(name(), 0..3),
        any::<(bool, bool)>(),
        prop_oneof![
            Just(FsSnapshot::None),
            Just(FsSnapshot::Btrfs),
            Just(FsSnapshot::Lvm),
        ],
    )
        .prop_map(
            |(sources, exclude, exclude_if_present, flags, fs_snapshot)| {
                let (one_file_system, exclude_caches) = flags;
                Rules {
                    sources: sources.into_iter().collect(),
                    one_file_system,
                    exclude,
                    exclude_caches,
                    exclude_if_present,
                    fs_snapshot,
                }
            },
        )
}

fn start() -> impl Strategy<Value = Start> {
    let transport = prop_oneof![
        vec(any::<u8>(), 0..100).prop_map(|path| Transport::Unix { path }),
        any::<u16>().prop_map(|port| Transport::Tcp { port }),
        Just(Transport::Stdio),
    ];
    let limits = (
        (1..=64u32, 1..=256u32),
        (1..=8u8, any::<i8>(), any::<u8>(), 0..=CPU_PERCENT_MAX),
    )
        .prop_map(
            |((batches, queries), (connections, level, threads, cpu_percent))| AgentLimits {
                batches_in_flight: batches,
                queries_in_flight: queries,
                tunnel_connections: connections,
                compression_level: level,
                threads,
                cpu_percent,
            },
        );
    let keys = any::<[[u8; 32]; 5]>();
    let ids = (any::<[u8; 16]>(), any::<u32>(), any::<[u8; 16]>());
    (
        ids,
        keys,
        vec(any::<u8>(), 0..100),
        transport,
        (rules(), streams()),
        limits,
    )
        .prop_map(
            |(
                (repository, epoch, run),
                [id, chunking, data, table, token],
                run_header,
                transport,
                (rules, streams),
                limits,
            )| {
                Start {
                    repository: RepositoryId(repository),
                    epoch,
                    run: RunId(run),
                    id_key: IdKey::from_bytes(id),
                    chunking_key: ChunkingKey::from_bytes(chunking),
                    data_key: DataKey::from_bytes(data),
                    table_key: TableKey::from_bytes(table),
                    run_header,
                    token: RunToken::from_bytes(token),
                    transport,
                    rules,
                    streams,
                    limits,
                }
            },
        )
}

#[test]
fn messages_of_the_agent_round_trip_and_no_prefix_reads() {
    check(from_agent(), |message| {
        let bytes = message.encode();
        assert_eq!(FromAgent::decode(&bytes).as_ref(), Ok(&message));
        for length in 0..bytes.len() {
            assert!(FromAgent::decode(bytes.get(..length).unwrap_or_default()).is_err());
        }
    });
}

#[test]
fn messages_of_the_coordinator_round_trip_and_no_prefix_reads() {
    let bitmap = || {
        (any::<u64>(), vec(any::<bool>(), 0..40))
            .prop_map(|(of, answers)| Bitmap::new(of, answers.into_iter()))
    };
    let message = prop_oneof![
        start().prop_map(|start| FromCoordinator::Start(Box::new(start))),
        bitmap().prop_map(FromCoordinator::Verdicts),
        bitmap().prop_map(FromCoordinator::Wanted),
        tunnel().prop_map(FromCoordinator::Tunnel),
        Just(FromCoordinator::Bye),
        text().prop_map(FromCoordinator::Abort),
    ];
    check(message, |message| {
        let bytes = message.encode();
        let decoded = FromCoordinator::decode(&bytes).expect("it reads");
        assert_eq!(decoded.encode(), bytes);
        for length in 0..bytes.len() {
            assert!(FromCoordinator::decode(bytes.get(..length).unwrap_or_default()).is_err());
        }
    });
}

#[test]
fn bodies_of_repairs_round_trip() {
    let outcome = proptest::sample::select(LockOutcome::ALL.to_vec());
    let locked = (any::<u64>(), outcome, any::<bool>());
    check(locked, |(until_unix_secs, outcome, is_held)| {
        let locked = LockedObject {
            until_unix_secs,
            outcome,
            is_held,
        };
        assert_eq!(LockedObject::decode(&locked.encode()), Ok(locked));
    });
    check((0u8..4, ".{0,60}", ".{0,60}"), |(tag, from, kept)| {
        let healed = match tag {
            0 => HealedObject::Good,
            1 => HealedObject::Pending,
            2 => HealedObject::Stored { from },
            _ => HealedObject::Replaced { from, kept },
        };
        assert_eq!(HealedObject::decode(&healed.encode()), Ok(healed));
    });
}

fn conditional_writes() -> impl Strategy<Value = ConditionalWrites> {
    let found = proptest::sample::select(TriedWrites::ALL.to_vec());
    let tried = (found, any::<u64>()).prop_map(|(found, at_unix_secs)| ConditionalWrites::Tried {
        found,
        at_unix_secs,
    });
    prop_oneof![
        Just(ConditionalWrites::NoneNeeded),
        Just(ConditionalWrites::NotTried),
        Just(ConditionalWrites::Off),
        tried,
    ]
}

#[test]
fn bodies_of_the_append_server_round_trip() {
    check(
        (pack_id(), any::<u64>(), any::<bool>()),
        |(digest, bytes, existed)| {
            let stored = Stored {
                digest,
                bytes,
                existed,
            };
            assert_eq!(Stored::decode(&stored.encode()), Ok(stored));
        },
    );
    let refusal = (proptest::sample::select(RefusalKind::ALL.to_vec()), text());
    check(refusal, |(kind, text)| {
        let refusal = Refusal { kind, text };
        assert_eq!(Refusal::decode(&refusal.encode()), Ok(refusal));
    });
    let objects = btree_map("[a-z0-9/]{1,30}", any::<u64>(), 0..20);
    check((objects, any::<bool>()), |(objects, more)| {
        let objects = objects.into_iter().collect();
        let page = ObjectPage { objects, more };
        assert_eq!(ObjectPage::decode(&page.encode()), Ok(page));
    });
}

#[test]
fn how_repositories_are_kept_round_trips() {
    let repositories = proptest::collection::btree_set(any::<[u8; 16]>(), 0..9);
    let names = proptest::option::of(proptest::collection::btree_set("[a-z0-9._-]{1,64}", 0..9));
    let copies = prop_oneof![
        Just(Copies::Floor),
        (1..=DESTINATIONS_MAX).prop_map(Copies::AtLeast),
        Just(Copies::All),
    ];
    let asked = proptest::option::of((names, copies));
    check((repositories, asked), |(repositories, asked)| {
        let placing = Placing {
            repositories: repositories.into_iter().map(RepositoryId).collect(),
            asked: asked.map(|(names, copies)| AskedPlaces {
                destinations: names.map(|names| names.into_iter().collect()),
                copies,
            }),
        };
        assert_eq!(Placing::decode(&placing.encode()), Ok(placing));
    });
}

#[test]
fn what_the_append_server_says_of_destinations_and_runs_round_trips() {
    let state = (
        text(),
        any::<(bool, u64, u64, Option<u64>)>(),
        proptest::option::of(text()),
        (
            conditional_writes(),
            proptest::sample::select(Placed::ALL.to_vec()),
        ),
    );
    check(proptest::collection::vec(state, 0..5), |states| {
        let states =
            states
                .into_iter()
                .map(|(name, facts, problem, (conditional_writes, placed))| {
                    let (required, objects_behind, bytes_behind, oldest_unix_secs) = facts;
                    DestinationState {
                        name,
                        required,
                        objects_behind,
                        bytes_behind,
                        oldest_unix_secs,
                        problem,
                        conditional_writes,
                        placed,
                    }
                });
        let states = DestinationStates(states.collect());
        assert_eq!(DestinationStates::decode(&states.encode()), Ok(states));
    });
    check(any::<(u64, u64)>(), |(objects, bytes)| {
        let queued = Queued { objects, bytes };
        assert_eq!(Queued::decode(&queued.encode()), Ok(queued));
    });
    check(
        any::<([u8; 16], [u8; 16], [u8; 32], [u64; 3])>(),
        |(repository, run, token, most)| {
            let [bytes_max, packs_max, seconds_max] = most;
            let open = OpenRun {
                repository: RepositoryId(repository),
                run: RunId(run),
                token: RunToken::from_bytes(token),
                bytes_max,
                packs_max,
                seconds_max,
            };
            let again = OpenRun::decode(&open.encode()).expect("it reads");
            assert_eq!(again.encode(), open.encode());
        },
    );
    check(any::<([u8; 16], [u8; 32])>(), |(run, nonce)| {
        let opening = Opening {
            run: RunId(run),
            nonce,
        };
        let bytes = opening.encode().try_into().expect("its size");
        assert_eq!(Opening::decode(&bytes), Ok(opening));
    });
}
