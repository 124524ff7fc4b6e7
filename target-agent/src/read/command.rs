//! A stream: runs its command and cuts what it prints like a file's content. Never takes what a command gave that failed, took
//! too long or gave too much, and never leaves one behind: it ends with the agent, however that ends.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use formats::chunk::Chunker;
use formats::limits::CHUNK_BYTES_MAX;
use formats::listing::entry::{EntryFlags, Stat};
use formats::wire::control::content::ReadOutcome;
use formats::wire::control::problem::ProblemKind;
use formats::wire::streams::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use crate::clock;
use crate::facts;
use crate::read::content::{Ending, Pieces};
use crate::read::entry::Found;
use crate::stat;

/// Runs the command beside a shell that waits for the end of our stream, and then ends the whole process group, which is the
/// command's own: at last without asking.
const GUARD: &str = "exec 3<&0 0</dev/null; \
     (trap '' TERM; read -r nothing <&3; kill -TERM 0; sleep 5; kill -KILL 0) >/dev/null 2>&1 & watch=$!; \
     exec 3<&-; \"$@\"; status=$?; kill -KILL $watch 2>/dev/null; exit $status";
/// Where programs are looked for.
pub const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of the end of the standard error; a problem's text has room for it.
const ERRORS_BYTES_MAX: usize = 600;
/// How long a command may take to end when it is told to: longer than its guard gives it.
const ENDING_LIMIT: Duration = Duration::from_secs(8);
/// How long the standard error may stay open after the command's end.
const LATE_ERRORS_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether a command has ended that gives nothing any more.
const END_REVIEW_EVERY: Duration = Duration::from_millis(20);
/// Most bytes asked of the kernel at once.
const READ_BYTES: usize = 512 << 10;
/// What is cut: a largest chunk and a read.
const WINDOW_BYTES: usize = CHUNK_BYTES_MAX as usize + READ_BYTES;
/// White space that may follow the end that is asked for.
const BLANKS_MAX: usize = 64;
const STACK_BYTES: usize = 128 << 10;

/// Why a stream has no content.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("the command cannot be started: {0}")]
    Start(io::Error),
    #[error("the command's output cannot be read: {0}")]
    Read(io::Error),
    #[error("the command's end is not known: {0}")]
    End(io::Error),
    #[error("the command was ended after {0} s: raise its `timeout` if it needs longer")]
    TimedOut(u32),
    #[error("the command was ended after {0} bytes: raise its `max_size` if it is to give more")]
    TooMuch(u64),
    #[error("the command failed with exit code {0}")]
    Code(i32),
    #[error("signal {0} ended the command")]
    Signal(i32),
    #[error("the command's output does not end with {0:?}: it did not finish it")]
    Unfinished(String),
    #[error("the run is ending")]
    Ending,
}

impl From<Ending> for CommandError {
    fn from(_: Ending) -> Self {
        Self::Ending
    }
}

/// Runs a stream's command; `walked` is its entry as it was listed.
pub fn read_command(
    stream: &Stream,
    walked: &Stat,
    chunker: &Chunker,
    pieces: &mut impl Pieces,
) -> Result<Found, Ending> {
    let mut running = match Running::start(stream) {
        Ok(running) => running,
        Err(error) => return Ok(failed(walked, &CommandError::Start(error), b"")),
    };
    match running.run(stream, chunker, pieces) {
        Ok(bytes) => Ok(Found::read(Stat {
            size: bytes,
            mtime: clock::now(),
            ..*walked
        })),
        Err(CommandError::Ending) => Err(Ending),
        Err(error) => {
            let errors = running.stop();
            Ok(failed(walked, &error, &errors))
        }
    }
}

fn failed(walked: &Stat, error: &CommandError, errors: &[u8]) -> Found {
    let mut found = Found::read(*walked);
    found.outcome = ReadOutcome::Unreadable {
        errno: stat::errno(Errno::IO),
    };
    found.flags = EntryFlags::UNREADABLE;
    let said = String::from_utf8_lossy(errors);
    let text = match said.trim() {
        "" => error.to_string(),
        said => format!("{error}; it said: {said}"),
    };
    found.note(ProblemKind::Unreadable, None, &text);
    found
}

/// A command under way. Dropping it closes its guard's input, upon which that ends it.
struct Running {
    child: Child,
    output: ChildStdout,
    /// Closed to have it ended.
    guard: Option<ChildStdin>,
    until: Instant,
    errors: Receiver<Vec<u8>>,
}

impl Running {
    fn start(stream: &Stream) -> io::Result<Self> {
        let words = stream.command.iter().map(|word| OsStr::from_bytes(word));
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "capstan"])
            .args(words)
            .env_clear()
            .env("PATH", PROGRAM_PATH)
            .env("HOME", facts::home_of(geteuid().as_raw()))
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(guard), Some(output), Some(stderr)) = streams else {
            return Err(io::Error::other("it has no streams"));
        };
        let (told, errors) = bounded(1);
        Builder::new()
            .name("errors".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Nobody waits any more when it comes too late.
                told.send(last_bytes(stderr)).ok();
            })?;
        Ok(Self {
            child,
            output,
            guard: Some(guard),
            until: Instant::now() + Duration::from_secs(stream.seconds_max.into()),
            errors,
        })
    }

    /// Cuts its output and waits for a good end; gives how much it was.
    fn run(
        &mut self,
        stream: &Stream,
        chunker: &Chunker,
        pieces: &mut impl Pieces,
    ) -> Result<u64, CommandError> {
        let mut last = Vec::new();
        let bytes = self.cut_output(stream, chunker, pieces, &mut last)?;
        self.succeed(stream)?;
        match last.trim_ascii_end().ends_with(&stream.ending) {
            true => Ok(bytes),
            false => {
                let ending = String::from_utf8_lossy(&stream.ending).into_owned();
                Err(CommandError::Unfinished(ending))
            }
        }
    }

    /// Cuts its output to its end, and keeps the last of it; gives how much it was.
    fn cut_output(
        &mut self,
        stream: &Stream,
        chunker: &Chunker,
        pieces: &mut impl Pieces,
        last: &mut Vec<u8>,
    ) -> Result<u64, CommandError> {
        let mut buffer = vec![0; WINDOW_BYTES];
        let (mut from, mut filled) = (0, 0);
        let mut total = 0;
        let mut ended = false;
        loop {
            while !ended && filled - from < CHUNK_BYTES_MAX as usize {
                if filled == buffer.len() {
                    buffer.copy_within(from..filled, 0);
                    filled -= from;
                    from = 0;
                }
                let room = (buffer.len() - filled).min(READ_BYTES);
                let read = self.read(stream, &mut buffer[filled..filled + room])?;
                ended = read == 0;
                keep_last(
                    last,
                    &buffer[filled..filled + read],
                    stream.ending.len() + BLANKS_MAX,
                );
                filled += read;
                total += read as u64;
                if total > stream.bytes_max {
                    return Err(CommandError::TooMuch(stream.bytes_max));
                }
                pieces.read_up_to(total);
            }
            let ready = &buffer[from..filled];
            if ready.is_empty() {
                return Ok(total);
            }
            let cut = chunker.cut(ready);
            pieces.chunk(&ready[..cut])?;
            from += cut;
        }
    }

    fn read(&mut self, stream: &Stream, into: &mut [u8]) -> Result<usize, CommandError> {
        let left = self.until.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut ready = [PollFd::new(&self.output, PollFlags::IN)];
        let count = retry_on_intr(|| poll(&mut ready, Some(&wait)));
        match count.map_err(|error| CommandError::Read(error.into()))? {
            0 => Err(CommandError::TimedOut(stream.seconds_max)),
            _ => self.output.read(into).map_err(CommandError::Read),
        }
    }

    /// Waits for a good end. It may run on after its output's end, and its time still counts.
    fn succeed(&mut self, stream: &Stream) -> Result<(), CommandError> {
        let status = self.ends_by(self.until);
        match status.map_err(CommandError::End)? {
            None => Err(CommandError::TimedOut(stream.seconds_max)),
            Some(status) => match (status.code(), status.signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => Err(CommandError::Code(code)),
                (None, signal) => Err(CommandError::Signal(signal.unwrap_or(0))),
            },
        }
    }

    fn ends_by(&mut self, until: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < until => std::thread::sleep(END_REVIEW_EVERY),
                ended => return Ok(ended),
            }
        }
    }

    /// Has it ended, if it has not; gives the end of its standard error.
    fn stop(mut self) -> Vec<u8> {
        self.guard = None;
        // Its guard does it; were that gone too, there would be nothing more to do.
        self.ends_by(Instant::now() + ENDING_LIMIT).ok();
        let errors = self.errors.recv_timeout(LATE_ERRORS_LIMIT);
        errors.unwrap_or_default()
    }
}

/// Reads to the end, and gives the last of it.
fn last_bytes(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(read @ 1..) => {
                let bytes = buffer.get(..read).unwrap_or_default();
                keep_last(&mut kept, bytes, ERRORS_BYTES_MAX);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return kept,
        }
    }
}

/// Adds bytes to the last ones, of which so many are kept.
fn keep_last(last: &mut Vec<u8>, bytes: &[u8], count: usize) {
    last.extend_from_slice(&bytes[bytes.len().saturating_sub(count)..]);
    let beyond = last.len().saturating_sub(count);
    last.drain(..beyond);
}

#[cfg(test)]
mod tests;
