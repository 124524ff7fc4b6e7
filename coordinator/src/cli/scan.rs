//! Arguments of `scan`.

use append_server::quantity::Size;
use clap::Args;

/// `scan`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Without an option names and sizes are compared with what should be there, at every
destination, and new snapshots are looked through for what they name. Reading goes
on where the last scan of a destination stopped. --repair copies what is missing or
damaged from a destination that has it whole, and keeps the damaged bytes beside it,
in the folder `damaged` of the repository or as an older version.

--extend-locks asks for the lock of every object that is needed, which takes a request
each: --locks-max bounds them. Locks that reached lock_max, that are longer than this
configuration makes them, or that are under a legal hold are counted and told.

What no destination has whole is lost: the files that need it are named, and with
--repair the next run reads them again where the host still has them.

Exit codes: 0 everything is as it should be, 3 something was not and is now,
15 something is not, 1 a destination could not be scanned to its end.

Examples:
  coordinator scan
  coordinator scan --new --repair
  coordinator scan --percent 3 --repair --extend-locks --budget 20GiB
  coordinator scan web1 --full --verify --destination s3-eu")]
pub struct ScanArgs {
    /// Only this host's repository [default: all]
    pub host: Option<String>,
    /// Read everything again, and look through every snapshot
    #[arg(long, group = "depth")]
    pub full: bool,
    /// Read this part of everything again
    #[arg(long, group = "depth", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: Option<u8>,
    /// Read again what was stored since it was last read
    #[arg(long, group = "depth")]
    pub new: bool,
    /// Open what is read with the keys, too, and recompute every chunk's id
    #[arg(long, requires = "depth")]
    pub verify: bool,
    /// Only this destination [default: all]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Put right what is missing or damaged
    #[arg(long)]
    pub repair: bool,
    /// Prolong locks of which less than half of `retain` is left, as far as `lock_max` goes
    #[arg(long)]
    pub extend_locks: bool,
    /// Look at no more than N locks of each repository at each destination; the next scan goes on there
    #[arg(long, value_name = "N", requires = "extend_locks", value_parser = clap::value_parser!(u64).range(1..))]
    pub locks_max: Option<u64>,
    /// Read no more than this of each destination, such as 20GiB
    #[arg(long, value_name = "SIZE", requires = "depth")]
    pub budget: Option<Size>,
}
