//! An application key of Backblaze B2: its capabilities, for one bucket and what begins with one prefix. The capabilities of
//! each call are those of Backblaze's own list of its S3 interface; nothing of them was tried on its service.

use std::io::{self, Write};

use append_server::places::Place;
use append_server::places::s3::S3Place;
use serde::Serialize;
use serde_json::json;

use crate::cli::destination::DestinationRole;
use crate::commands::destination_policy::{ABANDONED_DAYS, does};
use crate::ssh::shell::quote;

/// A role at a bucket of Backblaze's.
#[derive(Debug)]
pub(super) struct KeyRole<'a> {
    bucket: &'a S3Place,
    role: DestinationRole,
}

/// What `b2_create_key` takes, without the ids of account and bucket.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyRequest {
    key_name: String,
    capabilities: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_prefix: Option<String>,
}

impl<'a> KeyRole<'a> {
    pub(super) fn of(bucket: &'a S3Place, role: DestinationRole) -> Self {
        Self { bucket, role }
    }

    /// The key to be made.
    pub(super) fn request(&self) -> KeyRequest {
        let prefix = self.bucket.prefix();
        KeyRequest {
            key_name: format!("capstan-{}", self.role.word()),
            capabilities: self.capabilities(),
            name_prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        }
    }

    fn capabilities(&self) -> Vec<&'static str> {
        let lock = self.bucket.lock();
        let mut reads = vec!["listFiles", "readFiles"];
        let mut puts = vec!["writeFiles"];
        if let Some(lock) = lock {
            reads.extend(["readFileRetentions", "readFileLegalHolds"]);
            puts.push("writeFileRetentions");
            if lock.legal_hold {
                puts.push("writeFileLegalHolds");
            }
        }
        match self.role {
            DestinationRole::Ingest => puts,
            DestinationRole::Restore => reads,
            DestinationRole::Maintain => {
                let settings = ["listBuckets", "readBuckets", "readBucketRetentions"];
                reads.into_iter().chain(puts).chain(settings).collect()
            }
            // Uploads in parts are ended by who may write.
            DestinationRole::Prune => vec!["listFiles", "deleteFiles", "writeFiles"],
        }
    }

    /// Everything for a person to read.
    pub(super) fn write(&self, place: &Place, out: &mut impl Write) -> io::Result<()> {
        let (role, does) = (self.role.word(), does(self.role));
        let KeyRequest {
            key_name,
            capabilities,
            name_prefix,
        } = self.request();
        let prefix = name_prefix.map_or_else(String::new, |prefix| {
            format!(" --name-prefix {}", quote(&prefix))
        });
        let (bucket, capabilities) = (self.bucket.bucket(), capabilities.join(","));
        let rule = json!({
            "fileNamePrefix": self.bucket.prefix(),
            "daysFromStartingToCancelingUnfinishedLargeFiles": ABANDONED_DAYS,
        });
        writeln!(
            out,
            "\
# {} ({}), role {role}: {does}.
#
# An application key of Backblaze's for [destination.role.{role}], or for the destination's own table where that is
# missing. The first word that it prints is access_key_id, the second the secret; it is shown once. `--json` prints it as
# b2_create_key takes it.

b2 key create --bucket {bucket}{prefix} {key_name} {capabilities}
",
            place.name, place.url
        )?;
        for note in self.notes() {
            writeln!(out, "# - {note}")?;
        }
        writeln!(
            out,
            "
# The bucket's lifecycle rules, once, by its owner. They clear away uploads that were begun and never completed. No rule may
# hide files or delete hidden ones: earlier versions are needed until prune removes them.

b2 bucket update --lifecycle-rule {} {bucket}",
            quote(&rule.to_string())
        )
    }

    fn notes(&self) -> Vec<&'static str> {
        const OVERWRITES: &str = "writeFiles also stores newer versions of a name and hides files. Earlier versions stay, and this key cannot remove \
             them: `scan --repair` sees a name that was overwritten, and keeps what took its place as evidence.";
        let locks = match self.bucket.lock() {
            None => {
                "Nothing is locked: `retain` in coordinator.toml, with a bucket that was made with Object Lock, keeps whoever has more \
                 rights from removing, too."
            }
            Some(lock) if lock.legal_hold => {
                "writeFileLegalHolds lifts holds as well: Backblaze does not tell putting one from lifting it."
            }
            Some(_) => "Locks need a bucket with Object Lock; no key here has bypassGovernance.",
        };
        match self.role {
            DestinationRole::Ingest => vec![
                "It reads nothing: what is there already is read as restore. A key for both needs both lists.",
                OVERWRITES,
                locks,
            ],
            DestinationRole::Restore => vec![
                "What it reads is sealed: without the repository's keys it is sizes and times.",
            ],
            DestinationRole::Maintain => vec![
                "To repair, it may put a good copy over a damaged one, and so over any.",
                OVERWRITES,
                locks,
            ],
            DestinationRole::Prune => vec![
                "Locks stay in force: what is locked is kept until its time has come.",
                "This key can destroy backups: give it to the machine that prunes, and to no other.",
            ],
        }
    }
}
