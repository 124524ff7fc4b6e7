//! A world of which the kit and packs are left, `rescue` called upon it, and what came of that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::coordinator_process::Finished;
use tests::shapes::ProblemLine;
use tests::world::{World, below};

/// What `rescue --json` prints.
#[derive(Debug, Deserialize)]
pub struct RescueReport {
    pub repository: String,
    pub packs: Packs,
    pub pages: Pages,
    pub intact: Option<Intact>,
    pub dry_run: bool,
    pub files: u64,
    pub directories: u64,
    pub problems: Vec<ProblemLine>,
    pub problem_count: u64,
}

#[derive(Debug, Deserialize)]
pub struct Packs {
    pub found: u64,
    pub opened: u64,
    pub refused: Vec<Refused>,
    pub refused_count: u64,
    pub known_missing: Option<u64>,
    pub pruned: Option<u64>,
    pub unnamed: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct Refused {
    pub pack: String,
    pub kind: String,
    pub text: String,
}

#[derive(Debug, Deserialize)]
pub struct Pages {
    pub read: u64,
    pub damaged: u64,
    pub known_missing: u64,
    pub pruned: u64,
}

#[derive(Debug, Deserialize)]
pub struct Intact {
    pub host: String,
    pub seq: u64,
}

/// A world of which the kit and packs are left.
pub struct Wreck {
    pub world: World,
    pub kit: PathBuf,
    /// The destination's directory.
    pub store: PathBuf,
    /// The repository's folder in it.
    pub repository: PathBuf,
}

impl Wreck {
    /// The coordinator's own things go; the destination stays as it is.
    pub fn of(world: World) -> Result<Self> {
        let kit = world.directory().join("kit.txt");
        fs::copy(world.coordinator_dir().join("recovery-kit.txt"), &kit)?;
        fs::set_permissions(&kit, fs::Permissions::from_mode(0o600))?;
        for name in ["state", "keys"] {
            fs::remove_dir_all(world.coordinator_dir().join(name))?;
        }
        fs::remove_file(world.config())?;
        let store = world.repository();
        let repository = only_repository(&store)?;
        Ok(Self {
            world,
            kit,
            store,
            repository,
        })
    }

    /// The destination's log, config and key bundles go.
    pub fn lose_all_but_packs(&self) -> Result<()> {
        for name in ["log", "keys"] {
            fs::remove_dir_all(self.repository.join(name))?;
        }
        Ok(fs::remove_file(self.repository.join("config"))?)
    }

    /// The destination.
    pub fn url(&self) -> String {
        format!("file://{}", self.store.display())
    }

    /// The packs of one folder, by name.
    pub fn packs(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(self.repository.join(folder))? {
            for pack in fs::read_dir(shard?.path())? {
                found.push(pack?.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Calls `rescue` with a kit.
    pub fn call(&self, kit: &Path, place: &str, arguments: &[&str]) -> Result<Finished> {
        let mut all: Vec<OsString> = ["rescue", "--json", "--destination", place, "--kit"]
            .map(OsString::from)
            .into();
        all.push(kit.into());
        all.extend(arguments.iter().map(OsString::from));
        let all: Vec<&OsStr> = all.iter().map(OsString::as_os_str).collect();
        self.world.coordinator_raw(&all)
    }

    /// Rescues from a place into a new directory.
    pub fn rescue(&self, place: &str, name: &str, code: i32, more: &[&str]) -> Result<Rescued> {
        let out = self.world.output(name);
        let to = out.display().to_string();
        let problems = self.world.directory().join(format!("{name}.ndjson"));
        let problems = problems.display().to_string();
        let mut arguments = vec!["--to", &to, "--problems", &problems];
        arguments.extend(more);
        let finished = self
            .call(&self.kit, place, &arguments)?
            .expect_code(code)?
            .expect_no_control_characters()?;
        let mut missing = BTreeMap::new();
        for line in fs::read_to_string(&problems)?.lines() {
            let line: ProblemLine = serde_json::from_str(line)?;
            missing.insert(line.path.clone(), line);
        }
        let rescued = Rescued {
            report: finished.json()?,
            stderr: finished.stderr_text(),
            out,
            missing,
        };
        rescued.expect_honest_counts()?;
        Ok(rescued)
    }

    /// Calls it for what must be refused before anything is restored.
    pub fn refused(&self, place: &str, more: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let out = self.world.output("refused");
        let to = out.display().to_string();
        let mut arguments = vec!["--to", &to];
        arguments.extend(more);
        self.call(&self.kit, place, &arguments)?
            .expect_code(code)?
            .expect_stderr(words)?;
        ensure!(!out.exists(), "{words:?}: the directory was made");
        Ok(())
    }

    /// What could be rescued from the destination.
    pub fn list(&self, code: i32) -> Result<RescueReport> {
        let finished = self.call(&self.kit, &self.url(), &["--list"])?;
        finished.expect_code(code)?.json()
    }
}

/// What a rescue gave.
pub struct Rescued {
    pub report: RescueReport,
    pub stderr: String,
    pub out: PathBuf,
    pub missing: BTreeMap<String, ProblemLine>,
}

impl Rescued {
    /// The counts are those of what is there, and nothing of its own is left.
    pub fn expect_honest_counts(&self) -> Result<()> {
        let report = &self.report;
        // Not by path: some are longer than any path may be.
        let found = std::process::Command::new("find")
            .arg(&self.out)
            .args(["-mindepth", "1", "-printf", "%y"])
            .output()?;
        ensure!(found.status.success(), "find");
        let directories = found.stdout.iter().filter(|kind| **kind == b'd').count() as u64;
        let counts = (found.stdout.len() as u64 - directories, directories);
        ensure!(
            counts == (report.files, report.directories),
            "{counts:?} {report:?}"
        );
        ensure!(
            self.missing.len() as u64 == report.problem_count,
            "{:?} {report:?}",
            self.missing
        );
        let work = self.out.parent().context("it has a parent")?;
        for entry in fs::read_dir(work)? {
            let name = entry?.file_name();
            ensure!(
                !name.to_string_lossy().contains("capstan-rescue"),
                "the working directory is left"
            );
        }
        Ok(())
    }

    /// Whatever regular file was restored has the source's bytes, and the others are named.
    pub fn expect_right_or_named(&self, source: &Path) -> Result<(u64, u64)> {
        let (mut right, mut named) = (0, 0);
        walk(source, &mut |path| {
            if !path.symlink_metadata()?.is_file() {
                return Ok(());
            }
            let restored = below(&self.out, path);
            if restored.exists() {
                ensure!(
                    fs::read(path)? == fs::read(&restored)?,
                    "{}",
                    path.display()
                );
                right += 1;
                return Ok(());
            }
            let shown = path.display().to_string();
            let problem = self.missing.get(&shown);
            let problem = problem.with_context(|| format!("{shown} is not named"))?;
            ensure!(problem.kind == "damaged", "{problem:?}");
            ensure!(self.stderr.contains(&shown), "{shown} is not in the log");
            named += 1;
            Ok(())
        })?;
        Ok((right, named))
    }
}

pub fn only_repository(store: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_name().len() == 32 {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("no repository in {}", store.display())
}

/// Every object below a directory.
pub fn walk(directory: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        each(&path)?;
        if path.symlink_metadata()?.is_dir() {
            walk(&path, each)?;
        }
    }
    Ok(())
}

/// Changes one bit of a pack.
pub fn flip(path: &Path, offset: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let byte = bytes.get_mut(offset).context("the pack is that long")?;
    *byte ^= 1;
    rewrite(path, &bytes)
}

/// Puts other bytes into a pack, which keeps its age.
fn rewrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let age = FileTimes::new().set_modified(fs::metadata(path)?.modified()?);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, bytes)?;
    Ok(File::open(path)?.set_times(age)?)
}

/// Files that were restored with other bytes than the source has.
pub fn wrong_bytes(source: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let mut wrong = Vec::new();
    let restored = below(out, source);
    walk(&restored, &mut |path| {
        let original = source.join(path.strip_prefix(&restored)?);
        if path.symlink_metadata()?.is_file() && fs::read(path)? != fs::read(&original)? {
            wrong.push(path.to_owned());
        }
        Ok(())
    })?;
    Ok(wrong)
}
