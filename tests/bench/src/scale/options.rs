//! The command line. Every size is an option, so that a trial takes seconds and the true measurement as long as it takes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::stores::{S3Choice, StoreKind};

/// Measures how the cost of backups grows.
#[derive(Debug, Parser)]
#[command(name = "scale")]
pub struct Options {
    /// The coordinator to measure; default: the one beside this program
    #[arg(long, global = true, value_name = "PATH")]
    pub coordinator: Option<PathBuf>,
    /// Where results are written as JSON
    #[arg(long, global = true, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Where data and repositories are made, on a real disk with room; not below /tmp
    #[arg(long, global = true, value_name = "DIR", default_value = "/srv")]
    pub work: PathBuf,
    /// What to measure
    #[command(subcommand)]
    pub measurement: Measurement,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// Throughput over a link with delay and loss, beside one plain `ssh cat`
    Link(LinkOptions),
    /// One host alone, then many at once
    Fleet(FleetOptions),
    /// Cost of each entry, told by a synthetic agent and walked by the real one
    Entries(EntriesOptions),
    /// Cost of each GiB
    Bytes(BytesOptions),
    /// First runs to SFTP and S3 over a link with delay, beside the same without
    Upload(UploadOptions),
    /// A directory, SFTP and S3 at once, beside each of them alone
    Together(TogetherOptions),
    /// Building a coordinator anew from each kind of destination
    Recover(RecoverOptions),
    /// Reading everything again at each kind of destination
    Scan(ScanOptions),
    /// Carries packets between two TUN devices; started by `link` and `upload`
    #[command(hide = true)]
    DelayLine(DelayLineOptions),
}

/// Options of `link`.
#[derive(Debug, Args)]
pub struct LinkOptions {
    /// Round trip time added by the delay line
    #[arg(long, default_value_t = 100)]
    pub rtt_ms: u64,
    /// Packets lost of a thousand, in each direction, in the case with loss
    #[arg(long, default_value_t = 10)]
    pub loss_permille: u64,
    /// The most data of a case
    #[arg(long, default_value_t = 512)]
    pub mib: u64,
    /// A case gets less data when a plain stream would need longer than this for it
    #[arg(long, default_value_t = 60)]
    pub case_secs: u64,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Congestion controls to measure under; default: the kernel's own
    #[arg(long, value_delimiter = ',')]
    pub congestion: Vec<String>,
}

/// Options of `fleet`.
#[derive(Debug, Args)]
pub struct FleetOptions {
    /// Hosts at once
    #[arg(long, value_delimiter = ',', default_value = "4,16")]
    pub hosts: Vec<usize>,
    /// Data of each host, half text, half incompressible
    #[arg(long, default_value_t = 256)]
    pub mib: u64,
}

/// Options of `entries`.
#[derive(Debug, Args)]
pub struct EntriesOptions {
    /// Sizes of the listings that the synthetic agent tells; 0 for none
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,100000,1000000,10000000"
    )]
    pub entries: Vec<u64>,
    /// Sizes of the real trees, in memory, that the real agent walks; 0 for none
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    pub real_entries: Vec<u64>,
}

/// Options of `bytes`.
#[derive(Debug, Args)]
pub struct BytesOptions {
    /// Sizes of the data
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    pub gib: Vec<u64>,
    /// Size of each file
    #[arg(long, default_value_t = 8)]
    pub file_mib: u64,
}

/// Options of `upload`.
#[derive(Debug, Args)]
pub struct UploadOptions {
    /// Round trip time added by the delay line
    #[arg(long, default_value_t = 100)]
    pub rtt_ms: u64,
    /// What the line carries each way in a second, with and without its delay; 0: as much as the machine can
    #[arg(long, default_value_t = 0)]
    pub mbit: u64,
    /// Data of each run; three times as much disk is needed
    #[arg(long, default_value_t = 1024)]
    pub mib: u64,
    /// How often each is measured, in turn; the median counts
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The S3 server to measure with
    #[arg(long, value_enum, default_value = "ceph")]
    pub s3: S3Choice,
    /// Where to store
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sftp,s3")]
    pub to: Vec<StoreKind>,
    /// Packs that the host uploads at once; default: the coordinator's own
    #[arg(long)]
    pub connections: Option<u8>,
}

/// Options of `together`.
#[derive(Debug, Args)]
pub struct TogetherOptions {
    /// Data of each run; three times as much disk is needed
    #[arg(long, default_value_t = 768)]
    pub mib: u64,
    /// How often each is measured, in turn; the median counts
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The S3 server to measure with
    #[arg(long, value_enum, default_value = "ceph")]
    pub s3: S3Choice,
}

/// Options of `recover`.
#[derive(Debug, Args)]
pub struct RecoverOptions {
    /// Snapshots of the repository; each has a data pack and a meta pack of its own
    #[arg(long, default_value_t = 200)]
    pub snapshots: u64,
    /// Files that each snapshot adds
    #[arg(long, default_value_t = 20)]
    pub files: u64,
    /// How often each is measured, in turn; the median counts
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The S3 server to measure with
    #[arg(long, value_enum, default_value = "ceph")]
    pub s3: S3Choice,
}

/// Options of `scan`.
#[derive(Debug, Args)]
pub struct ScanOptions {
    /// Data that is stored, half text, half incompressible; three times as much disk is needed
    #[arg(long, default_value_t = 768)]
    pub mib: u64,
    /// How often each is measured, in turn; the median counts
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The S3 server to measure with
    #[arg(long, value_enum, default_value = "ceph")]
    pub s3: S3Choice,
}

/// Options of the delay line, whose TUN devices are its standard input and output.
#[derive(Debug, Args)]
pub struct DelayLineOptions {
    /// Delay of each direction
    #[arg(long)]
    pub one_way_micros: u64,
    /// Packets lost of a thousand in each direction
    #[arg(long)]
    pub loss_permille: u64,
    /// Bits that each direction carries in a second; 0: as many as the machine can
    #[arg(long)]
    pub bits_per_sec: u64,
    /// Where it keeps its counts
    #[arg(long)]
    pub counts: PathBuf,
}
