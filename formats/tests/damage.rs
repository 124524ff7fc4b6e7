//! Damage: every truncation and every flipped bit of every object of the golden repository is refused with an
//! error, by the name where there is one, and by the seals alone where the name is not looked at.

mod samples;

use std::fs;
use std::path::{Path, PathBuf};

use formats::audit::{AuditHead, AuditRecord};
use formats::ids::PackId;
use formats::keys::repository::RepositoryKeys;
use formats::object::ObjectName;
use formats::seal::run_header::Purpose;

use samples::reader::{
    Chunks, Names, Objects, Refused, Restored, open_config, open_keys, open_log, open_pack, restore,
};
use samples::{audit_head, audit_record, file_key, keys, repository};

fn golden_repository() -> Objects {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden/repository")
        .join(repository().to_string());
    let mut objects = Objects::new();
    let mut waiting: Vec<PathBuf> = vec![root.clone()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).expect("the golden repository is checked in") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("it is below").to_str();
            let bytes = fs::read(&path).expect("it can be read");
            objects.insert(name.expect("names are ASCII").to_owned(), bytes);
        }
    }
    objects
}

/// Opens one object the way a restore does, without the rest.
fn open(objects: &Objects, name: &str, keys: &RepositoryKeys, names: Names) -> Result<(), Refused> {
    let bytes = objects.get(name).expect("it is there");
    let mut chunks = Chunks::new();
    match name.parse().expect("every object has a good name") {
        ObjectName::Config => open_config(bytes, keys).map(drop),
        ObjectName::Keys(_) => open_keys(bytes, repository(), &file_key()).map(drop),
        ObjectName::Log(_) => open_log(objects, keys).map(drop),
        ObjectName::Pack(id) => {
            open_pack(bytes, id, names, Purpose::Data, keys, &mut chunks).map(drop)
        }
        ObjectName::Meta(id) => {
            open_pack(bytes, id, names, Purpose::Meta, keys, &mut chunks).map(drop)
        }
    }
}

/// Calls `refused` for every object with every damage that `damages` makes of it.
fn refuse_all(kind: fn(&ObjectName) -> bool, names: Names) -> usize {
    let keys = keys();
    let mut objects = golden_repository();
    let mut tried = 0;
    for name in objects.keys().cloned().collect::<Vec<_>>() {
        if !kind(&name.parse().expect("every object has a good name")) {
            continue;
        }
        assert!(
            open(&objects, &name, &keys, names).is_ok(),
            "{name} as it is"
        );
        let whole = objects.get(&name).expect("it is there").clone();
        for length in 0..whole.len() {
            objects.insert(
                name.clone(),
                whole.get(..length).unwrap_or_default().to_vec(),
            );
            assert!(
                open(&objects, &name, &keys, names).is_err(),
                "{name} cut at {length}"
            );
            tried += 1;
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            objects.insert(name.clone(), flipped);
            assert!(
                open(&objects, &name, &keys, names).is_err(),
                "{name} bit {bit}"
            );
            tried += 1;
        }
        let mut longer = whole.clone();
        longer.push(0);
        objects.insert(name.clone(), longer);
        assert!(
            open(&objects, &name, &keys, names).is_err(),
            "{name} and a byte more"
        );
        objects.insert(name, whole);
        tried += 1;
    }
    tried
}

#[test]
fn a_damaged_config_or_key_bundle_is_refused() {
    let kind = |name: &ObjectName| matches!(name, ObjectName::Config | ObjectName::Keys(_));
    assert!(refuse_all(kind, Names::Ignored) > 30_000);
}

#[test]
fn a_damaged_readers_bundle_or_certificate_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/key_bundle_read.bin");
    let whole = fs::read(path).expect("golden files are checked in");
    assert!(samples::reader_keys(&whole).is_some());
    for length in 0..whole.len() {
        assert!(
            samples::reader_keys(&whole[..length]).is_none(),
            "cut at {length}"
        );
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(samples::reader_keys(&flipped).is_none(), "bit {bit}");
    }
}

#[test]
fn a_damaged_log_record_is_refused() {
    let kind = |name: &ObjectName| matches!(name, ObjectName::Log(_));
    assert!(refuse_all(kind, Names::Ignored) > 20_000);
}

#[test]
fn a_damaged_audit_record_or_head_is_refused() {
    type Refuses = fn(&[u8]) -> bool;
    let cases: [(Vec<u8>, Refuses); 2] = [
        (audit_record().encode().0, |bytes| {
            AuditRecord::read_first(bytes).is_err()
        }),
        (audit_head().encode(), |bytes| {
            AuditHead::decode(bytes).is_err()
        }),
    ];
    for (whole, refuses) in cases {
        assert!(!refuses(&whole));
        for length in 0..whole.len() {
            assert!(refuses(&whole[..length]), "cut at {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refuses(&flipped), "bit {bit}");
        }
    }
}

#[test]
fn a_damaged_data_pack_is_refused_without_its_name() {
    let kind = |name: &ObjectName| matches!(name, ObjectName::Pack(_));
    assert!(refuse_all(kind, Names::Ignored) > 20_000);
}

#[test]
fn a_damaged_meta_pack_is_refused_without_its_name() {
    let kind = |name: &ObjectName| matches!(name, ObjectName::Meta(_));
    assert!(refuse_all(kind, Names::Ignored) > 20_000);
}

#[test]
fn a_damaged_pack_is_refused_by_its_name() {
    let kind = |name: &ObjectName| matches!(name, ObjectName::Pack(_) | ObjectName::Meta(_));
    assert!(refuse_all(kind, Names::Checked) > 40_000);
}

fn restored(objects: &Objects) -> Result<Vec<Restored>, Refused> {
    restore(objects, repository(), &file_key(), Names::Ignored)
}

#[test]
fn a_restore_through_any_damage_is_an_error_or_the_same() {
    let whole = golden_repository();
    let expected = restored(&whole).expect("it restores");
    for (name, bytes) in &whole {
        for bit in (0..bytes.len() * 8).step_by(97) {
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let mut objects = whole.clone();
            objects.insert(name.clone(), flipped);
            assert!(restored(&objects).is_err(), "{name} bit {bit}");
        }
    }
    assert!(restored(&whole).is_ok_and(|again| again == expected));
}

#[test]
fn lost_swapped_and_rolled_back_objects_are_refused() {
    let whole = golden_repository();
    for lost in whole.keys().filter(|name| !name.starts_with("log/")) {
        let mut objects = whole.clone();
        objects.remove(lost);
        assert!(restored(&objects).is_err(), "without {lost}");
    }
    let mut gap = whole.clone();
    gap.remove("log/00000000000000000001");
    assert!(restored(&gap).is_err(), "a gap in the log");
    for a in whole.keys() {
        for b in whole.keys().filter(|b| *b != a) {
            let mut swapped = whole.clone();
            swapped.insert(a.clone(), whole.get(b).expect("it is there").clone());
            assert!(restored(&swapped).is_err(), "{b} in the place of {a}");
        }
    }
    // A fresh seal of the same content is another pack: the log names the first one.
    let pack = |objects: &Objects| {
        let is_pack = |name: &&String| name.starts_with("packs/");
        objects.keys().find(is_pack).expect("there is one").clone()
    };
    let other = samples::repository::make();
    let mut replaced = whole.clone();
    let forged = other.get(&pack(&other)).expect("it is there").clone();
    let name = pack(&whole);
    replaced.insert(name.clone(), forged.clone());
    assert_ne!(
        name,
        ObjectName::Pack(PackId(blake3::hash(&forged).into())).to_string()
    );
    let checked = restore(&replaced, repository(), &file_key(), Names::Checked);
    assert!(checked.is_err());
}

#[test]
fn another_master_key_or_repository_opens_nothing() {
    let objects = golden_repository();
    let other = formats::ids::RepositoryId([9; 16]);
    assert!(restore(&objects, other, &file_key(), Names::Checked).is_err());
    let wrong = formats::keys::secret::FileKey::from_bytes([9; 32]);
    assert!(restore(&objects, repository(), &wrong, Names::Checked).is_err());
}
