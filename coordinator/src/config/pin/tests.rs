//! Pinning keeps everything else in the file, and changes nothing when it fails.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::config::login_fields::HostKeyFingerprint;
use crate::config::pin::{PinError, Pinned, add_host_keys};

const A: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const B: &str = "SHA256:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn fixture(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn fingerprint(text: &str) -> HostKeyFingerprint {
    text.parse().unwrap()
}

/// The file's text after pinning B for web1.
fn pinned(text: &str) -> String {
    let (_directory, path) = fixture(text);
    let outcome = add_host_keys(&path, &"web1".parse().unwrap(), &[fingerprint(B)]).unwrap();
    assert_eq!(outcome, Pinned::Added(1));
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn a_first_key_is_added_and_comments_and_layout_stay() {
    let text = "# mine\n\n[host.web1]   # the web server\naddress=\"a\" # odd spacing\n\n# next\n[host.db1]\naddress = \"b\"\n";
    let expected = text.replace("spacing\n", &format!("spacing\nhost_key = [\"{B}\"]\n"));
    assert_eq!(pinned(text), expected);
}

#[test]
fn a_further_key_joins_the_list() {
    let text = format!("[host.web1]\nhost_key = [\"{A}\"] # old\naddress = \"a\"\n");
    assert_eq!(pinned(&text), text.replace("\"]", &format!("\", \"{B}\"]")));
}

#[test]
fn a_list_over_several_lines_stays_one() {
    let text = format!("[host.web1]\nhost_key = [\n    # console, 2026\n    \"{A}\",\n]\n");
    assert_eq!(
        pinned(&text),
        text.replace("\",\n]", &format!("\",\n    \"{B}\",\n]"))
    );
}

#[test]
fn inline_and_dotted_hosts_are_found() {
    assert!(pinned("host.web1 = { address = \"a\" }\n").contains(B));
    assert!(pinned("host.web1.address = \"a\"\n").contains(B));
    assert!(pinned("[host]\nweb1 = { address = \"a\" }\n").contains(B));
}

#[test]
fn known_keys_change_nothing() {
    let (_directory, path) = fixture(&format!("[host.web1]\nhost_key = [\"{A}\"]\n"));
    let before = std::fs::metadata(&path).unwrap().ino();
    let outcome = add_host_keys(&path, &"web1".parse().unwrap(), &[fingerprint(A)]).unwrap();
    assert_eq!(outcome, Pinned::Unchanged);
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
}

#[test]
fn mode_and_link_are_kept_and_nothing_is_left_over() {
    let (directory, path) = fixture("[host.web1]\n");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let link = directory.path().join("link.toml");
    symlink(&path, &link).unwrap();
    add_host_keys(
        &link,
        &"web1".parse().unwrap(),
        &[fingerprint(A), fingerprint(B), fingerprint(A)],
    )
    .unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        format!("[host.web1]\nhost_key = [\"{A}\", \"{B}\"]\n")
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_edited_is_refused_and_stays() {
    for text in [
        "[host.db1]\n",
        "host = 5\n",
        "[host.web1]\nhost_key = \"x\"\n",
        "[host.web1\n",
    ] {
        let (directory, path) = fixture(text);
        let error = add_host_keys(&path, &"web1".parse().unwrap(), &[fingerprint(A)]).unwrap_err();
        assert!(
            !matches!(error, PinError::Read { .. } | PinError::Write { .. }),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
