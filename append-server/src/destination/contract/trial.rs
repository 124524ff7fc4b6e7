//! One rule's trial: a repository of its own, and what is compared in it.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use formats::ids::{PackId, RepositoryId};
use formats::keys::secret::random;
use formats::object::{ObjectKind, ObjectName};
use futures_util::StreamExt as _;

use crate::destination::contract::{ContractError, Verdict, Workbench};
use crate::destination::{ByteRange, DestinationError, ObjectKey, ObjectRead, PutOutcome};
use crate::grants::MaintenanceGrant;
use crate::spool::{Purpose, spool_bytes};

/// A repository of its own.
pub(super) struct Trial<'a> {
    pub(super) bench: &'a Workbench,
    repository: RepositoryId,
}

impl<'a> Trial<'a> {
    pub(super) fn new(bench: &'a Workbench) -> Result<Self, ContractError> {
        Ok(Self {
            bench,
            repository: RepositoryId(random()?),
        })
    }

    pub(super) fn key(&self, name: &ObjectName) -> ObjectKey {
        ObjectKey {
            repository: self.repository,
            name: name.clone(),
        }
    }

    pub(super) async fn put(
        &self,
        name: &ObjectName,
        bytes: Bytes,
    ) -> Result<PutOutcome, ContractError> {
        let body = spool_bytes(&self.bench.spool, bytes, Purpose::Data).await?;
        let put = self.bench.destination.put_if_absent(self.key(name), body);
        Ok(put.await?)
    }

    pub(super) async fn read(
        &self,
        name: &ObjectName,
        start: usize,
        bytes: Option<usize>,
    ) -> Result<ObjectRead, DestinationError> {
        let range = ByteRange {
            start: start as u64,
            bytes: bytes.map(|bytes| bytes as u64),
        };
        self.bench
            .destination
            .get_range(self.key(name), range)
            .await
    }

    pub(super) async fn get(&self, name: &ObjectName) -> Result<Bytes, ContractError> {
        collect(self.read(name, 0, None).await?).await
    }

    pub(super) async fn head(&self, name: &ObjectName) -> Result<u64, ContractError> {
        Ok(self.bench.destination.head(self.key(name)).await?)
    }

    pub(super) async fn list(
        &self,
        kind: ObjectKind,
        limit: usize,
    ) -> Result<Vec<(ObjectName, u64)>, ContractError> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|(name, _): &(ObjectName, u64)| name.clone());
            let destination = &self.bench.destination;
            let page = destination.list(self.repository, kind, after, limit);
            let page = page.await?;
            let rule = "a page has no more than was asked for, and something when more follow";
            equal(rule, &true, &(page.objects.len() <= limit))?;
            equal(rule, &false, &(page.more && page.objects.is_empty()))?;
            all.extend(page.objects);
            if !page.more {
                return Ok(all);
            }
        }
    }

    pub(super) async fn clean_up(&self) -> Verdict {
        let grant = MaintenanceGrant::of_this_process();
        for kind in ObjectKind::ALL {
            for (name, _) in self.list(kind, 1_000).await? {
                self.bench
                    .destination
                    .delete(self.key(&name), &grant)
                    .await?;
            }
        }
        Ok(())
    }
}

pub(super) async fn collect(read: ObjectRead) -> Result<Bytes, ContractError> {
    let mut bytes = BytesMut::new();
    let mut body = read.body;
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    let rule = "a read brings the bytes it announces";
    equal(rule, &read.bytes, &(bytes.len() as u64))?;
    Ok(bytes.freeze())
}

pub(super) fn pack(byte: u8) -> ObjectName {
    ObjectName::Pack(PackId([byte; 32]))
}

/// Bytes that differ by seed everywhere.
pub(super) fn sample(length: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub(super) fn equal<T: PartialEq + Debug>(rule: &'static str, expected: &T, found: &T) -> Verdict {
    if expected == found {
        return Ok(());
    }
    broken(rule, &shown(expected), found)
}

pub(super) fn absent<T: Debug>(rule: &'static str, found: &Result<T, DestinationError>) -> Verdict {
    match found {
        Err(error) if error.is_absent() => Ok(()),
        other => broken(rule, "absent", other),
    }
}

pub(super) fn broken(rule: &'static str, expected: &str, found: &impl Debug) -> Verdict {
    Err(ContractError::Broken {
        rule,
        expected: expected.to_owned(),
        found: shown(found),
    })
}

/// Objects can be large; their beginnings say enough.
pub(super) fn shown(value: &impl Debug) -> String {
    format!("{value:?}").chars().take(200).collect()
}
