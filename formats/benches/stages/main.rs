//! Each stage of a backup alone, on one thread and in memory: cut, hash, compress, seal, frame, pack, open, then pages
//! encoded, decoded and merged. What stages do to each other, only a whole run tells. Nothing here passes or fails.
//!
//! `cargo bench -p formats` runs all; `-- frames::seal` those whose path has this in it.

mod samples;

mod chunks;
mod frames;
mod listings;
mod packs;

use std::time::Duration;

/// Each case ends after its usual 100 samples or this, whichever is first; `--max-time` changes it.
const CASE_LIMIT: Duration = Duration::from_secs(1);

fn main() {
    divan::Divan::default()
        .max_time(CASE_LIMIT)
        .config_with_args()
        .main();
}
