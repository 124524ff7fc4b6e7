//! What `systemd/install` puts where, and what systemd's own tools say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::package_root::{PackageRoot, project};
use tests::world::temporary_directory;

/// The most that `systemd-analyze security` may find exposed, in tenths.
const EXPOSURE_MAX: &str = "20";

/// Values of one key of a unit, in their order.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines()
        .filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// The units of the project by their names.
fn units(ending: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(project().join("systemd"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            found.insert(name.into_owned(), fs::read_to_string(&path)?);
        }
    }
    ensure!(!found.is_empty(), "no unit ends with .{ending}");
    Ok(found)
}

/// Every file below a directory, by its path from there.
fn files_below(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(directory)?.to_owned());
            }
        }
    }
    Ok(found)
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> Result<(bool, String)> {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .env("SYSTEMD_COLORS", "0")
        .output()
        .context("starting systemd-analyze; tests/run installs systemd")?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn every_service_is_sandboxed_and_the_measure_can_fail() -> Result<()> {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let check = ["security", "--offline=true", "--no-pager", &threshold];
    let directory = temporary_directory()?;
    for (name, unit) in units("service")? {
        let (holds, text) = analyze(&check, &[project().join("systemd").join(&name)])?;
        ensure!(holds, "{name} is exposed:\n{text}");
        let open = directory.path().join(&name);
        let without: Vec<&str> = unit
            .lines()
            .filter(|line| !line.starts_with("SystemCallFilter") && !line.starts_with("Protect"))
            .collect();
        fs::write(&open, without.join("\n"))?;
        ensure!(!analyze(&check, &[open])?.0, "{name} needs no sandbox?");
    }
    Ok(())
}

#[test]
fn services_of_one_user_have_one_sandbox() -> Result<()> {
    let units = units("service")?;
    let sandbox = |name: &str| {
        let unit = units.get(name).map(String::as_str).unwrap_or_default();
        let lines = unit.lines().skip_while(|line| *line != "UMask=0077");
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let of_coordinator = sandbox("coordinator-scan.service");
    ensure!(of_coordinator.len() > 25, "{of_coordinator:?}");
    for (name, unit) in &units {
        if values(unit, "User").eq(["coordinator"]) {
            ensure!(sandbox(name) == of_coordinator, "{name} differs");
        }
    }
    // It has to see who connects, and users of its own would hide that.
    let mut of_server = sandbox("append-server.service");
    ensure!(of_server.insert("PrivateUsers=yes".into()));
    ensure!(of_server == of_coordinator, "append-server.service differs");
    Ok(())
}

#[test]
fn everything_that_units_name_is_installed() -> Result<()> {
    for prefix in ["/usr", "/usr/local"] {
        let root = PackageRoot::install(prefix)?;
        let bin = format!("{prefix}/bin/");
        let unit_dir = root.path(prefix).join("lib/systemd/system");
        let mut installed = Vec::new();
        for name in units("service")?.keys().chain(units("timer")?.keys()) {
            let path = unit_dir.join(name);
            let unit = fs::read_to_string(&path).context(name.clone())?;
            for command in values(&unit, "ExecStart") {
                let program = command.split(' ').next().unwrap_or_default();
                ensure!(program.starts_with(&bin), "{name} starts {program}");
                let mode = root.path(program).metadata().context(name.clone())?.mode();
                ensure!(mode & 0o7777 == 0o755, "{program} has mode {mode:o}");
            }
            for page in values(&unit, "Documentation") {
                let page = page.trim_start_matches("man:").replace("(1)", ".1");
                let page = root.path(prefix).join("share/man/man1").join(page);
                ensure!(page.is_file(), "{name} names {}", page.display());
            }
            for loaded in values(&unit, "LoadCredential") {
                let dir = loaded.split(':').nth(1).context(name.clone())?;
                let facts = root.path(dir).metadata().context(name.clone())?;
                ensure!(facts.uid() == 0 && facts.mode() & 0o7777 == 0o700, "{dir}");
            }
            for paths in values(&unit, "ReadWritePaths") {
                for path in paths.split(' ').filter(|path| !path.starts_with('-')) {
                    ensure!(root.path(path).is_dir(), "{name} names {path}");
                }
            }
            for user in values(&unit, "User") {
                root.uid(user)?;
            }
            for group in values(&unit, "SupplementaryGroups") {
                root.gid(group)?;
            }
            installed.push(path);
        }
        if prefix == "/usr" {
            verify_units(&root, &installed)?;
        }
    }
    Ok(())
}

/// Whether systemd itself takes the units, and finds what they start.
fn verify_units(root: &PackageRoot, installed: &[PathBuf]) -> Result<()> {
    // A copy whose programs are found from this machine's root.
    let directory = temporary_directory()?;
    let mut copies = Vec::new();
    for path in installed {
        let program = root.path("/usr/bin/").display().to_string();
        let text = fs::read_to_string(path)?.replace("=/usr/bin/", &format!("={program}/"));
        let copy = directory.path().join(path.file_name().unwrap_or_default());
        fs::write(&copy, text)?;
        copies.push(copy);
    }
    let check = ["verify", "--man=no", "--recursive-errors=no"];
    let (holds, text) = analyze(&check, &copies)?;
    ensure!(holds && text.trim().is_empty(), "systemd says:\n{text}");
    let unit = fs::read_to_string(&copies[0])?.replace("ProtectClock=", "ProtectClocks=");
    fs::write(&copies[0], unit)?;
    let text = analyze(&check, &copies)?.1;
    ensure!(text.contains("ProtectClocks"), "a wrong key passes: {text}");
    Ok(())
}

#[test]
fn the_list_has_every_file_of_the_folder_and_the_package_takes_all_that_it_installs() -> Result<()>
{
    let root = PackageRoot::install("/usr")?;
    let installed = files_below(&root.path("/usr"))?;
    for name in units("service")?.keys().chain(units("timer")?.keys()) {
        let place = Path::new("lib/systemd/system").join(name);
        ensure!(installed.contains(&place), "{name} is not installed");
    }
    for place in [
        "lib/sysusers.d/capstan.conf",
        "lib/tmpfiles.d/capstan.conf",
        "share/man/man1/coordinator-restore.1",
        "share/bash-completion/completions/coordinator",
        "share/doc/capstan/examples/append-server.toml",
        "share/doc/capstan/formats/repository.md",
    ] {
        ensure!(installed.contains(Path::new(place)), "{place} is missing");
    }
    let script = fs::read_to_string(project().join("systemd/deb"))?;
    ensure!(script.contains("PREFIX=/usr DESTDIR=target/package systemd/install"));
    let manifest = fs::read_to_string(project().join("coordinator/Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse()?;
    let package = manifest.get("package").and_then(|it| it.get("metadata"));
    let package = package.and_then(|it| it.get("deb")).context("no package")?;
    let assets = package.get("assets").and_then(toml::Value::as_array);
    let mut taken = Vec::new();
    for asset in assets.context("no assets")? {
        let text = |at: usize| asset.get(at).and_then(toml::Value::as_str);
        let (source, mode) = text(0).zip(text(2)).context("not three texts")?;
        // From the crate's folder, as cargo-deb sees it: where systemd/deb installs.
        let folder = source.strip_prefix("../target/package/usr/");
        let folder = folder.with_context(|| format!("{source} is not what is installed"))?;
        let folder = folder.trim_end_matches('*').trim_end_matches('/');
        taken.push((folder.trim_end_matches("/**").to_owned(), mode.to_owned()));
    }
    for path in &installed {
        let modes: Vec<&str> = taken
            .iter()
            .filter(|(folder, _)| path.starts_with(folder))
            .map(|(_, mode)| mode.as_str())
            .collect();
        let mode = root.path("/usr").join(path).metadata()?.mode() & 0o777;
        let mode = format!("{mode:o}");
        ensure!(
            modes == [mode.as_str()],
            "{} gets {modes:?}",
            path.display()
        );
    }
    for script in ["postinst", "prerm", "postrm"] {
        let script = project().join("systemd/debian").join(script);
        let status = Command::new("sh").arg("-n").arg(&script).status()?;
        ensure!(status.success() && script.metadata()?.mode() & 0o111 != 0);
    }
    Ok(())
}

#[test]
fn users_and_directories_are_as_the_units_need_them() -> Result<()> {
    let root = PackageRoot::install("/usr")?;
    let (coordinator, server) = (root.uid("coordinator")?, root.uid("append-server")?);
    let group = root.gid("append-server-client")?;
    ensure!(coordinator != server && coordinator != 0 && server != 0);
    for (path, uid, gid, mode) in [
        (
            "/etc/coordinator",
            coordinator,
            root.gid("coordinator")?,
            0o700,
        ),
        (
            "/var/lib/coordinator",
            coordinator,
            root.gid("coordinator")?,
            0o700,
        ),
        ("/etc/append-server", 0, root.gid("append-server")?, 0o750),
        (
            "/var/lib/append-server",
            server,
            root.gid("append-server")?,
            0o700,
        ),
        ("/run/append-server", server, group, 0o750),
        ("/etc/credstore/coordinator", 0, 0, 0o700),
        ("/etc/credstore/append-server", 0, 0, 0o700),
    ] {
        let facts = root.path(path).metadata().context(path)?;
        let found = (facts.uid(), facts.gid(), facts.mode() & 0o7777);
        ensure!(found == (uid, gid, mode), "{path}: {found:?}");
    }
    let groups = fs::read_to_string(root.path("/etc/group"))?;
    let members = groups
        .lines()
        .find_map(|line| line.strip_prefix("append-server-client:"))
        .and_then(|line| line.split(':').nth(2))
        .context("no such group")?;
    let members: BTreeSet<&str> = members.split(',').collect();
    ensure!(members == BTreeSet::from(["append-server", "coordinator"]));
    Ok(())
}
