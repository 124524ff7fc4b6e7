//! What a role needs at a bucket. Each of the append-server's calls, the credentials it is made with, and the actions
//! that allow it:
//!
//! | call | where | role | actions |
//! |---|---|---|---|
//! | put of an object, of the probe for conditional writes | `s3/put.rs`, `s3/conditional.rs` | ingest | `PutObject`; with `retain` also `PutObjectRetention`, with `legal_hold` also `PutObjectLegalHold` |
//! | a look at what was put; at what is there; at its lock | `s3/put.rs`, `s3/read.rs`, `s3/lock.rs` | restore | `GetObject`; with `retain`, to be shown a lock and a hold, `GetObjectRetention`, `GetObjectLegalHold` |
//! | a read, as after the 412 that says a name is taken, for "the same bytes are there" | `s3/put.rs`, `s3/read.rs` | restore | `GetObject` |
//! | a listing; "nothing is there" instead of "not allowed" | `s3/read.rs` | restore | `ListBucket` |
//! | extending a lock | `s3/lock.rs` | maintain | `GetObject`, `GetObjectRetention`, `PutObjectRetention` |
//! | the bucket's settings, for `destination test` | `s3/findings.rs` | maintain | `GetBucketVersioning`, `GetBucketObjectLockConfiguration`, `GetLifecycleConfiguration` |
//! | counting unfinished uploads, for `destination test` | `s3/unfinished.rs` | prune | `ListBucketMultipartUploads` |
//! | putting a good copy over a damaged one | a repairing scan | maintain | as ingest |
//! | removing every version of an object | `s3/lock.rs` | prune | `ListBucketVersions`, `DeleteObject`, `DeleteObjectVersion` |
//!
//! `destination test --role` tries these out (`append-server/src/destination/s3/role_trial.rs`).
//!
//! Objects are put in one piece, so ingest needs nothing of multipart uploads; `PutObject` allows to begin one all the
//! same, and prune may clear away what another left. Ingest reads nothing: whether a name is taken is found out with the
//! credentials that restore. A lock that is in force is never bypassed by anybody.

mod notes;

use std::io::{self, Write};

use append_server::destination::s3::options::{ConditionalPolicy, ObjectLock};
use append_server::places::Place;
use append_server::places::s3::S3Place;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::destination::{DestinationPolicyArgs, DestinationRole, Principal};
use crate::commands::destination_policy::policy_document::Effect::{Allow, Deny};
use crate::commands::destination_policy::policy_document::{PolicyDocument, Statement};
use crate::commands::destination_policy::{ABANDONED_DAYS, PolicyError, does};

/// Whose kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Amazon's.
    Aws,
    /// MinIO's.
    Minio,
    /// Ceph's gateway's.
    Ceph,
}

/// A role at a bucket.
#[derive(Debug)]
pub(super) struct BucketRole<'a> {
    bucket: &'a S3Place,
    lock: Option<ObjectLock>,
    flavour: Flavour,
    role: DestinationRole,
    principal: Option<&'a Principal>,
}

impl<'a> BucketRole<'a> {
    /// Checks that a policy can be written for it.
    pub(super) fn of(
        bucket: &'a S3Place,
        flavour: Flavour,
        args: &'a DestinationPolicyArgs,
    ) -> Result<Self, PolicyError> {
        if flavour == Flavour::Minio && args.principal.is_some() {
            return Err(PolicyError::NoPrincipals);
        }
        if bucket.prefix().contains(['*', '?', '$']) {
            let prefix = bucket.prefix().to_owned();
            return Err(PolicyError::Pattern { prefix });
        }
        Ok(Self {
            bucket,
            lock: bucket.lock(),
            flavour,
            role: args.role,
            principal: args.principal.as_ref(),
        })
    }

    /// The policy.
    pub(super) fn policy(&self) -> PolicyDocument {
        let statements = match self.role {
            DestinationRole::Ingest => self.ingest(),
            DestinationRole::Restore => self.restore(),
            DestinationRole::Maintain => self.maintain(),
            DestinationRole::Prune => self.prune(),
        };
        PolicyDocument::new(statements, self.principal.map(Principal::as_str))
    }

    fn ingest(&self) -> Vec<Statement> {
        let mut statements = self.put("StoreObjects");
        if self.refuses_overwriting() {
            let never =
                Statement::new("NeverOverwrite", Deny, vec!["s3:PutObject"], self.objects());
            statements.push(never.when("Null", "s3:if-none-match", "true"));
        }
        if self.flavour == Flavour::Ceph {
            // Whoever put an object there owns it, and may read and share it unless that is refused.
            let owner = vec![
                "s3:GetObject",
                "s3:GetObjectVersion",
                "s3:PutObjectAcl",
                "s3:PutObjectVersionAcl",
            ];
            let owner = Statement::new("NeverReadOrShare", Deny, owner, self.everything_in_it());
            statements.push(owner);
        }
        statements.push(self.never_remove());
        statements.push(self.never_change_the_bucket());
        statements
    }

    fn restore(&self) -> Vec<Statement> {
        let mut read = vec!["s3:GetObject"];
        if self.lock.is_some() {
            // A hold may be anybody's, and nothing else says why an object cannot be removed.
            read.extend(["s3:GetObjectRetention", "s3:GetObjectLegalHold"]);
        }
        vec![
            Statement::new("ReadObjects", Allow, read, self.objects()),
            self.beneath_the_prefix(Statement::new(
                "ListObjects",
                Allow,
                vec!["s3:ListBucket"],
                self.bucket_arn(),
            )),
        ]
    }

    fn maintain(&self) -> Vec<Statement> {
        let mut statements = self.restore();
        statements.extend(self.put("RepairObjects"));
        statements.push(Statement::new(
            "LookAtSettings",
            Allow,
            vec![
                "s3:GetBucketVersioning",
                "s3:GetBucketObjectLockConfiguration",
                "s3:GetLifecycleConfiguration",
            ],
            self.bucket_arn(),
        ));
        statements.push(self.never_remove());
        statements.push(self.never_change_the_bucket());
        statements
    }

    fn prune(&self) -> Vec<Statement> {
        vec![
            self.beneath_the_prefix(Statement::new(
                "ListObjects",
                Allow,
                vec!["s3:ListBucket", "s3:ListBucketVersions"],
                self.bucket_arn(),
            )),
            Statement::new(
                "RemoveObjects",
                Allow,
                vec![
                    "s3:DeleteObject",
                    "s3:DeleteObjectVersion",
                    "s3:AbortMultipartUpload",
                ],
                self.objects(),
            ),
            // No service lets this one be limited to a prefix.
            Statement::new(
                "ListUnfinishedUploads",
                Allow,
                vec!["s3:ListBucketMultipartUploads"],
                self.bucket_arn(),
            ),
            Statement::new(
                "NeverBypassLocks",
                Deny,
                vec!["s3:BypassGovernanceRetention"],
                self.everything_in_it(),
            ),
            self.never_change_the_bucket(),
        ]
    }

    /// To put an object, with the lock that is configured.
    fn put(&self, sid: &'static str) -> Vec<Statement> {
        let mut actions = vec!["s3:PutObject"];
        if self.lock.is_some() {
            actions.push("s3:PutObjectRetention");
        }
        let mut statements = vec![Statement::new(sid, Allow, actions, self.objects())];
        if self.lock.is_some_and(|lock| lock.legal_hold) {
            let hold = vec!["s3:PutObjectLegalHold"];
            let hold = Statement::new("HoldObjects", Allow, hold, self.objects());
            // The same action lifts a hold, which is for people alone.
            statements.push(match self.flavour {
                Flavour::Aws | Flavour::Minio => {
                    hold.when("StringEquals", "s3:object-lock-legal-hold", "ON")
                }
                Flavour::Ceph => hold,
            });
        }
        statements
    }

    fn never_remove(&self) -> Statement {
        let actions = vec![
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:BypassGovernanceRetention",
        ];
        Statement::new("NeverRemove", Deny, actions, self.everything_in_it())
    }

    fn never_change_the_bucket(&self) -> Statement {
        // Rules that expire objects are not under PutBucket*.
        let actions = vec![
            "s3:PutBucket*",
            "s3:DeleteBucket*",
            "s3:PutLifecycleConfiguration",
            "s3:PutReplicationConfiguration",
        ];
        Statement::new("NeverChangeTheBucket", Deny, actions, self.bucket_arn())
    }

    /// Whether the policy itself can refuse a put that would replace something.
    fn refuses_overwriting(&self) -> bool {
        let conditional = self.bucket.conditional_writes() != ConditionalPolicy::Off;
        self.flavour == Flavour::Aws && conditional
    }

    fn beneath_the_prefix(&self, statement: Statement) -> Statement {
        match self.bucket.prefix() {
            "" => statement,
            prefix => statement.when("StringLike", "s3:prefix", format!("{prefix}*")),
        }
    }

    fn bucket_arn(&self) -> String {
        let region = self.bucket.region();
        let partition = match self.flavour {
            Flavour::Aws if region.starts_with("cn-") => "aws-cn",
            Flavour::Aws if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:s3:::{}", self.bucket.bucket())
    }

    fn objects(&self) -> String {
        format!("{}/{}*", self.bucket_arn(), self.bucket.prefix())
    }

    fn everything_in_it(&self) -> String {
        format!("{}/*", self.bucket_arn())
    }

    /// Rules that clear away parts of uploads and remove no object; nothing where the service does that by itself.
    fn lifecycle(&self) -> Option<Value> {
        (self.flavour != Flavour::Minio).then(|| {
            json!({ "Rules": [{
                "ID": "capstan-abandoned-uploads",
                "Status": "Enabled",
                "Filter": { "Prefix": self.bucket.prefix() },
                "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": ABANDONED_DAYS },
            }]})
        })
    }

    /// Everything for a person to read.
    pub(super) fn write(&self, place: &Place, out: &mut impl Write) -> io::Result<()> {
        let (role, does) = (self.role.word(), does(self.role));
        writeln!(
            out,
            "# {} ({}), role {role}: {does}.\n#",
            place.name, place.url
        )?;
        self.write_where_it_goes(out)?;
        writeln!(out)?;
        write_pretty(out, &self.policy())?;
        writeln!(out)?;
        for note in self.notes() {
            writeln!(out, "# - {note}")?;
        }
        let bucket = self.bucket.bucket();
        match self.lifecycle() {
            Some(lifecycle) => {
                let aws = self.aws_command();
                writeln!(
                    out,
                    "\n\
                     # The bucket's lifecycle rules, once, by its owner. They clear away uploads that were begun and never\n\
                     # completed. No rule may expire objects or earlier versions of them: every one is needed until prune\n\
                     # removes it.\n\
                     #   {aws} s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration file://lifecycle.json\n"
                )?;
                write_pretty(out, &lifecycle)
            }
            None => writeln!(
                out,
                "# - No lifecycle rules: MinIO clears away unfinished uploads by itself, and no rule may expire objects."
            ),
        }
    }

    fn write_where_it_goes(&self, out: &mut impl Write) -> io::Result<()> {
        let (role, aws) = (self.role.word(), self.aws_command());
        let bucket = self.bucket.bucket();
        if let Some(principal) = self.principal {
            return writeln!(
                out,
                "# For the bucket's own policy, by its owner; it names {}.\n\
                 # A bucket has one policy: join the statements of all roles in one document.\n\
                 #   {aws} s3api put-bucket-policy --bucket {bucket} --policy file://{role}.json",
                principal.as_str()
            );
        }
        writeln!(
            out,
            "# For the user whose key stands in [destination.role.{role}], or in the destination's own table where that\n\
             # is missing; `--json` prints it alone, to be saved as {role}.json."
        )?;
        match self.flavour {
            Flavour::Minio => writeln!(
                out,
                "#   mc admin policy create ALIAS capstan-{role} {role}.json\n\
                 #   mc admin policy attach ALIAS capstan-{role} --user USER"
            ),
            Flavour::Aws | Flavour::Ceph => writeln!(
                out,
                "#   {aws} iam put-user-policy --user-name USER --policy-name capstan-{role} --policy-document file://{role}.json"
            ),
        }
    }

    fn aws_command(&self) -> String {
        match self.flavour {
            Flavour::Aws => "aws".to_owned(),
            _ => format!("aws --endpoint-url {}", self.bucket.endpoint()),
        }
    }
}

fn write_pretty(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
