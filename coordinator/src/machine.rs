//! The machine that this program runs on: its name, and what tells it from another.

/// What it is called, as `uname -n` says it.
pub fn name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// A digest of its id (machine-id(5)), which is not to be shown to others; nothing where there is none.
pub fn digest() -> Option<[u8; 32]> {
    let id = std::fs::read("/etc/machine-id").ok()?;
    let id = id.trim_ascii();
    let is_set = !id.is_empty() && id != b"uninitialized";
    is_set.then(|| blake3::derive_key("capstan 2026-11 machine id", id))
}
