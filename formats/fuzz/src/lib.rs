//! The bodies of the fuzz targets, one per decoder. Each takes any bytes and must return: no panic, and what
//! decodes must encode to the same bytes again. `formats/tests/fuzz_smoke.rs` runs the same bodies on stable.

use formats::audit::{AuditHead, AuditRecord};
use formats::chunk::ChunkKind;
use formats::codec::{Put as _, Reader};
use formats::config::RepositoryConfig;
use formats::ids::{RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role, Unlock};
use formats::keys::kit;
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::{DataKey, FileKey, MasterKey};
use formats::listing::content::{decode_content_page, encode_content_page};
use formats::listing::entry::{Entry, check_path, join};
use formats::listing::order::OrderChecker;
use formats::listing::page::PageReader;
use formats::listing::page_index::{PageIndexBuilder, decode_page_index};
use formats::log::record::{Payload, RecordPlace, SealedRecord};
use formats::log::snapshot::Snapshot;
use formats::object::{ObjectName, UserName};
use formats::pack::index::{decode_piece, encode_pieces};
use formats::pack::open::Trailer;
use formats::pack::table::Table;
use formats::pack::trailer::{FOOTER_BYTES, Footer};
use formats::seal::aead;
use formats::seal::frame::{Compression, FrameOpener, FrameShape};
use formats::seal::kem;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::control::{FromAgent, FromCoordinator};
use formats::wire::framing::{frame, frame_length};
use formats::wire::handshake::{OPENING_BYTES, Opening};
use formats::wire::placing::Placing;
use formats::wire::upload::destinations::DestinationStates;
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::Refusal;
use formats::wire::upload::removals::RemovalReport;
use formats::wire::upload::repairs::{HealedObject, LockedObject, Queued};
use formats::wire::upload::{OpenRun, Stored};

/// One target: its name, and what it does with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 25] = [
    ("codec", codec),
    ("object_name", object_name),
    ("recovery_kit", recovery_kit),
    ("config", config),
    ("key_bundle", key_bundle),
    ("run_header", run_header),
    ("frame", frame_body),
    ("table", table),
    ("footer", footer),
    ("pack", pack),
    ("index_piece", index_piece),
    ("entry", entry),
    ("page", page),
    ("page_index", page_index),
    ("content_page", content_page),
    ("log_record", log_record),
    ("log_payload", log_payload),
    ("snapshot", snapshot),
    ("audit_record", audit_record),
    ("audit_head", audit_head),
    ("agent_message", agent_message),
    ("coordinator_message", coordinator_message),
    ("framing", framing),
    ("handshake", handshake),
    ("upload", upload),
];

fn repository() -> RepositoryId {
    RepositoryId(std::array::from_fn(|index| index as u8))
}

fn keys() -> RepositoryKeys {
    let master = MasterKey::from_bytes(std::array::from_fn(|index| index as u8));
    RepositoryKeys::derive(&KeyBundle::new(&master, Role::Admin), repository(), 1)
}

fn context() -> RunContext {
    RunContext {
        repository: repository(),
        epoch: 1,
        run: RunId([3; 16]),
        purpose: Purpose::Data,
    }
}

/// Numbers, flags, prefixed bytes and texts, by turns.
pub fn codec(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut again = Vec::new();
    loop {
        let before = reader.clone();
        match reader.varint("number") {
            Ok(number) => again.put_varint(number),
            Err(_) => {
                reader = before;
                break;
            }
        }
    }
    assert!(data.starts_with(&again));
    if let Ok(bytes) = reader.clone().prefixed("bytes", 64) {
        assert!(bytes.len() <= 64);
    }
    if let Ok(text) = reader.clone().text("text", 64) {
        assert!(text.len() <= 64);
    }
    if let Ok(count) = reader.count("things", 1_000, 3) {
        assert!(count <= 1_000 && count * 3 <= reader.remaining());
    }
}

/// Names of objects and users: one spelling each.
pub fn object_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.to_string(), text);
        let key = name.key(repository());
        assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    if let Ok(user) = text.parse::<UserName>() {
        assert_eq!(user.as_str(), text);
    }
}

/// A kit's text.
pub fn recovery_kit(data: &[u8]) {
    if let Ok(master) = kit::read(&String::from_utf8_lossy(data)) {
        let again = kit::read(&kit::write(&master)).expect("what is written reads");
        assert_eq!(again.expose(), master.expose());
    }
}

/// A repository's config.
pub fn config(data: &[u8]) {
    let keys = keys();
    let verifying = keys.verifying().expect("the admin holds it");
    if let Ok(config) = RepositoryConfig::open(data, repository(), &verifying) {
        assert_eq!(config.seal(&keys).expect("the admin signs"), data);
    }
}

/// A key bundle, opened by a key file: no password is stretched here.
pub fn key_bundle(data: &[u8]) {
    let file = FileKey::from_bytes(std::array::from_fn(|index| 0x20 + index as u8));
    if let Ok((user, _)) = KeyBundle::open(data, &Unlock::File(&file)) {
        assert!(!user.as_str().is_empty());
    }
}

/// A run header; its keys are tried too.
pub fn run_header(data: &[u8]) {
    if let Ok(header) = RunHeader::decode(data) {
        assert_eq!(header.encode(), data);
        let keys = keys();
        header.open_data_key(keys.data().expect("held")).ok();
        header.open_table_key(keys.meta().expect("held")).ok();
    }
}

/// A frame whose seal is good and whose stored bytes are any: the decompressor meets what an agent made.
pub fn frame_body(data: &[u8]) {
    let Some((head, stored)) = data.split_first_chunk::<4>() else {
        return;
    };
    let plain_bytes = u32::from_le_bytes(*head);
    let compression = match plain_bytes & 1 << 31 {
        0 => Compression::Zstd,
        _ => Compression::None,
    };
    let plain_bytes = plain_bytes & !(1 << 31);
    let mut associated = b"capstan 2026-11 frame".to_vec();
    context().put(&mut associated);
    associated.put_u8(ChunkKind::Data.tag());
    associated.put_u8(compression.tag());
    associated.put_u32(plain_bytes);
    let key = [7; 32];
    let mut sealed = Vec::new();
    aead::seal(&key, &associated, stored, &mut sealed).expect("the kernel is random");
    let shape = FrameShape {
        kind: ChunkKind::Data,
        compression,
        plain_bytes,
        sealed_bytes: u32::try_from(sealed.len()).expect("short inputs"),
    };
    let mut opener = FrameOpener::new(context(), DataKey::from_bytes(key)).expect("zstd starts");
    let mut plain = Vec::new();
    match opener.open(&shape, &sealed, &mut plain) {
        Ok(()) => assert_eq!(plain.len() as u64, u64::from(plain_bytes)),
        Err(_) => assert!(plain.is_empty()),
    }
}

/// A pack's table.
pub fn table(data: &[u8]) {
    if let Ok(table) = Table::decode(data, 2) {
        assert_eq!(table.encode(data.len()), data);
    }
}

/// A pack's footer.
pub fn footer(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<FOOTER_BYTES>() else {
        return;
    };
    if let Ok(footer) = Footer::decode(bytes, 40 << 20) {
        assert_eq!(footer.encode(), bytes);
        assert!(footer.trailer_bytes() <= 40 << 20);
    }
}

/// A pack's end.
pub fn pack(data: &[u8]) {
    if let Ok(trailer) = Trailer::decode(data, data.len() as u64) {
        assert!(trailer.frames_bytes() <= data.len() as u64);
        trailer.open_table_with(keys().meta().expect("held")).ok();
    }
}

/// An index piece; one whole pack in it encodes again.
pub fn index_piece(data: &[u8]) {
    let Ok(groups) = decode_piece(data) else {
        return;
    };
    if let [group] = groups.as_slice()
        && group.offset == 0
    {
        let table = Table {
            frames: group.frames.clone(),
        };
        let pieces = encode_pieces([(group.pack, group.pack_bytes, &table)]);
        assert_eq!(pieces, [data.to_vec()]);
    }
}

/// An entry.
pub fn entry(data: &[u8]) {
    let mut reader = Reader::new(data);
    if let Ok(entry) = Entry::read(&mut reader) {
        let mut again = Vec::new();
        entry.put(&mut again);
        assert_eq!(data.strip_suffix(reader.rest()), Some(again.as_slice()));
    }
}

/// A page, and the order of what it lists.
pub fn page(data: &[u8]) {
    let Ok(mut reader) = PageReader::new(data) else {
        return;
    };
    let mut again = vec![1];
    let mut order = OrderChecker::new();
    let mut in_order = true;
    let mut directory: Option<Vec<u8>> = None;
    while let Ok(Some(entry)) = reader.next_entry() {
        if directory.as_deref() != Some(reader.directory()) {
            again.put_u8(1);
            again.put_prefixed(reader.directory());
            directory = Some(reader.directory().to_vec());
        }
        again.put_u8(2);
        entry.put(&mut again);
        in_order = in_order
            && order.block(reader.directory()).is_ok()
            && order.entry(&entry.name, entry.stat.kind).is_ok();
        let path = join(reader.directory(), &entry.name);
        assert!(!in_order || check_path(&path).is_ok());
    }
    assert!(data.starts_with(&again));
}

/// A piece of a page index.
pub fn page_index(data: &[u8]) {
    let Ok(pages) = decode_page_index(data) else {
        return;
    };
    let mut builder = PageIndexBuilder::new();
    let mut pieces: Vec<Vec<u8>> = pages.iter().filter_map(|page| builder.push(page)).collect();
    pieces.extend(builder.finish());
    if let [piece] = pieces.as_slice() {
        assert_eq!(piece, data);
    }
}

/// A content page, behind the length it must cover.
pub fn content_page(data: &[u8]) {
    let Some((covers, plain)) = data.split_first_chunk::<8>() else {
        return;
    };
    if let Ok(extents) = decode_content_page(plain, u64::from_le_bytes(*covers)) {
        assert_eq!(encode_content_page(&extents), plain);
    }
}

/// A log record as storage gives it.
pub fn log_record(data: &[u8]) {
    let keys = keys();
    let place = RecordPlace {
        repository: repository(),
        epoch: 1,
        sequence: 1,
        previous: formats::ids::RecordId([0; 32]),
    };
    let verifying = keys.verifying().expect("the admin holds it");
    if let Ok(record) = SealedRecord::check(data, &verifying, &place) {
        record.open(keys.log().expect("held")).ok();
    }
}

/// A payload in a record whose signature and seal are good.
pub fn log_payload(data: &[u8]) {
    let keys = keys();
    let public = keys.public().expect("the admin holds all");
    let mut header = b"CAPSTLOG".to_vec();
    header.put_u16(1);
    header.put(repository().as_bytes());
    header.put_u32(1);
    header.put_u64(1);
    header.put(&[0; 32]);
    let info = [b"capstan 2026-11 log record".as_slice(), &header].concat();
    let (encapsulated, key) = kem::encapsulate(&public.log, &info).expect("it works");
    header.put(encapsulated.0.as_ref());
    let associated = header.clone();
    aead::seal(&key, &associated, data, &mut header).expect("the kernel is random");
    let signature = keys.sign(&header).expect("the admin signs");
    header.put(&signature);
    let place = RecordPlace {
        repository: repository(),
        epoch: 1,
        sequence: 1,
        previous: formats::ids::RecordId([0; 32]),
    };
    let checked = SealedRecord::check(&header, &public.verifying, &place);
    if let Ok(record) = checked
        && let Ok(found) = record.open(keys.log().expect("held"))
    {
        let mut body = Vec::new();
        match found {
            Payload::Snapshot(snapshot) => {
                body.put_u8(1);
                snapshot.put(&mut body);
            }
            Payload::Lease(lease) => {
                body.put_u8(2);
                lease.put(&mut body);
            }
            Payload::Settings(settings) => {
                body.put_u8(3);
                settings.put(&mut body);
            }
            Payload::Retention(retention) => {
                body.put_u8(4);
                retention.put(&mut body);
            }
        }
        let mut again = Vec::new();
        again.put_prefixed(&body);
        assert!(data.starts_with(&again));
    }
}

/// A snapshot.
pub fn snapshot(data: &[u8]) {
    let mut reader = Reader::new(data);
    if let Ok(found) = Snapshot::read(&mut reader) {
        let mut again = Vec::new();
        found.put(&mut again);
        assert_eq!(data.strip_suffix(reader.rest()), Some(again.as_slice()));
    }
}

/// A record of the audit log; what follows it is not its own.
pub fn audit_record(data: &[u8]) {
    if let Ok(read) = AuditRecord::read_first(data) {
        let (again, id) = read.record.encode();
        assert_eq!(id, read.id);
        assert_eq!(data.get(..read.bytes), Some(again.as_slice()));
    }
}

/// The head of the audit log.
pub fn audit_head(data: &[u8]) {
    if let Ok(head) = AuditHead::decode(data) {
        assert_eq!(head.encode(), data);
    }
}

/// A message of the agent.
pub fn agent_message(data: &[u8]) {
    if let Ok(message) = FromAgent::decode(data) {
        assert_eq!(message.encode(), data);
    }
}

/// A message of the coordinator.
pub fn coordinator_message(data: &[u8]) {
    if let Ok(message) = FromCoordinator::decode(data) {
        assert_eq!(message.encode(), data);
    }
}

/// A control frame's length.
pub fn framing(data: &[u8]) {
    if let Some((length, rest)) = data.split_first_chunk::<4>()
        && let Ok(length) = frame_length(*length)
        && let Some(message) = rest.get(..length)
    {
        let again = frame(message).expect("its length was allowed");
        assert!(data.starts_with(&again));
    }
}

/// The tunnel's opening.
pub fn handshake(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<OPENING_BYTES>()
        && let Ok(opening) = Opening::decode(bytes)
    {
        assert_eq!(opening.encode(), bytes);
    }
}

/// The append-server's small bodies.
pub fn upload(data: &[u8]) {
    if let Ok(body) = Stored::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = OpenRun::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = Refusal::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = ObjectPage::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = DestinationStates::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = Placing::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = Queued::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = HealedObject::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = LockedObject::decode(data) {
        assert_eq!(body.encode(), data);
    }
    if let Ok(body) = RemovalReport::decode(data) {
        assert_eq!(body.encode(), data);
    }
}
