//! Holds `formats/docs` against the crate: every worked example decodes to what the text says, every golden
//! format has one, the context strings are the crate's, and every limit named exists with the value given.

mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use formats::audit::{AuditActor, AuditHead, AuditRecord};
use formats::chunk::{ChunkKind, chunk_id};
use formats::codec::Reader;
use formats::config::RepositoryConfig;
use formats::ids::to_hex;
use formats::keys::bundle::{KeyBundle, Unlock};
use formats::keys::derive::{Use, context};
use formats::keys::kit;
use formats::keys::secret::{DataKey, TableKey};
use formats::limits;
use formats::listing::content::{Content, Extent, decode_content_page};
use formats::listing::entry::{Entry, EntryKind, Stat};
use formats::listing::page::PageReader;
use formats::listing::page_index::decode_page_index;
use formats::log::lease::Lease;
use formats::log::record::{Payload, SealedRecord};
use formats::log::retention::{Act, Retention};
use formats::log::settings::HostSettings;
use formats::log::snapshot::Snapshot;
use formats::pack::index::decode_piece;
use formats::pack::open::Trailer;
use formats::pack::table::{Table, TableFrame};
use formats::pack::trailer::Footer;
use formats::seal::frame::{Compression, FrameOpener, FrameShape};
use formats::seal::run_header::{Purpose, RunHeader};
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::{FromAgent, FromCoordinator};
use formats::wire::framing::frame_length;
use formats::wire::handshake::{Opening, agent_proof, proof_is_good, server_proof};
use formats::wire::placing::Placing;
use formats::wire::start::Transport;
use formats::wire::upload::destinations::DestinationStates;
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::Refusal;
use formats::wire::upload::removals::RemovalReport;
use formats::wire::upload::repairs::{HealedObject, LockedObject, Queued};
use formats::wire::upload::{OpenRun, Stored};

use samples::messages;

const DOCUMENTS: [&str; 5] = [
    "repository.md",
    "sealing.md",
    "wire.md",
    "audit.md",
    "threat-model.md",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(folder().join("docs").join(name)).expect("the document is there")
}

/// An example of a document: its bytes, and what the text says they are.
struct Example {
    bytes: Vec<u8>,
    says: String,
}

fn examples() -> BTreeMap<String, Example> {
    let mut examples = BTreeMap::new();
    for name in DOCUMENTS {
        let text = document(name);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(example) = line.strip_prefix("```hex name=") else {
                continue;
            };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let bytes = block.iter().flat_map(|line| line_bytes(line)).collect();
            let says = lines.find(|line| !line.is_empty()).unwrap_or_default();
            let says = says
                .strip_prefix("Decodes to: `")
                .and_then(|says| says.strip_suffix('`'));
            let says = says.unwrap_or("(no such line)").to_owned();
            let twice = examples.insert(example.to_owned(), Example { bytes, says });
            assert!(twice.is_none(), "{example} is there twice");
        }
    }
    examples
}

/// `.. file from..to`, or hex, before any note.
fn line_bytes(line: &str) -> Vec<u8> {
    let fields = line.split(';').next().unwrap_or_default().trim();
    if let Some(reference) = fields.strip_prefix("..") {
        let (file, range) = reference
            .trim()
            .split_once(' ')
            .expect("a file and a range");
        let (from, to) = range.split_once("..").expect("a range");
        let bytes = fs::read(folder().join(file)).expect("a file of formats/");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        return bytes
            .get(number(from)..number(to))
            .expect("in the file")
            .to_vec();
    }
    let byte = |digits| u8::from_str_radix(digits, 16).expect("two digits");
    fields.split_whitespace().map(byte).collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!(
        "[{}]",
        items.iter().map(show).collect::<Vec<_>>().join(", ")
    )
}

fn exactly<T>(bytes: &[u8], read: impl Fn(&mut Reader<'_>) -> T) -> T {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader);
    assert_eq!(reader.remaining(), 0);
    value
}

fn describe_stat(stat: &Stat) -> String {
    let mut text = format!(
        "{:?} {:#o} {}:{} mtime {}.{:09} ctime {}.{:09} inode {} links {}",
        stat.kind,
        stat.mode,
        stat.uid,
        stat.gid,
        stat.mtime.seconds,
        stat.mtime.nanoseconds,
        stat.ctime.seconds,
        stat.ctime.nanoseconds,
        stat.inode,
        stat.links,
    );
    match stat.kind {
        EntryKind::File => text += &format!(" size {}", stat.size),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            text += &format!(" device {}:{}", stat.device.0, stat.device.1);
        }
        _ => {}
    }
    text
}

fn describe_extent(extent: &Extent) -> String {
    match extent {
        Extent::Chunk { id, bytes } => format!("chunk {} of {bytes}", id.short()),
        Extent::Hole { bytes } => format!("hole of {bytes}"),
    }
}

fn describe_entry(bytes: &[u8]) -> String {
    let entry = exactly(bytes, Entry::read).expect("an entry");
    let mut text = format!("{} {}", shown(&entry.name), describe_stat(&entry.stat));
    text += &format!(" flags {}", entry.flags.bits());
    for xattr in &entry.xattrs {
        text += &format!(" {}={}", shown(&xattr.name), shown(&xattr.value));
    }
    if !entry.link_target.is_empty() {
        text += &format!(" target {}", shown(&entry.link_target));
    }
    if let Some(first) = &entry.hard_link_to {
        text += &format!(" hard link to {}", shown(first));
    }
    match &entry.content {
        Content::None => text,
        Content::Missing => text + " missing",
        Content::Extents(extents) => text + " " + &list(extents, describe_extent),
        Content::Pages(pages) => {
            let page = |page: &formats::listing::content::ContentPage| {
                format!(
                    "page {} of {} covers {}",
                    page.id.short(),
                    page.bytes,
                    page.covers
                )
            };
            text + " " + &list(pages, page)
        }
    }
}

fn describe_frame(frame: &TableFrame) -> String {
    let chunks = list(&frame.chunks, |chunk| {
        format!("{} of {}", chunk.id.short(), chunk.bytes)
    });
    let shape = frame.shape;
    format!(
        "header {} {:?} {:?} plain {} sealed {} {chunks}",
        frame.run_header, shape.kind, shape.compression, shape.plain_bytes, shape.sealed_bytes,
    )
}

fn describe_snapshot(snapshot: &Snapshot) -> String {
    format!(
        "host {} run {} started {} committed {} parent {:?} verified {} sources {} page index {} \
         index {} meta packs {} files {} problems {} users {} groups {} system {} agent {}",
        snapshot.host,
        snapshot.run.short(),
        snapshot.started_nanos,
        snapshot.committed_nanos,
        snapshot.parent,
        snapshot.verified,
        list(&snapshot.sources, |source| shown(source)),
        list(&snapshot.page_index, |chunk| format!(
            "{} of {}",
            chunk.id.short(),
            chunk.bytes
        )),
        list(&snapshot.index, |chunk| format!(
            "{} of {}",
            chunk.id.short(),
            chunk.bytes
        )),
        list(&snapshot.meta_packs, |pack| pack.short()),
        snapshot.totals.files,
        list(&snapshot.problems, |problem| shown(&problem.path)),
        list(&snapshot.names.users, |(id, name)| format!("{id} {name}")),
        list(&snapshot.names.groups, |(id, name)| format!("{id} {name}")),
        snapshot.facts.system,
        snapshot.agent,
    )
}

/// What an example's bytes are, by the crate's decoders.
fn describe(name: &str, bytes: &[u8]) -> String {
    match name.split_once('_') {
        Some(("agent", _)) => return describe_agent(bytes),
        Some(("coordinator", _)) => return describe_coordinator(bytes),
        Some(("entry", _)) => return describe_entry(bytes),
        Some(("retention", act)) => return describe_retention(act, bytes),
        Some(("audit", what)) => return describe_audit(what, bytes),
        _ => {}
    }
    match name {
        "page" | "page_index" | "content_page" | "table" | "index_piece" | "footer"
        | "empty_pack" => describe_lists(name, bytes),
        "config"
        | "log_record"
        | "log_lease"
        | "lease"
        | "host_settings"
        | "snapshot"
        | "run_header"
        | "frame_raw"
        | "frame_zstd"
        | "key_bundle_file"
        | "key_bundle_password"
        | "key_bundle_read"
        | "recovery_kit"
        | "derivation" => describe_sealed(name, bytes),
        "framed" | "handshake_opening" | "handshake_answer" | "handshake_proof" | "stored"
        | "open_run" | "refusal" | "object_page" | "destination_states" | "placing" | "queued"
        | "healed_object" | "locked_object" | "removal_report" => describe_wire(name, bytes),
        "codec" => {
            let mut reader = Reader::new(bytes);
            let mut numbers = Vec::new();
            while reader.remaining() > 0 {
                numbers.push(reader.varint("number").expect("a number"));
            }
            list(&numbers, u64::to_string)
        }
        "chunk_id" => {
            let id = chunk_id(&samples::id_key(), ChunkKind::Data, samples::SMALL_PLAIN);
            assert_eq!(bytes, id.as_bytes());
            id.to_string()
        }
        "chunk_cuts" => {
            let ends = bytes
                .chunks(8)
                .map(|end| exactly(end, |reader| reader.u64("end")));
            let ends: Vec<u64> = ends.map(|end| end.expect("a number")).collect();
            list(&ends, u64::to_string)
        }
        _ => format!("no decoder for {name}"),
    }
}

fn describe_lists(name: &str, bytes: &[u8]) -> String {
    match name {
        "page" => {
            let mut page = PageReader::new(bytes).expect("a page");
            let mut entries = Vec::new();
            while let Some(entry) = page.next_entry().expect("an entry") {
                entries.push(formats::listing::entry::join(page.directory(), &entry.name));
            }
            list(&entries, |path| shown(path))
        }
        "page_index" => list(&decode_page_index(bytes).expect("a page index"), |page| {
            let first = formats::listing::entry::join(&page.first_directory, &page.first_name);
            let (id, bytes, entries) = (page.id.short(), page.bytes, page.entries);
            format!("page {id} of {bytes} with {entries} from {}", shown(&first))
        }),
        "content_page" => {
            let extents = decode_content_page(bytes, 1_048_589).expect("a content page");
            list(&extents, describe_extent)
        }
        "table" => list(
            &Table::decode(bytes, 1).expect("a table").frames,
            describe_frame,
        ),
        "index_piece" => list(&decode_piece(bytes).expect("a piece"), |group| {
            let (pack, bytes, offset) = (group.pack.short(), group.pack_bytes, group.offset);
            let frames = list(&group.frames, describe_frame);
            format!("pack {pack} of {bytes} from {offset} {frames}")
        }),
        "footer" => {
            let footer = bytes.try_into().expect("its size");
            let footer = Footer::decode(footer, 4_096).expect("a footer");
            let (table, headers) = (footer.table_bytes, footer.run_headers);
            format!("table {table} run headers {headers}")
        }
        _ => {
            let trailer = Trailer::decode(bytes, bytes.len() as u64).expect("a pack");
            let key = TableKey::from_bytes(samples::counting(0x90));
            let table = trailer.open_table(&key).expect("it opens");
            let run = trailer.writer().expect("one").context.run.short();
            format!(
                "pack of {} run {run} frames {}",
                bytes.len(),
                table.frames.len()
            )
        }
    }
}

fn describe_log(name: &str, bytes: &[u8]) -> String {
    let keys = samples::keys();
    let verifying = samples::public().verifying;
    match name {
        "log_record" => {
            let place = samples::first_place();
            let record = SealedRecord::check(bytes, &verifying, &place).expect("a record");
            let payload = record.open(keys.log().expect("held")).expect("it opens");
            assert_eq!(payload, Payload::Snapshot(Box::new(samples::snapshot())));
            format!("sequence 1 id {} the snapshot below", record.id)
        }
        "log_lease" => {
            let place = samples::first_place();
            let record = SealedRecord::check(bytes, &verifying, &place).expect("a record");
            let payload = record.open(keys.log().expect("held")).expect("it opens");
            assert_eq!(payload, Payload::Lease(samples::lease()));
            "sequence 1 the lease above".to_owned()
        }
        "lease" => {
            let lease = exactly(bytes, Lease::read).expect("a lease");
            assert_eq!(lease, samples::lease());
            format!(
                "coordinator {} machine {} taken {}",
                lease.coordinator.short(),
                lease.machine,
                lease.taken_nanos
            )
        }
        "host_settings" => {
            let settings = exactly(bytes, HostSettings::read).expect("settings");
            assert_eq!(settings, samples::settings());
            format!("host {} toml {:?}", settings.host, settings.toml)
        }
        "snapshot" => describe_snapshot(&exactly(bytes, Snapshot::read).expect("a snapshot")),
        _ => unreachable!("the caller names them"),
    }
}

fn describe_audit(what: &str, bytes: &[u8]) -> String {
    if what == "head" {
        let head = AuditHead::decode(bytes).expect("a head");
        return format!("record {} {}", head.sequence, head.id);
    }
    let read = AuditRecord::read_first(bytes).expect("a record");
    assert_eq!(read.record, samples::audit_record());
    let record = read.record;
    let AuditActor::User { uid, name, through } = &record.actor else {
        return format!("{:?}", record.actor);
    };
    format!(
        "record {} id {} after {} at {} by {uid} {name:?} through {through:?} {} host {:?} run {} {:?}",
        record.sequence,
        read.id.short(),
        record.previous.short(),
        record.at_nanos,
        record.what,
        record.host,
        record.run.expect("a run").short(),
        record.details,
    )
}

fn describe_retention(act: &str, bytes: &[u8]) -> String {
    let retention = exactly(bytes, Retention::read).expect("an act of retention");
    let sample = samples::retention()
        .into_iter()
        .find(|(name, _)| *name == act);
    assert_eq!(Some(&retention), sample.as_ref().map(|(_, sample)| sample));
    let did = match &retention.act {
        Act::Forget {
            by_person,
            snapshots,
        } => format!(
            "forgets {} by person {by_person}",
            list(snapshots, |id| id.short())
        ),
        Act::Undelete { snapshots, packs } => format!(
            "brings back {} packs {}",
            list(snapshots, |id| id.short()),
            list(packs, |id| id.short())
        ),
        Act::Prune(prune) => format!(
            "marked {} snapshots {} packs {} bytes {} index {} meta packs {} condemns {}",
            prune.marked,
            prune.snapshots,
            prune.packs,
            prune.bytes,
            list(&prune.index, |chunk| format!(
                "{} of {}",
                chunk.id.short(),
                chunk.bytes
            )),
            list(&prune.meta_packs, |id| id.short()),
            list(&prune.condemned, |pack| format!(
                "{} {:?} of {}",
                pack.pack.short(),
                pack.purpose,
                pack.bytes
            ))
        ),
        Act::Sweep { packs } => format!("removes {}", list(packs, |id| id.short())),
        Act::Pin {
            snapshot,
            pinned,
            reason,
        } => format!("pins {} {pinned} {reason:?}", snapshot.short()),
        Act::Thin(thinning) => format!(
            "thins {} snapshots {} packs {} bytes {} drops {} condemns {}",
            thinning.destination,
            thinning.snapshots,
            thinning.packs,
            thinning.bytes,
            list(&thinning.dropped, |id| id.short()),
            list(&thinning.condemned, |pack| format!(
                "{} of {}",
                pack.pack.short(),
                pack.bytes
            ))
        ),
        Act::SweepAt { destination, packs } => {
            format!("removes at {destination} {}", list(packs, |id| id.short()))
        }
    };
    format!(
        "act {} at {} {did}",
        retention.id.short(),
        retention.at_nanos
    )
}

fn describe_sealed(name: &str, bytes: &[u8]) -> String {
    let keys = samples::keys();
    let verifying = samples::public().verifying;
    match name {
        "config" => {
            let config = RepositoryConfig::open(bytes, samples::repository(), &verifying);
            let config = config.expect("a config");
            assert_eq!(config, samples::config());
            let verifying = to_hex(&config.public.verifying);
            format!(
                "repository {} epoch {} verifying {verifying}",
                config.repository, config.epoch
            )
        }
        "log_record" | "log_lease" | "lease" | "host_settings" | "snapshot" => {
            describe_log(name, bytes)
        }
        "run_header" => {
            let header = RunHeader::decode(bytes).expect("a run header");
            header
                .open_data_key(keys.data().expect("held"))
                .expect("it opens");
            header
                .open_table_key(keys.meta().expect("held"))
                .expect("it opens");
            let context = header.context;
            format!(
                "{:?} epoch {} run {}",
                context.purpose, context.epoch, context.run
            )
        }
        "frame_raw" | "frame_zstd" => describe_frame_bytes(name == "frame_zstd", bytes),
        "recovery_kit" => {
            let text = std::str::from_utf8(bytes).expect("text");
            format!(
                "master key {}",
                to_hex(kit::read(text).expect("a kit").expose())
            )
        }
        "key_bundle_read" => {
            let keys = samples::reader_keys(bytes).expect("it is certified");
            format!("role read of repository {}", keys.repository)
        }
        "derivation" => {
            let names = Use::ALL.iter().map(|use_| format!("{use_:?}"));
            let all: Vec<String> = names.collect();
            format!(
                "roots and repository bytes of {}, and a commitment",
                all.join(", ")
            )
        }
        _ => {
            let file = samples::file_key();
            let unlock = match name {
                "key_bundle_file" => Unlock::File(&file),
                _ => Unlock::Password(samples::PASSWORD),
            };
            let (user, bundle) = KeyBundle::open(bytes, &unlock).expect("it opens");
            format!("user {user} role {}", bundle.role())
        }
    }
}

fn describe_frame_bytes(compressed: bool, bytes: &[u8]) -> String {
    let shape = FrameShape {
        kind: ChunkKind::Data,
        compression: if compressed {
            Compression::Zstd
        } else {
            Compression::None
        },
        plain_bytes: if compressed { 600 } else { 13 },
        sealed_bytes: u32::try_from(bytes.len()).expect("a short frame"),
    };
    let key = DataKey::from_bytes(samples::counting(0x70));
    let mut opener = FrameOpener::new(samples::context(Purpose::Data), key).expect("zstd starts");
    let mut plain = Vec::new();
    opener.open(&shape, bytes, &mut plain).expect("it opens");
    let head = plain.get(..13).expect("it is longer");
    format!(
        "{:?} {} bytes beginning {}",
        shape.compression,
        plain.len(),
        shown(head)
    )
}

fn describe_agent(bytes: &[u8]) -> String {
    match FromAgent::decode(bytes).expect("a message") {
        FromAgent::Hello(hello) => format!(
            "Hello protocol {} system {} uid {}",
            hello.protocol, hello.facts.system, hello.facts.uid
        ),
        FromAgent::Entries(entries) => {
            let blocks = list(&entries.blocks, |block| {
                let names = list(&block.entries, |entry| {
                    let stat = describe_stat(&entry.stat);
                    format!(
                        "{} {stat} filesystem {}",
                        shown(&entry.name),
                        entry.filesystem
                    )
                });
                format!("\"{}\" {names}", shown(&block.directory))
            });
            format!("Entries batch {} {blocks}", entries.batch)
        }
        FromAgent::Content(part) => {
            let extents = list(&part.extents, describe_extent);
            format!(
                "Content batch {} entry {} {extents}",
                part.of.batch, part.of.entry
            )
        }
        FromAgent::Details(details) => format!(
            "Details batch {} entry {} {:?} flags {} {} {}",
            details.of.batch,
            details.of.entry,
            details.outcome,
            details.flags.bits(),
            describe_stat(&details.stat),
            list(&details.xattrs, |xattr| shown(&xattr.name)),
        ),
        FromAgent::Seen(seen) => {
            let chunks = list(&seen.chunks, |(id, bytes)| {
                format!("{} of {bytes}", id.short())
            });
            format!("Seen query {} {chunks}", seen.query)
        }
        FromAgent::PackStored(stored) => {
            format!("PackStored {} of {}", stored.pack.short(), stored.bytes)
        }
        FromAgent::Problem(problem) => format!(
            "Problem {:?} {} errno {} {}",
            problem.kind,
            shown(&problem.path),
            problem.errno,
            problem.text
        ),
        FromAgent::Surroundings(around) => {
            let mounts = list(&around.mounts, |mount| {
                format!("/{} {}", shown(&mount.path), mount.kind)
            });
            let stores = list(&around.stores, |store| {
                format!("/{} {}", shown(&store.path), store.of)
            });
            format!(
                "Surroundings machine {} root {} mounts {mounts} stores {stores}",
                around.machine_uuid, around.root_filesystem
            )
        }
        FromAgent::Tunnel(tunnel) => {
            format!("Tunnel {} {}", tunnel.connection, shown(&tunnel.bytes))
        }
        other => format!("{other:?}"),
    }
}

fn describe_bits(what: &str, bits: &Bitmap) -> String {
    let count = usize::try_from(bits.bits).expect("few");
    let answers: Vec<bool> = (0..count).map(|index| bits.get(index)).collect();
    format!("{what} of {} {answers:?}", bits.of)
}

fn describe_coordinator(bytes: &[u8]) -> String {
    match FromCoordinator::decode(bytes).expect("a message") {
        FromCoordinator::Start(start) => {
            let transport = match &start.transport {
                Transport::Unix { path } => format!("Unix {}", shown(path)),
                other => format!("{other:?}"),
            };
            let (rules, limits) = (&start.rules, start.limits);
            format!(
                "Start epoch {} run {} header of {} {transport} sources {} one file system {} \
                 exclude {:?} caches {} if present {} from {:?} streams {} {limits:?}",
                start.epoch,
                start.run.short(),
                start.run_header.len(),
                list(&rules.sources, |source| shown(source)),
                rules.one_file_system,
                rules.exclude,
                rules.exclude_caches,
                list(&rules.exclude_if_present, |name| shown(name)),
                rules.fs_snapshot,
                list(&start.streams, |stream| format!(
                    "{} of {} in {} s and {} bytes to {}",
                    shown(&stream.name),
                    shown(&stream.command.join(&b' ')),
                    stream.seconds_max,
                    stream.bytes_max,
                    shown(&stream.ending)
                )),
            )
        }
        FromCoordinator::Verdicts(bits) => describe_bits("Verdicts", &bits),
        FromCoordinator::Wanted(bits) => describe_bits("Wanted", &bits),
        FromCoordinator::Tunnel(tunnel) => {
            format!("Tunnel {} {}", tunnel.connection, shown(&tunnel.bytes))
        }
        other => format!("{other:?}"),
    }
}

fn describe_destinations(bytes: &[u8]) -> String {
    let states = DestinationStates::decode(bytes).expect("a body");
    list(&states.0, |state| {
        let problem = state.problem.as_deref().unwrap_or("nothing");
        let since = state.oldest_unix_secs.unwrap_or_default();
        format!(
            "{} required {} lacks {} of {} since {since} for {problem} writes {:?} placed {:?}",
            state.name,
            state.required,
            state.objects_behind,
            state.bytes_behind,
            state.conditional_writes,
            state.placed
        )
    })
}

fn describe_wire(name: &str, bytes: &[u8]) -> String {
    let (token, opening) = (messages::token(), messages::opening());
    let nonce = messages::server_nonce();
    match name {
        "framed" => {
            let (length, message) = bytes.split_first_chunk::<4>().expect("a length");
            assert_eq!(frame_length(*length), Ok(message.len()));
            format!("{:?}", FromAgent::decode(message).expect("a message"))
        }
        "handshake_opening" => {
            let found = Opening::decode(bytes.try_into().expect("its size"));
            let found = found.expect("an opening");
            format!("run {} nonce {}", found.run, to_hex(&found.nonce))
        }
        "handshake_answer" => {
            let (found, proof) = bytes.split_first_chunk::<32>().expect("a nonce");
            let proof = proof.try_into().expect("its size");
            let expected = server_proof(&token, &opening, found);
            format!(
                "nonce {} good {}",
                to_hex(found),
                proof_is_good(&expected, proof)
            )
        }
        "handshake_proof" => {
            let expected = agent_proof(&token, &opening, &nonce);
            let proof = bytes.try_into().expect("its size");
            format!("good {}", proof_is_good(&expected, proof))
        }
        "stored" => {
            let stored = Stored::decode(bytes).expect("a body");
            format!(
                "{} of {} existed {}",
                stored.digest.short(),
                stored.bytes,
                stored.existed
            )
        }
        "open_run" => {
            let open = OpenRun::decode(bytes).expect("a body");
            let most = [open.bytes_max, open.packs_max, open.seconds_max];
            format!(
                "run {} most {}",
                open.run.short(),
                list(&most, u64::to_string)
            )
        }
        "refusal" => {
            let refusal = Refusal::decode(bytes).expect("a body");
            format!(
                "{:?} {} {}",
                refusal.kind,
                refusal.kind.status(),
                refusal.text
            )
        }
        "destination_states" => describe_destinations(bytes),
        "placing" => describe_placing(bytes),
        "object_page" => {
            let page = ObjectPage::decode(bytes).expect("a body");
            let objects = list(&page.objects, |(name, bytes)| format!("{name} of {bytes}"));
            format!("{objects} more {}", page.more)
        }
        _ => describe_repair(name, bytes),
    }
}

fn describe_placing(bytes: &[u8]) -> String {
    let placing = Placing::decode(bytes).expect("a body");
    let repositories = list(&placing.repositories, ToString::to_string);
    match placing.asked {
        Some(asked) => format!(
            "{repositories} at {:?} on {:?}",
            asked.destinations, asked.copies
        ),
        None => format!("{repositories} as before"),
    }
}

fn describe_repair(name: &str, bytes: &[u8]) -> String {
    match name {
        "queued" => {
            let queued = Queued::decode(bytes).expect("a body");
            format!("{} of {}", queued.objects, queued.bytes)
        }
        "healed_object" => format!("{:?}", HealedObject::decode(bytes).expect("a body")),
        "removal_report" => {
            let report = RemovalReport::decode(bytes).expect("a body");
            let waiting = list(&report.waiting, |one| {
                format!(
                    "{} {} of {} for {}",
                    one.destination,
                    one.objects,
                    one.bytes,
                    one.problem.as_deref().unwrap_or("nothing")
                )
            });
            format!(
                "removed {} of {} too young {} over limit {} {waiting}",
                report.removed, report.removed_bytes, report.too_young, report.over_limit
            )
        }
        _ => {
            let locked = LockedObject::decode(bytes).expect("a body");
            format!(
                "until {} {:?} held {}",
                locked.until_unix_secs, locked.outcome, locked.is_held
            )
        }
    }
}

#[test]
fn every_example_decodes_to_what_the_text_says() {
    let examples = examples();
    assert!(examples.len() > 50, "only {} examples", examples.len());
    let mut wrong = Vec::new();
    for (name, example) in &examples {
        let found = describe(name, &example.bytes);
        if found != example.says {
            println!(
                "{name}: decodes to `{found}`\n  the text says `{}`",
                example.says
            );
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_golden_format_has_an_example_of_the_same_bytes() {
    let examples = examples();
    for entry in fs::read_dir(folder().join("golden")).expect("golden files are checked in") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            continue;
        }
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let golden = fs::read(&path).expect("it can be read");
        let example = examples.get(&name);
        assert!(
            example.is_some_and(|example| example.bytes == golden),
            "{name}"
        );
    }
}

#[test]
fn the_context_table_is_the_crates() {
    let text = document("sealing.md");
    let row = |line: &str| -> Option<String> {
        let (context, _) = line.strip_prefix("| `capstan ")?.split_once("` |")?;
        Some(format!("capstan {context}"))
    };
    let documented: Vec<String> = text.lines().filter_map(row).collect();
    assert_eq!(documented, context::ALL);
    let mut different = documented;
    different.sort();
    different.dedup();
    assert_eq!(different.len(), context::ALL.len());
}

macro_rules! limits_by_name {
    ($($name:ident)*) => {
        [$((stringify!($name), u64::try_from(limits::$name).expect("a limit"))),*]
    };
}

fn all_limits() -> BTreeMap<&'static str, u64> {
    BTreeMap::from(limits_by_name! {
        CHUNK_BYTES_MIN CHUNK_BYTES_AVERAGE CHUNK_BYTES_MAX FRAME_PLAIN_TARGET FRAME_PLAIN_MAX
        FRAME_SEALED_MAX PACK_BYTES_TARGET PACK_BYTES_MAX PACK_FRAMES_MAX PACK_CHUNKS_MAX
        FRAME_CHUNKS_MAX INDEX_PIECE_BYTES_TARGET PACK_TABLE_BYTES_MAX PACK_RUN_HEADERS_MAX
        NAME_BYTES_MAX PATH_BYTES_MAX PATH_DEPTH_MAX LINK_TARGET_BYTES_MAX XATTRS_MAX
        XATTR_NAME_BYTES_MAX XATTR_VALUE_BYTES_MAX XATTRS_BYTES_MAX INLINE_EXTENTS_MAX
        CONTENT_PAGE_EXTENTS_MAX CONTENT_PAGES_MAX PAGE_BYTES_MIN PAGE_BYTES_TARGET_MAX
        PAGE_BYTES_MAX PAGE_INDEX_PAGES_MAX RECORD_BYTES_MAX HOST_SETTINGS_BYTES_MAX SNAPSHOT_PAGE_INDEXES_MAX
        SNAPSHOT_INDEXES_MAX ACT_SNAPSHOTS_MAX ACT_PACKS_MAX SNAPSHOT_META_PACKS_MAX SNAPSHOT_PROBLEMS_MAX SNAPSHOT_NAMES_MAX
        AUDIT_RECORD_BYTES_MAX AUDIT_DETAILS_MAX AUDIT_DETAIL_BYTES_MAX
        TEXT_BYTES_MAX SOURCES_MAX PATTERNS_MAX STREAMS_MAX STREAM_NAME_BYTES_MAX STREAM_WORDS_MAX
        STREAM_WORD_BYTES_MAX STREAM_ENDING_BYTES_MAX ARGON2_MEMORY_KIB_MAX ARGON2_MEMORY_KIB_MIN
        ARGON2_PASSES_MAX ARGON2_LANES_MAX KEY_BUNDLE_BYTES_MAX USER_NAME_BYTES_MAX
        CONTROL_FRAME_BYTES_MAX BATCH_ENTRIES_MAX BATCH_BYTES_TARGET BATCHES_IN_FLIGHT_MAX
        SEEN_CHUNKS_MAX QUERIES_IN_FLIGHT_MAX MOUNTS_MAX STORES_MAX CONTENT_EXTENTS_MAX CPU_PERCENT_MAX
        TUNNEL_BYTES_MAX
        TUNNEL_CONNECTIONS_MAX SMALL_BODY_BYTES_MAX
    })
}

#[test]
fn every_limit_is_documented_with_its_value_and_no_other_is_named() {
    let limits = all_limits();
    let source = include_str!("../src/limits.rs");
    let declared = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .filter(|name| !["KIB", "MIB", "GIB"].contains(name));
    for name in declared {
        assert!(limits.contains_key(name), "{name} is missing in this test");
    }
    let mut documented = BTreeMap::new();
    for name in DOCUMENTS {
        let text = document(name);
        for line in text.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let ["", limit, value, _, ""] = cells.as_slice()
                && let Some(limit) = limit
                    .strip_prefix('`')
                    .and_then(|name| name.strip_suffix('`'))
                && let Some(expected) = limits.get(limit)
            {
                let value = value.replace(',', "").parse::<u64>();
                assert_eq!(value, Ok(*expected), "{limit} in {name}");
                documented.insert(limit.to_owned(), *expected);
            }
        }
        // The kernel's own limits are named beside ours.
        let lines = text.lines().filter(|line| !line.contains("Linux"));
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = lines.flat_map(|line| line.split(|letter| !is_part(letter)));
        for word in words {
            let is_limit = ["_MAX", "_MIN", "_TARGET", "_AVERAGE"]
                .iter()
                .any(|end| word.ends_with(end));
            assert!(
                !is_limit || limits.contains_key(word),
                "{word} in {name} does not exist"
            );
        }
    }
    for limit in limits.keys() {
        assert!(documented.contains_key(*limit), "{limit} is in no table");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -".contains(*letter));
        kept.collect::<String>().replace(' ', "-")
    };
    for name in DOCUMENTS {
        let text = document(name);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { name } else { file };
            assert!(
                Path::new(&folder().join("docs").join(file)).exists(),
                "{link} in {name}"
            );
            let target = document(file);
            let mut headings = target.lines().filter(|line| line.starts_with('#'));
            let found = fragment.is_empty() || headings.any(|line| anchor(line) == fragment);
            assert!(found, "{link} in {name}");
        }
    }
}
