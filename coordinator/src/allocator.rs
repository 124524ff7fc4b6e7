//! Bounds what the allocator keeps. glibc gives every thread a share of memory of its own, up to eight for each
//! processor, and what is freed in one is not used by the others: with the blocking threads of a run that is more
//! than the run itself needs. It takes orders from the environment alone, at its start.

/// Four shares: threads still seldom wait for each other.
#[cfg(target_env = "gnu")]
const ORDERS: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4");

/// Says that this has been tried: a system may take the orders out of the environment of a program that it trusts
/// more than whoever starts it.
#[cfg(target_env = "gnu")]
const TRIED: &str = "CAPSTAN_ALLOCATOR_BOUND";

/// Starts this program anew, as the same process, with its allocator bound; does nothing when whoever started it
/// has given the allocator orders already. Goes on as it is where that fails: only memory is at stake.
#[cfg(target_env = "gnu")]
pub fn bind_allocator() {
    use std::os::unix::process::CommandExt as _;
    let (name, value) = ORDERS;
    if std::env::var_os(name).is_some() || std::env::var_os(TRIED).is_some() {
        return;
    }
    // By its own name, which the system shows; not when something else, as a loader, runs it.
    let is_ours = |program: &std::path::PathBuf| {
        let name = program.file_name();
        name.is_some_and(|name| name == env!("CARGO_PKG_NAME")) && program.is_file()
    };
    let Some(program) = std::env::current_exe().ok().filter(is_ours) else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut anew = std::process::Command::new(program);
    if let Some(called) = arguments.next() {
        anew.arg0(called);
    }
    let error = anew.args(arguments).env(name, value).env(TRIED, "1").exec();
    // Only here when that failed; seen only by whoever looks from the very start.
    tracing::debug!(%error, "the allocator is not bound");
}

/// Nothing to do: this allocator has no shares.
#[cfg(not(target_env = "gnu"))]
pub fn bind_allocator() {}
