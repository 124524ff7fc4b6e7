//! One host of the fleet: a network of its own, an sshd in it, a tree that changes, and what can befall it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tests::host_network::HostNetwork;
use tests::machine_facts;
use tests::sshd::{Sshd, SshdOptions};

use crate::files::Tree;

/// The directories that an agent can be put into; a small filesystem stands behind each.
const AGENT_PLACES: [&str; 4] = ["/dev/shm", "/tmp", "/var/tmp", "/root"];

/// A host.
#[derive(Debug)]
pub struct Machine {
    /// Its name in hosts.toml.
    pub name: String,
    /// Its network.
    pub network: Arc<HostNetwork>,
    sshd: Sshd,
    directory: PathBuf,
    tree: Tree,
    is_full: bool,
}

impl Machine {
    /// Switches one on. Everything of it is below `directory`.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let directory = directory.join(name);
        let home = directory.join("sshd");
        fs::create_dir_all(&home)?;
        let network = Arc::new(HostNetwork::new()?);
        let tree = Tree::new(&directory.join("source"), &directory.join("new"), name)?;
        let mut setup = machine_facts::setup(&format!("id-of-{name}"), &format!("board-of-{name}"));
        setup.push("mount -t tmpfs tmpfs /root".into());
        let sshd = Sshd::start(
            &home,
            SshdOptions {
                setup,
                network: Some(Arc::clone(&network)),
                ..SshdOptions::default()
            },
        )?;
        Ok(Self {
            name: name.to_owned(),
            network,
            sshd,
            directory,
            tree,
            is_full: false,
        })
    }

    /// Its table of hosts.toml, with further lines.
    pub fn table(&self, lines: &str) -> Result<String> {
        Ok(format!(
            "[host.{}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = {:?}\nhost_key = [\"{}\"]\npaths = [{:?}]\n{lines}\n",
            self.name,
            self.sshd.address(),
            self.sshd.identity_file(),
            self.sshd.fingerprint()?,
            self.source(),
        ))
    }

    /// What is backed up of it.
    pub fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// The program that its dump is made by.
    pub fn dump(&self) -> PathBuf {
        self.directory.join("dump")
    }

    /// Lets the dump print something, or fail after a part of it.
    pub fn dump_works(&self, works: bool) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let end = if works { "echo whole" } else { "exit 3" };
        let new = self.directory.join("dump.new");
        fs::write(&new, format!("#!/bin/sh\necho beginning\n{end}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(new, self.dump())?)
    }

    /// A little time passes on it.
    pub fn live(&mut self) -> Result<()> {
        match self.is_full {
            true => Ok(()),
            false => self.tree.change(),
        }
    }

    /// Somebody encrypts everything.
    pub fn encrypt(&mut self) -> Result<()> {
        self.tree.encrypt()
    }

    /// It is another machine from now on, with the same key and the same address.
    pub fn become_a_clone(&self) -> Result<()> {
        let home = self.directory.join("sshd");
        machine_facts::become_machine(&home, "id-of-a-clone\n", "board-of-a-clone\n")
    }

    /// The power fails, and comes back.
    pub fn reboot(&mut self) -> Result<()> {
        self.sshd.power_off()?;
        self.sshd.power_on()
    }

    /// The power fails for good.
    pub fn power_off(&mut self) -> Result<()> {
        self.sshd.power_off()
    }

    /// Its filesystems are full, or have room again.
    pub fn fill(&mut self, full: bool) -> Result<()> {
        self.is_full = full;
        let pid = self.sshd.root_pid().context("it is on")?.to_string();
        let size = if full { "size=4k" } else { "size=256m" };
        for place in AGENT_PLACES {
            let output = Command::new("nsenter")
                .args(["--target", &pid, "--mount", "mount", "-o"])
                .args([&format!("remount,{size}"), place])
                .output()
                .context("starting nsenter")?;
            ensure!(
                output.status.success(),
                "{place}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}
