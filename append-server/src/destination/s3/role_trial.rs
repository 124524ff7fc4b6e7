//! Which requests of a bucket one role's credentials are granted. The rights are those of `destination policy`, whose table
//! of actions is in `coordinator/src/commands/destination_policy/s3.rs`. What the role may not put, the credentials that
//! put objects put for it, and those that prune remove what is left.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectCannedAcl, ObjectLockRetention, ObjectLockRetentionMode,
    VersioningConfiguration,
};
use sha2::{Digest as _, Sha256};

use crate::answer::chain;
use crate::destination::s3::conditional::PROBE;
use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::options::{
    Checksums, ConditionalPolicy, LockMode, ObjectLock, S3Credentials,
};
use crate::destination::s3::put::{date, date_text, locked};
use crate::destination::s3::{Inner, S3Destination, within_deadline};
use crate::limits::{S3_REQUEST_DEADLINE, TRIAL_LOCK_SECS};
use crate::role::Role;
use crate::role_trial::Expected::{NotRefusable, Refused, Works};
use crate::role_trial::{Found, Rights, RoleTrial, TrialRow, trial_name};

const BYTES: &[u8] = b"Capstan tries out what these credentials may.\n";

const STORING: Rights = Rights::new(Works, Refused, Works, Refused);
const READING: Rights = Rights::new(Refused, Works, Works, Refused);
const LISTING: Rights = Rights::new(Refused, Works, Works, Works);
const SETTINGS: Rights = Rights::new(Refused, Refused, Works, Refused);
const REMOVING: Rights = Rights::new(Refused, Refused, Refused, Works);
const OVERWRITING: Rights = Rights::new(Refused, Refused, Works, Refused);
/// Where policies know no condition for it.
const OVERWRITING_ANYWHERE: Rights = Rights::new(NotRefusable, Refused, Works, Refused);
/// Ingest may as well, which needs it to put with a lock.
const PROLONGING: Rights = Rights::new(Works, Refused, Works, Refused);

impl S3Destination {
    /// Tries out the credentials of a role. What they may not put or remove is put and removed with those that are
    /// `configured`. `refuses_overwriting` is whether the service's policies can.
    pub async fn try_role(
        &self,
        role: Role,
        configured: &Self,
        refuses_overwriting: bool,
    ) -> RoleTrial {
        let inner = &*self.0;
        let mut trial = Trial {
            inner,
            configured: &configured.0,
            role,
            client: inner.clients.of(role).await,
            rows: Vec::new(),
            made: Vec::new(),
        };
        if trial.reach().await {
            let subjects = trial.store().await;
            trial.read(&subjects).await;
            trial.change(&subjects, refuses_overwriting).await;
            trial.look_around().await;
            trial.prolong(&subjects).await;
            trial.remove(&subjects).await;
        }
        let who = match inner.options.credentials.of(role) {
            S3Credentials::Static { access_key_id, .. } => format!("access key {access_key_id}"),
            S3Credentials::Chain => "the credentials of the environment".to_owned(),
        };
        RoleTrial {
            who,
            left: trial.clean_up().await,
            rows: trial.rows,
        }
    }
}

struct Trial<'a> {
    inner: &'a Inner,
    configured: &'a Inner,
    role: Role,
    client: &'a Client,
    rows: Vec<TrialRow>,
    /// Keys that may have something now, and until when that is locked.
    made: Vec<(String, Option<u64>)>,
}

/// What requests are tried on. Without an object there, a name where none is: to be refused needs none.
struct Subjects {
    plain: String,
    has_plain: bool,
    locked: Option<Locked>,
}

struct Locked {
    key: String,
    mode: LockMode,
    version: Option<String>,
    until: u64,
}

impl Trial<'_> {
    fn note(&mut self, what: &'static str, rights: Rights, found: Found) {
        let expected = rights.of(self.role);
        self.rows.push(TrialRow {
            what,
            expected,
            found,
        });
    }

    fn beneath_the_prefix(&self) -> String {
        format!("{}{}", self.inner.options.prefix, trial_name())
    }

    fn has_prefix(&self) -> bool {
        !self.inner.options.prefix.is_empty()
    }

    /// Whether the service knows the credentials at all, which a listing tells.
    async fn reach(&mut self) -> bool {
        let found = self.list(&self.inner.options.prefix).await;
        let known = !matches!(found, Found::Unclear(_));
        self.note("listing", LISTING, found);
        if known && self.has_prefix() {
            let found = self.list("").await;
            self.note("listing outside the prefix", Rights::NOBODYS, found);
        }
        known
    }

    async fn list(&self, prefix: &str) -> Found {
        let list = self.client.list_objects_v2().bucket(self.bucket());
        found(&within_deadline!(list.prefix(prefix).max_keys(1)))
    }

    /// Puts what the rest is tried on, with other credentials where the role may not.
    async fn store(&mut self) -> Subjects {
        let plain = self.beneath_the_prefix();
        let stored = self.put(self.client, &plain, None).await;
        let mut has_plain = stored.is_ok();
        self.note("storing", STORING, found(&stored));
        let helper = self.configured.clients.ingest().await;
        if !has_plain {
            has_plain = self.put(helper, &plain, None).await.is_ok();
        }
        let mut locked = None;
        if let Some(lock) = self.inner.options.lock {
            let key = self.beneath_the_prefix();
            let until = self.inner.clock.now_unix_secs() + TRIAL_LOCK_SECS;
            let with = Some((lock, until));
            let mut stored = self.put(self.client, &key, with).await;
            if stored.is_err() && STORING.of(self.role) == Refused {
                stored = self.put(helper, &key, with).await;
            } else {
                self.note("storing, with a lock", STORING, found(&stored));
            }
            locked = stored.ok().map(|version| Locked {
                key,
                mode: lock.mode,
                version,
                until,
            });
        }
        if self.has_prefix() {
            let stored = self.put(self.client, &trial_name(), None).await;
            self.note(
                "storing outside the prefix",
                Rights::NOBODYS,
                found(&stored),
            );
        }
        Subjects {
            plain,
            has_plain,
            locked,
        }
    }

    /// Puts a few bytes at a name that is not taken; gives their version.
    async fn put(
        &mut self,
        client: &Client,
        key: &str,
        lock: Option<(ObjectLock, u64)>,
    ) -> Result<Option<String>, S3Failure> {
        let conditional = self.inner.options.conditional_writes != ConditionalPolicy::Off;
        let condition = conditional.then(|| "*".to_owned());
        let put = self.request(client, key, lock);
        let mut answer = within_deadline!(put.set_if_none_match(condition));
        if answer.as_ref().is_err_and(S3Failure::is_not_implemented) {
            answer = within_deadline!(self.request(client, key, lock));
        }
        // Without an answer it may be there or not.
        if !answer.as_ref().is_err_and(S3Failure::is_refusal) {
            let until = lock.map(|(_, until)| until);
            self.made.push((key.to_owned(), until));
        }
        answer.map(|answer| answer.version_id)
    }

    fn request(
        &self,
        client: &Client,
        key: &str,
        lock: Option<(ObjectLock, u64)>,
    ) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
        let digest = (self.inner.options.checksums == Checksums::Sha256)
            .then(|| aws_smithy_types::base64::encode(Sha256::digest(BYTES)));
        let mut put = client
            .put_object()
            .bucket(self.bucket())
            .key(key)
            .set_checksum_sha256(digest)
            .body(ByteStream::from_static(BYTES));
        if let Some((lock, until)) = lock {
            put = locked(put, lock, until);
        }
        put
    }

    /// Without an object of its own, the one that conditional writes are tried with is read.
    async fn read(&mut self, subjects: &Subjects) {
        let probe = format!("{}{PROBE}", self.inner.options.prefix);
        let key = if subjects.has_plain {
            &subjects.plain
        } else {
            &probe
        };
        let get = self.client.get_object().bucket(self.bucket()).key(key);
        let found = found(&within_deadline!(get));
        self.note("reading", READING, found);
    }

    /// What would change an object that is there.
    async fn change(&mut self, subjects: &Subjects, refuses_overwriting: bool) {
        let rights = if refuses_overwriting {
            OVERWRITING
        } else {
            OVERWRITING_ANYWHERE
        };
        let put = self.request(self.client, &subjects.plain, None);
        let answer = within_deadline!(put);
        if !subjects.has_plain && answer.is_ok() {
            self.made.push((subjects.plain.clone(), None));
        }
        self.note("overwriting", rights, found(&answer));
        // On Ceph, whoever put an object owns it, and the policy has to say what that is not to mean.
        if self.role == Role::Ingest && subjects.has_plain {
            let share = self.client.put_object_acl().bucket(self.bucket());
            let share = share.key(&subjects.plain).acl(ObjectCannedAcl::Private);
            let found = found(&within_deadline!(share));
            self.note("sharing what it stored", Rights::NOBODYS, found);
        }
    }

    /// What there is to see besides objects.
    async fn look_around(&mut self) {
        let prefix = &self.inner.options.prefix;
        let list = self.client.list_object_versions().bucket(self.bucket());
        let versions = found(&within_deadline!(list.prefix(prefix).max_keys(1)));
        self.note("listing versions", REMOVING, versions);
        let list = self.client.list_multipart_uploads().bucket(self.bucket());
        let uploads = found(&within_deadline!(list.prefix(prefix).max_uploads(1)));
        self.note("listing unfinished uploads", REMOVING, uploads);

        let get = self.client.get_bucket_versioning().bucket(self.bucket());
        let found_versioning = found(&within_deadline!(get));
        self.note("looking at versioning", SETTINGS, found_versioning);
        let get = self.client.get_object_lock_configuration();
        let lock = within_deadline!(get.bucket(self.bucket()));
        self.note("looking at the object lock", SETTINGS, found_setting(&lock));
        let get = self.client.get_bucket_lifecycle_configuration();
        let rules = within_deadline!(get.bucket(self.bucket()));
        self.note(
            "looking at lifecycle rules",
            SETTINGS,
            found_setting(&rules),
        );
        self.change_a_setting().await;
    }

    /// Sets what is set already. Where that is not known, nothing is tried.
    async fn change_a_setting(&mut self) {
        let maintain = self.configured.clients.maintain().await;
        let told = within_deadline!(maintain.get_bucket_versioning().bucket(self.bucket()));
        let status = told.ok().and_then(|told| told.status);
        let known = [
            BucketVersioningStatus::Enabled,
            BucketVersioningStatus::Suspended,
        ];
        let Some(status) = status.filter(|status| known.contains(status)) else {
            return;
        };
        let same = VersioningConfiguration::builder().status(status).build();
        let put = self.client.put_bucket_versioning().bucket(self.bucket());
        let found = found(&within_deadline!(put.versioning_configuration(same)));
        self.note("changing versioning", Rights::NOBODYS, found);
    }

    async fn prolong(&mut self, subjects: &Subjects) {
        let Some(locked) = &subjects.locked else {
            return;
        };
        let mode = match locked.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let until = locked.until + TRIAL_LOCK_SECS;
        let retention = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(date(until))
            .build();
        let put = self.client.put_object_retention().bucket(self.bucket());
        let answer = within_deadline!(put.key(&locked.key).retention(retention));
        if answer.is_ok() {
            self.made.push((locked.key.clone(), Some(until)));
        }
        self.note("prolonging a lock", PROLONGING, found(&answer));
    }

    async fn remove(&mut self, subjects: &Subjects) {
        if let Some(locked) = &subjects.locked
            && locked.mode == LockMode::Governance
            && let Some(version) = &locked.version
        {
            let remove = self.client.delete_object().bucket(self.bucket());
            let remove = remove.key(&locked.key).version_id(version);
            let found = found(&within_deadline!(remove.bypass_governance_retention(true)));
            self.note("removing despite a lock", Rights::NOBODYS, found);
        }
        let removed = self.delete(&subjects.plain, None).await;
        self.note("removing", REMOVING, removed);
        // A name that never had a version: nothing is there to be lost, and a refusal does not look whether it is.
        let nothing = self.beneath_the_prefix();
        let removed = self.delete(&nothing, Some("null")).await;
        self.note("removing a version", REMOVING, removed);
        if self.has_prefix() {
            let removed = self.delete(&trial_name(), None).await;
            self.note("removing outside the prefix", Rights::NOBODYS, removed);
        }
    }

    async fn delete(&mut self, key: &str, version: Option<&str>) -> Found {
        let delete = self.client.delete_object().bucket(self.bucket()).key(key);
        let answer = within_deadline!(delete.set_version_id(version.map(str::to_owned)));
        match answer {
            Ok(_) => {
                // A bucket that keeps versions marks the name as removed.
                self.made.push((key.to_owned(), None));
                Found::Works
            }
            Err(failure) if failure.is_status(404) && !failure.is_code("NoSuchBucket") => {
                Found::Works
            }
            Err(failure) => found::<()>(&Err(failure)),
        }
    }

    /// Removes what the trial made; says what stays.
    async fn clean_up(&mut self) -> Vec<String> {
        let mut made = std::mem::take(&mut self.made);
        // The longest lock of each first.
        made.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        made.dedup_by(|later, first| later.0 == first.0);
        let prune = self.configured.clients.prune().await;
        let mut left = Vec::new();
        for (key, locked) in made {
            let mut removed = self.inner.delete_versions(prune, &key).await;
            if removed.is_err() {
                let own = self.inner.delete_versions(self.client, &key).await;
                removed = removed.or(own);
            }
            let Err(failure) = removed else { continue };
            let why = match locked {
                Some(until) if self.inner.options.lock.is_some_and(|lock| lock.legal_hold) => {
                    format!(
                        "locked until {}, and held until somebody lifts that",
                        date_text(&date(until))
                    )
                }
                Some(until) => format!("locked until {}", date_text(&date(until))),
                None => chain(&failure),
            };
            left.push(format!("s3://{}/{key}: {why}", self.bucket()));
        }
        left
    }

    fn bucket(&self) -> &str {
        &self.inner.options.bucket
    }
}

fn found<T>(answer: &Result<T, S3Failure>) -> Found {
    match answer {
        // A success that cannot be read is one all the same: nothing was refused.
        Ok(_) | Err(S3Failure::Answer(_)) => Found::Works,
        Err(failure) if failure.is_not_implemented() => Found::NoSuchThing,
        Err(failure) if failure.is_not_allowed() && !failure.is_of_credentials() => Found::Refused,
        Err(failure) => Found::Unclear(chain(failure)),
    }
}

/// A setting that is not made may be looked at all the same.
fn found_setting<T>(answer: &Result<T, S3Failure>) -> Found {
    match answer {
        Err(failure) if failure.is_status(404) && !failure.is_code("NoSuchBucket") => Found::Works,
        answer => found(answer),
    }
}
