//! Runs every fuzz target's body on stable, over the golden files and seeded changes of them: the same bodies
//! that cargo-fuzz drives, for a bounded number of inputs.

#[path = "../fuzz/src/lib.rs"]
mod bodies;

use std::fs;
use std::path::Path;

/// Changed inputs for each target; `FUZZ_SMOKE_INPUTS` asks for more.
const INPUTS: u64 = 3_000;
/// The default seed; `FUZZ_SMOKE_SEED` sets another.
const SEED: u64 = 0x0ca5_7a11;

/// SplitMix64: small, seeded, good enough to choose changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("a small limit");
        usize::try_from(self.next() % limit).expect("a small number")
    }
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// An input to begin with, and the file it is from.
type Seed = (String, Vec<u8>);

/// Golden files, and what a target wants in front of them.
fn seeds() -> Vec<Seed> {
    let mut seeds = vec![(String::new(), Vec::new())];
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).expect("golden files are checked in") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.to_string_lossy().into_owned();
            let bytes = fs::read(&path).expect("it can be read");
            if name.ends_with("content_page.bin") {
                let covers = 1_048_589u64.to_le_bytes();
                let bytes = [&covers, bytes.as_slice()].concat();
                seeds.push(("covers_content_page".into(), bytes));
            }
            if name.ends_with("snapshot.bin") {
                seeds.push(("log_payload".into(), payload(&bytes)));
            }
            seeds.push((name, bytes));
        }
    }
    let compressed = zstd::bulk::compress(&[7; 5_000], 3).expect("zstd compresses");
    let declared = [&5_000u32.to_le_bytes(), compressed.as_slice()].concat();
    seeds.push(("frame_declared".into(), declared));
    for name in [
        "config",
        "keys/daemon",
        "keys/x-..y",
        "log/00000000000000000007",
    ] {
        seeds.push(("object_name".into(), name.as_bytes().to_vec()));
    }
    seeds.sort();
    seeds
}

/// A snapshot as a log payload.
fn payload(snapshot: &[u8]) -> Vec<u8> {
    use formats::codec::Put as _;
    let mut out = Vec::new();
    out.put_prefixed(&[&[1], snapshot].concat());
    out.extend_from_slice(&[0; 9]);
    out
}

/// What the file names of a target's own seeds contain.
fn own_seeds(target: &str) -> &[&str] {
    match target {
        "recovery_kit" => &["recovery_kit.txt"],
        "frame" => &["frame_declared"],
        "pack" => &["empty_pack", "/packs/", "/meta/"],
        "entry" => &["entry_"],
        "content_page" => &["covers_content_page"],
        "log_record" => &["log_record", "/log/"],
        "agent_message" => &["agent_"],
        "coordinator_message" => &["coordinator_"],
        "framing" => &["framed"],
        "handshake" => &["handshake_opening"],
        "upload" => &[
            "stored",
            "open_run",
            "refusal",
            "object_page",
            "destination_states",
            "placing",
            "queued",
            "healed_object",
            "locked_object",
            "removal_report",
        ],
        "codec" => &["codec.bin"],
        "audit_record" => &["audit_record"],
        "audit_head" => &["audit_head"],
        "config" => &["config.bin"],
        "key_bundle" => &["key_bundle", "/keys/"],
        "run_header" => &["run_header"],
        "table" => &["table.bin"],
        "footer" => &["footer.bin"],
        "index_piece" => &["index_piece"],
        "page" => &["/page.bin"],
        "page_index" => &["page_index"],
        "log_payload" => &["log_payload"],
        "snapshot" => &["snapshot.bin"],
        "object_name" => &["object_name"],
        _ => &[],
    }
}

fn change(random: &mut Random, seeds: &[Seed], bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, b'/', b'.'][random.below(7)];
                }
            }
            3 => {
                bytes.splice(
                    at..at,
                    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                );
            }
            4 => {
                let end = (at + random.below(9)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                let (_, other) = seeds.get(random.below(seeds.len())).expect("in range");
                let from = random.below(other.len());
                let end = (from + random.below(64)).min(other.len());
                let piece = other.get(from..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

#[test]
fn every_target_survives_the_goldens_and_changes_of_them() {
    let seed = number_from_environment("FUZZ_SMOKE_SEED", SEED);
    let inputs = number_from_environment("FUZZ_SMOKE_INPUTS", INPUTS);
    println!("seed {seed:#x}, {inputs} inputs for each target");
    let seeds = seeds();
    for (name, body) in bodies::ALL {
        println!("{name}");
        let mut random = Random(seed);
        seeds.iter().for_each(|(_, bytes)| body(bytes));
        let is_own = |(file, _): &&Seed| own_seeds(name).iter().any(|own| file.contains(own));
        let own: Vec<&Seed> = seeds.iter().filter(is_own).collect();
        assert!(!own.is_empty(), "{name} has no seed of its own");
        for _ in 0..inputs {
            let (_, bytes) = own.get(random.below(own.len())).expect("in range");
            let mut bytes = bytes.clone();
            change(&mut random, &seeds, &mut bytes);
            body(&bytes);
        }
    }
}

#[test]
fn every_target_is_declared_for_cargo_fuzz() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml"))
            .expect("it is checked in");
    let declared = manifest.matches("[[bin]]").count();
    assert_eq!(declared, bodies::ALL.len());
    for (name, _) in bodies::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
