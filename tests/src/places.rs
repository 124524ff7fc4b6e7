//! Destinations of a whole run, for tests: tables for coordinator.toml, and the stored objects themselves, to be looked at
//! and damaged behind the coordinator's back. Every place is real: a directory, OpenSSH's sftp, an S3 server.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;

use crate::fault_proxy::FaultProxy;
use crate::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server, SECRET_KEY, admin};
use crate::sshd::{Sshd, SshdOptions};
use crate::world::World;

/// The bucket that tables name.
pub const BUCKET: &str = "backups";
/// What every key in it begins with.
const PREFIX: &str = "capstan/";

/// Appends tables to coordinator.toml, with the secret they need beside it.
pub fn add_to_config(world: &World, table: &str) -> Result<()> {
    let config = fs::read_to_string(world.config())?;
    write_secret(&world.coordinator_dir().join("keys/s3.secret"))?;
    world.write_config(&format!("{config}\n{table}"))
}

/// The secret key of every S3 server of the tests, in a file.
pub fn write_secret(path: &Path) -> Result<()> {
    fs::write(path, SECRET_KEY)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// A destination `s3`.
pub fn s3_table(endpoint: &str, required: bool) -> String {
    format!(
        "[[destination]]\nname = \"s3\"\nurl = \"s3://{BUCKET}/capstan\"\nrequired = {required}\n\
         endpoint = \"{endpoint}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\nsecret_key_file = \"keys/s3.secret\"\n"
    )
}

/// A destination `nas`, which is not waited for.
pub fn sftp_table(sshd: &Sshd, path: &str) -> Result<String> {
    Ok(format!(
        "[[destination]]\nname = \"nas\"\nurl = \"sftp://root@{}{path}\"\nrequired = false\n\
         host_key = [\"{}\"]\nidentity_file = \"{}\"\n",
        sshd.address(),
        sshd.fingerprint()?,
        sshd.identity_file().display()
    ))
}

/// Only this destination is left in coordinator.toml, and everything is waited for there.
pub fn leave_only(world: &World, table: &str) -> Result<()> {
    let config = fs::read_to_string(world.config())?;
    let mut document: toml::Table = config.parse()?;
    let tables: toml::Table = table
        .replace("required = false", "required = true")
        .parse()?;
    let destination = tables.get("destination").context("a destination")?;
    document.insert("destination".into(), destination.clone());
    world.write_config(&toml::to_string(&document)?)
}

/// Leaves an S3 server as the only destination, which is behind a proxy.
pub async fn leave_only_behind_proxy(world: &World) -> Result<(S3Server, FaultProxy)> {
    let directory = world.directory().join("s3");
    fs::create_dir(&directory)?;
    let server = S3Server::start(S3Kind::Moto, &directory)?;
    make_bucket(&server).await?;
    let proxy = FaultProxy::start(server.address())?;
    write_secret(&world.coordinator_dir().join("keys/s3.secret"))?;
    leave_only(world, &s3_table(&proxy.endpoint(), true))?;
    Ok((server, proxy))
}

/// An sshd for `nas`.
pub fn sftp_server(directory: &Path) -> Result<Sshd> {
    fs::create_dir(directory)?;
    let options = SshdOptions {
        config: vec!["Subsystem sftp internal-sftp".into()],
        ..SshdOptions::default()
    };
    Sshd::start(directory, options)
}

/// The bucket of `s3`.
pub async fn make_bucket(server: &S3Server) -> Result<()> {
    let client = admin(server);
    client.create_bucket().bucket(BUCKET).send().await?;
    Ok(())
}

/// A destination's objects, past every program that keeps them.
#[derive(Debug, Clone)]
pub enum Stored {
    /// A directory; an SFTP server's is one too.
    Directory(PathBuf),
    /// The bucket of `s3`.
    Bucket(Box<aws_sdk_s3::Client>),
}

impl Stored {
    /// The bucket of a server.
    pub fn bucket(server: &S3Server) -> Self {
        Self::Bucket(Box::new(admin(server)))
    }

    /// The names of all objects of all repositories and of what was set aside, and their bytes.
    pub async fn objects(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        match self {
            Self::Directory(root) => {
                for repository in fs::read_dir(root)? {
                    let repository = repository?;
                    if repository.file_name().len() == 32 {
                        walk(&repository.path(), root, &mut found)?;
                    }
                }
            }
            Self::Bucket(client) => {
                let listed = client.list_objects_v2().bucket(BUCKET).prefix(PREFIX);
                let listed = listed.send().await?;
                ensure!(
                    listed.is_truncated() != Some(true),
                    "more objects than a page"
                );
                for object in listed.contents() {
                    let key = object.key().context("a key")?;
                    let name = key.strip_prefix(PREFIX).context("a key of ours")?;
                    if name.contains('/') {
                        found.insert(name.to_owned(), self.read(name).await?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// An object's bytes.
    pub async fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Directory(root) => Ok(fs::read(root.join(name))?),
            Self::Bucket(client) => {
                let key = format!("{PREFIX}{name}");
                let got = client.get_object().bucket(BUCKET).key(key).send().await?;
                Ok(got.body.collect().await?.to_vec())
            }
        }
    }

    /// Puts other bytes in an object's place.
    pub async fn overwrite(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match self {
            Self::Directory(root) => {
                let path = root.join(name);
                // Another inode: a copy beside it may be a link.
                fs::remove_file(&path)?;
                fs::write(&path, bytes)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o400))?;
            }
            Self::Bucket(client) => {
                let put = client.put_object().bucket(BUCKET);
                let put = put.key(format!("{PREFIX}{name}"));
                put.body(ByteStream::from(bytes)).send().await?;
            }
        }
        Ok(())
    }

    /// Removes an object.
    pub async fn remove(&self, name: &str) -> Result<()> {
        match self {
            Self::Directory(root) => fs::remove_file(root.join(name))?,
            Self::Bucket(client) => {
                let delete = client.delete_object().bucket(BUCKET);
                delete.key(format!("{PREFIX}{name}")).send().await?;
            }
        }
        Ok(())
    }
}

fn walk(directory: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, root, found)?;
        } else {
            let name = path.strip_prefix(root)?.display().to_string();
            found.insert(name, fs::read(&path)?);
        }
    }
    Ok(())
}

/// The one repository of a destination that is a directory.
pub fn repository_in(destination: &Path) -> Result<PathBuf> {
    let folders = fs::read_dir(destination)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().len() == 32);
    let folder = folders.map(|entry| entry.path()).next();
    folder.context("there is a repository")
}

/// All files below a folder, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
