//! The kinds of events, and what each tells.

use formats::log::snapshot::SnapshotTotals;
use jiff::{SignedDuration, Timestamp};

use crate::catalog::state::Outcome;

macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $name:ident $word:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
    )*) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum What {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl What {
            /// Its word, as it stands in the audit log and in notifications. Never changes its meaning.
            pub fn word(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $word,)*
                }
            }

            /// What it tells, by name, as texts.
            pub fn details(&self) -> Vec<(&'static str, String)> {
                match self {
                    $(Self::$name { $($field),* } => {
                        let details: Vec<(&'static str, Option<String>)> =
                            vec![$((stringify!($field), $field.detail())),*];
                        let told = details.into_iter();
                        told.filter_map(|(name, text)| Some((name, text?))).collect()
                    })*
                }
            }
        }
    };
}

/// A value as a text; nothing where there is none.
trait Detail {
    fn detail(&self) -> Option<String>;
}

impl Detail for String {
    fn detail(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Detail for u64 {
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Detail for bool {
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Detail for Outcome {
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Detail for Timestamp {
    fn detail(&self) -> Option<String> {
        Some(crate::clock::utc(*self))
    }
}

impl<T: Detail> Detail for Option<T> {
    fn detail(&self) -> Option<String> {
        self.as_ref().and_then(Detail::detail)
    }
}

impl Detail for Vec<String> {
    fn detail(&self) -> Option<String> {
        Some(self.join(" "))
    }
}

events! {
    /// A run began.
    RunStarted "run-started" {
        /// It was asked for whatever the host's window says: it may begin while that is closed, and go on past its end.
        outside_window: bool,
    }
    /// A run ended.
    RunEnded "run-ended" {
        /// With what.
        outcome: Outcome,
        /// How many things could not be read.
        problems: u64,
        /// Files in the snapshot.
        files: u64,
        /// Bytes of the snapshot.
        bytes: u64,
        /// Bytes of it that were new.
        new_bytes: u64,
        /// How long it took.
        millis: u64,
        /// Why it failed.
        error: Option<String>,
    }
    /// A run was due and not begun.
    RunSkipped "run-skipped" {
        /// Why.
        reason: String,
    }
    /// A host was put on hold.
    HoldAdded "hold-added" {
        /// `anomaly`, `legal` or `manual`.
        kind: String,
        /// Why.
        reason: String,
    }
    /// A hold ended.
    HoldReleased "hold-released" {
        /// `anomaly`, `legal` or `manual`.
        kind: String,
        /// Why it was there.
        reason: String,
    }
    /// A snapshot was pinned.
    PinAdded "pin-added" {
        /// Which.
        snapshot: String,
        /// Why.
        reason: Option<String>,
    }
    /// A snapshot's pin was taken away.
    PinRemoved "pin-removed" {
        /// Which.
        snapshot: String,
    }
    /// What answered is not what it was.
    IdentityMismatch "identity-mismatch" {
        /// In what.
        what: String,
    }
    /// A person said that the host is the same, or may be another.
    IdentityAccepted "identity-accepted" {
        /// In what.
        what: String,
    }
    /// A host's key was pinned.
    HostTrusted "host-trusted" {
        /// Its fingerprint.
        fingerprint: String,
    }
    /// Something on a host is not backed up by anybody's decision.
    CoverageGap "coverage-gap" {
        /// How many such things.
        count: u64,
        /// The first.
        first: String,
    }
    /// More than is expected.
    QuotaSoft "quota-soft" {
        /// Of what: `snapshot`, `run` or `host`.
        scope: String,
        /// How much.
        used: u64,
        /// How much was expected at most.
        limit: u64,
    }
    /// More than is allowed.
    QuotaHard "quota-hard" {
        /// Of what: `snapshot`, `run` or `host`.
        scope: String,
        /// How much.
        used: u64,
        /// How much is allowed.
        limit: u64,
    }
    /// A destination lacks what others have.
    DestinationBehind "destination-behind" {
        /// Which.
        destination: String,
        /// How many bytes it lacks.
        bytes: u64,
        /// How many objects.
        objects: u64,
        /// Since when.
        since: Option<Timestamp>,
        /// Why.
        problem: Option<String>,
    }
    /// A destination has caught up.
    DestinationBack "destination-back" {
        /// Which.
        destination: String,
    }
    /// A scan found something damaged or missing.
    ScanDamage "scan-damage" {
        /// Where.
        destination: Option<String>,
        /// How many objects.
        objects: u64,
        /// How many of them are whole nowhere.
        lost: u64,
    }
    /// A scan found nothing wrong, or put everything right.
    ScanClean "scan-clean" {
        /// How many objects were mended.
        repaired: u64,
    }
    /// Snapshots were dropped.
    SnapshotsForgotten "snapshots-forgotten" {
        /// Which.
        snapshots: Vec<String>,
    }
    /// Dropped snapshots were brought back.
    SnapshotsUndeleted "snapshots-undeleted" {
        /// Which.
        snapshots: Vec<String>,
    }
    /// A prune was carried out.
    PruneDone "prune-done" {
        /// How many snapshots were dropped.
        snapshots: u64,
        /// How many bytes were freed.
        bytes: u64,
    }
    /// A prune was refused.
    PruneRefused "prune-refused" {
        /// Why.
        reason: String,
    }
    /// Another configuration is in force.
    ConfigReloaded "config-reloaded" {
        /// Its revision.
        revision: String,
    }
    /// A configuration is wrong; the one before stays in force.
    ConfigRefused "config-refused" {
        /// What is wrong.
        problem: String,
    }
    /// The daemon began.
    DaemonStarted "daemon-started" {
        /// Its version.
        version: String,
        /// The configuration's revision.
        revision: Option<String>,
    }
    /// The daemon ended, as it was told to.
    DaemonStopped "daemon-stopped" {}
    /// This coordinator took a repository's lease from another.
    LeaseTaken "lease-taken" {
        /// The repository's name.
        repository: String,
        /// The machine that had it.
        from: Option<String>,
    }
    /// A person accepted records of a log that this coordinator did not write.
    LogReconciled "log-reconciled" {
        /// The repository's name.
        repository: String,
        /// The first such record.
        first: u64,
        /// The last one.
        last: u64,
    }
    /// This coordinator was built anew.
    Recovered "recovered" {
        /// From which destination.
        destination: String,
    }
    /// The recovery kit was written out.
    KitExported "kit-exported" {
        /// Where to.
        path: String,
    }
    /// Keys that only read, or only add, were made for a user, told before they are put anywhere; or were put where they were missing.
    KeysDerived "keys-derived" {
        /// Whose.
        user: String,
        /// What for.
        role: String,
        /// Into how many repositories they go, or were put.
        repositories: u64,
    }
    /// A token was made.
    TokenAdded "token-added" {
        /// Its name.
        name: String,
        /// What it is good for.
        scopes: Vec<String>,
    }
    /// A token is no longer good.
    TokenRevoked "token-revoked" {
        /// Its name.
        name: String,
    }
    /// Something was restored.
    Restored "restored" {
        /// Of which snapshot.
        snapshot: String,
        /// Where to.
        to: String,
    }
    /// The audit log ended in a record that was never finished; it was cut to the last whole one.
    AuditTorn "audit-torn" {
        /// How many bytes were cut off.
        bytes: u64,
        /// The digest of them.
        digest: String,
    }
    /// A part of the audit log begins. Nothing is lost: it says so in the new file.
    AuditBegun "audit-begun" {
        /// The coordinator that writes it.
        coordinator: String,
    }
    /// The end of the audit log is not what was written; it goes on in another file.
    AuditDamaged "audit-damaged" {
        /// The damaged file.
        file: String,
        /// The last record that is known to have been there.
        record: u64,
    }
    /// Nobody could listen fast enough.
    EventsDropped "events-dropped" {
        /// How many events.
        count: u64,
    }
}

impl What {
    /// A run's end; without totals it committed nothing that is known of.
    pub fn run_ended(
        outcome: Outcome,
        totals: Option<SnapshotTotals>,
        took: SignedDuration,
        error: Option<String>,
    ) -> Self {
        let totals = totals.unwrap_or_default();
        Self::RunEnded {
            outcome,
            problems: totals.problems,
            files: totals.files,
            bytes: totals.bytes,
            new_bytes: totals.bytes_new,
            millis: u64::try_from(took.as_millis()).unwrap_or_default(),
            error,
        }
    }
}
