//! The control conversation's messages. The coordinator decides, the agent only reads: see the order of
//! messages in `formats/docs/wire.md`. Each message is a tag and its fields, nothing after.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{ChunkId, PackId};
use crate::limits::{
    BATCH_ENTRIES_MAX, CHUNK_BYTES_MAX, CONTENT_EXTENTS_MAX, LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX,
    PATH_BYTES_MAX, SEEN_CHUNKS_MAX, SNAPSHOT_NAMES_MAX, TEXT_BYTES_MAX, TUNNEL_BYTES_MAX,
};
use crate::listing::content::Extent;
use crate::listing::entry::{
    EntryFlags, EntryKind, Stat, Xattr, check_link_target, put_xattrs, read_name, read_path,
    read_xattrs,
};
use crate::wire::facts::HostFacts;
use crate::wire::framing::PROTOCOL_VERSION;
use crate::wire::start::Start;
use crate::wire::surroundings::Surroundings;

/// What the agent sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// First message.
    Hello(Hello),
    /// The upload connections stand and the agent has removed itself from the disk.
    Ready,
    /// A batch of entries, in listing order across all batches; numbered from 0.
    Entries(Entries),
    /// Content of a wanted file, in order; a big file has several.
    Content(ContentPart),
    /// Closes a wanted entry.
    Details(Details),
    /// "Are these chunks wanted?", numbered from 0.
    Seen(Seen),
    /// The append-server has acknowledged a pack.
    PackStored(PackStored),
    /// Something could not be read, or was left out in a way a person should know.
    Problem(Problem),
    /// Names of users and groups, as far as the target knows them.
    Names(Names),
    /// How far the run is, a few times a second.
    Progress(Totals),
    /// Bytes of an upload connection, when the transport is stdio. No bytes: the connection is closed.
    Tunnel(TunnelBytes),
    /// Everything was sent and acknowledged.
    Finished(Totals),
    /// The agent gives up, and why.
    Abort(String),
    /// Second message: the machine around the agent.
    Surroundings(Surroundings),
}

/// What the coordinator sends.
#[derive(Debug, Clone)]
pub enum FromCoordinator {
    /// The orders, answering `Hello`.
    Start(Box<Start>),
    /// Which entries of a batch need their details; the others are unchanged.
    Verdicts(Bitmap),
    /// Which chunks of a `Seen` are wanted; the others are stored already.
    Wanted(Bitmap),
    /// Bytes of an upload connection, when the transport is stdio.
    Tunnel(TunnelBytes),
    /// Answers `Finished`: the agent may go.
    Bye,
    /// The coordinator gives up, and why.
    Abort(String),
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Version of the conversation; first on the wire in every version.
    pub protocol: u16,
    /// BLAKE3 of the agent's own file.
    pub digest: [u8; 32],
    /// Information.
    pub facts: HostFacts,
}

/// An entry as the walk sees it: name and `lstat`, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryStat {
    /// Its name.
    pub name: Vec<u8>,
    /// Its metadata.
    pub stat: Stat,
    /// The filesystem it is on; with the inode it tells hard links.
    pub filesystem: u64,
}

/// Entries of one directory, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The directory's path, without a slash in front; empty is the root.
    pub directory: Vec<u8>,
    /// Its entries, in name order.
    pub entries: Vec<EntryStat>,
}

/// A batch of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Its number.
    pub batch: u64,
    /// Its blocks, in listing order.
    pub blocks: Vec<Block>,
}

/// Names an entry: its batch, and its place counted through the batch's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryRef {
    /// The batch.
    pub batch: u64,
    /// The entry's place in it, from 0.
    pub entry: u32,
}

/// Some of a file's extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPart {
    /// The file.
    pub of: EntryRef,
    /// The next extents.
    pub extents: Vec<Extent>,
}

/// What became of a wanted entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOutcome {
    /// Read.
    Read,
    /// Gone between the walk and the read: not part of the snapshot.
    Vanished,
    /// Content, link target or attributes could not be read; the errno of the first failure.
    Unreadable {
        /// The kernel's error number.
        errno: u32,
    },
}

/// The rest of a wanted entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The entry.
    pub of: EntryRef,
    /// What became of it.
    pub outcome: ReadOutcome,
    /// What to note.
    pub flags: EntryFlags,
    /// Its metadata as read with the content; for a file, `size` is what was read.
    pub stat: Stat,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// A symbolic link's target.
    pub link_target: Vec<u8>,
}

/// Chunks that the agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The query's number.
    pub query: u64,
    /// The chunks and their lengths.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A pack that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackStored {
    /// Its name, as the append-server answered.
    pub pack: PackId,
    /// Its bytes.
    pub bytes: u64,
}

/// Answers for numbered things: bit `i` of byte `i / 8`, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// The batch or query answered.
    pub of: u64,
    /// How many bits count.
    pub bits: u32,
    /// The bits; those past the count are zero.
    pub bytes: Vec<u8>,
}

impl Bitmap {
    /// A bitmap from its answers.
    pub fn new(of: u64, answers: impl ExactSizeIterator<Item = bool>) -> Self {
        let mut bytes = vec![0u8; answers.len().div_ceil(8)];
        let bits = u32::try_from(answers.len()).unwrap_or(u32::MAX);
        for (index, answer) in answers.enumerate() {
            if let Some(byte) = bytes.get_mut(index / 8) {
                *byte |= u8::from(answer) << (index % 8);
            }
        }
        Self { of, bits, bytes }
    }

    /// The answer at a place; past the end, no.
    pub fn get(&self, index: usize) -> bool {
        self.bytes
            .get(index / 8)
            .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.of);
        out.put_varint(self.bits.into());
        out.put(&self.bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let of = reader.varint("answer")?;
        let bits = reader.varint32("bits")?;
        let limit = BATCH_ENTRIES_MAX.max(SEEN_CHUNKS_MAX);
        if u64::from(bits) > limit {
            return Err(DecodeError::AboveLimit {
                what: "bits",
                found: bits.into(),
                limit,
            });
        }
        let bytes = reader.bytes("bits", bits.div_ceil(8) as usize)?.to_vec();
        let spare = bits % 8;
        if spare != 0 && bytes.last().is_some_and(|last| last >> spare != 0) {
            return Err(DecodeError::NotCanonical { what: "bits" });
        }
        Ok(Self { of, bits, bytes })
    }
}

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemKind {
    /// A source path of the configuration does not exist.
    SourceMissing,
    /// A directory or file could not be read.
    Unreadable,
    /// It vanished between the walk and the read.
    Vanished,
    /// It changed while it was read, twice.
    Changed,
    /// Its name or path is beyond a limit: left out.
    BeyondLimit,
    /// Anything else; the text says what.
    Other,
}

impl ProblemKind {
    const ALL: [Self; 6] = [
        Self::SourceMissing,
        Self::Unreadable,
        Self::Vanished,
        Self::Changed,
        Self::BeyondLimit,
        Self::Other,
    ];

    fn tag(self) -> u8 {
        match self {
            Self::SourceMissing => 1,
            Self::Unreadable => 2,
            Self::Vanished => 3,
            Self::Changed => 4,
            Self::BeyondLimit => 5,
            Self::Other => 6,
        }
    }
}

/// One thing that could not be kept as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The path, without a slash in front.
    pub path: Vec<u8>,
    /// The kernel's error number, or 0.
    pub errno: u32,
    /// What was attempted.
    pub text: String,
}

impl Problem {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind.tag());
        out.put_prefixed(&self.path);
        out.put_u32(self.errno);
        out.put_prefixed(self.text.as_bytes());
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("problem")?;
        let kind = ProblemKind::ALL
            .into_iter()
            .find(|kind| kind.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "problem",
                tag: tag.into(),
            })?;
        Ok(Self {
            kind,
            path: reader
                .prefixed("problem path", PATH_BYTES_MAX + NAME_BYTES_MAX + 1)?
                .to_vec(),
            errno: reader.u32("errno")?,
            text: reader.text("problem text", TEXT_BYTES_MAX)?,
        })
    }
}

/// Numeric ids and their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Users, sorted by id.
    pub users: Vec<(u32, String)>,
    /// Groups, sorted by id.
    pub groups: Vec<(u32, String)>,
}

impl Names {
    /// Appends them.
    pub fn put(&self, out: &mut Vec<u8>) {
        for names in [&self.users, &self.groups] {
            out.put_varint(names.len() as u64);
            for (id, name) in names {
                out.put_varint((*id).into());
                out.put_prefixed(name.as_bytes());
            }
        }
    }

    /// Reads them: sorted by id, each once.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            users: read_names(reader)?,
            groups: read_names(reader)?,
        })
    }
}

fn read_names(reader: &mut Reader<'_>) -> Result<Vec<(u32, String)>, DecodeError> {
    let count = reader.count("names", SNAPSHOT_NAMES_MAX, 2)?;
    let mut names: Vec<(u32, String)> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.varint32("id")?;
        let name = reader.text("name", NAME_BYTES_MAX)?;
        if names.last().is_some_and(|(last, _)| *last >= id) {
            return Err(DecodeError::NotCanonical { what: "names" });
        }
        names.push((id, name));
    }
    Ok(names)
}

/// Counts of a run so far; the agent's own word, compared with what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries sent.
    pub entries: u64,
    /// Files read.
    pub files_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Plain bytes of wanted chunks.
    pub bytes_new: u64,
    /// Bytes of acknowledged packs.
    pub bytes_stored: u64,
    /// Packs acknowledged.
    pub packs: u64,
    /// Problems sent.
    pub problems: u64,
    /// The agent's peak resident memory in bytes.
    pub memory_peak: u64,
    /// The CPU time that the agent has used, in milliseconds; not that of the commands it ran.
    pub cpu_millis: u64,
}

impl Totals {
    fn fields(&self) -> [u64; 9] {
        [
            self.entries,
            self.files_read,
            self.bytes_read,
            self.bytes_new,
            self.bytes_stored,
            self.packs,
            self.problems,
            self.memory_peak,
            self.cpu_millis,
        ]
    }

    fn put(&self, out: &mut Vec<u8>) {
        for field in self.fields() {
            out.put_varint(field);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            entries: reader.varint("entries")?,
            files_read: reader.varint("files read")?,
            bytes_read: reader.varint("bytes read")?,
            bytes_new: reader.varint("bytes new")?,
            bytes_stored: reader.varint("bytes stored")?,
            packs: reader.varint("packs")?,
            problems: reader.varint("problems")?,
            memory_peak: reader.varint("memory")?,
            cpu_millis: reader.varint("CPU time")?,
        })
    }
}

/// Bytes of an upload connection over the control conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelBytes {
    /// The connection, from 0.
    pub connection: u8,
    /// Its next bytes; none closes it.
    pub bytes: Vec<u8>,
}

impl TunnelBytes {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.connection);
        out.put_prefixed(&self.bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            connection: reader.u8("connection")?,
            bytes: reader.prefixed("tunnel bytes", TUNNEL_BYTES_MAX)?.to_vec(),
        })
    }
}

impl FromAgent {
    /// The message's bytes, tag first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hello(hello) => {
                out.put_u8(1);
                out.put_u16(hello.protocol);
                out.put(&hello.digest);
                hello.facts.put(&mut out);
            }
            Self::Ready => out.put_u8(2),
            Self::Entries(entries) => {
                out.put_u8(3);
                entries.put(&mut out);
            }
            Self::Content(part) => {
                out.put_u8(4);
                part.of.put(&mut out);
                out.put_varint(part.extents.len() as u64);
                for extent in &part.extents {
                    extent.put(&mut out);
                }
            }
            Self::Details(details) => {
                out.put_u8(5);
                details.put(&mut out);
            }
            Self::Seen(seen) => {
                out.put_u8(6);
                out.put_varint(seen.query);
                out.put_varint(seen.chunks.len() as u64);
                for (id, bytes) in &seen.chunks {
                    out.put(id.as_bytes());
                    out.put_varint((*bytes).into());
                }
            }
            Self::PackStored(stored) => {
                out.put_u8(7);
                out.put(stored.pack.as_bytes());
                out.put_varint(stored.bytes);
            }
            Self::Problem(problem) => {
                out.put_u8(8);
                problem.put(&mut out);
            }
            Self::Names(names) => {
                out.put_u8(9);
                names.put(&mut out);
            }
            Self::Progress(totals) => {
                out.put_u8(10);
                totals.put(&mut out);
            }
            Self::Tunnel(bytes) => {
                out.put_u8(11);
                bytes.put(&mut out);
            }
            Self::Finished(totals) => {
                out.put_u8(12);
                totals.put(&mut out);
            }
            Self::Abort(text) => {
                out.put_u8(13);
                out.put_prefixed(clipped(text));
            }
            Self::Surroundings(surroundings) => {
                out.put_u8(14);
                surroundings.put(&mut out);
            }
        }
        out
    }

    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message")? {
            1 => Self::Hello(Hello::read(&mut reader)?),
            2 => Self::Ready,
            3 => Self::Entries(Entries::read(&mut reader)?),
            4 => Self::Content(ContentPart::read(&mut reader)?),
            5 => Self::Details(Details::read(&mut reader)?),
            6 => Self::Seen(Seen::read(&mut reader)?),
            7 => Self::PackStored(PackStored {
                pack: PackId::read(&mut reader)?,
                bytes: reader.varint("pack bytes")?,
            }),
            8 => Self::Problem(Problem::read(&mut reader)?),
            9 => Self::Names(Names::read(&mut reader)?),
            10 => Self::Progress(Totals::read(&mut reader)?),
            11 => Self::Tunnel(TunnelBytes::read(&mut reader)?),
            12 => Self::Finished(Totals::read(&mut reader)?),
            13 => Self::Abort(reader.text("abort", TEXT_BYTES_MAX)?),
            14 => Self::Surroundings(Surroundings::read(&mut reader)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "agent message",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("agent message")?;
        Ok(message)
    }
}

impl FromCoordinator {
    /// The message's bytes, tag first. A `Start` holds secrets: the caller wipes it after sending.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Start(start) => {
                out.put_u8(1);
                start.put(&mut out);
            }
            Self::Verdicts(bits) => {
                out.put_u8(2);
                bits.put(&mut out);
            }
            Self::Wanted(bits) => {
                out.put_u8(3);
                bits.put(&mut out);
            }
            Self::Tunnel(bytes) => {
                out.put_u8(4);
                bytes.put(&mut out);
            }
            Self::Bye => out.put_u8(5),
            Self::Abort(text) => {
                out.put_u8(6);
                out.put_prefixed(clipped(text));
            }
        }
        out
    }

    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message")? {
            1 => Self::Start(Box::new(Start::read(&mut reader)?)),
            2 => Self::Verdicts(Bitmap::read(&mut reader)?),
            3 => Self::Wanted(Bitmap::read(&mut reader)?),
            4 => Self::Tunnel(TunnelBytes::read(&mut reader)?),
            5 => Self::Bye,
            6 => Self::Abort(reader.text("abort", TEXT_BYTES_MAX)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "coordinator message",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("coordinator message")?;
        Ok(message)
    }
}

/// A text cut to what a reader accepts, at a character's boundary.
fn clipped(text: &str) -> &[u8] {
    let mut end = text.len().min(1_024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.as_bytes().get(..end).unwrap_or_default()
}

impl Hello {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let protocol = reader.u16("protocol version")?;
        if protocol != PROTOCOL_VERSION {
            return Err(DecodeError::UnknownVersion {
                what: "control conversation",
                found: protocol,
                known: PROTOCOL_VERSION,
            });
        }
        Ok(Self {
            protocol,
            digest: reader.array("agent digest")?,
            facts: HostFacts::read(reader)?,
        })
    }
}

impl Entries {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.batch);
        out.put_varint(self.blocks.len() as u64);
        for block in &self.blocks {
            out.put_prefixed(&block.directory);
            out.put_varint(block.entries.len() as u64);
            for entry in &block.entries {
                out.put_prefixed(&entry.name);
                entry.stat.put(out);
                out.put_varint(entry.filesystem);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let batch = reader.varint("batch")?;
        let block_count = reader.count("blocks", BATCH_ENTRIES_MAX, 2)?;
        let mut blocks = Vec::with_capacity(block_count);
        let mut left = BATCH_ENTRIES_MAX;
        for _ in 0..block_count {
            let directory = read_path(reader)?;
            let count = reader.count("entries", left, 12)?;
            left -= count as u64;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(EntryStat {
                    name: read_name(reader)?,
                    stat: Stat::read(reader)?,
                    filesystem: reader.varint("filesystem")?,
                });
            }
            blocks.push(Block { directory, entries });
        }
        Ok(Self { batch, blocks })
    }
}

impl EntryRef {
    fn put(self, out: &mut Vec<u8>) {
        out.put_varint(self.batch);
        out.put_varint(self.entry.into());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            batch: reader.varint("batch")?,
            entry: reader.varint32("entry")?,
        })
    }
}

impl ContentPart {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let of = EntryRef::read(reader)?;
        let count = reader.count("extents", CONTENT_EXTENTS_MAX, 2)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            extents.push(Extent::read(reader)?);
        }
        Ok(Self { of, extents })
    }
}

impl Details {
    fn put(&self, out: &mut Vec<u8>) {
        self.of.put(out);
        match self.outcome {
            ReadOutcome::Read => out.put_u8(1),
            ReadOutcome::Vanished => out.put_u8(2),
            ReadOutcome::Unreadable { errno } => {
                out.put_u8(3);
                out.put_u32(errno);
            }
        }
        out.put_u8(self.flags.bits());
        self.stat.put(out);
        put_xattrs(&self.xattrs, out);
        out.put_prefixed(&self.link_target);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let details = Self {
            of: EntryRef::read(reader)?,
            outcome: match reader.u8("read outcome")? {
                1 => ReadOutcome::Read,
                2 => ReadOutcome::Vanished,
                3 => ReadOutcome::Unreadable {
                    errno: reader.u32("errno")?,
                },
                tag => {
                    return Err(DecodeError::UnknownTag {
                        what: "read outcome",
                        tag: tag.into(),
                    });
                }
            },
            flags: EntryFlags::read(reader)?,
            stat: Stat::read(reader)?,
            xattrs: read_xattrs(reader)?,
            link_target: reader
                .prefixed("link target", LINK_TARGET_BYTES_MAX)?
                .to_vec(),
        };
        details.check()?;
        Ok(details)
    }

    /// What would make an entry that no reader takes is refused here, before it can reach a listing.
    fn check(&self) -> Result<(), DecodeError> {
        if self.flags.contains(EntryFlags::CARRIED) {
            return Err(DecodeError::Invalid {
                what: "entry flags",
                rule: "an agent has nothing to carry over",
            });
        }
        if self.stat.kind != EntryKind::Symlink && !self.link_target.is_empty() {
            return Err(DecodeError::Invalid {
                what: "link target",
                rule: "only a symbolic link has one",
            });
        }
        match (self.stat.kind, self.outcome) {
            (EntryKind::Symlink, ReadOutcome::Read) => {
                check_link_target(&self.link_target, self.flags)
            }
            // An entry of either is flagged unreadable, or not kept.
            _ => check_link_target(&self.link_target, EntryFlags::UNREADABLE),
        }
    }
}

impl Seen {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let query = reader.varint("query")?;
        let count = reader.count("chunks", SEEN_CHUNKS_MAX, 33)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ChunkId::read(reader)?;
            match reader.varint32("chunk")? {
                bytes if (1..=CHUNK_BYTES_MAX).contains(&bytes) => chunks.push((id, bytes)),
                bytes => {
                    return Err(DecodeError::AboveLimit {
                        what: "chunk",
                        found: bytes.into(),
                        limit: CHUNK_BYTES_MAX.into(),
                    });
                }
            }
        }
        Ok(Self { query, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::{Details, EntryRef, FromAgent, Hello, ReadOutcome};
    use crate::codec::DecodeError;
    use crate::listing::entry::{EntryFlags, EntryKind, Stat, Timestamp};
    use crate::wire::facts::HostFacts;
    use crate::wire::framing::PROTOCOL_VERSION;

    fn details(kind: EntryKind, link_target: &[u8]) -> Details {
        Details {
            of: EntryRef { batch: 0, entry: 0 },
            outcome: ReadOutcome::Read,
            flags: EntryFlags::default(),
            stat: Stat {
                kind,
                mode: 0o777,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                inode: 1,
                links: 1,
                device: (0, 0),
            },
            xattrs: Vec::new(),
            link_target: link_target.to_vec(),
        }
    }

    fn reads(details: Details) -> bool {
        let message = FromAgent::Details(details);
        FromAgent::decode(&message.encode()) == Ok(message)
    }

    #[test]
    fn details_keep_the_rules_of_the_entry_they_become() {
        assert!(reads(details(EntryKind::Symlink, b"target")));
        assert!(!reads(details(EntryKind::Symlink, b"tar\0get")));
        assert!(!reads(details(EntryKind::Symlink, b"")));
        assert!(!reads(details(EntryKind::File, b"target")));
        assert!(reads(Details {
            outcome: ReadOutcome::Unreadable { errno: 13 },
            ..details(EntryKind::Symlink, b"")
        }));
        assert!(!reads(Details {
            flags: EntryFlags::CARRIED,
            ..details(EntryKind::File, b"")
        }));
    }

    #[test]
    fn a_hello_of_another_version_is_refused_by_its_version() {
        let hello = FromAgent::Hello(Hello {
            protocol: PROTOCOL_VERSION + 1,
            digest: [1; 32],
            facts: HostFacts::default(),
        });
        let mut bytes = hello.encode();
        bytes.push(7);
        assert!(matches!(
            FromAgent::decode(&bytes),
            Err(DecodeError::UnknownVersion { found, .. }) if found == PROTOCOL_VERSION + 1
        ));
    }
}
