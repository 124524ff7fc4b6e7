//! Retention: which snapshots are kept, by rules and the coordinator's clock alone; and prune, which reclaims what no kept
//! snapshot needs. Deciding is pure; everything that removes is planned first, shown, and then executed in two phases with a
//! time of grace in between.

pub mod decide;
pub mod keep;
pub mod kept_at;
pub mod simulate;
pub mod slot;

pub mod acts;
pub mod clock_doubt;
pub mod error;
pub mod holds;
pub mod lock;
pub mod mark;
pub mod prune;

pub mod brakes;
mod condemn;
mod decided;
mod orphans;
mod repack;
pub mod report;
mod sweep;
pub mod thin;

pub use keep::Keep;
