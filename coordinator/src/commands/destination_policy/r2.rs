//! An API token of Cloudflare R2: one of its two permissions for one bucket. R2 knows no prefix, and no right to put that is
//! not one to remove, so that its bucket locks have to keep what is stored; nothing of this was tried on its service.

use std::collections::BTreeMap;
use std::io::{self, Write};

use append_server::places::Place;
use append_server::places::s3::S3Place;
use serde::Serialize;

use crate::cli::destination::DestinationRole;
use crate::commands::destination_policy::does;
use crate::ssh::shell::quote;

/// How long a bucket lock is proposed for where no `retain` says so.
const LOCK_DAYS: u64 = 30;

/// A permission group, by which Cloudflare's API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PermissionGroup {
    id: &'static str,
    name: &'static str,
}

const READS: PermissionGroup = PermissionGroup {
    id: "6a018a9f2fc74eb6b293b0c548f38b39",
    name: "Workers R2 Storage Bucket Item Read",
};
const WRITES: PermissionGroup = PermissionGroup {
    id: "2efd5506f9c8494dacb1fa10a3e7d5b6",
    name: "Workers R2 Storage Bucket Item Write",
};

/// A role at a bucket of Cloudflare's.
#[derive(Debug)]
pub(super) struct TokenRole<'a> {
    bucket: &'a S3Place,
    role: DestinationRole,
}

/// What `POST /accounts/ACCOUNT/tokens` takes.
#[derive(Debug, Serialize)]
pub(super) struct TokenRequest {
    name: String,
    policies: [TokenPolicy; 1],
}

#[derive(Debug, Serialize)]
struct TokenPolicy {
    effect: &'static str,
    resources: BTreeMap<String, &'static str>,
    permission_groups: [PermissionGroup; 1],
}

impl<'a> TokenRole<'a> {
    pub(super) fn of(bucket: &'a S3Place, role: DestinationRole) -> Self {
        Self { bucket, role }
    }

    /// The token to be made.
    pub(super) fn request(&self) -> TokenRequest {
        let (account, jurisdiction) = self.account();
        let bucket = self.bucket.bucket();
        let resource = format!("com.cloudflare.edge.r2.bucket.{account}_{jurisdiction}_{bucket}");
        TokenRequest {
            name: format!("capstan-{}", self.role.word()),
            policies: [TokenPolicy {
                effect: "allow",
                resources: BTreeMap::from([(resource, "*")]),
                permission_groups: [self.group()],
            }],
        }
    }

    fn group(&self) -> PermissionGroup {
        match self.role {
            DestinationRole::Restore => READS,
            DestinationRole::Ingest | DestinationRole::Maintain | DestinationRole::Prune => WRITES,
        }
    }

    /// The account and the jurisdiction, as they stand in the endpoint: `https://ACCOUNT[.JURISDICTION].r2.…`.
    fn account(&self) -> (&str, &str) {
        let endpoint = self.bucket.endpoint();
        let host = endpoint
            .split_once("://")
            .map_or(endpoint, |(_, host)| host);
        let mut labels = host.split('.');
        let account = labels.next().unwrap_or_default();
        match labels.next() {
            None | Some("r2") => (account, "default"),
            Some(jurisdiction) => (account, jurisdiction),
        }
    }

    /// Everything for a person to read.
    pub(super) fn write(&self, place: &Place, out: &mut impl Write) -> io::Result<()> {
        let (role, does) = (self.role.word(), does(self.role));
        let (account, _) = self.account();
        writeln!(
            out,
            "\
# {} ({}), role {role}: {does}.
#
# An API token of Cloudflare's for [destination.role.{role}], or for the destination's own table where that is missing. In
# the dashboard it is \"{}\", for this bucket alone. By the API, saved as {role}.json, which `--json` prints alone:
#   curl -H \"Authorization: Bearer $CLOUDFLARE_API_TOKEN\" --json @{role}.json \\
#     https://api.cloudflare.com/client/v4/accounts/{account}/tokens
# access_key_id is the id that this answers with, and the secret the SHA-256 of its value, in hexadecimal.
",
            place.name,
            place.url,
            match self.group() {
                READS => "Object Read only",
                _ => "Object Read & Write",
            }
        )?;
        serde_json::to_writer_pretty(&mut *out, &self.request())?;
        writeln!(out, "\n")?;
        for note in self.notes() {
            writeln!(out, "# - {note}")?;
        }
        match self.role {
            DestinationRole::Restore => Ok(()),
            _ => self.write_lock(out),
        }
    }

    /// What keeps objects where no token can be kept from removing them.
    fn write_lock(&self, out: &mut impl Write) -> io::Result<()> {
        let bucket = self.bucket.bucket();
        let (_, jurisdiction) = self.account();
        let jurisdiction = match jurisdiction {
            "default" => String::new(),
            other => format!(" -J {other}"),
        };
        let days = self
            .bucket
            .lock()
            .map_or(LOCK_DAYS, |lock| lock.retain.as_secs() / 86_400);
        writeln!(
            out,
            "
# The bucket's lock, once, by its owner: nothing beneath the prefix is removed or overwritten before it is so old. Prune is
# refused until then and tries again. `scan --repair` cannot replace what is damaged, nor a changed password its bundle, before.

npx wrangler r2 bucket lock add {bucket} capstan {} --retention-days {days}{jurisdiction}",
            quote(self.bucket.prefix())
        )
    }

    fn notes(&self) -> Vec<&'static str> {
        let mut notes = vec![
            "It is for the whole bucket: R2's tokens know no prefix. Give backups a bucket of their own.",
        ];
        match self.role {
            DestinationRole::Ingest => notes.push(
                "R2 has no right to put alone: this token reads and removes as well. Only a lock of the bucket keeps what is stored.",
            ),
            DestinationRole::Restore => notes.push(
                "What it reads is sealed: without the repository's keys it is sizes and times.",
            ),
            DestinationRole::Maintain => notes.push(
                "It may not look at the bucket's settings, which takes \"Admin Read only\": `destination test` says \"not told\".",
            ),
            DestinationRole::Prune => notes.push(
                "This token can destroy backups: give it to the machine that prunes, and to no other.",
            ),
        }
        if self.bucket.lock().is_some() && self.role != DestinationRole::Restore {
            notes.push(
                "R2 takes no lock with a put: leave out `retain`, and let the bucket have the lock below.",
            );
        }
        notes
    }
}
