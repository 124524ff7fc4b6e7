//! `host ls`, `host trust` and `host test` against real SSH servers of this machine.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::agents::{Agent, embedded};
use crate::cli::host::HostLsArgs;
use crate::commands::host::list::list_hosts;
use crate::commands::host::trial::{TrialReport, try_host, write_report};
use crate::commands::host::trust::{Answer, Consent, TrustError, TrustReport, trust};
use crate::config::Config;
use crate::demo::ssh_server::{SshServer, start};
use crate::exit_code::ExitCode;
use crate::ssh::deploy::MissingAgent;
use crate::ssh::janitor::Platform;

/// A configuration with the host `web1` behind a server, and `db1` behind `bastion`, all three the same.
struct Site {
    directory: TempDir,
    server: SshServer,
}

impl Site {
    async fn new(paths: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let server = start(&directory.path().join("ssh"), true).await.unwrap();
        let site = Self { directory, server };
        fs::write(
            site.path("coordinator.toml"),
            "state_dir = \"state\"\n[[destination]]\nname = \"local\"\nurl = \"file:///srv/backup\"\n",
        )
        .unwrap();
        let login = format!(
            "address = \"127.0.0.1:{}\"\nuser = \"{}\"\nidentity_file = \"ssh/client_key\"\n",
            site.server.port, site.server.user
        );
        let hosts = format!(
            "[host.web1]\n{login}paths = [{paths}]\ntags = [\"prod\"]\n\
             [host.bastion]\n{login}paths = []\n\
             [host.db1]\n{login}paths = [\"/etc\"]\njump = \"bastion\"\n"
        );
        fs::write(site.path("hosts.toml"), hosts).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> Config {
        Config::load(&self.path("coordinator.toml")).unwrap()
    }

    fn hosts_text(&self) -> String {
        fs::read_to_string(self.path("hosts.toml")).unwrap()
    }

    async fn trust(&self, host: &str, consent: Consent<'_>) -> Result<TrustReport, TrustError> {
        trust(&self.config(), host, consent, &mut io::sink()).await
    }
}

#[tokio::test]
async fn what_is_confirmed_is_pinned_and_what_is_refused_changes_nothing() {
    let site = Site::new("\"/etc\"").await;
    let before = site.hosts_text();
    let mut asked = 0;
    for (answer, code) in [
        (Answer::No, ExitCode::Error),
        (Answer::Nobody, ExitCode::Error),
    ] {
        let mut ask = |question: &str| {
            assert!(question.contains("ssh-keygen -lf"), "{question}");
            asked += 1;
            Ok(answer)
        };
        let error = site
            .trust("web1", Consent::Ask(&mut ask))
            .await
            .unwrap_err();
        assert_eq!(error.exit_code(), code);
        assert_eq!(site.hosts_text(), before);
    }
    assert_eq!(asked, 2);
    let report = site
        .trust("web1", Consent::Ask(&mut |_| Ok(Answer::Yes)))
        .await
        .unwrap();
    let key = &report.trusted[0].host_keys[0];
    assert_eq!(report.trusted[0].added, 1);
    assert!(site.hosts_text().contains(key.as_str()));
    // Once more: nobody is asked about what is pinned.
    let mut never = |_: &str| Err(io::Error::other("asked"));
    let report = site.trust("web1", Consent::Ask(&mut never)).await.unwrap();
    assert_eq!(report.trusted[0].added, 0);
}

#[tokio::test]
async fn a_fingerprint_pins_that_key_and_no_other() {
    let site = Site::new("\"/etc\"").await;
    let wrong = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y";
    let error = site
        .trust("web1", Consent::Only(wrong.parse().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::HostKeyMismatch);
    assert!(!site.hosts_text().contains("SHA256"));
    let shown = site.trust("bastion", Consent::Given).await.unwrap();
    let right = shown.trusted[0].host_keys[0].parse().unwrap();
    let report = site.trust("web1", Consent::Only(right)).await.unwrap();
    assert_eq!(report.trusted[0].host_keys, shown.trusted[0].host_keys);
    let unknown = site.trust("web2", Consent::Given).await.unwrap_err();
    assert_eq!(unknown.exit_code(), ExitCode::NotFound);
}

#[tokio::test]
async fn a_host_with_other_keys_than_before_is_not_trusted_by_yes() {
    let site = Site::new("\"/etc\"").await;
    let old = "host_key = [\"SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y\"]\npaths = [\"/etc\"]\ntags";
    let hosts = site
        .hosts_text()
        .replacen("paths = [\"/etc\"]\ntags", old, 1);
    fs::write(site.path("hosts.toml"), &hosts).unwrap();
    let error = site.trust("web1", Consent::Given).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::HostKeyMismatch);
    assert!(error.to_string().contains("hosts.toml"), "{error}");
    assert_eq!(site.hosts_text(), hosts);
    let mut warned = false;
    let mut ask = |question: &str| {
        warned = question.contains("WARNING");
        Ok(Answer::Yes)
    };
    site.trust("web1", Consent::Ask(&mut ask)).await.unwrap();
    assert!(warned);
}

#[tokio::test]
async fn the_way_to_a_host_is_trusted_before_the_host() {
    // A jump host forwards connections on, which only the real sshd does.
    let mut site = Site::new("\"/etc\"").await;
    let directory = site.path("real");
    site.server = start(&directory, false).await.unwrap();
    assert_eq!(
        site.server.kind, "the system's sshd",
        "this test needs OpenSSH"
    );
    let hosts = site
        .hosts_text()
        .replace("ssh/client_key", "real/client_key");
    let port = hosts
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let hosts = hosts.replace(&format!(":{port}\""), &format!(":{}\"", site.server.port));
    fs::write(site.path("hosts.toml"), hosts).unwrap();
    let report = site.trust("db1", Consent::Given).await.unwrap();
    let names: Vec<&str> = report.trusted.iter().map(|one| one.host.as_str()).collect();
    assert_eq!(names, ["bastion", "db1"]);
    let config = site.config();
    assert!(!config.host("bastion").unwrap().login.host_keys.is_empty());
    assert!(config.host("web1").unwrap().login.host_keys.is_empty());
}

fn embedded_agent(_: &Platform) -> Result<Agent, MissingAgent> {
    Ok(embedded())
}

async fn tried(site: &Site) -> (TrialReport, Value) {
    let config = site.config();
    let mut shown = Vec::new();
    let mut show = |step: &crate::commands::host::trial::TrialStep| shown.push(step.clone());
    let report = try_host(config.host("web1").unwrap(), &embedded_agent, &mut show).await;
    assert_eq!(shown, report.steps);
    let mut out = Vec::new();
    write_report(&report, true, &mut out).unwrap();
    let json = serde_json::from_slice(&out).unwrap();
    (report, json)
}

fn words(report: &TrialReport) -> Vec<(&str, bool)> {
    report
        .steps
        .iter()
        .map(|step| (step.step, step.ok))
        .collect()
}

#[tokio::test]
async fn a_host_that_is_ready_passes_every_step() {
    let site = Site::new("\"/etc\", \"/proc/self\"").await;
    site.trust("web1", Consent::Given).await.unwrap();
    let (report, json) = tried(&site).await;
    let steps = [
        "connect",
        "host-key",
        "authenticate",
        "upload",
        "start",
        "tunnel",
        "sources",
        "clean-up",
    ];
    assert_eq!(words(&report), steps.map(|step| (step, true)), "{report:?}");
    assert_eq!(report.exit_code(), ExitCode::Ok);
    assert_eq!(
        (&json["outcome"], &json["transport"]),
        (&"ok".into(), &"unix".into())
    );
    assert_eq!(json["steps"][0]["step"], "connect");
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_left_all_the_same() {
    let site = Site::new("\"/etc\", \"/no such\\u001b[2J place\"").await;
    let (report, _) = tried(&site).await;
    assert_eq!(words(&report), [("host-key", false)]);
    assert_eq!(report.exit_code(), ExitCode::HostKeyMismatch);
    assert!(
        report.steps[0].text.contains("host trust web1"),
        "{report:?}"
    );

    site.trust("web1", Consent::Given).await.unwrap();
    let (report, json) = tried(&site).await;
    assert_eq!(
        words(&report)[6..],
        [("sources", false), ("clean-up", true)]
    );
    assert!(report.steps[6].text.contains("/no such"), "{report:?}");
    assert!(!report.steps[6].text.contains('\u{1b}'));
    assert_eq!(
        (&json["outcome"], report.exit_code()),
        (&"failed".into(), ExitCode::Error)
    );
}

#[tokio::test]
async fn become_that_is_not_there_fails_the_start() {
    let site = Site::new("\"/etc\"").await;
    site.trust("web1", Consent::Given).await.unwrap();
    let hosts = site
        .hosts_text()
        .replacen("tags =", "become = \"no-such-sudo -n\"\ntags =", 1);
    fs::write(site.path("hosts.toml"), hosts).unwrap();
    let (report, _) = tried(&site).await;
    assert_eq!(
        words(&report)[3..],
        [("upload", true), ("start", false), ("clean-up", true)]
    );
    assert!(report.steps[4].text.contains("no-such-sudo"), "{report:?}");
}

#[tokio::test]
async fn hosts_are_listed_with_tags_and_the_way_to_them() {
    let site = Site::new("\"/etc\"").await;
    let listed = |tag: &[&str], json| {
        let mut out = Vec::new();
        let args = HostLsArgs {
            tag: tag.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        list_hosts(&site.config(), &args, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(listed(&[], false).lines().count(), 4);
    assert!(listed(&[], false).contains(" over bastion"));
    let json: Value = serde_json::from_str(&listed(&["prod"], true)).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(
        (&json[0]["host"], &json[0]["trusted"]),
        (&"web1".into(), &false.into())
    );
}
