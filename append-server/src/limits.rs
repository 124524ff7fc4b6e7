//! Every bound of this server that no other program has to agree on.

use std::time::Duration;

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
/// Deliveries to one destination that is not required, still under way after their acknowledgement.
pub const LATE_DELIVERIES_MAX: usize = 4;
/// How long a graceful end waits for requests under way.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);
/// The longest path that fits a Unix socket's address, with its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
