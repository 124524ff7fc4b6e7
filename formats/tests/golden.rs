//! Golden files: each decodes to exactly the value expected, and what holds no randomness is written again
//! byte for byte. A failure here is a format change: documents, version and golden files move together.
//!
//! `CAPSTAN_WRITE_GOLDEN=1 cargo test -p formats --test golden what_holds` writes them all anew, with fresh seals.

mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use formats::audit::{AuditHead, AuditRecord};
use formats::chunk::Chunker;
use formats::codec::{Put as _, Reader};
use formats::config::RepositoryConfig;
use formats::ids::RecordId;
use formats::keys::bundle::header::{certificate, with_certificate};
use formats::keys::bundle::{KeyBundle, Lock, PasswordCost, Role, Unlock};
use formats::keys::derive::{Use, commitment, repository_bytes, root};
use formats::keys::kit;
use formats::keys::secret::DataKey;
use formats::listing::content::{decode_content_page, encode_content_page};
use formats::listing::entry::Entry;
use formats::listing::page::{PageBuilder, PageReader};
use formats::listing::page_index::{PageIndexBuilder, decode_page_index};
use formats::log::lease::Lease;
use formats::log::record::{Payload, RecordPlace, SealedRecord, seal_record};
use formats::log::retention::Retention;
use formats::log::settings::HostSettings;
use formats::log::snapshot::Snapshot;
use formats::pack::assemble::PackAssembler;
use formats::pack::index::{decode_piece, encode_pieces};
use formats::pack::open::Trailer;
use formats::pack::table::Table;
use formats::pack::trailer::{FOOTER_BYTES, Footer};
use formats::seal::frame::{FrameOpener, FrameSealer};
use formats::seal::run_header::{Purpose, RunHeader};
use formats::wire::control::{FromAgent, FromCoordinator};
use formats::wire::framing::{frame, frame_length};
use formats::wire::handshake::{Opening, agent_proof, server_proof};
use formats::wire::placing::Placing;
use formats::wire::upload::destinations::DestinationStates;
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::Refusal;
use formats::wire::upload::removals::RemovalReport;
use formats::wire::upload::repairs::{HealedObject, LockedObject, Queued};
use formats::wire::upload::{OpenRun, Stored};

use samples::messages;
use samples::reader::{Names, Objects, restore};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn golden(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    fs::read(&path).expect("the golden file is checked in")
}

/// The key of the golden frames: a run's data key is random, so it is fixed here.
fn frame_key() -> DataKey {
    DataKey::from_bytes(samples::counting(0x70))
}

const NUMBERS: [u64; 8] = [0, 1, 127, 128, 300, 16_384, u32::MAX as u64, u64::MAX];

/// Everything that has one encoding.
fn exact() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| {
        assert!(files.insert(name.to_owned(), bytes).is_none(), "{name}");
    };
    let mut numbers = Vec::new();
    NUMBERS
        .iter()
        .for_each(|number| numbers.put_varint(*number));
    add("codec.bin", numbers);
    add(
        "chunk_id.bin",
        samples::data_chunk(samples::SMALL_PLAIN)
            .as_bytes()
            .to_vec(),
    );
    add("chunk_cuts.bin", chunk_cuts());
    add("derivation.bin", derivation());
    add(
        "recovery_kit.txt",
        kit::write(&samples::master()).as_bytes().to_vec(),
    );
    add(
        "config.bin",
        samples::config()
            .seal(&samples::keys())
            .expect("the admin signs"),
    );
    add("table.bin", samples::table().encode(200));
    let footer = Footer {
        table_bytes: 240,
        run_headers: 1,
    };
    add("footer.bin", footer.encode());
    for (name, entry) in entries() {
        let mut bytes = Vec::new();
        entry.put(&mut bytes);
        add(name, bytes);
    }
    add("page.bin", samples::page_bytes(&samples::listing()));
    add("page_index.bin", page_index());
    add(
        "content_page.bin",
        encode_content_page(&samples::content_page()),
    );
    add("index_piece.bin", index_piece());
    for (name, bytes) in log_payloads() {
        add(&name, bytes);
    }
    add("audit_record.bin", samples::audit_record().encode().0);
    add("audit_head.bin", samples::audit_head().encode());
    for (name, message) in messages::from_agent() {
        add(&format!("{name}.bin"), message.encode());
    }
    for (name, message) in messages::from_coordinator() {
        add(&format!("{name}.bin"), message.encode());
    }
    add(
        "framed.bin",
        frame(&FromAgent::Ready.encode()).expect("one byte fits"),
    );
    for (name, bytes) in handshake() {
        add(name, bytes);
    }
    for (name, bytes) in upload_bodies() {
        add(name, bytes);
    }
    files
}

/// What the records of the log carry.
fn log_payloads() -> Vec<(String, Vec<u8>)> {
    let (mut snapshot, mut lease, mut settings) = (Vec::new(), Vec::new(), Vec::new());
    samples::snapshot().put(&mut snapshot);
    samples::lease().put(&mut lease);
    samples::settings().put(&mut settings);
    let mut payloads = vec![
        ("snapshot.bin".to_owned(), snapshot),
        ("lease.bin".to_owned(), lease),
        ("host_settings.bin".to_owned(), settings),
    ];
    payloads.extend(samples::retention().into_iter().map(|(name, retention)| {
        let mut bytes = Vec::new();
        retention.put(&mut bytes);
        (format!("retention_{name}.bin"), bytes)
    }));
    payloads
}

fn upload_bodies() -> [(&'static str, Vec<u8>); 10] {
    [
        ("stored.bin", messages::stored().encode()),
        ("open_run.bin", messages::open_run().encode()),
        ("refusal.bin", messages::refusal().encode()),
        ("object_page.bin", messages::object_page().encode()),
        (
            "destination_states.bin",
            messages::destination_states().encode(),
        ),
        ("placing.bin", messages::placing().encode()),
        ("queued.bin", messages::queued().encode()),
        ("healed_object.bin", messages::healed_object().encode()),
        ("locked_object.bin", messages::locked_object().encode()),
        ("removal_report.bin", messages::removal_report().encode()),
    ]
}

fn entries() -> [(&'static str, Entry); 7] {
    [
        ("entry_file.bin", samples::entry_file()),
        ("entry_directory.bin", samples::entry_directory(b"etc")),
        ("entry_symlink.bin", samples::entry_symlink()),
        ("entry_device.bin", samples::entry_device()),
        ("entry_hard_link.bin", samples::entry_hard_link()),
        ("entry_pages.bin", samples::entry_pages()),
        ("entry_missing.bin", samples::entry_missing()),
    ]
}

/// Where 8 MiB of BLAKE3's extended output of nothing is cut: u64 ends.
fn chunk_cuts() -> Vec<u8> {
    let mut data = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    let keys = samples::keys();
    let chunker = Chunker::new(keys.chunking().expect("the admin holds it"));
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < data.len() {
        at += chunker.cut(data.get(at..).unwrap_or_default());
        ends.put_u64(at as u64);
    }
    ends
}

/// For each use, its root and its repository bytes; then the commitment of 32 zero bytes.
fn derivation() -> Vec<u8> {
    let mut out = Vec::new();
    for use_ in Use::ALL {
        let root = root(&samples::master(), use_);
        out.put(root.expose());
        out.put(&repository_bytes(
            &root,
            use_,
            samples::repository(),
            samples::EPOCH,
        ));
    }
    out.put(&commitment(&[0; 32]));
    out
}

fn page_index() -> Vec<u8> {
    let mut builder = PageIndexBuilder::new();
    for page in samples::page_index() {
        assert_eq!(builder.push(&page), None);
    }
    builder.finish().expect("two pages")
}

fn index_piece() -> Vec<u8> {
    let groups = samples::indexed();
    let table = samples::table();
    let packs = groups
        .iter()
        .map(|group| (group.pack, group.pack_bytes, &table));
    encode_pieces(packs).first().expect("one piece").clone()
}

fn handshake() -> [(&'static str, Vec<u8>); 3] {
    let (token, opening) = (messages::token(), messages::opening());
    let nonce = messages::server_nonce();
    let mut answer = nonce.to_vec();
    answer.put(&server_proof(&token, &opening, &nonce));
    [
        ("handshake_opening.bin", opening.encode()),
        ("handshake_answer.bin", answer),
        (
            "handshake_proof.bin",
            agent_proof(&token, &opening, &nonce).to_vec(),
        ),
    ]
}

/// Everything with a random seal, fresh.
fn sealed() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let (header, _) =
        RunHeader::create(samples::context(Purpose::Data), &samples::public()).expect("it works");
    files.insert("run_header.bin".to_owned(), header.encode());
    let long = samples::long_plain();
    for (name, plain) in [
        ("frame_raw.bin", samples::SMALL_PLAIN),
        ("frame_zstd.bin", &long),
    ] {
        let mut sealer = FrameSealer::new(samples::context(Purpose::Data), frame_key(), 3)
            .expect("a level zstd has");
        let mut bytes = Vec::new();
        sealer
            .seal(formats::chunk::ChunkKind::Data, plain, &mut bytes)
            .expect("sealing works");
        files.insert(name.to_owned(), bytes);
    }
    let user = "daemon".parse().expect("a good name");
    let locks = [
        ("key_bundle_file.bin", Lock::File(&samples::file_key())),
        (
            "key_bundle_password.bin",
            Lock::Password(samples::PASSWORD, PasswordCost::SMALL),
        ),
    ];
    for (name, lock) in locks {
        let bundle = KeyBundle::new(&samples::master(), Role::Write);
        let bytes = bundle.seal(&user, &lock).expect("sealing works");
        files.insert(name.to_owned(), bytes);
    }
    files.insert("key_bundle_read.bin".to_owned(), readers_bundle());
    let payload = Payload::Snapshot(Box::new(samples::snapshot()));
    let log = samples::public().log;
    let (record, _) = seal_record(&samples::first_place(), &payload, &log, &samples::keys())
        .expect("sealing works");
    files.insert("log_record.bin".to_owned(), record);
    let payload = Payload::Lease(samples::lease());
    let (lease, _) = seal_record(&samples::first_place(), &payload, &log, &samples::keys())
        .expect("sealing works");
    files.insert("log_lease.bin".to_owned(), lease);
    let assembler = PackAssembler::new(header, trailer_key());
    files.insert(
        "empty_pack.bin".to_owned(),
        assembler.finish().expect("it works"),
    );
    files
}

/// A reader's bundle as it stands in the sample repository.
fn readers_bundle() -> Vec<u8> {
    let bundle = KeyBundle::new(&samples::master(), Role::Read);
    let user = "box".parse().expect("a good name");
    let sealed = bundle
        .seal(&user, &Lock::File(&samples::file_key()))
        .expect("sealing works");
    with_certificate(&sealed, Some(&samples::certificate())).expect("it is a bundle")
}

fn trailer_key() -> formats::keys::secret::TableKey {
    formats::keys::secret::TableKey::from_bytes(samples::counting(0x90))
}

fn repository_directory() -> PathBuf {
    directory()
        .join("repository")
        .join(samples::repository().to_string())
}

fn repository_objects() -> Objects {
    let mut objects = Objects::new();
    let mut waiting = vec![repository_directory()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).expect("the golden repository is checked in") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path
                    .strip_prefix(repository_directory())
                    .expect("it is below")
                    .to_str()
                    .expect("names are ASCII")
                    .to_owned();
                objects.insert(name, fs::read(&path).expect("it can be read"));
            }
        }
    }
    objects
}

fn write_all() {
    let write = |path: PathBuf, bytes: &[u8]| {
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        fs::write(path, bytes).expect("it can be written");
    };
    fs::remove_dir_all(directory()).ok();
    for (name, bytes) in exact().into_iter().chain(sealed()) {
        write(directory().join(name), &bytes);
    }
    for (name, bytes) in samples::repository::make() {
        write(repository_directory().join(name), &bytes);
    }
}

#[test]
fn what_holds_no_randomness_is_written_byte_for_byte() {
    if std::env::var_os("CAPSTAN_WRITE_GOLDEN").is_some() {
        write_all();
    }
    for (name, bytes) in exact() {
        assert!(golden(&name) == bytes, "{name} has changed");
    }
}

#[test]
fn every_golden_file_is_one_that_is_tested() {
    let mut found: Vec<String> = fs::read_dir(directory())
        .expect("golden files are checked in")
        .map(|entry| entry.expect("it can be listed").file_name())
        .map(|name| name.into_string().expect("names are ASCII"))
        .filter(|name| name != "repository")
        .collect();
    found.sort();
    let known: Vec<String> = exact().into_keys().chain(sealed().into_keys()).collect();
    let mut known: Vec<&String> = known.iter().collect();
    known.sort();
    assert_eq!(found.iter().collect::<Vec<_>>(), known);
}

#[test]
fn small_formats_decode_to_their_values() {
    let bytes = golden("codec.bin");
    let mut reader = Reader::new(&bytes);
    for number in NUMBERS {
        assert_eq!(reader.varint("number"), Ok(number));
    }
    assert_eq!(reader.finish("numbers"), Ok(()));
    let kit = String::from_utf8(golden("recovery_kit.txt")).expect("it is text");
    let master = kit::read(&kit).expect("it reads");
    assert_eq!(master.expose(), samples::master().expose());
    let config = RepositoryConfig::open(
        &golden("config.bin"),
        samples::repository(),
        &samples::public().verifying,
    );
    assert_eq!(config, Ok(samples::config()));
    assert_eq!(Table::decode(&golden("table.bin"), 1), Ok(samples::table()));
    let footer: [u8; FOOTER_BYTES] = golden("footer.bin").try_into().expect("its size");
    let decoded = Footer::decode(&footer, 4_096).expect("it reads");
    assert_eq!((decoded.table_bytes, decoded.run_headers), (240, 1));
}

#[test]
fn listings_decode_to_their_values() {
    for (name, entry) in entries() {
        let bytes = golden(name);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Entry::read(&mut reader), Ok(entry), "{name}");
        assert_eq!(reader.remaining(), 0, "{name}");
    }
    let bytes = golden("page.bin");
    let mut page = PageReader::new(&bytes).expect("it reads");
    for (directory, entry) in samples::listing() {
        assert_eq!(page.next_entry(), Ok(Some(entry)));
        assert_eq!(page.directory(), directory);
    }
    assert_eq!(page.next_entry(), Ok(None));
    let keys = samples::keys();
    let mut builder = PageBuilder::new(keys.chunking().expect("the admin holds it"));
    for (directory, entry) in samples::listing() {
        assert_eq!(builder.push(&directory, &entry), None);
    }
    assert_eq!(builder.finish().expect("one page").plain, bytes);
    assert_eq!(
        decode_page_index(&golden("page_index.bin")),
        Ok(samples::page_index())
    );
    assert_eq!(
        decode_content_page(&golden("content_page.bin"), 1_048_589),
        Ok(samples::content_page())
    );
    assert_eq!(
        decode_piece(&golden("index_piece.bin")),
        Ok(samples::indexed())
    );
    let bytes = golden("lease.bin");
    assert_eq!(Lease::read(&mut Reader::new(&bytes)), Ok(samples::lease()));
    let bytes = golden("host_settings.bin");
    let settings = HostSettings::read(&mut Reader::new(&bytes));
    assert_eq!(settings, Ok(samples::settings()));
    for (name, retention) in samples::retention() {
        let bytes = golden(&format!("retention_{name}.bin"));
        let mut reader = Reader::new(&bytes);
        assert_eq!(Retention::read(&mut reader), Ok(retention), "{name}");
        assert_eq!(reader.finish("retention"), Ok(()));
    }
    let bytes = golden("snapshot.bin");
    let mut reader = Reader::new(&bytes);
    assert_eq!(Snapshot::read(&mut reader), Ok(samples::snapshot()));
    assert_eq!(reader.finish("snapshot"), Ok(()));
}

#[test]
fn the_audit_log_decodes_to_its_values() {
    let bytes = golden("audit_record.bin");
    let read = AuditRecord::read_first(&bytes).expect("it reads");
    assert_eq!(read.record, samples::audit_record());
    assert_eq!(read.bytes, bytes.len());
    let head = AuditHead::decode(&golden("audit_head.bin")).expect("it reads");
    assert_eq!(head, samples::audit_head());
    assert_eq!(head.id, read.id);
}

#[test]
fn messages_decode_to_their_values() {
    for (name, message) in messages::from_agent() {
        assert_eq!(
            FromAgent::decode(&golden(&format!("{name}.bin"))),
            Ok(message),
            "{name}"
        );
    }
    for (name, message) in messages::from_coordinator() {
        let decoded = FromCoordinator::decode(&golden(&format!("{name}.bin"))).expect(name);
        // `Start` holds secrets and has no equality; its bytes have.
        assert_eq!(decoded.encode(), message.encode(), "{name}");
    }
    let framed = golden("framed.bin");
    let length = framed.first_chunk::<4>().expect("a length");
    assert_eq!(frame_length(*length), Ok(1));
    let opening = golden("handshake_opening.bin")
        .try_into()
        .expect("its size");
    assert_eq!(Opening::decode(&opening), Ok(messages::opening()));
    assert_eq!(
        Stored::decode(&golden("stored.bin")),
        Ok(messages::stored())
    );
    let open_run = OpenRun::decode(&golden("open_run.bin")).expect("it reads");
    assert_eq!(open_run.encode(), messages::open_run().encode());
    assert_eq!(
        Refusal::decode(&golden("refusal.bin")),
        Ok(messages::refusal())
    );
    assert_eq!(
        ObjectPage::decode(&golden("object_page.bin")),
        Ok(messages::object_page())
    );
    assert_eq!(
        DestinationStates::decode(&golden("destination_states.bin")),
        Ok(messages::destination_states())
    );
    assert_eq!(
        Placing::decode(&golden("placing.bin")),
        Ok(messages::placing())
    );
    assert_eq!(
        Queued::decode(&golden("queued.bin")),
        Ok(messages::queued())
    );
    assert_eq!(
        HealedObject::decode(&golden("healed_object.bin")),
        Ok(messages::healed_object())
    );
    assert_eq!(
        LockedObject::decode(&golden("locked_object.bin")),
        Ok(messages::locked_object())
    );
    assert_eq!(
        RemovalReport::decode(&golden("removal_report.bin")),
        Ok(messages::removal_report())
    );
}

#[test]
fn key_bundles_open_to_their_values() {
    let unlocks = [
        ("key_bundle_file.bin", Unlock::File(&samples::file_key())),
        (
            "key_bundle_password.bin",
            Unlock::Password(samples::PASSWORD),
        ),
    ];
    for (name, unlock) in unlocks {
        let (user, bundle) = KeyBundle::open(&golden(name), &unlock).expect("it opens");
        assert_eq!((user.as_str(), bundle.role()), ("daemon", Role::Write));
        let signing = bundle.root(Use::Signing).expect("the role holds it");
        assert_eq!(
            signing.expose(),
            root(&samples::master(), Use::Signing).expose()
        );
    }
    assert_eq!(
        certificate(&golden("key_bundle_read.bin")),
        Ok(Some(samples::certificate()))
    );
    assert_eq!(
        samples::reader_keys(&golden("key_bundle_read.bin")).map(|keys| keys.public()),
        Some(Ok(samples::public()))
    );
}

#[test]
fn sealed_formats_open_to_their_values() {
    let keys = samples::keys();
    let header = RunHeader::decode(&golden("run_header.bin")).expect("it reads");
    assert_eq!(header.context, samples::context(Purpose::Data));
    header
        .open_data_key(keys.data().expect("held"))
        .expect("it opens");
    header
        .open_table_key(keys.meta().expect("held"))
        .expect("it opens");
    let long = samples::long_plain();
    let frames = samples::table().frames;
    let goldens = [
        ("frame_raw.bin", samples::SMALL_PLAIN),
        ("frame_zstd.bin", &long),
    ];
    for ((name, plain), frame) in goldens.into_iter().zip(frames) {
        let sealed = golden(name);
        let mut shape = frame.shape;
        shape.sealed_bytes = u32::try_from(sealed.len()).expect("a short frame");
        let mut opener =
            FrameOpener::new(samples::context(Purpose::Data), frame_key()).expect("zstd starts");
        let mut out = Vec::new();
        assert_eq!(opener.open(&shape, &sealed, &mut out), Ok(()), "{name}");
        assert_eq!(out, plain, "{name}");
    }
    let lease = golden("log_lease.bin");
    let payload = SealedRecord::check(
        &lease,
        &samples::public().verifying,
        &samples::first_place(),
    )
    .and_then(|record| record.open(keys.log().expect("held")));
    assert_eq!(payload, Ok(Payload::Lease(samples::lease())));
    let record = golden("log_record.bin");
    let place = samples::first_place();
    let verifying = samples::public().verifying;
    let checked = SealedRecord::check(&record, &verifying, &place).expect("it checks");
    let payload = checked.open(keys.log().expect("held"));
    assert_eq!(
        payload,
        Ok(Payload::Snapshot(Box::new(samples::snapshot())))
    );
    let later = RecordPlace {
        previous: RecordId([1; 32]),
        ..place
    };
    assert!(SealedRecord::check(&record, &verifying, &later).is_err());
    let pack = golden("empty_pack.bin");
    let trailer = Trailer::decode(&pack, pack.len() as u64).expect("it reads");
    assert_eq!(trailer.open_table(&trailer_key()), Ok(Table::default()));
}

#[test]
fn the_golden_repository_restores() {
    let objects = repository_objects();
    let names: Vec<&str> = objects.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for names in [Names::Checked, Names::Ignored] {
        let restored = restore(&objects, samples::repository(), &samples::file_key(), names)
            .expect("it restores");
        let expected = samples::repository::listing();
        assert_eq!(restored.len(), expected.len());
        for (found, (directory, entry)) in restored.iter().zip(expected) {
            assert_eq!(
                found.path,
                formats::listing::entry::join(&directory, &entry.name)
            );
            assert_eq!(found.entry, entry);
        }
        let bytes = |path: &[u8]| {
            let found = restored.iter().find(|entry| entry.path == path);
            found.expect("it is listed").bytes.clone()
        };
        assert_eq!(bytes(b"etc/hostname"), samples::SMALL_PLAIN);
        assert_eq!(bytes(b"srv/notes.txt"), samples::long_plain());
        let disk = [vec![0; 1 << 20], samples::SMALL_PLAIN.to_vec()].concat();
        assert!(bytes(b"srv/disk.img") == disk);
    }
}

/// Cuts as `formats/docs/repository.md` says, byte by byte, without the crate that the chunker uses.
fn cut_by_the_document(gear: &[u64; 256], data: &[u8]) -> usize {
    const MASK_SMALL: u64 = 0x0000_d917_4753_7000;
    const MASK_LARGE: u64 = 0x0000_d907_0753_7000;
    let (least, average, most) = (128 << 10, 512 << 10, 2 << 20);
    if data.len() <= least {
        return data.len();
    }
    let window = data.get(..most).unwrap_or(data);
    let center = average.min(window.len()) / 2 * 2;
    let gear_of = |at: usize| gear[usize::from(window[at])];
    let mut hash = 0u64;
    for at in (least..window.len() / 2 * 2).step_by(2) {
        let mask = if at < center { MASK_SMALL } else { MASK_LARGE };
        hash = (hash << 2).wrapping_add(gear_of(at) << 1);
        if hash & (mask << 1) == 0 {
            return at;
        }
        hash = hash.wrapping_add(gear_of(at + 1));
        if hash & mask == 0 {
            return at + 1;
        }
    }
    window.len()
}

#[test]
fn the_documented_way_of_cutting_gives_the_golden_cuts() {
    let keys = samples::keys();
    let key = keys.chunking().expect("the admin holds it");
    let mut hasher = blake3::Hasher::new_derive_key("capstan 2026-11 gear table");
    hasher.update(key.expose());
    let mut table = [0; 2_048];
    hasher.finalize_xof().fill(&mut table);
    let mut reader = Reader::new(&table);
    let gear = std::array::from_fn(|_| reader.u64("gear").expect("2,048 bytes"));
    let mut data = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < data.len() {
        at += cut_by_the_document(&gear, &data[at..]);
        ends.put_u64(at as u64);
    }
    assert_eq!(ends, golden("chunk_cuts.bin"));
    // Short and odd sources too, against the chunker itself.
    let chunker = Chunker::new(key);
    for bytes in [
        0, 1, 131_071, 131_072, 131_073, 400_001, 524_289, 2_097_151, 2_097_153,
    ] {
        let source = &data[1_000_000..1_000_000 + bytes];
        assert_eq!(
            chunker.cut(source),
            cut_by_the_document(&gear, source),
            "{bytes}"
        );
    }
}
