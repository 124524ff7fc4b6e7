//! Everything a filesystem can hold comes back exactly: rsync sees no difference, and neither does the independent
//! comparison, which also sees what rsync cannot.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::compare::{expect_equal, rsync_differences};
use tests::corpus::{Corpus, CorpusOptions};
use tests::shapes::exit;
use tests::world::{World, below};

/// The full corpus is 5 GiB read, stored, restored and compared.
const DEADLINE: Duration = Duration::from_secs(600);

#[test]
fn the_small_corpus_comes_back_exactly() -> Result<()> {
    let mut options = CorpusOptions::small();
    // Small enough for rsync, which reads every byte of a hole, twice.
    options.sparse_bytes = 1 << 30;
    round_trip(&options, true)
}

#[test]
fn two_hundred_thousand_entries_a_tebibyte_of_hole_and_five_gibibytes_come_back_exactly()
-> Result<()> {
    round_trip(&CorpusOptions::full(), false)
}

fn round_trip(options: &CorpusOptions, rsync_reads_holes: bool) -> Result<()> {
    let world = World::new()?;
    let corpus = Corpus::create(&world.source(), options)?;
    let before = world.target_state()?;
    let report = world.run_within(DEADLINE, exit::OK, &[])?;
    world.expect_target_clean(&before)?;
    ensure!(
        report.agent_rss_bytes < 128 << 20,
        "the agent took {} MiB",
        report.agent_rss_bytes >> 20
    );
    let output = world.restore_within(DEADLINE, "latest", "out")?;
    let restored = below(&output, corpus.root());
    expect_equal(corpus.root(), &restored)?;
    let mut excludes = corpus.rsync_excludes().to_vec();
    if !rsync_reads_holes {
        // The comparison above has looked at these; rsync would read a terabyte of zeros on both sides.
        excludes.extend(["/files/sparse".into(), "/files/all-hole".into()]);
    }
    let seen = rsync_differences(corpus.root(), &restored, &excludes)?;
    ensure!(seen.is_empty(), "rsync sees differences:\n{seen}");

    let again = world.run_within(DEADLINE, exit::OK, &[])?;
    ensure!(
        again.new_bytes == 0,
        "nothing changed, yet {} bytes are new",
        again.new_bytes
    );
    ensure!(
        again.files == report.files && again.directories == report.directories,
        "{report:?} {again:?}"
    );
    Ok(())
}
