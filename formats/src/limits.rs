//! Every limit in one place. A decoder checks these before it allocates; a program names them instead of
//! a number. Raising one is compatible; lowering one is a format change.

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

// Chunks, frames and packs.

/// No content-defined cut before this many bytes.
pub const CHUNK_BYTES_MIN: u32 = 128 << 10;
/// The chunker's aim.
pub const CHUNK_BYTES_AVERAGE: u32 = 512 << 10;
/// A cut at the latest after this many bytes.
pub const CHUNK_BYTES_MAX: u32 = 2 << 20;
/// A frame is closed once it holds at least this much plaintext.
pub const FRAME_PLAIN_TARGET: u32 = 2 << 20;
/// The most plaintext in a frame: one byte less than the target, and a whole chunk on top.
pub const FRAME_PLAIN_MAX: u32 = FRAME_PLAIN_TARGET + CHUNK_BYTES_MAX;
/// The most sealed bytes of a frame: raw plaintext, nonce and tag.
pub const FRAME_SEALED_MAX: u32 = FRAME_PLAIN_MAX + 40;
/// A pack is closed once its frames hold at least this much.
pub const PACK_BYTES_TARGET: u64 = 32 * MIB;
/// The most bytes of a pack.
pub const PACK_BYTES_MAX: u64 = 64 * MIB;
/// The most frames in a pack.
pub const PACK_FRAMES_MAX: u64 = 65_536;
/// The most chunks in a pack; a writer closes the pack before it is reached.
pub const PACK_CHUNKS_MAX: u64 = 131_072;
/// The most chunks in a frame; a writer closes the frame before it is passed.
pub const FRAME_CHUNKS_MAX: u64 = 8_192;
/// An index piece is cut once it has this many bytes.
pub const INDEX_PIECE_BYTES_TARGET: usize = 1 << 20;
/// The most bytes of a pack's sealed table.
pub const PACK_TABLE_BYTES_MAX: u64 = 16 * MIB;
/// The most run headers in a pack: prune may gather frames of several runs.
pub const PACK_RUN_HEADERS_MAX: u64 = 256;

// Listings.

/// The longest name of an entry (Linux `NAME_MAX`).
pub const NAME_BYTES_MAX: u64 = 255;
/// The longest directory path of a listing, in bytes.
pub const PATH_BYTES_MAX: u64 = 64 * KIB;
/// The deepest directory of a listing.
pub const PATH_DEPTH_MAX: usize = 4_096;
/// The longest symbolic link target (Linux `PATH_MAX`).
pub const LINK_TARGET_BYTES_MAX: u64 = 4_096;
/// The most extended attributes of an entry.
pub const XATTRS_MAX: u64 = 1_024;
/// The longest name of an extended attribute (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: u64 = 255;
/// The longest value of an extended attribute (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: u64 = 64 * KIB;
/// The most bytes of all extended attributes of an entry.
pub const XATTRS_BYTES_MAX: u64 = 256 * KIB;
/// The most extents kept in an entry itself; a longer list is cut into content pages.
pub const INLINE_EXTENTS_MAX: u64 = 64;
/// The most extents in a content page.
pub const CONTENT_PAGE_EXTENTS_MAX: u64 = 8_192;
/// The most content pages of an entry: files to about 20 TiB at the average chunk size.
pub const CONTENT_PAGES_MAX: u64 = 16_384;
/// A page is not cut before this many bytes.
pub const PAGE_BYTES_MIN: usize = 4 << 10;
/// A page is cut after the entry that reaches this many bytes.
pub const PAGE_BYTES_TARGET_MAX: usize = 64 << 10;
/// The most bytes of a page: the target, and one largest entry on top.
pub const PAGE_BYTES_MAX: u64 = FRAME_PLAIN_MAX as u64;
/// The most pages named by one page index piece.
pub const PAGE_INDEX_PAGES_MAX: u64 = 4_096;

// Log.

/// The most bytes of a log record.
pub const RECORD_BYTES_MAX: u64 = 4 * MIB;
/// The most bytes of a host's settings.
pub const HOST_SETTINGS_BYTES_MAX: u64 = MIB;
/// The most page index pieces of a snapshot.
pub const SNAPSHOT_PAGE_INDEXES_MAX: u64 = 4_096;
/// The most index pieces of a snapshot.
pub const SNAPSHOT_INDEXES_MAX: u64 = 16_384;
/// The most snapshots in one act of retention.
pub const ACT_SNAPSHOTS_MAX: u64 = 16_384;
/// The most packs in one act of retention.
pub const ACT_PACKS_MAX: u64 = 65_536;
/// The most meta packs of a snapshot.
pub const SNAPSHOT_META_PACKS_MAX: u64 = 16_384;
/// The most problems a snapshot lists one by one; all are counted.
pub const SNAPSHOT_PROBLEMS_MAX: u64 = 1_000;
/// The most user or group names a snapshot keeps.
pub const SNAPSHOT_NAMES_MAX: u64 = 4_096;
/// The longest free text of a format: a host's facts, a problem's text.
pub const TEXT_BYTES_MAX: u64 = 1_024;
/// The most source paths of a host.
pub const SOURCES_MAX: u64 = 1_024;
/// The most patterns of a host.
pub const PATTERNS_MAX: u64 = 4_096;
/// The most streams of a host.
pub const STREAMS_MAX: u64 = 256;
/// The longest name of a stream.
pub const STREAM_NAME_BYTES_MAX: u64 = 1_024;
/// The most words of a stream's command.
pub const STREAM_WORDS_MAX: u64 = 256;
/// The longest end that is asked of a stream's output.
pub const STREAM_ENDING_BYTES_MAX: u64 = 256;
/// The longest word of a stream's command.
pub const STREAM_WORD_BYTES_MAX: u64 = 64 * KIB;

// Audit log.

/// The most bytes of an audit record's body.
pub const AUDIT_RECORD_BYTES_MAX: u64 = MIB;
/// The most details of an audit record.
pub const AUDIT_DETAILS_MAX: u64 = 32;
/// The longest text of a detail.
pub const AUDIT_DETAIL_BYTES_MAX: u64 = 16 * KIB;

// Keys.

/// The most memory a password's parameters may ask for: 4 GiB, in KiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 4 << 20;
/// The least memory: 64 MiB, in KiB.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 64 << 10;
/// The most passes.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// The most lanes.
pub const ARGON2_LANES_MAX: u32 = 16;
/// The most bytes of a key bundle.
pub const KEY_BUNDLE_BYTES_MAX: u64 = 4 * KIB;
/// The longest user name.
pub const USER_NAME_BYTES_MAX: u64 = 64;

// Wire.

/// The most mounted filesystems that an agent tells of.
pub const MOUNTS_MAX: u64 = 1_024;
/// The most data directories of programs that an agent tells of.
pub const STORES_MAX: u64 = 64;
/// The most bytes of a control frame, tag included.
pub const CONTROL_FRAME_BYTES_MAX: u32 = 1 << 20;
/// The most entries in a batch.
pub const BATCH_ENTRIES_MAX: u64 = 4_096;
/// A batch is sent once it has this many bytes.
pub const BATCH_BYTES_TARGET: usize = 128 << 10;
/// The most batches of entries that may wait for their details.
pub const BATCHES_IN_FLIGHT_MAX: u32 = 64;
/// The most chunks in one `Seen`.
pub const SEEN_CHUNKS_MAX: u64 = 4_096;
/// The most `Seen` queries that may wait for their answer.
pub const QUERIES_IN_FLIGHT_MAX: u32 = 256;
/// The most extents in one `Content`.
pub const CONTENT_EXTENTS_MAX: u64 = 4_096;
/// The highest limit of an agent's CPU time, in percent of one CPU: more than its threads can use.
pub const CPU_PERCENT_MAX: u16 = 1_600;
/// The most bytes in one `Tunnel` frame.
pub const TUNNEL_BYTES_MAX: u64 = 256 * KIB;
/// The most tunnel connections of a run.
pub const TUNNEL_CONNECTIONS_MAX: u8 = 8;
/// The most bytes of a request or response of the append-server that is not an object.
pub const SMALL_BODY_BYTES_MAX: usize = 64 << 10;
