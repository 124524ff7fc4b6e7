//! `key derive --role ingest`: makes keys that add snapshots and open nothing, for the coordinator's own machine, and the
//! repositories that those keys could not make. The sealed keys stay beside the coordinator's own: no other machine needs them to
//! read, so no repository has them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use formats::keys::bundle::Role;

use crate::cli::keys::DeriveArgs;
use crate::commands::key::KeyCommandError;
use crate::commands::key::derive::{DeriveReport, derive_keys, established, read_users, tell};
use crate::commands::on_storage::CommandError;
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::keyring::bundle_path;
use crate::status::hosts_backed_up;

/// Makes what is missing: keys, and a repository for each host that is backed up.
pub(super) async fn derive_ingest(
    args: &DeriveArgs,
    coordinator: Coordinator,
    own: &Path,
) -> Result<DeriveReport, CommandError> {
    let bundle = bundle_path(own.parent().unwrap_or(Path::new(".")), &args.user);
    let is_there = read_users(&args.user, Role::Write, &bundle)?.is_some();
    if is_there && args.out.is_some() {
        let user = args.user.clone();
        return Err(KeyCommandError::HasKeys { user }.into());
    }
    let known = established(&coordinator).await?;
    let mut names: BTreeSet<String> = known.into_iter().map(|known| known.name).collect();
    let key_file = match is_there {
        true => None,
        false => {
            let (_, key_file) = derive_keys(args, &coordinator, own, Role::Write, &bundle)?;
            tell(&coordinator, args, names.len() as u64);
            Some(key_file)
        }
    };
    let hosts: Vec<Host> = hosts_backed_up(&coordinator.config).cloned().collect();
    let mut made = 0;
    for host in &hosts {
        if names.insert(host.repository.to_string()) {
            coordinator.create_or_open(host).await?;
            made += 1;
        }
    }
    coordinator.close().await;
    Ok(DeriveReport {
        user: args.user.to_string(),
        role: args.role,
        bundle,
        key_file,
        repositories: names.len() as u64,
        added: made,
        url: String::new(),
    })
}

/// What to do with them.
pub(super) fn write_ingest(report: &DeriveReport, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (user, bundle) = (&report.user, report.bundle.display());
    let repositories = format!(
        "{} of {} repositories were made now, for hosts that had none",
        report.added, report.repositories
    );
    let Some(key_file) = &report.key_file else {
        return writeln!(
            out,
            "User {user} has keys already ({bundle}); {repositories}"
        );
    };
    let key_file = key_file.display();
    writeln!(
        out,
        "Keys of user {user}, which add snapshots and open nothing:\n  \
         key file   {key_file}\n  \
         sealed     {bundle}\n\n\
         {repositories}.\n\
         In [keys] of coordinator.toml set\n  \
         user = \"{user}\"\n  \
         bundle = \"{bundle}\"\n  \
         key_file = \"{key_file}\"\n\
         then take the other bundles and key files and the recovery kit off this machine: they restore, verify and prune."
    )
}
