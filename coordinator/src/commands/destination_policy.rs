//! `destination policy`: what a role's credentials must be allowed at a destination, in the words of whoever keeps it:
//! a policy for a bucket, a key's capabilities at Backblaze, a token at Cloudflare, sshd's configuration for an SFTP server, owner and mode for a directory. Only prints; asks no
//! service for anything and changes nothing.

mod b2;
mod local;
mod policy_document;
mod r2;
mod s3;
mod sftp;

use std::io::Write;

use append_server::places::s3::S3Place;
use append_server::places::{Place, PlaceKind};

use crate::cli::destination::{DestinationPolicyArgs, DestinationRole, PolicyFlavour};
use crate::commands::destination::DestinationCommandError;
use crate::config::Config;
use crate::coordinator::find_place;
use crate::exit_code::ExitCode;
use crate::terminal::write_json;

/// After so many days the parts of an upload that was never completed are nobody's any more.
const ABANDONED_DAYS: u32 = 7;

/// What was asked for cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Only services of S3 have documents.
    #[error("destination {name} is {kind}, which has no policy document: leave out --json")]
    NoDocument {
        /// Which.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// An option of another kind of destination.
    #[error("destination {name} is {kind}: leave out {option}")]
    ForeignOption {
        /// Which.
        name: String,
        /// What it is.
        kind: &'static str,
        /// The option.
        option: &'static str,
    },
    /// The service has rights of another form.
    #[error(
        "{provider} gives rights in a form of its own, which is not printed here; `--flavour aws` prints the actions that each role needs, to be translated"
    )]
    OwnForm {
        /// Whose service it is.
        provider: &'static str,
    },
    /// A key or a token is its own user.
    #[error("{provider} gives rights to keys, not to users: leave out --principal")]
    KeysAlone {
        /// Whose service it is.
        provider: &'static str,
    },
    /// MinIO's bucket policies are for everybody.
    #[error(
        "MinIO's bucket policies name no users: leave out --principal, and attach the policy to the user"
    )]
    NoPrincipals,
    /// The prefix is a pattern in a policy.
    #[error(
        "the prefix {prefix:?} has one of * ? $, which a policy takes for a pattern: choose another prefix"
    )]
    Pattern {
        /// The prefix.
        prefix: String,
    },
    /// A directory that sshd cannot be given.
    #[error("{text:?} cannot stand in sshd_config: give --chroot a plain absolute path")]
    Chroot {
        /// What was given.
        text: String,
    },
}

/// `destination policy NAME --role ROLE`.
pub fn destination_policy(
    args: &DestinationPolicyArgs,
    config: &Config,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    let place = find_place(&config.destinations, &args.name)?;
    match &place.kind {
        PlaceKind::S3(bucket) => {
            refuse(args, "a bucket", &[("--chroot", args.chroot.is_some())])?;
            write_bucket(args, place, bucket, json, out)?;
        }
        PlaceKind::Sftp(server) => {
            refuse_documents(args, "an SFTP server's directory", json)?;
            sftp::SftpRole::of(server, args)?.write(place, out)?;
        }
        PlaceKind::Local(path) => {
            let kind = "a directory of this machine";
            refuse_documents(args, kind, json)?;
            refuse(args, kind, &[("--chroot", args.chroot.is_some())])?;
            local::write(place, path, args.role, out)?;
        }
    }
    Ok(ExitCode::Ok)
}

/// The form in which a service gives rights.
enum Form {
    Document(s3::Flavour),
    BackblazeKey,
    CloudflareToken,
}

fn form(args: &DestinationPolicyArgs, bucket: &S3Place) -> Result<Form, PolicyError> {
    let form = match (args.flavour, bucket.provider()) {
        (Some(PolicyFlavour::Aws), _) | (None, None | Some("aws")) => {
            Form::Document(s3::Flavour::Aws)
        }
        (Some(PolicyFlavour::Minio), _) | (None, Some("minio")) => {
            Form::Document(s3::Flavour::Minio)
        }
        (Some(PolicyFlavour::Ceph), _) | (None, Some("ceph")) => Form::Document(s3::Flavour::Ceph),
        (Some(PolicyFlavour::B2), _) | (None, Some("b2")) => Form::BackblazeKey,
        (Some(PolicyFlavour::R2), _) | (None, Some("r2")) => Form::CloudflareToken,
        (None, Some(provider)) => return Err(PolicyError::OwnForm { provider }),
    };
    let provider = match form {
        Form::Document(_) => return Ok(form),
        Form::BackblazeKey => "Backblaze",
        Form::CloudflareToken => "Cloudflare",
    };
    match args.principal {
        None => Ok(form),
        Some(_) => Err(PolicyError::KeysAlone { provider }),
    }
}

fn write_bucket(
    args: &DestinationPolicyArgs,
    place: &Place,
    bucket: &S3Place,
    json: bool,
    out: &mut impl Write,
) -> Result<(), DestinationCommandError> {
    match (form(args, bucket)?, json) {
        (Form::Document(flavour), true) => {
            write_json(out, &s3::BucketRole::of(bucket, flavour, args)?.policy())?;
        }
        (Form::Document(flavour), false) => {
            s3::BucketRole::of(bucket, flavour, args)?.write(place, out)?;
        }
        (Form::BackblazeKey, true) => {
            write_json(out, &b2::KeyRole::of(bucket, args.role).request())?;
        }
        (Form::BackblazeKey, false) => b2::KeyRole::of(bucket, args.role).write(place, out)?,
        (Form::CloudflareToken, true) => {
            write_json(out, &r2::TokenRole::of(bucket, args.role).request())?;
        }
        (Form::CloudflareToken, false) => r2::TokenRole::of(bucket, args.role).write(place, out)?,
    }
    Ok(())
}

/// Refuses what only a bucket has.
fn refuse_documents(
    args: &DestinationPolicyArgs,
    kind: &'static str,
    json: bool,
) -> Result<(), PolicyError> {
    if json {
        let name = args.name.clone();
        return Err(PolicyError::NoDocument { name, kind });
    }
    let of_buckets = [
        ("--flavour", args.flavour.is_some()),
        ("--principal", args.principal.is_some()),
    ];
    refuse(args, kind, &of_buckets)
}

/// Refuses options of another kind of destination.
fn refuse(
    args: &DestinationPolicyArgs,
    kind: &'static str,
    options: &[(&'static str, bool)],
) -> Result<(), PolicyError> {
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(PolicyError::ForeignOption {
            name: args.name.clone(),
            kind,
            option,
        }),
    }
}

/// What a role does, for a heading.
fn does(role: DestinationRole) -> &'static str {
    match role {
        DestinationRole::Ingest => "puts new objects",
        DestinationRole::Restore => "reads and lists",
        DestinationRole::Maintain => "checks, repairs and extends locks",
        DestinationRole::Prune => "removes what nothing needs any more",
    }
}

#[cfg(test)]
mod tests;
