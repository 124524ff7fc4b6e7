//! Arguments of `destination`.

use std::path::PathBuf;
use std::str::FromStr;

use append_server::role::Role;
use clap::{Args, Subcommand, ValueEnum};

/// `destination …`.
#[derive(Debug, Clone, Subcommand)]
pub enum DestinationCommand {
    /// List destinations, what each is behind by, and what its service does with conditional writes
    #[command(after_help = "\
Of a bucket it says whether real puts showed that names cannot be given twice there:
enforced, ignored or refused, and in --json when that was found out last; \"off\" where
the configuration goes without them, and \"not tried\" before anything was put.
\"not kept\" counts the hosts whose `destinations` leave it out; --json names them.

Example:
  coordinator destination ls --json")]
    Ls,
    /// Make a directory, here or on an SFTP server, a new destination; it must be empty or missing
    #[command(after_help = "\
Nothing makes a destination by itself: a disk that is not mounted must not be
taken for an empty one. A bucket is made with the provider's own tools.

Example:
  coordinator destination create nas")]
    Create(DestinationCreateArgs),
    /// Try out what works at a destination, what is refused, and what should be
    #[command(after_help = "\
Stores, reads, overwrites and removes small objects of its own, and looks at what
the service says of versions, locks, rules that remove or freeze objects, and uploads
that nobody completed. Objects that may not be removed stay; they are a few bytes each.

Exit codes: 0 backups can be stored there, 1 something keeps them from it or would
remove them.

With --role, it asks for what that role needs, which must work, and for what it must
not do, which must be refused: whether credentials have the rights that `destination
policy` prints, and no others. Everything is tried on objects of its own, beside the
repositories. They are put and removed with the credentials of other roles where the
tried ones may not; what nobody may remove is named. The credentials are those that
coordinator.toml has for the role, or others, given with --set as they would stand in
[destination.role.ROLE] of a bucket or in an SFTP server's table.

Exit codes with --role: 0 they have exactly these rights, as far as the destination can
keep rights apart; 1 they have more or fewer, or it could not be found out.

Examples:
  coordinator destination test s3-eu
  coordinator destination test s3-eu --role ingest
  coordinator destination test s3-eu --role prune \
    --set access_key_id=AKIA... --set secret_key_file=prune.secret
  coordinator destination test nas --role restore \
    --set url=sftp://backup-restore@nas/backup --set identity_file=id_restore")]
    Test(DestinationTestArgs),
    /// Fill a destination with what it lacks, and wait until it has everything
    #[command(after_help = "\
For a destination that was added later, or was away for longer than its queue
reaches back. Until one with `required = true` has everything, runs are refused.
What was begun goes on by itself, also after an interruption; a second call shows
how far it is.

Example:
  coordinator destination sync s3-eu")]
    Sync(DestinationSyncArgs),
    /// Print the rights that one role's credentials need at a destination, and no more
    #[command(after_help = "\
For a bucket: the policy of one role, filled in from coordinator.toml, what it
cannot see to, and lifecycle rules that remove no object; at Backblaze B2 the
application key and its capabilities, at Cloudflare R2 the API token and the bucket's
lock. For an SFTP server: its
sshd_config block, directories and authorized_keys line. For a directory: owner and
mode. Nothing is changed anywhere; a role's own credentials are set in
[destination.role.ROLE].

Roles: ingest puts new objects, restore reads and lists, maintain checks, repairs
and extends locks, prune removes.

Without --principal, the policy is for the user it is attached to. With it, it is a
bucket policy that names that user, as Ceph needs it.

Examples:
  coordinator destination policy s3-eu --role ingest
  coordinator destination policy s3-eu --role prune --json > prune.json
  coordinator destination policy ceph --role restore \\
    --principal arn:aws:iam:::user/capstan-restore
  coordinator destination policy nas --role ingest")]
    Policy(DestinationPolicyArgs),
}

/// `destination create`.
#[derive(Debug, Clone, Args)]
pub struct DestinationCreateArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
}

/// `destination test`.
#[derive(Debug, Clone, Args)]
pub struct DestinationTestArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
    /// Try out whether the credentials have this role's rights and no others
    #[arg(long, value_enum)]
    pub role: Option<DestinationRole>,
    /// With --role: a key of other credentials to try; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "role")]
    pub set: Vec<String>,
}

/// `destination sync`.
#[derive(Debug, Clone, Args)]
pub struct DestinationSyncArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
}

/// `destination policy`.
#[derive(Debug, Clone, Args)]
pub struct DestinationPolicyArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
    /// What the credentials are for
    #[arg(long, value_enum)]
    pub role: DestinationRole,
    /// S3: whose kind of policy; that of the destination's `provider` when not given
    #[arg(long, value_enum)]
    pub flavour: Option<PolicyFlavour>,
    /// S3: make it a bucket policy that names this user
    #[arg(long, value_name = "ARN")]
    pub principal: Option<Principal>,
    /// SFTP: the directory of the server that the login sees as `/` [default: /srv/capstan]
    #[arg(long, value_name = "DIR")]
    pub chroot: Option<PathBuf>,
}

/// What a destination's credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DestinationRole {
    /// Puts new objects
    Ingest,
    /// Reads and lists
    Restore,
    /// Checks, repairs and extends locks
    Maintain,
    /// Removes
    Prune,
}

impl DestinationRole {
    /// The role as destinations know it.
    pub fn role(self) -> Role {
        match self {
            Self::Ingest => Role::Ingest,
            Self::Restore => Role::Restore,
            Self::Maintain => Role::Maintain,
            Self::Prune => Role::Prune,
        }
    }

    /// The role's word in the configuration.
    pub fn word(self) -> &'static str {
        self.role().word()
    }
}

/// Whose kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyFlavour {
    /// Amazon's
    Aws,
    /// MinIO's
    Minio,
    /// Ceph's gateway's
    Ceph,
    /// Backblaze's application keys
    B2,
    /// Cloudflare's API tokens
    R2,
}

/// Whom a bucket policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(String);

/// Text that names no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write one user's or role's ARN, such as arn:aws:iam::111122223333:user/capstan-ingest")]
pub struct PrincipalError;

impl Principal {
    /// Its ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let parts: Vec<_> = text.splitn(6, ':').collect();
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"*?\"'\\$".contains(&byte);
        match parts.as_slice() {
            ["arn", _, "iam" | "sts", _, _, resource]
                if resource.contains('/') && text.bytes().all(plain) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(PrincipalError),
        }
    }
}
