//! The scripted coordinator: answers as a real one would, by the decisions a test gives it, and gathers all.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use formats::ids::{ChunkId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::{ChunkingKey, IdKey, MasterKey, RunToken};
use formats::listing::content::{Extent, extents_cover};
use formats::listing::entry::{EntryKind, join};
use formats::listing::order::OrderChecker;
use formats::pack::open::{open_frame, verify_pack};
use formats::seal::frame::FrameOpener;
use formats::seal::run_header::{Purpose, RunContext, RunHeader, RunKeys};
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::chunks::PackStored;
use formats::wire::control::content::{Details, ReadOutcome};
use formats::wire::control::entries::{Entries, EntryRef, EntryStat};
use formats::wire::control::names::Names;
use formats::wire::control::problem::Problem;
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator, Hello, TunnelBytes};
use formats::wire::framing;
use formats::wire::start::{AgentLimits, Rules, Start, Transport};
use formats::wire::streams::Stream;

use crate::server::{self, Behaviour, Packs};

/// Decides by an entry's directory and itself.
pub type WantsEntry = Box<dyn FnMut(&[u8], &EntryStat) -> bool>;

/// What a test decides.
pub struct Script {
    pub rules: Rules,
    pub streams: Vec<Stream>,
    pub limits: AgentLimits,
    pub over_stdio: bool,
    /// Which entries' details are wanted.
    pub wants_entry: WantsEntry,
    /// Which chunks are stored already, besides those of this run.
    pub stored: HashSet<ChunkId>,
    pub keeps_packs: bool,
    /// The server has another token.
    pub wrong_token: bool,
    pub refuses: bool,
    pub lies: bool,
    /// The agent runs as nobody.
    pub as_nobody: bool,
    /// The agent is put into a directory of its own, to remove.
    pub deployed: bool,
}

impl Script {
    pub fn new(sources: &[&Path]) -> Self {
        let mut sources: Vec<Vec<u8>> = sources
            .iter()
            .map(|path| path.as_os_str().as_bytes()[1..].to_vec())
            .collect();
        sources.sort();
        Self {
            rules: Rules {
                sources,
                ..Rules::default()
            },
            streams: Vec::new(),
            limits: AgentLimits::default(),
            over_stdio: false,
            wants_entry: Box::new(|_, _| true),
            stored: HashSet::new(),
            keeps_packs: true,
            wrong_token: false,
            refuses: false,
            lies: false,
            as_nobody: false,
            deployed: false,
        }
    }
}

/// What came of a run.
pub struct Outcome {
    pub hello: Hello,
    /// Every entry in order, with its path.
    pub entries: Vec<(Vec<u8>, EntryRef, EntryStat)>,
    pub details: HashMap<EntryRef, Details>,
    pub contents: HashMap<EntryRef, Vec<Extent>>,
    pub problems: Vec<Problem>,
    pub names: Names,
    pub totals: Totals,
    pub packs: Vec<Vec<u8>>,
    pub stored: Vec<PackStored>,
    pub seen: Vec<ChunkId>,
    pub frames: usize,
    /// Where the agent was, if it was deployed.
    pub directory: Option<PathBuf>,
    context: Keys,
}

struct Keys {
    id: IdKey,
    header: RunHeader,
    run: RunKeys,
}

pub struct Peer {
    pub child: Child,
    stdin: Arc<Mutex<ChildStdin>>,
    stdout: ChildStdout,
    _dir: tempfile::TempDir,
    packs: Packs,
    keys: Keys,
    start: Start,
    socket: PathBuf,
    directory: Option<PathBuf>,
}

pub fn start(script: &Script) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_target-agent"));
    let (program, directory) = if script.deployed {
        let own = dir.path().join(".capstan-12345678-x");
        std::fs::create_dir(&own).unwrap();
        std::fs::copy(&program, own.join("agent")).unwrap();
        (own.join("agent"), Some(own))
    } else {
        (program, None)
    };
    let socket = directory.as_deref().unwrap_or(dir.path()).join("s");
    let token = RunToken::random().unwrap();
    let behaviour = Behaviour {
        token: if script.wrong_token {
            RunToken::random().unwrap()
        } else {
            token.clone()
        },
        keeps_packs: script.keeps_packs,
        refuses: script.refuses,
        lies: script.lies,
    };
    let packs = server::start(&socket, behaviour);
    let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
    let keys = RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1);
    let context = RunContext {
        repository: keys.repository,
        epoch: keys.epoch,
        run: RunId([3; 16]),
        purpose: Purpose::Data,
    };
    let (header, run) = RunHeader::create(context, &keys.public().unwrap()).unwrap();
    let mut command = Command::new(program);
    if script.as_nobody {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt as _;
        for path in [dir.path(), &socket] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        command.uid(65_534).gid(65_534);
    }
    let mut child = command
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let start = orders(script, &keys, (&header, &run), token, &socket);
    Peer {
        stdin: Arc::new(Mutex::new(child.stdin.take().unwrap())),
        stdout: child.stdout.take().unwrap(),
        child,
        _dir: dir,
        packs,
        keys: Keys {
            id: keys.id().unwrap().clone(),
            header,
            run,
        },
        start,
        socket,
        directory,
    }
}

fn orders(
    script: &Script,
    keys: &RepositoryKeys,
    (header, run): (&RunHeader, &RunKeys),
    token: RunToken,
    socket: &Path,
) -> Start {
    let context = header.context;
    Start {
        repository: context.repository,
        epoch: context.epoch,
        run: context.run,
        id_key: keys.id().unwrap().clone(),
        chunking_key: ChunkingKey::from_bytes([9; 32]),
        data_key: run.data.clone(),
        table_key: run.table.clone(),
        run_header: header.encode(),
        token,
        transport: if script.over_stdio {
            Transport::Stdio
        } else {
            Transport::Unix {
                path: socket.as_os_str().as_bytes().to_vec(),
            }
        },
        rules: script.rules.clone(),
        streams: script.streams.clone(),
        limits: script.limits,
    }
}

fn send(stdin: &Mutex<ChildStdin>, message: &FromCoordinator) {
    let framed = framing::frame(&message.encode()).unwrap();
    // The agent may be gone: the test sees that when it reads.
    stdin.lock().unwrap().write_all(&framed).ok();
}

impl Peer {
    pub fn send(&self, message: &FromCoordinator) {
        send(&self.stdin, message);
    }

    /// The next message; none when the agent is gone.
    pub fn receive(&mut self) -> Option<FromAgent> {
        let mut length = [0; framing::LENGTH_BYTES];
        self.stdout.read_exact(&mut length).ok()?;
        let mut message = vec![0; framing::frame_length(length).unwrap()];
        self.stdout.read_exact(&mut message).ok()?;
        Some(FromAgent::decode(&message).unwrap())
    }

    pub fn send_start(&self) {
        self.send(&FromCoordinator::Start(Box::new(self.start.clone())));
    }

    /// Ends the conversation from this side, as a coordinator that dies does.
    pub fn hang_up(mut self) -> std::process::ExitStatus {
        drop(self.stdin);
        self.child.wait().unwrap()
    }

    pub fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Connects a tunnel connection over stdio to the server.
    fn bridge(&self, connection: u8) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let mut from_server = stream.try_clone().unwrap();
        let stdin = self.stdin.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 4_096];
            while let Ok(read @ 1..) = from_server.read(&mut buffer) {
                let bytes = buffer[..read].to_vec();
                send(
                    &stdin,
                    &FromCoordinator::Tunnel(TunnelBytes { connection, bytes }),
                );
            }
        });
        stream
    }
}

/// A session under way.
struct Conversation {
    script: Script,
    outcome: Outcome,
    order: OrderChecker,
    bridges: HashMap<u8, UnixStream>,
    /// For each batch, how many details are still to come.
    in_flight: HashMap<u64, usize>,
    next_batch: u64,
    is_ready: bool,
}

/// Runs a whole session; panics where the agent breaks a rule, gives its reason when it aborts.
pub fn run(script: Script) -> Result<Outcome, String> {
    let mut peer = start(&script);
    let Some(FromAgent::Hello(hello)) = peer.receive() else {
        panic!("Hello comes first");
    };
    let Some(FromAgent::Surroundings(around)) = peer.receive() else {
        panic!("the surroundings come second");
    };
    assert!(around.mounts.iter().any(|mount| mount.path.is_empty()));
    peer.send_start();
    let mut conversation = Conversation {
        outcome: Outcome::new(hello, &peer),
        script,
        order: OrderChecker::new(),
        bridges: HashMap::new(),
        in_flight: HashMap::new(),
        next_batch: 0,
        is_ready: false,
    };
    loop {
        match peer.receive().expect("the agent ends with a word") {
            FromAgent::Abort(text) => {
                assert!(!peer.wait().success());
                return Err(text);
            }
            FromAgent::Finished(totals) => {
                conversation.outcome.totals = totals;
                break;
            }
            message => conversation.take(message, &peer),
        }
    }
    assert!(conversation.in_flight.values().all(|left| *left == 0));
    let mut outcome = conversation.outcome;
    outcome.packs = std::mem::take(&mut *peer.packs.0.lock().unwrap());
    peer.send(&FromCoordinator::Bye);
    assert!(peer.hang_up().success());
    Ok(outcome)
}

impl Conversation {
    fn take(&mut self, message: FromAgent, peer: &Peer) {
        let outcome = &mut self.outcome;
        match message {
            FromAgent::Ready => self.is_ready = true,
            FromAgent::Entries(batch) => self.entries(batch, peer),
            FromAgent::Seen(seen) => {
                let stored = &mut self.script.stored;
                let ids = seen.chunks.iter().map(|(id, _)| *id);
                let bits = Bitmap::new(seen.query, ids.clone().map(|id| stored.insert(id)));
                outcome.seen.extend(ids);
                peer.send(&FromCoordinator::Wanted(bits));
            }
            FromAgent::Content(part) => {
                assert!(!outcome.details.contains_key(&part.of));
                let extents = outcome.contents.entry(part.of).or_default();
                extents.extend(part.extents);
            }
            FromAgent::Details(details) => {
                let left = self.in_flight.get_mut(&details.of.batch).unwrap();
                *left -= 1;
                assert!(outcome.details.insert(details.of, details).is_none());
            }
            FromAgent::PackStored(stored) => outcome.stored.push(stored),
            FromAgent::Problem(problem) => outcome.problems.push(problem),
            FromAgent::Names(names) => outcome.names = names,
            FromAgent::Progress(_) => {}
            FromAgent::Tunnel(bytes) => {
                let connection = bytes.connection;
                let stream = self
                    .bridges
                    .entry(connection)
                    .or_insert_with(|| peer.bridge(connection));
                stream.write_all(&bytes.bytes).unwrap();
            }
            FromAgent::Hello(_)
            | FromAgent::Surroundings(_)
            | FromAgent::Abort(_)
            | FromAgent::Finished(_) => {
                panic!("out of turn")
            }
        }
    }

    fn entries(&mut self, batch: Entries, peer: &Peer) {
        assert!(self.is_ready);
        assert_eq!(batch.batch, self.next_batch);
        self.next_batch += 1;
        let mut answers = Vec::new();
        for block in batch.blocks {
            self.order.block(&block.directory).unwrap();
            for entry in block.entries {
                self.order.entry(&entry.name, entry.stat.kind).unwrap();
                let of = EntryRef {
                    batch: batch.batch,
                    entry: answers.len() as u32,
                };
                answers.push((self.script.wants_entry)(&block.directory, &entry));
                let path = join(&block.directory, &entry.name);
                self.outcome.entries.push((path, of, entry));
            }
        }
        let wanted = answers.iter().filter(|wanted| **wanted).count();
        self.in_flight.retain(|_, left| *left > 0);
        self.in_flight.insert(batch.batch, wanted);
        let limit = self.script.limits.batches_in_flight as usize;
        assert!(self.in_flight.len() <= limit);
        let bits = Bitmap::new(batch.batch, answers.into_iter());
        peer.send(&FromCoordinator::Verdicts(bits));
    }
}

impl Outcome {
    fn new(hello: Hello, peer: &Peer) -> Self {
        Self {
            hello,
            entries: Vec::new(),
            details: HashMap::new(),
            contents: HashMap::new(),
            problems: Vec::new(),
            names: Names::default(),
            totals: Totals::default(),
            packs: Vec::new(),
            stored: Vec::new(),
            seen: Vec::new(),
            frames: 0,
            directory: peer.directory.clone(),
            context: Keys {
                id: peer.keys.id.clone(),
                header: peer.keys.header.clone(),
                run: peer.keys.run.clone(),
            },
        }
    }

    /// Every chunk of the packs, each pack checked whole.
    pub fn chunks(&mut self) -> HashMap<ChunkId, Vec<u8>> {
        let Keys { id, header, run } = &self.context;
        let mut chunks = HashMap::new();
        for pack in &self.packs {
            let table = verify_pack(pack, header, &run.table, &run.data, id).unwrap();
            let mut opener = FrameOpener::new(header.context, run.data.clone()).unwrap();
            let mut at = 0;
            for frame in &table.frames {
                let end = at + frame.shape.sealed_bytes as usize;
                let mut sealed = pack[at..end].to_vec();
                let plain = open_frame(&mut opener, id, frame, 0, &mut sealed).unwrap();
                at = end;
                self.frames += 1;
                let mut start = 0;
                for chunk in &frame.chunks {
                    let bytes = plain[start..start + chunk.bytes as usize].to_vec();
                    start += chunk.bytes as usize;
                    assert!(chunks.insert(chunk.id, bytes).is_none(), "stored twice");
                }
            }
        }
        chunks
    }

    /// The entry at a real path.
    pub fn entry(&self, path: &Path) -> Option<(EntryRef, &EntryStat)> {
        let path = &path.as_os_str().as_bytes()[1..];
        self.entries
            .iter()
            .find(|(found, ..)| found == path)
            .map(|(_, of, entry)| (*of, entry))
    }

    pub fn details_at(&self, path: &Path) -> &Details {
        &self.details[&self.entry(path).unwrap().0]
    }

    /// Compares every file listed below a directory, and every link, with what is there. Gives how many.
    pub fn compare(&mut self, below: &Path) -> usize {
        let chunks = self.chunks();
        let below = &below.as_os_str().as_bytes()[1..];
        let mut compared = 0;
        for (path, of, entry) in &self.entries {
            if !path.starts_with(below) || path == below {
                continue;
            }
            let details = &self.details[of];
            assert_eq!(details.outcome, ReadOutcome::Read);
            let real = [b"/", path.as_slice()].concat();
            let real = Path::new(std::ffi::OsStr::from_bytes(&real));
            match entry.stat.kind {
                EntryKind::File => {
                    let none = Vec::new();
                    let extents = self.contents.get(of).unwrap_or(&none);
                    assert_eq!(extents_cover(extents), Some(details.stat.size));
                    compare_file(real, extents, &chunks);
                    compared += 1;
                }
                EntryKind::Symlink => {
                    let target = std::fs::read_link(real).unwrap();
                    assert_eq!(target.as_os_str().as_bytes(), details.link_target);
                    compared += 1;
                }
                _ => {}
            }
        }
        compared
    }
}

fn compare_file(real: &Path, extents: &[Extent], chunks: &HashMap<ChunkId, Vec<u8>>) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::open(real).unwrap();
    assert_eq!(
        file.metadata().unwrap().len(),
        extents_cover(extents).unwrap()
    );
    let mut at = 0;
    for extent in extents {
        if let Extent::Chunk { id, bytes } = extent {
            let mut found = vec![0; *bytes as usize];
            file.read_exact_at(&mut found, at).unwrap();
            assert!(chunks[id] == found, "{} at {at}", real.display());
        }
        at += extent.bytes();
    }
}
