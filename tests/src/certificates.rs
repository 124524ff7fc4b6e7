//! A certificate authority of a test's own, and a server's certificate by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Files of one server's certificate, each PEM.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The authority that signed it.
    pub authority: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl ServerCertificate {
    /// Makes an authority and a certificate for these names in a directory, which must exist.
    pub fn make(directory: &Path, names: &[&str]) -> Result<Self> {
        let path = |name: &str| directory.join(name);
        let made = Self {
            authority: path("ca.pem"),
            certificate: path("server.pem"),
            key: path("server.key"),
        };
        let (ca_key, request) = (path("ca.key"), path("server.csr"));
        let extensions = path("extensions");
        let all: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let text = format!(
            "subjectAltName={}\nbasicConstraints=CA:FALSE\n",
            all.join(",")
        );
        fs::write(&extensions, text)?;
        let curve = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-days", "2", "-subj", "/CN=capstan-test-ca"])
                .args(curve)
                .arg("-keyout")
                .arg(&ca_key)
                .arg("-out")
                .arg(&made.authority),
        )?;
        openssl(
            Command::new("openssl")
                .args(["req", "-new", "-subj", "/CN=capstan-test-server"])
                .args(curve)
                .arg("-keyout")
                .arg(&made.key)
                .arg("-out")
                .arg(&request),
        )?;
        openssl(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "2", "-CAcreateserial"])
                .arg("-in")
                .arg(&request)
                .arg("-CA")
                .arg(&made.authority)
                .arg("-CAkey")
                .arg(&ca_key)
                .arg("-extfile")
                .arg(&extensions)
                .arg("-out")
                .arg(&made.certificate),
        )?;
        Ok(made)
    }
}

fn openssl(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .context("running openssl: tests/run installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl: {said}");
    Ok(())
}
