//! A long link between this network namespace and the target's: two TUN devices joined by the delay line. Devices exist
//! while the delay line runs and go with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::delay_line::Counts;
use crate::isolation::command;
use crate::table::median;

/// The device on the coordinator's side.
pub const NEAR_DEVICE: &str = "near0";
/// Where the target listens in its own network.
pub const LISTEN_PORT: u16 = 2222;
const FAR_DEVICE: &str = "far0";
/// Addresses of RFC 2544: for benchmarks, never routed.
const NETWORK: &str = "198.18.77.0/30";
const NEAR_ADDRESS: &str = "198.18.77.1/30";
const FAR_ADDRESS: &str = "198.18.77.2/30";
/// Where the target listens, as the coordinator sees it.
pub const TARGET: &str = "198.18.77.2:2222";
/// Where the target is without the delay line, once the networks are joined.
pub const STRAIGHT: Ipv4Addr = Ipv4Addr::new(198, 18, 78, 2);
/// Where it is at the other end of the delay line.
pub const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);
/// The two ends of the way without the delay line.
const STRAIGHT_DEVICES: [&str; 2] = ["straight0", "straight1"];
const STRAIGHT_ADDRESSES: [&str; 2] = ["198.18.78.1/30", "198.18.78.2/30"];
/// Line of sshd_config that makes it listen there, whether or not the device exists already.
pub const LISTEN_LINE: &str = "ListenAddress 0.0.0.0:2222";
/// Packets that wait in a device for the delay line: it must never lose one that the line did not mean to lose.
const DEVICE_QUEUE_PACKETS: &str = "50000";
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// How long the devices may take to appear.
const UP_MAX: Duration = Duration::from_secs(10);

/// Opening a TUN device needs an ioctl, which safe Rust cannot do. This opens both, and becomes the delay line.
const OPEN_DEVICES: &str = "\
import fcntl, os, struct, sys
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 0x0001, 0x1000
def device(name):
    opened = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(opened, TUNSETIFF, struct.pack('16sH22x', name.encode(), IFF_TUN | IFF_NO_PI))
    return opened
near, far = device(sys.argv[1]), device(sys.argv[2])
os.dup2(near, 0)
os.dup2(far, 1)
os.execv(sys.argv[3], sys.argv[3:])
";

/// A network namespace for the target, kept by a file.
#[derive(Debug)]
pub struct TargetNetwork {
    file: PathBuf,
}

impl TargetNetwork {
    /// Makes it, with a loopback device; it lives as long as this program's mount namespace.
    pub fn new(directory: &Path) -> Result<Self> {
        let file = directory.join("target-network");
        fs::write(&file, b"").with_context(|| format!("creating {}", file.display()))?;
        let network = Self { file };
        command("unshare", &[&network.argument(), "--", "true"])?;
        network.inside(&["ip", "link", "set", "lo", "up"])?;
        // Otherwise the kernel would begin each connection with what it learned from the one before.
        network.inside(&["sysctl", "-q", "-w", "net.ipv4.tcp_no_metrics_save=1"])?;
        Ok(network)
    }

    /// Line of a target's set-up script that starts its sshd in this network.
    pub fn sshd_setup(&self) -> String {
        format!("exec nsenter {} \"$2\" -D -e -f \"$3\"", self.argument())
    }

    /// Joins it with this network by a pair of devices that delay nothing.
    pub fn join_straight(&self) -> Result<()> {
        let [near, far] = STRAIGHT_DEVICES;
        let [near_address, far_address] = STRAIGHT_ADDRESSES;
        let network = self.file.display().to_string();
        let pair = ["link", "add", near, "type", "veth", "peer", "name", far];
        command("ip", &[&pair[..], &["netns", &network]].concat())?;
        command("ip", &["address", "add", near_address, "dev", near])?;
        self.inside(&["ip", "address", "add", far_address, "dev", far])?;
        command("ip", &["link", "set", near, "up"])?;
        self.inside(&["ip", "link", "set", far, "up"])
    }

    /// The file that keeps it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn argument(&self) -> String {
        format!("--net={}", self.file.display())
    }

    fn inside(&self, arguments: &[&str]) -> Result<()> {
        let network = self.argument();
        let mut all = vec![network.as_str(), "--"];
        all.extend(arguments);
        command("nsenter", &all).map(|_| ())
    }
}

/// The congestion control that this machine's connections have.
pub fn congestion_control() -> Result<String> {
    let text = fs::read_to_string(CONGESTION).with_context(|| format!("reading {CONGESTION}"))?;
    Ok(text.trim().to_owned())
}

/// How a link differs from a short one.
#[derive(Debug, Clone, Copy)]
pub struct LinkNature<'a> {
    /// Added to each round trip.
    pub round_trip: Duration,
    /// Packets lost of a thousand, in each direction.
    pub loss_permille: u64,
    /// What each direction carries in a second; 0: as much as the machine can.
    pub bits_per_sec: u64,
    /// The congestion control of both ends.
    pub congestion: &'a str,
}

/// A link that is up.
#[derive(Debug)]
pub struct LongLink {
    line: Child,
    counts: PathBuf,
}

impl LongLink {
    /// Brings the link up.
    pub fn up(network: &TargetNetwork, directory: &Path, nature: LinkNature<'_>) -> Result<Self> {
        let counts = directory.join("line.json");
        let line = Command::new("python3")
            .args(["-c", OPEN_DEVICES, NEAR_DEVICE, FAR_DEVICE])
            .arg(std::env::current_exe().context("asking for this program's path")?)
            .args(["delay-line", "--one-way-micros"])
            .arg((nature.round_trip.as_micros() / 2).to_string())
            .args([
                "--loss-permille",
                &nature.loss_permille.to_string(),
                "--bits-per-sec",
                &nature.bits_per_sec.to_string(),
                "--counts",
            ])
            .arg(&counts)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the delay line")?;
        let mut link = Self { line, counts };
        link.wait_for_devices()?;
        let far_network = network.file.display().to_string();
        command("ip", &["link", "set", FAR_DEVICE, "netns", &far_network])?;
        command("ip", &["address", "add", NEAR_ADDRESS, "dev", NEAR_DEVICE])?;
        network.inside(&["ip", "address", "add", FAR_ADDRESS, "dev", FAR_DEVICE])?;
        let up = ["txqueuelen", DEVICE_QUEUE_PACKETS, "up"];
        command("ip", &[&["link", "set", NEAR_DEVICE][..], &up].concat())?;
        network.inside(&[&["ip", "link", "set", FAR_DEVICE][..], &up].concat())?;
        // By route, because only the machine's own namespace may choose any as the default.
        let route = |device| {
            let choice = ["dev", device, "congctl", nature.congestion];
            [&["route", "replace", NETWORK][..], &choice].concat()
        };
        command("ip", &route(NEAR_DEVICE))?;
        network.inside(&[&["ip"][..], &route(FAR_DEVICE)].concat())?;
        Ok(link)
    }

    fn wait_for_devices(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let devices = fs::read_to_string("/proc/net/dev").context("reading /proc/net/dev")?;
            // The counts are the delay line's first deed: then the devices are its own.
            if devices.contains(FAR_DEVICE) && self.counts.exists() {
                return Ok(());
            }
            if let Some(status) = self.line.try_wait().context("asking for the delay line")? {
                bail!("the delay line ended at once: {status}");
            }
            if start.elapsed() > UP_MAX {
                bail!("no TUN devices after {UP_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The time that a connection takes to be made: one round trip, and whatever the line adds.
    pub fn measured_round_trip_ms(&self) -> Result<f64> {
        let target: SocketAddr = TARGET.parse().context("the target's address")?;
        let mut found = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            TcpStream::connect_timeout(&target, UP_MAX).context("connecting over the link")?;
            found.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(median(&found))
    }

    /// Ends the delay line; its devices go with it. Gives what it counted: to the target, and back.
    pub fn down(mut self) -> Result<[Counts; 2]> {
        // It writes them a few times a second; what is counted is over by now.
        std::thread::sleep(Duration::from_millis(500));
        let text = fs::read(&self.counts).context("reading the delay line's counts")?;
        self.end()?;
        fs::remove_file(&self.counts).context("removing the delay line's counts")?;
        serde_json::from_slice(&text).context("reading the delay line's counts")
    }

    fn end(&mut self) -> Result<()> {
        self.line.kill().context("ending the delay line")?;
        self.line.wait().context("waiting for the delay line")?;
        Ok(())
    }
}

impl Drop for LongLink {
    fn drop(&mut self) {
        if matches!(self.line.try_wait(), Ok(None))
            && let Err(error) = self.end()
        {
            eprintln!("scale: {error:#}");
        }
    }
}
