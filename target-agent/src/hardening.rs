//! What the agent asks of the system for itself: no core dumps and no reading of its memory by other
//! processes of its user, no new privileges, as many open files as it may have, an allocator that
//! keeps nothing.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

use crate::limits::{OPEN_DIRECTORIES_MAX, OPEN_FILES_RESERVE};

/// Keeps keys in memory from others. Best effort: a kernel that refuses leaves the agent as it was.
pub fn protect_memory() {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .ok();
    rustix::thread::set_no_new_privs(true).ok();
}

/// What glibc's allocator is told: to give every large buffer back when it is freed. Left alone it learns to
/// keep them, one share for each thread, and a third of the agent's memory would hold nothing.
#[cfg(target_env = "gnu")]
const ALLOCATOR: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072");

/// Starts this program anew with its allocator bound, and with an environment that holds nothing else: glibc
/// takes such orders from there alone. Goes on as it is where that fails; only memory is at stake.
#[cfg(target_env = "gnu")]
pub fn bind_allocator() {
    use std::os::unix::process::CommandExt as _;
    let (name, value) = ALLOCATOR;
    if std::env::var_os(name).is_none_or(|found| found != value) {
        let error = std::process::Command::new("/proc/self/exe")
            .arg0("target-agent")
            .arg("serve")
            .env_clear()
            .env(name, value)
            .exec();
        eprintln!("target-agent: cannot start anew, uses more memory: {error}");
    }
}

/// Nothing to do: this allocator gives large buffers back.
#[cfg(not(target_env = "gnu"))]
pub fn bind_allocator() {}

/// Raises the limit of open files to the hard one; gives how many directories may be open.
pub fn open_directories() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .ok();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let directories = files
        .saturating_sub(OPEN_FILES_RESERVE)
        .clamp(16, OPEN_DIRECTORIES_MAX);
    usize::try_from(directories).unwrap_or(16)
}
