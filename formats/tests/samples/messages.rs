//! One of each message between programs.

use formats::ids::{ChunkId, PackId, RepositoryId};
use formats::keys::secret::{ChunkingKey, DataKey, IdKey, RunToken, TableKey};
use formats::listing::content::Extent;
use formats::listing::entry::{EntryFlags, EntryKind, Stat};
use formats::seal::run_header::RUN_HEADER_BYTES;
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::chunks::{PackStored, Seen};
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::{Block, Entries, EntryRef, EntryStat};
use formats::wire::control::names::Names;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator, Hello, TunnelBytes};
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::handshake::Opening;
use formats::wire::placing::{AskedPlaces, Copies, Placing};
use formats::wire::start::{AgentLimits, FsSnapshot, Rules, Start, Transport};
use formats::wire::streams::Stream;
use formats::wire::surroundings::{Mount, Store, Surroundings};
use formats::wire::upload::destinations::{
    ConditionalWrites, DestinationState, DestinationStates, Placed, TriedWrites,
};
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::{Refusal, RefusalKind};
use formats::wire::upload::removals::{RemovalReport, RemovalsWaiting};
use formats::wire::upload::repairs::{HealedObject, LockOutcome, LockedObject, Queued};
use formats::wire::upload::{OpenRun, Stored};

use super::{
    EPOCH, counting, entry_directory, entry_file, entry_symlink, facts, repository, run, stat,
};

pub fn problem() -> Problem {
    Problem {
        kind: ProblemKind::Unreadable,
        path: b"srv/secret".to_vec(),
        errno: 13,
        text: "cannot open the file".into(),
    }
}

pub fn names() -> Names {
    Names {
        users: vec![(0, "root".into()), (1000, "kim".into())],
        groups: vec![(100, "users".into())],
    }
}

fn totals() -> Totals {
    Totals {
        entries: 5,
        files_read: 2,
        bytes_read: 26,
        bytes_new: 13,
        bytes_stored: 4_096,
        packs: 1,
        problems: 1,
        memory_peak: 40 << 20,
        cpu_millis: 1_500,
    }
}

fn entry_stat(name: &[u8], stat: Stat) -> EntryStat {
    EntryStat {
        name: name.to_vec(),
        stat,
        filesystem: 65_025,
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        machine_uuid: "4c4c4544-0035".into(),
        root_filesystem: "ext:8d3f".into(),
        mounts: vec![
            Mount {
                path: Vec::new(),
                kind: "ext4".into(),
            },
            Mount {
                path: b"srv".to_vec(),
                kind: "xfs".into(),
            },
        ],
        stores: vec![Store {
            path: b"var/lib/mysql".to_vec(),
            of: "mysql".into(),
        }],
    }
}

fn tunnel() -> TunnelBytes {
    TunnelBytes {
        connection: 1,
        bytes: b"PUT /v1/packs HTTP/1.1\r\n".to_vec(),
    }
}

/// Every message of the agent, by the name of its golden file.
#[expect(clippy::too_many_lines, reason = "a table, one row for each message")]
pub fn from_agent() -> Vec<(&'static str, FromAgent)> {
    let of = EntryRef { batch: 0, entry: 2 };
    vec![
        (
            "agent_hello",
            FromAgent::Hello(Hello {
                protocol: PROTOCOL_VERSION,
                digest: counting(0x40),
                facts: facts(),
            }),
        ),
        ("agent_ready", FromAgent::Ready),
        (
            "agent_entries",
            FromAgent::Entries(Entries {
                batch: 0,
                blocks: vec![
                    Block {
                        directory: Vec::new(),
                        entries: vec![entry_stat(b"etc", entry_directory(b"etc").stat)],
                    },
                    Block {
                        directory: b"etc".to_vec(),
                        entries: vec![
                            entry_stat(b"hostname", entry_file().stat),
                            entry_stat(b"link", entry_symlink().stat),
                        ],
                    },
                ],
            }),
        ),
        (
            "agent_content",
            FromAgent::Content(ContentPart {
                of,
                extents: vec![
                    Extent::Hole { bytes: 4_096 },
                    Extent::Chunk {
                        id: ChunkId([0xaa; 32]),
                        bytes: 13,
                    },
                ],
            }),
        ),
        (
            "agent_details",
            FromAgent::Details(Details {
                of,
                outcome: ReadOutcome::Read,
                flags: EntryFlags::UNSETTLED,
                stat: stat(EntryKind::File, 4_109),
                xattrs: entry_file().xattrs,
                link_target: Vec::new(),
            }),
        ),
        (
            "agent_seen",
            FromAgent::Seen(Seen {
                query: 3,
                chunks: vec![(ChunkId([0xaa; 32]), 13), (ChunkId([0xbb; 32]), 2 << 20)],
            }),
        ),
        (
            "agent_pack_stored",
            FromAgent::PackStored(PackStored {
                pack: PackId([0x33; 32]),
                bytes: 4_096,
            }),
        ),
        ("agent_problem", FromAgent::Problem(problem())),
        ("agent_names", FromAgent::Names(names())),
        ("agent_progress", FromAgent::Progress(totals())),
        ("agent_tunnel", FromAgent::Tunnel(tunnel())),
        ("agent_finished", FromAgent::Finished(totals())),
        (
            "agent_abort",
            FromAgent::Abort("cannot reach the tunnel".into()),
        ),
        (
            "agent_surroundings",
            FromAgent::Surroundings(surroundings()),
        ),
    ]
}

/// Every message of the coordinator, by the name of its golden file.
pub fn from_coordinator() -> Vec<(&'static str, FromCoordinator)> {
    vec![
        (
            "coordinator_start",
            FromCoordinator::Start(Box::new(start())),
        ),
        (
            "coordinator_verdicts",
            FromCoordinator::Verdicts(Bitmap::new(0, [false, true, true].into_iter())),
        ),
        (
            "coordinator_wanted",
            FromCoordinator::Wanted(Bitmap::new(3, [true, false].into_iter())),
        ),
        (
            "coordinator_tunnel",
            FromCoordinator::Tunnel(TunnelBytes {
                connection: 1,
                bytes: b"HTTP/1.1 201 Created\r\n".to_vec(),
            }),
        ),
        ("coordinator_bye", FromCoordinator::Bye),
        (
            "coordinator_abort",
            FromCoordinator::Abort("cancelled".into()),
        ),
    ]
}

fn start() -> Start {
    Start {
        repository: repository(),
        epoch: EPOCH,
        run: run(),
        id_key: IdKey::from_bytes([0xa1; 32]),
        chunking_key: ChunkingKey::from_bytes([0xa2; 32]),
        data_key: DataKey::from_bytes([0xa3; 32]),
        table_key: TableKey::from_bytes([0xa4; 32]),
        run_header: vec![0xa5; RUN_HEADER_BYTES],
        token: token(),
        transport: Transport::Unix {
            path: b"/dev/shm/.capstan-00010203-x/s".to_vec(),
        },
        rules: Rules {
            sources: vec![b"etc".to_vec(), b"srv".to_vec()],
            one_file_system: true,
            exclude: vec!["*.tmp".into(), "!keep.tmp".into()],
            exclude_caches: true,
            exclude_if_present: vec![b".nobackup".to_vec()],
            fs_snapshot: FsSnapshot::Btrfs,
        },
        streams: vec![Stream {
            name: b"pg/users.dump".to_vec(),
            command: vec![b"pg_dump".to_vec(), b"users".to_vec()],
            seconds_max: 3_600,
            bytes_max: 1 << 30,
            ending: b"COMMIT;".to_vec(),
        }],
        limits: AgentLimits {
            batches_in_flight: 64,
            queries_in_flight: 64,
            tunnel_connections: 2,
            compression_level: -1,
            threads: 0,
            cpu_percent: 150,
        },
    }
}

pub fn token() -> RunToken {
    RunToken::from_bytes([0xa6; 32])
}

pub fn opening() -> Opening {
    Opening {
        run: run(),
        nonce: counting(0x60),
    }
}

pub fn server_nonce() -> [u8; 32] {
    counting(0x80)
}

pub fn stored() -> Stored {
    Stored {
        digest: PackId([0x33; 32]),
        bytes: 4_096,
        existed: false,
    }
}

pub fn open_run() -> OpenRun {
    OpenRun {
        repository: repository(),
        run: run(),
        token: token(),
        bytes_max: 1 << 40,
        packs_max: 65_536,
        seconds_max: 86_400,
    }
}

pub fn refusal() -> Refusal {
    Refusal {
        kind: RefusalKind::Quota,
        text: "the run's bytes are used up".into(),
    }
}

pub fn destination_states() -> DestinationStates {
    DestinationStates(vec![
        DestinationState {
            name: "local".into(),
            required: true,
            objects_behind: 0,
            bytes_behind: 0,
            oldest_unix_secs: None,
            problem: None,
            conditional_writes: ConditionalWrites::NoneNeeded,
            placed: Placed::Kept,
        },
        DestinationState {
            name: "s3".into(),
            required: false,
            objects_behind: 3,
            bytes_behind: 1_700,
            oldest_unix_secs: Some(1_000),
            problem: Some("full".into()),
            conditional_writes: ConditionalWrites::Tried {
                found: TriedWrites::Enforced,
                at_unix_secs: 900,
            },
            placed: Placed::LeftOut,
        },
        DestinationState {
            name: "nas".into(),
            required: false,
            objects_behind: 0,
            bytes_behind: 0,
            oldest_unix_secs: None,
            problem: None,
            conditional_writes: ConditionalWrites::NoneNeeded,
            placed: Placed::Unfilled,
        },
    ])
}

pub fn placing() -> Placing {
    Placing {
        repositories: vec![RepositoryId([0x11; 16]), RepositoryId([0x22; 16])],
        asked: Some(AskedPlaces {
            destinations: Some(vec!["local".into(), "nas".into()]),
            copies: Copies::AtLeast(2),
        }),
    }
}

pub fn queued() -> Queued {
    Queued {
        objects: 3,
        bytes: 1_700,
    }
}

pub fn healed_object() -> HealedObject {
    HealedObject::Replaced {
        from: "s3".into(),
        kept: "damaged/x".into(),
    }
}

pub fn removal_report() -> RemovalReport {
    RemovalReport {
        removed: 3,
        removed_bytes: 1_700,
        too_young: 1,
        over_limit: 0,
        waiting: vec![RemovalsWaiting {
            destination: "s3".into(),
            objects: 2,
            bytes: 300,
            problem: Some("locked".into()),
        }],
    }
}

pub fn locked_object() -> LockedObject {
    LockedObject {
        until_unix_secs: 86_400,
        outcome: LockOutcome::Renewed,
        is_held: false,
    }
}

pub fn object_page() -> ObjectPage {
    ObjectPage {
        objects: vec![
            ("log/00000000000000000001".into(), 1_700),
            ("log/00000000000000000002".into(), 1_700),
        ],
        more: true,
    }
}
