//! The bound on memory, measured.

use formats::limits::MIB;
use formats::listing::entry::EntryKind;

use crate::peer::{Script, run};
use crate::runs::noise;

const RESIDENT_MAX: u64 = 128 * MIB;

#[test]
fn memory_stays_bounded_with_many_entries_and_much_content() {
    let dir = tempfile::tempdir().unwrap();
    let many = dir.path().join("many");
    std::fs::create_dir(&many).unwrap();
    for index in 0..200_000 {
        let name = many.join(format!("a rather long name of a file, number {index}"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            name,
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }
    for file in 0..12 {
        let bytes = noise(file, 32 << 20);
        std::fs::write(dir.path().join(format!("content-{file}")), bytes).unwrap();
    }
    for file in 0..3_000 {
        let bytes = noise(file, 40_000);
        std::fs::write(dir.path().join(format!("small-{file}")), bytes).unwrap();
    }
    let mut script = Script::new(&[dir.path()]);
    script.keeps_packs = false;
    script.limits.threads = 4;
    let outcome = run(script).unwrap();
    let files = |entry: &&(Vec<u8>, _, formats::wire::control::entries::EntryStat)| {
        entry.2.stat.kind == EntryKind::File
    };
    assert!(outcome.entries.iter().filter(files).count() >= 203_012);
    println!("peak: {} MiB", outcome.totals.memory_peak / MIB);
    assert!(outcome.totals.memory_peak < RESIDENT_MAX);
    assert_eq!(outcome.problems, []);
}
