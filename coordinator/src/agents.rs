//! The agents that a coordinator can send: the one built with it, and others in a directory, by the machine
//! that `uname -m` names. Never fetches one from anywhere, never runs one.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The agent built with this coordinator; see `build.rs`.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/target-agent"));
/// The machine it runs on, as `uname -m` says it.
const EMBEDDED_MACHINE: &str = env!("CAPSTAN_AGENT_MACHINE");
/// The target it was built for.
const EMBEDDED_BUILT_AS: &str = env!("CAPSTAN_AGENT_BUILT_AS");
/// The most bytes of an agent from a directory.
const AGENT_BYTES_MAX: u64 = 64 << 20;

/// An agent's program.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its file.
    pub bytes: Cow<'static, [u8]>,
    /// BLAKE3 of its file: what the agent must say of itself in its Hello.
    pub digest: [u8; 32],
    /// What it was built for, or the file it came from.
    pub built_as: String,
}

/// Why there is no agent for a machine.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// `uname -m` printed something that is no machine's name.
    #[error("the host calls its machine {machine:?}, which is no machine's name")]
    Machine {
        /// What it printed, escaped by its `Debug`.
        machine: String,
    },
    /// No directory was configured.
    #[error(
        "no agent for machine {machine}: this build has one for {EMBEDDED_MACHINE}; \
         set [agents] directory in coordinator.toml and put {file} there"
    )]
    NoDirectory {
        /// The machine.
        machine: String,
        /// The file's name.
        file: String,
    },
    /// The file is not there or cannot be read.
    #[error("no agent for machine {machine}: {} cannot be read; build it with \
             `cargo build --profile agent -p target-agent --target <its target>`", path.display())]
    File {
        /// The machine.
        machine: String,
        /// The file that is missing.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no program.
    #[error("no agent for machine {machine}: {} is not an ELF program of at most {AGENT_BYTES_MAX} bytes", path.display())]
    NotAProgram {
        /// The machine.
        machine: String,
        /// The file.
        path: PathBuf,
    },
}

/// The agent built with this coordinator.
pub fn embedded() -> Agent {
    Agent {
        bytes: Cow::Borrowed(EMBEDDED),
        digest: blake3::hash(EMBEDDED).into(),
        built_as: EMBEDDED_BUILT_AS.to_owned(),
    }
}

/// The agent for a machine as `uname -m` names it: the embedded one, or `target-agent-<machine>` of the
/// directory.
pub fn for_machine(machine: &str, agents_dir: Option<&Path>) -> Result<Agent, AgentError> {
    let is_name = (1..=32).contains(&machine.len())
        && machine
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_name {
        return Err(AgentError::Machine {
            machine: machine.chars().take(64).collect(),
        });
    }
    if machine == EMBEDDED_MACHINE {
        return Ok(embedded());
    }
    let file = format!("target-agent-{machine}");
    let Some(directory) = agents_dir else {
        return Err(AgentError::NoDirectory {
            machine: machine.to_owned(),
            file,
        });
    };
    from_file(machine, directory.join(file))
}

fn from_file(machine: &str, path: PathBuf) -> Result<Agent, AgentError> {
    let mut bytes = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(AGENT_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(AgentError::File {
            machine: machine.to_owned(),
            path,
            source,
        });
    }
    if !bytes.starts_with(b"\x7fELF") || bytes.len() as u64 > AGENT_BYTES_MAX {
        return Err(AgentError::NotAProgram {
            machine: machine.to_owned(),
            path,
        });
    }
    Ok(Agent {
        digest: blake3::hash(&bytes).into(),
        bytes: Cow::Owned(bytes),
        built_as: path.display().to_string(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::{AgentError, EMBEDDED_MACHINE, embedded, for_machine};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    /// How many program headers of a 64-bit little-endian ELF file name a loader.
    fn interpreters(elf: &[u8]) -> usize {
        let number = |at: usize| u16::from_le_bytes([elf[at], elf[at + 1]]) as usize;
        let (headers, bytes, count) = (number(32), number(54), number(56));
        (0..count)
            .filter(|index| number(headers + index * bytes) == 3)
            .count()
    }

    #[test]
    fn the_embedded_agent_is_static_small_and_knows_its_digest() {
        let agent = embedded();
        assert!(agent.bytes.len() < 5 << 20, "{}", agent.bytes.len());
        assert_eq!(interpreters(&agent.bytes), 0, "it is static");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        std::fs::write(&path, &agent.bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let output = Command::new(&path).arg("--digest").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told.trim(), formats::ids::to_hex(&agent.digest));
    }

    #[test]
    fn a_missing_agent_is_named_with_the_remedy() {
        assert_eq!(
            for_machine(EMBEDDED_MACHINE, None).unwrap().digest,
            embedded().digest
        );
        let text = for_machine("riscv64", None).unwrap_err().to_string();
        assert!(text.contains("target-agent-riscv64") && text.contains("[agents] directory"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target-agent-riscv64");
        let text = for_machine("riscv64", Some(dir.path())).unwrap_err();
        assert!(text.to_string().contains(path.to_str().unwrap()), "{text}");
        std::fs::write(&path, b"#!/bin/sh").unwrap();
        let refused = for_machine("riscv64", Some(dir.path()));
        assert!(matches!(refused, Err(AgentError::NotAProgram { .. })));
        std::fs::write(&path, b"\x7fELF and so on").unwrap();
        assert!(for_machine("riscv64", Some(dir.path())).is_ok());
        for bad in ["", "../x86_64", "x86 64", "a/b"] {
            let refused = for_machine(bad, Some(dir.path()));
            assert!(matches!(refused, Err(AgentError::Machine { .. })));
        }
    }
}
