//! Builds the target agent as a static program, with a cargo of its own, so that `agents.rs` can embed it. Per
//! target flags do not reach one workspace member alone; a nested build in its own target directory does.
//!
//! The musl target is used where it is installed together with a C compiler for it; static glibc otherwise.
//! Both run on any Linux of the same architecture from kernel 3.10 on. With musl, its own allocator is used as
//! it is: the agent keeps its large buffers, so allocation does not show in its profile.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The agent crosses the wire at every run.
const AGENT_BYTES_MAX: u64 = 5 << 20;
/// The cargo profile of the workspace that the agent is always built with.
const PROFILE: &str = "agent";

fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().ok_or("the crate has no workspace")?;
    for watched in [
        "target-agent/src",
        "target-agent/Cargo.toml",
        "formats/src",
        "formats/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        // By relative paths, so that a build directory that was copied elsewhere does not keep an old agent.
        println!("cargo::rerun-if-changed=../{watched}");
    }
    println!("cargo::rerun-if-changed=build.rs");

    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let machine = variable("CARGO_CFG_TARGET_ARCH")?;
    let machine = machine.to_str().ok_or("an architecture that is no text")?;
    let triple = agent_triple(machine)?;
    let built = build(workspace, &agent_target_dir(&out_dir), &triple)?;
    let bytes = fs::metadata(&built)?.len();
    if bytes > AGENT_BYTES_MAX {
        return Err(format!("the agent has {bytes} bytes, allowed are {AGENT_BYTES_MAX}").into());
    }
    fs::copy(&built, out_dir.join("target-agent"))?;
    println!("cargo::rustc-env=CAPSTAN_AGENT_MACHINE={machine}");
    println!("cargo::rustc-env=CAPSTAN_AGENT_BUILT_AS={triple}");
    Ok(())
}

fn variable(name: &str) -> Result<OsString, Box<dyn Error>> {
    env::var_os(name).ok_or_else(|| format!("cargo does not set {name}").into())
}

/// The target to build the agent for.
fn agent_triple(machine: &str) -> Result<String, Box<dyn Error>> {
    let musl = format!("{machine}-unknown-linux-musl");
    let sysroot = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()?;
    let sysroot = String::from_utf8(sysroot.stdout)?;
    // Changes with the targets that are installed. A path that is not there would count as changed each time.
    let targets = Path::new(sysroot.trim()).join("lib/rustlib");
    println!("cargo::rerun-if-changed={}", targets.display());
    let installed = targets.join(&musl).join("lib");
    let compiler = format!("CC_{}", musl.replace('-', "_"));
    println!("cargo::rerun-if-env-changed={compiler}");
    let has_compiler = env::var_os(compiler).is_some()
        || env::var_os("PATH").is_some_and(|path| {
            env::split_paths(&path).any(|directory| directory.join("musl-gcc").is_file())
        });
    if installed.is_dir() && has_compiler {
        Ok(musl)
    } else {
        Ok(format!("{machine}-unknown-linux-gnu"))
    }
}

/// One directory for every profile and every kind of build, so that the agent is built once:
/// `<target>/<profile>/build/<crate>/out` becomes `<target>/target-agent`.
fn agent_target_dir(out_dir: &Path) -> PathBuf {
    let is_usual = out_dir
        .ancestors()
        .nth(2)
        .is_some_and(|build| build.file_name() == Some(OsStr::new("build")));
    match out_dir.ancestors().nth(4) {
        Some(target) if is_usual => target.join("target-agent"),
        _ => out_dir.join("agent-build"),
    }
}

/// Builds the agent; gives its file.
fn build(workspace: &Path, target_dir: &Path, triple: &str) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--quiet", "--package", "target-agent"])
        .args(["--bin", "target-agent", "--profile", PROFILE])
        .args(["--target", triple])
        .arg("--target-dir")
        .arg(target_dir);
    for (name, _) in env::vars_os() {
        if !is_passed_on(&name) {
            cargo.env_remove(name);
        }
    }
    // An argument with an explicit target: it reaches the agent and not the build scripts on the way.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the target agent for {triple} failed: {status}").into());
    }
    Ok(target_dir.join(triple).join(PROFILE).join("target-agent"))
}

/// Whether the nested cargo sees a variable of this one's. What configures the outer build alone must not
/// leak: its flags, its target, its profile, and the wrapper by which clippy takes rustc's place.
fn is_passed_on(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return true;
    };
    let flags = [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
    ];
    if flags.contains(&name) || name.starts_with("DEP_") {
        return false;
    }
    let Some(of_cargo) = name.strip_prefix("CARGO_") else {
        return true;
    };
    let kept = [
        "HOME",
        "MAKEFLAGS",
        "NET_",
        "HTTP_",
        "REGISTR",
        "SOURCE_",
        "TERM_",
    ];
    kept.iter().any(|kept| of_cargo.starts_with(kept))
        || (of_cargo.starts_with("TARGET_") && of_cargo.ends_with("_LINKER"))
}
