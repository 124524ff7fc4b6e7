//! A network of one target's own: a network namespace, joined to this machine by a cable (a veth pair) that can be pulled out,
//! put back and slowed down. Addresses are of 198.18.0.0/15, which is set aside for tests (RFC 2544). Everything goes with the
//! value; it never touches another interface.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use formats::keys::secret::random;

/// The interface's name inside.
const INSIDE: &str = "eth0";
/// The first address that is set aside.
const BASE: u32 = 198 << 24 | 18 << 16;
/// How many subnets of four addresses there are from it on.
const SUBNETS: u32 = 1 << 15;
/// How often a subnet that somebody else has is replaced.
const ATTEMPTS: usize = 16;

/// The network; see [`HostNetwork::new`].
#[derive(Debug)]
pub struct HostNetwork {
    subnet: u32,
    namespace: String,
    outside: String,
}

impl HostNetwork {
    /// Makes one, with its cable plugged in.
    pub fn new() -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let chosen = random::<4>().context("choosing a subnet")?;
            let subnet = u32::from_le_bytes(chosen) % SUBNETS;
            let network = Self {
                subnet,
                // The process's id tells `tests/run` whether whoever made it is still there.
                namespace: format!("capstan-{}-{subnet}", std::process::id()),
                outside: format!("capstan{subnet}"),
            };
            if network.make()? {
                return Ok(network);
            }
        }
        bail!("no free subnet of 198.18.0.0/15 in {ATTEMPTS} attempts")
    }

    /// `false` when somebody has this subnet already.
    fn make(&self) -> Result<bool> {
        ip(&["netns", "add", &self.namespace])?;
        // The name is the subnet's: whoever has the one has the other.
        let pair = ["type", "veth", "peer", "name", INSIDE, "netns"];
        let mut add = vec!["link", "add", &self.outside];
        add.extend(pair);
        add.push(&self.namespace);
        match ip(&add) {
            Ok(()) => {}
            Err(error) if format!("{error:#}").contains("File exists") => return Ok(false),
            Err(error) => return Err(error),
        }
        let (here, there) = (
            format!("{}/30", self.gateway()),
            format!("{}/30", self.address()),
        );
        ip(&["addr", "add", &here, "dev", &self.outside])?;
        ip(&["link", "set", &self.outside, "up"])?;
        self.ip_inside(&["addr", "add", &there, "dev", INSIDE])?;
        self.ip_inside(&["link", "set", "lo", "up"])?;
        self.plug_in()?;
        Ok(true)
    }

    /// Where the target is reached.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(BASE + 4 * self.subnet + 2)
    }

    /// This machine, as the target sees it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(BASE + 4 * self.subnet + 1)
    }

    /// The network namespace, as `ip netns` and `nsenter --net=/run/netns/NAME` know it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Pulls the cable out at the target: nothing arrives any more in either direction, and nobody is told.
    pub fn unplug(&self) -> Result<()> {
        self.ip_inside(&["link", "set", INSIDE, "down"])
    }

    /// Puts the cable back.
    pub fn plug_in(&self) -> Result<()> {
        self.ip_inside(&["link", "set", INSIDE, "up"])
    }

    /// Lets no more than so many bits a second through, in either direction. An error where this kernel has no token bucket
    /// (`sch_tbf`).
    pub fn slow_down(&self, bits_per_sec: u64) -> Result<()> {
        let rate = format!("{bits_per_sec}bit");
        let shape = [
            "root", "tbf", "rate", &rate, "burst", "32kb", "latency", "400ms",
        ];
        self.each_end("replace", &shape)
            .context("slowing a network down; does this kernel have sch_tbf?")
    }

    /// Takes the limit of [`Self::slow_down`] away again.
    pub fn speed_up(&self) -> Result<()> {
        self.each_end("del", &["root"])
    }

    fn each_end(&self, what: &str, shape: &[&str]) -> Result<()> {
        for (namespace, interface) in [
            (None, self.outside.as_str()),
            (Some(&self.namespace), INSIDE),
        ] {
            let mut command = Command::new("tc");
            if let Some(namespace) = namespace {
                command.args(["-netns", namespace]);
            }
            command.args(["qdisc", what, "dev", interface]).args(shape);
            succeed(&mut command)?;
        }
        Ok(())
    }

    fn ip_inside(&self, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["-netns", &self.namespace];
        all.extend(arguments);
        ip(&all)
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        // Both ends of the cable go with the namespace, once nothing runs in it.
        if let Err(error) = ip(&["netns", "del", &self.namespace]) {
            eprintln!("a test's network could not be removed: {error:#}");
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    succeed(Command::new("ip").args(arguments))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}; tests/run installs iproute2"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests;
