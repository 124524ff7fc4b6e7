//! The S3 server's bucket as a plain client sees it: making and emptying it, and moving bytes as fast as the server takes
//! or gives them.

use std::time::Instant;

use anyhow::{Context as _, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tests::places::BUCKET;
use tests::s3_server::{S3Server, admin};
use tokio::runtime::Runtime;

/// Objects that are moved at once, as a run's tunnel connections are by default.
const AT_ONCE: usize = 4;
/// Size of each object, as of a pack.
const OBJECT_BYTES: usize = 32 << 20;

/// A bucket, and a thread to talk to it with.
#[derive(Debug)]
pub struct Bucket {
    client: Client,
    runtime: Runtime,
}

impl Bucket {
    /// The bucket of a server, at one of its addresses.
    pub fn of(server: &S3Server, endpoint: &str) -> Result<Self> {
        let config: Builder = admin(server).config().to_builder();
        let config = config
            .endpoint_url(endpoint)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        Ok(Self {
            client: Client::from_conf(config.build()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the runtime")?,
        })
    }

    /// Makes it.
    pub fn create(&self) -> Result<()> {
        let made = self.client.create_bucket().bucket(BUCKET).send();
        self.runtime.block_on(made).context("making the bucket")?;
        Ok(())
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.runtime.block_on(async {
            let mut pages = self
                .client
                .list_objects_v2()
                .bucket(BUCKET)
                .prefix(prefix)
                .into_paginator()
                .send();
            let mut keys = Vec::new();
            while let Some(page) = pages.try_next().await.context("listing the bucket")? {
                let found = page.contents().iter().filter_map(|object| object.key());
                keys.extend(found.map(str::to_owned));
            }
            Ok(keys)
        })
    }

    /// Removes what begins so.
    pub fn clear(&self, prefix: &str) -> Result<()> {
        let removals = self.keys(prefix)?.into_iter().map(|key| async move {
            let remove = self.client.delete_object().bucket(BUCKET).key(key).send();
            remove.await.map(drop).context("emptying the bucket")
        });
        let all = stream::iter(removals).buffer_unordered(AT_ONCE);
        self.runtime.block_on(all.try_collect())
    }

    /// Bytes a second of plain puts of so much, which are removed afterwards.
    pub fn plain_upload(&self, bytes: u64) -> Result<f64> {
        let mut object = vec![0; OBJECT_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut object);
        let object = aws_sdk_s3::primitives::SdkBody::from(object);
        let objects = (bytes / OBJECT_BYTES as u64).max(1);
        let puts = (0..objects).map(|number| {
            let body = object.try_clone();
            async move {
                let body = ByteStream::new(body.context("a body in memory")?);
                let key = format!("plain/{number}");
                let put = self.client.put_object().bucket(BUCKET).key(key).body(body);
                put.send().await.map(drop).context("a plain put")
            }
        });
        let start = Instant::now();
        let all = stream::iter(puts).buffer_unordered(AT_ONCE);
        self.runtime.block_on(all.try_collect::<()>())?;
        let secs = start.elapsed().as_secs_f64();
        self.clear("plain/")?;
        Ok((objects * OBJECT_BYTES as u64) as f64 / secs)
    }

    /// Bytes a second of plain gets of what begins so.
    pub fn plain_read(&self, prefix: &str) -> Result<f64> {
        let keys = self.keys(prefix)?;
        let gets = keys.into_iter().map(|key| async move {
            let get = self.client.get_object().bucket(BUCKET).key(key).send();
            let mut body = get.await.context("a plain get")?.body;
            let mut bytes = 0;
            while let Some(piece) = body.try_next().await.context("a plain get")? {
                bytes += piece.len() as u64;
            }
            Ok::<u64, anyhow::Error>(bytes)
        });
        let start = Instant::now();
        let all = stream::iter(gets).buffer_unordered(AT_ONCE);
        let bytes: Vec<u64> = self.runtime.block_on(all.try_collect())?;
        Ok(bytes.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64())
    }
}
