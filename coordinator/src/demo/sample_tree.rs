//! The tree that the demo backs up: a few thousand files of the kinds that hosts have, about 80 MB, the same
//! every time.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use tokio_util::sync::CancellationToken;

use crate::demo::error::DemoError;
use crate::demo::seeded::Seeded;

const SEED: u64 = 0x0ca9_57a4;
const DOCUMENT_DIRECTORIES: usize = 40;
const DOCUMENTS_EACH: usize = 45;
const SMALL_FILES: usize = 1_500;
const PHOTOS: usize = 20;
const LOG_BYTES: usize = 12 << 20;
const SPARSE_BYTES: u64 = 64 << 20;

/// Makes the tree at `root`, which must not exist.
pub fn create(root: &Path, stop: &CancellationToken) -> Result<(), DemoError> {
    fs::create_dir(root).map_err(DemoError::file("create", root))?;
    let mut random = Seeded::new(SEED);
    let parts: [(&'static str, Part); 6] = [
        ("documents", documents),
        ("small", small_files),
        ("photos", photos),
        ("var", large_files),
        ("links", links),
        ("odd", odd_entries),
    ];
    for (name, part) in parts {
        if stop.is_cancelled() {
            return Err(DemoError::Interrupted);
        }
        let directory = root.join(name);
        fs::create_dir(&directory)
            .and_then(|()| part(&directory, &mut random))
            .map_err(DemoError::file("fill", &directory))?;
    }
    Ok(())
}

/// Fills one directory.
type Part = fn(&Path, &mut Seeded) -> io::Result<()>;

fn documents(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    for number in 0..DOCUMENT_DIRECTORIES {
        let below = directory.join(format!("project-{number:02}"));
        fs::create_dir(&below)?;
        for document in 0..DOCUMENTS_EACH {
            let bytes = 500 + random.below(24 << 10);
            let text = random.text(bytes);
            write_aged(
                &below.join(format!("document-{document:02}.txt")),
                &text,
                random,
            )?;
        }
    }
    Ok(())
}

fn small_files(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    for number in 0..SMALL_FILES {
        let below = directory.join(format!("{:02}", number % 30));
        fs::create_dir_all(&below)?;
        // Every fiftieth is empty.
        let bytes = (number % 50) * 8;
        let text = random.text(bytes);
        write_aged(&below.join(format!("{number:04}.conf")), &text, random)?;
    }
    Ok(())
}

/// What does not compress, and half of it a second time.
fn photos(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    let copies = directory.join("copies");
    fs::create_dir(&copies)?;
    for number in 0..PHOTOS {
        let count = (1 << 20) + random.below(1 << 20);
        let bytes = random.bytes(count);
        write_aged(&directory.join(format!("{number:02}.raw")), &bytes, random)?;
        if number % 2 == 0 {
            write_aged(
                &copies.join(format!("copy-of-{number:02}.raw")),
                &bytes,
                random,
            )?;
        }
    }
    Ok(())
}

/// One large file, its rotated copy that has a beginning in common, and a disk image that is mostly holes.
fn large_files(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    let log = random.text(LOG_BYTES);
    write_aged(&directory.join("messages.log"), &log, random)?;
    let mut rotated = log;
    rotated.truncate(LOG_BYTES / 2);
    rotated.extend(random.text(LOG_BYTES / 8));
    write_aged(&directory.join("messages.log.1"), &rotated, random)?;
    let image = File::create(directory.join("disk.img"))?;
    image.set_len(SPARSE_BYTES)?;
    for part in 0..8 {
        image.write_all_at(&random.bytes(64 << 10), part * (SPARSE_BYTES / 8) + 4096)?;
    }
    Ok(())
}

fn links(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    let first = directory.join("first-name");
    write_aged(&first, &random.text(5_000), random)?;
    for name in ["second-name", "third-name"] {
        fs::hard_link(&first, directory.join(name))?;
    }
    symlink("first-name", directory.join("relative"))?;
    symlink("../documents", directory.join("to-a-directory"))?;
    symlink("nowhere/to be found", directory.join("dangling"))?;
    symlink("loop", directory.join("loop"))
}

/// Names, modes, times, attributes and types that are easy to lose.
fn odd_entries(directory: &Path, random: &mut Seeded) -> io::Result<()> {
    let names: [&[u8]; 6] = [
        b"not utf-8 \xff\xfe",
        b"line\nbreak",
        b" leading and trailing ",
        b"back\\slash 'quote' \"quote\" $(echo)",
        "umlaut \u{e4}\u{f6}\u{fc} \u{1f512}".as_bytes(),
        &[b'n'; 255],
    ];
    for name in names {
        let text = random.text(300);
        write_aged(&directory.join(OsStr::from_bytes(name)), &text, random)?;
    }
    for mode in [0o400, 0o444, 0o640, 0o755, 0o1777, 0o4755] {
        let path = directory.join(format!("mode-{mode:04o}"));
        write_aged(&path, b"mode\n", random)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    let named = directory.join("attributes");
    write_aged(&named, b"has an attribute\n", random)?;
    // Not every file system takes them; the demo does without, then.
    match lsetxattr(
        &named,
        "user.capstan.demo",
        b"kept\0too",
        XattrFlags::empty(),
    ) {
        Ok(()) => {}
        Err(errno) => tracing::debug!(%errno, "no extended attributes here"),
    }
    fs::create_dir(directory.join("empty"))?;
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, directory.join("fifo"), FileType::Fifo, mode, 0)?;
    for (name, secs) in [("from-1970", 1), ("from-2100", 4_102_444_800)] {
        let file = File::create(directory.join(name))?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(secs, 123_456_789))?;
    }
    Ok(())
}

/// Writes a file that was last changed some time in the last years, to the nanosecond.
fn write_aged(path: &Path, bytes: &[u8], random: &mut Seeded) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    let secs = 1_600_000_000 + random.number() % 150_000_000;
    let nanos = u32::try_from(random.number() % 1_000_000_000).unwrap_or(0);
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(secs, nanos))
}
