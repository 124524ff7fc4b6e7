//! Every bound of this server that no other program has to agree on.

use std::time::Duration;

/// Removals of one destination that go on at a time.
pub const REMOVALS_AT_ONCE: usize = 8;
/// Removals of one destination in one request.
pub const REMOVALS_DUE_MAX: usize = 5_000;
/// After so many removals that a destination did not answer, the rest is left for the next request.
pub const REMOVAL_FAILURES_MAX: usize = 8;
/// When a removal that was refused is tried again; 24 times that for what is locked.
pub const REMOVAL_RETRY_SECS: u64 = 3_600;
/// What is swept in 24 hours at most, unless it is configured.
pub const REMOVAL_DAILY_BYTES_DEFAULT: u64 = 1 << 40;
/// How long what is condemned stays, unless it is configured.
pub const REMOVAL_GRACE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a tunnel connection may take to prove itself.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Connections that may be proving themselves at a time; more wait, within the deadline.
pub const HANDSHAKES_MAX: usize = 32;
/// How long a failed handshake keeps its place, which bounds guesses per second.
pub const HANDSHAKE_PENALTY: Duration = Duration::from_secs(1);
/// How long a request's head may take once its first byte is here.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a peer may leave written bytes unread.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(300);
/// The most headers of a request.
pub const HEADERS_MAX: usize = 32;
/// How long a request under way may take to be answered once its run has ended or the server is ending.
pub const LAST_ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Hyper's buffer per connection.
pub const CONNECTION_BUFFER_BYTES: usize = 512 << 10;
/// Connections of one run: a run's tunnel connections, and as many again that are being replaced.
pub const CONNECTIONS_PER_RUN_MAX: usize = 2 * formats::limits::TUNNEL_CONNECTIONS_MAX as usize;
/// Uploads of one run at a time.
pub const UPLOADS_PER_RUN_MAX: u32 = formats::limits::TUNNEL_CONNECTIONS_MAX as u32;
/// Connections of one socket.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Runs open at a time.
pub const RUNS_MAX: usize = 512;
/// The longest life of a grant.
pub const RUN_SECONDS_MAX: u64 = 14 * 24 * 3_600;
/// How long closing a run waits for its last upload to be stored or dropped.
pub const CLOSE_RUN_DEADLINE: Duration = Duration::from_secs(120);
/// A body must bring `PROGRESS_BYTES_MIN` in every interval of this length.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// What a body must bring in every interval.
pub const PROGRESS_BYTES_MIN: u64 = 16 << 10;
/// One read or write of file data.
pub const IO_BYTES: usize = 256 << 10;
/// Pieces of a body between the network and the writer's thread.
pub const PIECES_IN_FLIGHT: usize = 8;
/// The writer looks at the free space again after this many bytes.
pub const RESERVE_CHECK_BYTES: u64 = 8 << 20;
/// The default bound of the spool.
pub const SPOOL_BYTES_DEFAULT: u64 = 1 << 30;
/// The default of what data packs must leave free, for the log.
pub const RESERVE_BYTES_DEFAULT: u64 = 256 << 20;
/// Deliveries to one destination that nobody waits for, under way at a time.
pub const LATE_DELIVERIES_MAX: usize = 4;
/// Objects asked for at a time when a destination is listed whole.
pub const LIST_PAGE_OBJECTS: usize = 1_000;
/// After a failure that may pass, how long a put to a required destination, or a question, waits at first…
pub const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// …and at most, before it is tried again.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(15);
/// For how long a question that no destination can answer is asked again.
pub const READ_PATIENCE_MAX: Duration = Duration::from_secs(30);
/// For how many seconds a required destination that fails is tried again at most, and by default: less than an agent waits
/// for its acknowledgement.
pub const PATIENCE_SECS_MAX: u32 = 120;
/// The same.
pub const PATIENCE_MAX: Duration = Duration::from_secs(PATIENCE_SECS_MAX as u64);
/// How long a destination that nobody waits for is left alone after a failure, at first…
pub const DELIVERY_BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// …and at most.
pub const DELIVERY_BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// How long a destination that nobody waits for may take to say what it has of a repository's log before it is left out.
pub const COMPARE_FOLLOWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a delivery waits for room in the spool before it gives up its own.
pub const DELIVERY_ROOM_DEADLINE: Duration = Duration::from_secs(10);
/// When an object that could not be read where it is to be delivered from is tried again.
pub const SOURCE_RETRY_SECS: u64 = 60;
/// When an object that could not be delivered for a reason of its own is tried again.
pub const CONFLICT_RETRY_SECS: u64 = 3_600;
/// How long a graceful end waits for requests under way.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);
/// The longest path that fits a Unix socket's address, with its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What an S3 service may say at a time, an object's own bytes aside: a page of a listing has some 500 KiB.
pub const S3_ANSWER_BYTES_MAX: usize = 8 << 20;
/// How long a connection to an S3 service may take to open.
pub const S3_CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// How long an S3 service may take to answer, or to bring the next piece of an object.
pub const S3_REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// What is added to the deadline of a put for its bytes: so slow may a line be.
pub const S3_PUT_BYTES_PER_SEC_MIN: u64 = 16 << 10;
/// How long a body may bring nothing at all.
pub const S3_STALL_GRACE: Duration = Duration::from_secs(60);
/// Pages of a bucket's listing that are read for one page of objects.
pub const S3_LIST_PAGES_MAX: usize = 10_000;
/// Pages of unfinished uploads that are counted.
pub const S3_UNFINISHED_PAGES_MAX: usize = 10;
/// Unfinished uploads whose bytes are asked for, one by one.
pub const S3_UNFINISHED_MEASURED_MAX: usize = 16;
/// Objects that are looked at for legal holds when a bucket is tried out…
pub const S3_HOLDS_LOOKED_AT: i32 = 200;
/// …and how many of them at once.
pub const S3_HOLDS_AT_ONCE: usize = 8;
/// How long the trial of a role locks its own object: longer than two machines' clocks may differ.
pub const TRIAL_LOCK_SECS: u64 = 3_600;
/// Connections to an SFTP server, made as they are needed: some storage services allow an account ten.
pub const SFTP_CONNECTIONS: usize = 6;
/// Operations under way on an SFTP server; as many that read a little may be besides, for who reads much may need that to
/// go on.
pub const SFTP_OPERATIONS_MAX: usize = 64;
/// Operations on one connection, past which another is used. OpenSSH's handles are numbers whose bytes stay text, which the
/// library needs, while fewer than 128 are open on a connection; an operation has five at most.
pub const SFTP_OPERATIONS_ON_ONE: usize = 24;
/// The largest packet from an SFTP server.
pub const SFTP_PACKET_BYTES_MAX: u32 = 512 << 10;
/// What one read or write carries where the server takes as much.
pub const SFTP_IO_BYTES: u32 = 128 << 10;
/// What one read or write carries where the server does not say: every server takes that (draft-ietf-secsh-filexfer-02
/// §3).
pub const SFTP_IO_BYTES_UNKNOWN: u32 = 32 << 10;
/// What it carries at least, whatever the server says.
pub const SFTP_IO_BYTES_MIN: u32 = 4 << 10;
/// Bytes in flight of one object.
pub const SFTP_WINDOW_BYTES: usize = 4 << 20;
/// Bytes on their way to an SFTP server over one connection: those that OpenSSH's server lets a channel have on its way (2
/// MiB), and those whose answers are still to come.
pub const SFTP_WINDOW_BYTES_CONNECTION: usize = 3 << 20;
/// How long an SFTP server may take to answer a request, those sent before it included: a line of 28 KB/s brings the windows
/// of all connections in that time. A server that is gone shows earlier, by SSH's keepalives.
pub const SFTP_REQUEST_DEADLINE: Duration = Duration::from_secs(675);
/// Names in one folder of an SFTP server: records of a log, mostly.
pub const SFTP_FOLDER_NAMES_MAX: usize = 4 << 20;
