//! How a destination is addressed: a bucket by its host's name, over TLS with an authority of one's own, and an SFTP server as
//! `scp` takes it. In a network of the test's own, where names and well-known ports are free.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Result, ensure};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde::Deserialize;
use tests::certificates::ServerCertificate;
use tests::own_network::{Side, enter};
use tests::places::{BUCKET, add_to_config, leave_only};
use tests::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_KEY};
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions, namespaces_work};
use tests::world::{HOST, World};

/// Makes the bucket, by its host's name.
async fn make_bucket(endpoint: &str, authority: &Path) -> Result<()> {
    let trust = TrustStore::empty().with_pem_certificate(fs::read(authority)?);
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(trust).build()?)
        .build_https();
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_KEY, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    client.create_bucket().bucket(BUCKET).send().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_found_by_its_hosts_name_and_believed_by_its_own_authority() -> Result<()> {
    let names = ["s3.test", "backups.s3.test", "backups.other.test"];
    let test = "a_bucket_is_found_by_its_hosts_name_and_believed_by_its_own_authority";
    if enter(test, &names)? == Side::Outside {
        return Ok(());
    }
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    let certificate = ServerCertificate::make(dir.path(), &["s3.test", "*.s3.test"])?;
    let server = S3Server::start_moto_with_tls(dir.path(), certificate.clone())?;
    let port = server.address().port();
    make_bucket(&format!("https://s3.test:{port}"), &certificate.authority).await?;
    let keys = world.coordinator_dir().join("keys");
    fs::copy(&certificate.authority, keys.join("ca.pem"))?;
    let other = dir.path().join("other");
    fs::create_dir(&other)?;
    let other = ServerCertificate::make(&other, &["s3.test"])?;
    fs::copy(&other.authority, keys.join("other.pem"))?;
    let table = |host: &str, line: &str| {
        format!(
            "[[destination]]\nname = \"s3\"\nurl = \"s3://{BUCKET}/capstan\"\n\
             endpoint = \"https://{host}:{port}\"\naddressing = \"virtual\"\n{line}\n\
             access_key_id = \"{ACCESS_KEY_ID}\"\nsecret_key_file = \"keys/s3.secret\"\n"
        )
    };
    world.replace_config_line("#patience = ", "patience = \"1s\"")?;
    add_to_config(&world, "")?;
    leave_only(&world, &table("s3.test", "ca_file = \"keys/ca.pem\""))?;
    world.run()?;
    world.expect_restores("latest", "by-name")?;
    world
        .coordinator(&["destination", "test", "s3"])?
        .expect_code(exit::OK)?;

    for (host, line, told) in [
        // The machine's own authorities do not know it.
        ("s3.test", "", "UnknownIssuer"),
        (
            "s3.test",
            "ca_file = \"keys/other.pem\"",
            "invalid peer certificate",
        ),
        (
            "other.test",
            "ca_file = \"keys/ca.pem\"",
            "not valid for name",
        ),
        ("s3.test", "ca_file = \"keys/missing.pem\"", "missing.pem"),
    ] {
        leave_only(&world, &table(host, line))?;
        let failed = world.coordinator(&["run", HOST])?;
        ensure!(failed.code != Some(exit::OK), "{host} {line} is believed");
        failed.expect_stderr(&[told])?;
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct DestinationLine {
    name: String,
    url: String,
}

#[test]
fn an_sftp_server_is_addressed_as_scp_does() -> Result<()> {
    if !namespaces_work() {
        return Ok(()); // Root's home would be the machine's own.
    }
    if enter("an_sftp_server_is_addressed_as_scp_does", &[])? == Side::Outside {
        return Ok(());
    }
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let seat = dir.path().join("sshd");
    fs::create_dir(&seat)?;
    let options = SshdOptions {
        config: vec![
            "Subsystem sftp internal-sftp".into(),
            "ListenAddress 127.0.0.1:22".into(),
            "ListenAddress [::1]:22".into(),
        ],
        ..SshdOptions::default()
    };
    let sshd = Sshd::start(&seat, options)?;
    let root = dir.path().join("root").display().to_string();
    let table = |name: &str, url: &str| -> Result<String> {
        Ok(format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\nrequired = true\n\
             host_key = [\"{}\"]\nidentity_file = \"{}\"\n",
            sshd.fingerprint()?,
            sshd.identity_file().display()
        ))
    };
    let from_root = table("root", &format!("root@127.0.0.1:{root}/"))?;
    let from_home = table("home", "root@[::1]:backups")?;
    add_to_config(&world, &format!("{from_root}\n{from_home}"))?;
    for name in ["root", "home"] {
        world
            .coordinator(&["destination", "create", name])?
            .expect_code(exit::OK)?;
    }
    world.run()?;
    let lines: Vec<DestinationLine> = world
        .coordinator(&["destination", "ls", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    let url = |name: &str| {
        let line = lines.iter().find(|line| line.name == name);
        line.map(|line| line.url.clone())
    };
    ensure!(url("root") == Some(format!("sftp://root@127.0.0.1:22{root}")));
    ensure!(url("home").as_deref() == Some("root@[::1]:backups"));
    let marker = "capstan-destination";
    ensure!(dir.path().join("root").join(marker).exists());
    ensure!(sshd.home_of("root").join("backups").join(marker).exists());
    world
        .coordinator(&["scan", "--full"])?
        .expect_code(exit::OK)?;
    leave_only(&world, &from_home)?;
    world.expect_restores("latest", "from-home")?;
    Ok(())
}
