//! The coordinator's orders for one run: what to read, under which keys, within which limits.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{RepositoryId, RunId};
use crate::keys::derive::Epoch;
use crate::keys::secret::{ChunkingKey, DataKey, IdKey, RunToken, TableKey};
use crate::limits::{
    BATCHES_IN_FLIGHT_MAX, CPU_PERCENT_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, PATTERNS_MAX,
    QUERIES_IN_FLIGHT_MAX, SOURCES_MAX, TEXT_BYTES_MAX, TUNNEL_CONNECTIONS_MAX,
};
use crate::listing::entry::{check_name, check_path};
use crate::seal::run_header::RUN_HEADER_BYTES;
use crate::wire::streams::{Stream, put_streams, read_streams};

/// Where upload connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket that sshd forwards (`streamlocal-forward@openssh.com`).
    Unix {
        /// Its path on the target.
        path: Vec<u8>,
    },
    /// A port on 127.0.0.1 that sshd forwards.
    Tcp {
        /// The port.
        port: u16,
    },
    /// `Tunnel` messages of the control conversation.
    Stdio,
}

/// What is read instead of the sources' filesystems as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsSnapshot {
    /// Nothing: each file as it is when its turn comes.
    #[default]
    None,
    /// Snapshots of Btrfs, taken before the walk and removed after it.
    Btrfs,
    /// The same of logical volumes of LVM.
    Lvm,
}

/// What to read on the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Absolute paths without the slash in front; empty is the root. Sorted, each once.
    pub sources: Vec<Vec<u8>>,
    /// Do not enter other filesystems, except where a source itself lies on one.
    pub one_file_system: bool,
    /// gitignore-style patterns; the last that matches decides.
    pub exclude: Vec<String>,
    /// Leave out the contents of directories with a valid CACHEDIR.TAG.
    pub exclude_caches: bool,
    /// Leave out the contents of directories that hold one of these names.
    pub exclude_if_present: Vec<Vec<u8>>,
    /// What to read it from.
    pub fs_snapshot: FsSnapshot,
}

/// What the agent keeps to; the coordinator and the append-server enforce it besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentLimits {
    /// Batches of entries that may wait.
    pub batches_in_flight: u32,
    /// `Seen` queries that may wait.
    pub queries_in_flight: u32,
    /// Upload connections to open.
    pub tunnel_connections: u8,
    /// zstd level of frames, at least; the agent compresses harder where that costs nobody anything.
    pub compression_level: i8,
    /// Threads that read, hash and seal; 0 lets the agent choose by its cores.
    pub threads: u8,
    /// CPU time that the agent may use, in percent of one CPU; 0 is no limit.
    pub cpu_percent: u16,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            batches_in_flight: BATCHES_IN_FLIGHT_MAX,
            queries_in_flight: 64,
            tunnel_connections: 2,
            compression_level: 1,
            threads: 0,
            cpu_percent: 0,
        }
    }
}

/// The orders.
#[derive(Debug, Clone)]
pub struct Start {
    /// The repository.
    pub repository: RepositoryId,
    /// Its generation of keys.
    pub epoch: Epoch,
    /// This run.
    pub run: RunId,
    /// Key of chunk ids.
    pub id_key: IdKey,
    /// Key of chunk boundaries.
    pub chunking_key: ChunkingKey,
    /// This run's key for frames.
    pub data_key: DataKey,
    /// This run's key for tables.
    pub table_key: TableKey,
    /// The run header, for every pack's trailer as it is.
    pub run_header: Vec<u8>,
    /// The right to upload.
    pub token: RunToken,
    /// Where to upload.
    pub transport: Transport,
    /// What to read.
    pub rules: Rules,
    /// Commands whose output is kept, sorted by their names.
    pub streams: Vec<Stream>,
    /// What to keep to.
    pub limits: AgentLimits,
}

impl Start {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put(self.repository.as_bytes());
        out.put_u32(self.epoch);
        out.put(self.run.as_bytes());
        for key in [
            self.id_key.expose(),
            self.chunking_key.expose(),
            self.data_key.expose(),
            self.table_key.expose(),
            self.token.expose(),
        ] {
            out.put(key);
        }
        out.put_prefixed(&self.run_header);
        match &self.transport {
            Transport::Unix { path } => {
                out.put_u8(1);
                out.put_prefixed(path);
            }
            Transport::Tcp { port } => {
                out.put_u8(2);
                out.put_u16(*port);
            }
            Transport::Stdio => out.put_u8(3),
        }
        self.rules.put(out);
        put_streams(&self.streams, out);
        self.limits.put(out);
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let repository = RepositoryId::read(reader)?;
        let epoch = reader.u32("epoch")?;
        let run = RunId::read(reader)?;
        let id_key = IdKey::from_bytes(reader.array("id key")?);
        let chunking_key = ChunkingKey::from_bytes(reader.array("chunking key")?);
        let data_key = DataKey::from_bytes(reader.array("data key")?);
        let table_key = TableKey::from_bytes(reader.array("table key")?);
        let token = RunToken::from_bytes(reader.array("run token")?);
        let run_header = reader
            .prefixed("run header", RUN_HEADER_BYTES as u64)?
            .to_vec();
        let transport = match reader.u8("transport")? {
            1 => Transport::Unix {
                path: reader.prefixed("socket path", TEXT_BYTES_MAX)?.to_vec(),
            },
            2 => Transport::Tcp {
                port: reader.u16("port")?,
            },
            3 => Transport::Stdio,
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "transport",
                    tag: tag.into(),
                });
            }
        };
        Ok(Self {
            repository,
            epoch,
            run,
            id_key,
            chunking_key,
            data_key,
            table_key,
            run_header,
            token,
            transport,
            rules: Rules::read(reader)?,
            streams: read_streams(reader)?,
            limits: AgentLimits::read(reader)?,
        })
    }
}

impl Rules {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.sources.len() as u64);
        for source in &self.sources {
            out.put_prefixed(source);
        }
        out.put_flag(self.one_file_system);
        out.put_varint(self.exclude.len() as u64);
        for pattern in &self.exclude {
            out.put_prefixed(pattern.as_bytes());
        }
        out.put_flag(self.exclude_caches);
        out.put_varint(self.exclude_if_present.len() as u64);
        for name in &self.exclude_if_present {
            out.put_prefixed(name);
        }
        out.put_u8(match self.fs_snapshot {
            FsSnapshot::None => 0,
            FsSnapshot::Btrfs => 1,
            FsSnapshot::Lvm => 2,
        });
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut sources: Vec<Vec<u8>> = Vec::new();
        for _ in 0..reader.count("sources", SOURCES_MAX, 1)? {
            let source = reader.prefixed("source", PATH_BYTES_MAX)?;
            check_path(source)?;
            if sources.last().is_some_and(|last| last.as_slice() >= source) {
                return Err(DecodeError::NotCanonical { what: "sources" });
            }
            sources.push(source.to_vec());
        }
        let one_file_system = reader.flag("one file system")?;
        let mut exclude = Vec::new();
        for _ in 0..reader.count("patterns", PATTERNS_MAX, 1)? {
            exclude.push(reader.text("pattern", PATH_BYTES_MAX)?);
        }
        let exclude_caches = reader.flag("exclude caches")?;
        let mut exclude_if_present = Vec::new();
        for _ in 0..reader.count("names", PATTERNS_MAX, 1)? {
            let name = reader.prefixed("name", NAME_BYTES_MAX)?;
            check_name(name)?;
            exclude_if_present.push(name.to_vec());
        }
        let fs_snapshot = match reader.u8("filesystem snapshot")? {
            0 => FsSnapshot::None,
            1 => FsSnapshot::Btrfs,
            2 => FsSnapshot::Lvm,
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "filesystem snapshot",
                    tag: tag.into(),
                });
            }
        };
        Ok(Self {
            sources,
            one_file_system,
            exclude,
            exclude_caches,
            exclude_if_present,
            fs_snapshot,
        })
    }
}

impl AgentLimits {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.batches_in_flight);
        out.put_u32(self.queries_in_flight);
        out.put_u8(self.tunnel_connections);
        out.put_u8(self.compression_level.cast_unsigned());
        out.put_u8(self.threads);
        out.put_u16(self.cpu_percent);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut within = |what, limit: u32| match reader.u32(what)? {
            found if (1..=limit).contains(&found) => Ok(found),
            found => Err(DecodeError::AboveLimit {
                what,
                found: found.into(),
                limit: limit.into(),
            }),
        };
        let batches_in_flight = within("batches in flight", BATCHES_IN_FLIGHT_MAX)?;
        let queries_in_flight = within("queries in flight", QUERIES_IN_FLIGHT_MAX)?;
        let tunnel_connections = reader.u8("tunnel connections")?;
        if !(1..=TUNNEL_CONNECTIONS_MAX).contains(&tunnel_connections) {
            return Err(DecodeError::AboveLimit {
                what: "tunnel connections",
                found: tunnel_connections.into(),
                limit: TUNNEL_CONNECTIONS_MAX.into(),
            });
        }
        let compression_level = reader.u8("compression level")?.cast_signed();
        let threads = reader.u8("threads")?;
        let cpu_percent = reader.u16("CPU limit")?;
        if cpu_percent > CPU_PERCENT_MAX {
            return Err(DecodeError::AboveLimit {
                what: "CPU limit",
                found: cpu_percent.into(),
                limit: CPU_PERCENT_MAX.into(),
            });
        }
        Ok(Self {
            batches_in_flight,
            queries_in_flight,
            tunnel_connections,
            compression_level,
            threads,
            cpu_percent,
        })
    }
}
