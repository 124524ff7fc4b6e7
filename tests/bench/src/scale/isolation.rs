//! Runs a measurement in namespaces of its own (processes, mounts, network), so that whatever it starts, mounts or
//! configures ends with it, however it ends. Outside of them it touches one temporary directory, which it removes.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;

/// Tells the inner process its directory.
const DIRECTORY_VARIABLE: &str = "CAPSTAN_SCALE_DIR";
/// How long the namespaces may take to end after they were told to.
const END_MAX: Duration = Duration::from_secs(20);

/// Where a measurement works.
#[derive(Debug)]
pub struct Place {
    /// Its own directory, removed in the end.
    pub directory: PathBuf,
    /// The coordinator that is measured.
    pub coordinator: PathBuf,
    /// Where results go.
    pub results: PathBuf,
}

impl Place {
    /// A fresh directory below this place's.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }
}

/// The place, when this process is the inner one.
pub fn inside(options: &Options) -> Result<Option<Place>> {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) else {
        return Ok(None);
    };
    end_with_parent();
    command("ip", &["link", "set", "lo", "up"])?;
    Ok(Some(Place {
        directory: directory.into(),
        coordinator: coordinator(options)?,
        results: options.results.clone(),
    }))
}

/// Runs this program again inside fresh namespaces and cleans up after it.
pub fn run_inside(options: &Options) -> Result<ExitCode> {
    coordinator(options)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "namespaces and TUN devices need root"
    );
    fs::create_dir_all(&options.results)
        .with_context(|| format!("creating {}", options.results.display()))?;
    let directory = tempfile::Builder::new()
        .prefix("capstan-scale-")
        .tempdir_in(&options.work)
        .with_context(|| format!("making a directory in {}", options.work.display()))?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let code = runtime.block_on(supervise(directory.path()));
    directory
        .close()
        .context("removing the measurement's directory")?;
    code
}

async fn supervise(directory: &Path) -> Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut child = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--net",
            "--",
        ])
        .arg(std::env::current_exe().context("asking for this program's path")?)
        .args(arguments)
        .env(DIRECTORY_VARIABLE, directory)
        .env("CAPSTAN_TESTS_DIR", directory)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("starting unshare")?;
    // Held here because `wait` would close it, and without it the inner process goes.
    let lifeline = child.stdin.take();
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminated = signal(SignalKind::terminate()).context("listening for signals")?;
    // Losing an arm is safe: `wait` may be called again, and a signal lost is one that came after another.
    let status = tokio::select! {
        status = child.wait() => Some(status.context("waiting for the measurement")?),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
    };
    match status {
        Some(status) if status.success() => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => {
            drop(lifeline);
            end(child).await?;
            eprintln!("scale: interrupted");
            Ok(ExitCode::from(130))
        }
    }
}

/// Waits until the inner process has gone, and everything in its namespaces with it.
async fn end(mut child: Child) -> Result<()> {
    if tokio::time::timeout(END_MAX, child.wait()).await.is_err() {
        child.kill().await.context("ending the measurement")?;
    }
    Ok(())
}

/// The inner process is the first of its namespace: when it goes, everything else is killed.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0_u8; 16];
        while let Ok(1..) = stdin.read(&mut buffer) {}
        std::process::exit(130);
    });
}

fn coordinator(options: &Options) -> Result<PathBuf> {
    let path = match &options.coordinator {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("asking for this program's path")?
            .with_file_name("coordinator"),
    };
    path.canonicalize()
        .with_context(|| format!("finding the coordinator {}", path.display()))
}

/// Runs a short command that must succeed; gives what it printed.
pub fn command<A: AsRef<std::ffi::OsStr>>(program: &str, arguments: &[A]) -> Result<String> {
    let output = Program::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let shown: Vec<_> = arguments
            .iter()
            .map(|argument| argument.as_ref().to_string_lossy())
            .collect();
        bail!(
            "`{program} {}` failed: {}",
            shown.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
