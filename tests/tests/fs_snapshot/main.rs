//! Runs that read from snapshots of filesystems: what is stored is of one moment, and the snapshots go, whatever ends the run.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::corpus::bytes::incompressible;
use tests::processes::wait_until;

mod btrfs;
mod lvm;

/// Longer than a file must have been left alone to be known as unchanged by the next run.
const SETTLING: Duration = Duration::from_millis(2_500);
/// How long a snapshot may take to come and to go.
const SOON: Duration = Duration::from_secs(60);

fn settle() -> Result<()> {
    let start = Instant::now();
    wait_until("files to be old enough", SOON, || {
        Ok(start.elapsed() > SETTLING)
    })
}

/// Some MiB, each in a file, to be under way for seconds at a low bandwidth.
fn fill(directory: &Path, files: u64) -> Result<()> {
    for number in 0..files {
        let path = directory.join(format!("large-{number:02}"));
        fs::write(path, incompressible(number, 1 << 20))?;
    }
    Ok(())
}
