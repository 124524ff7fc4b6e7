//! A new admin's password, and what stretching it may cost on this machine.

use formats::keys::bundle::PasswordCost;
use formats::keys::secret::{RandomError, random};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// 32 letters and digits that are not taken for one another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789+";
const GROUPS: usize = 6;
const GROUP_LETTERS: usize = 4;

/// Memory that must be free beside what Argon2id takes, in KiB.
const MEMORY_SPARE_KIB: u64 = 512 << 10;

/// A secret text that is shown once: `Debug` prints nothing of it, and it is wiped when dropped.
#[derive(Clone)]
pub struct ShownOnce(Zeroizing<String>);

impl ShownOnce {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ShownOnce {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ShownOnce(..)")
    }
}

/// For `--json`, which shows it once too.
impl Serialize for ShownOnce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

/// 24 random letters in groups of four: 120 bits.
pub fn random_password() -> Result<ShownOnce, RandomError> {
    let bytes = Zeroizing::new(random::<{ GROUPS * GROUP_LETTERS }>()?);
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_LETTERS + 1)));
    for (place, byte) in bytes.iter().enumerate() {
        if place > 0 && place % GROUP_LETTERS == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
    }
    Ok(ShownOnce(text))
}

/// The cost for a machine with so much free memory: the default, or the small one where a GiB is not free.
pub fn cost_for_memory(available_kib: Option<u64>) -> PasswordCost {
    let wanted = u64::from(PasswordCost::DEFAULT.memory_kib) + MEMORY_SPARE_KIB;
    match available_kib {
        Some(available) if available >= wanted => PasswordCost::DEFAULT,
        // Unknown counts as short: running out of memory would kill the process.
        _ => PasswordCost::SMALL,
    }
}

/// What the kernel says it could give, in KiB.
pub fn available_memory_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
