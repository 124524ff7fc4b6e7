//! `init` makes exactly its layout, overwrites nothing, and can be repeated after a crash at any point.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use formats::keys::bundle::{PasswordCost, Role};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::commands::init::stage::{Staging, stage};
use crate::commands::init::{
    AdminPassword, Elsewhere, InitError, InitOptions, InitPaths, InitReport, init,
};
use crate::keyring::kit::verify_kit;
use crate::keyring::unlock::UnlockFrom;
use crate::keyring::{Keyring, KeyringError};

fn options<'a>(paths: &'a InitPaths, admin: AdminPassword<'a>) -> InitOptions<'a> {
    InitOptions {
        paths,
        coordinator_toml: "state_dir = \"state\"\n",
        hosts_toml: "# hosts\n",
        admin,
        password_cost: PasswordCost::SMALL,
        coordinator: "backup1",
        now: Timestamp::UNIX_EPOCH,
    }
}

fn make_destination(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    fs::write(path.join("marker"), "")
}

fn run(paths: &InitPaths, admin: AdminPassword<'_>) -> Result<InitReport, InitError> {
    init(&options(paths, admin), make_destination)
}

fn inside(dir: &TempDir) -> InitPaths {
    InitPaths::resolve(&dir.path().join("capstan"), Elsewhere::default()).unwrap()
}

/// Everything below a directory with its mode.
fn tree(dir: &Path) -> BTreeMap<String, u32> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, u32>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            found.insert(name, metadata.mode() & 0o7777);
            if metadata.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

const LAYOUT: [(&str, u32); 9] = [
    ("coordinator.toml", 0o600),
    ("hosts.toml", 0o600),
    ("keys", 0o700),
    ("keys/admin.bundle", 0o600),
    ("keys/daemon.bundle", 0o600),
    ("keys/daemon.key", 0o600),
    ("recovery-kit.txt", 0o600),
    ("repository", 0o700),
    ("state", 0o700),
];

fn assert_whole(dir: &Path) {
    let mut found = tree(dir);
    found.remove("repository/marker").unwrap();
    let expected: BTreeMap<String, u32> = LAYOUT
        .into_iter()
        .map(|(name, mode)| (name.to_owned(), mode))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
    let daemon = unlock_daemon(dir).unwrap();
    assert_eq!(daemon.role(), Role::Data);
    verify_kit(&dir.join("recovery-kit.txt"), &daemon).unwrap();
}

fn unlock_daemon(dir: &Path) -> Result<Keyring, KeyringError> {
    let key = UnlockFrom::KeyFile(dir.join("keys/daemon.key"));
    Keyring::unlock(&dir.join("keys/daemon.bundle"), &key)
}

fn private(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

#[test]
fn the_layout_is_whole_private_and_its_password_is_shown_once() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    let report = run(&paths, AdminPassword::Random).unwrap();
    assert_whole(&paths.dir);
    let admin = report.admin.as_ref().unwrap();
    let password = admin.password.as_ref().unwrap();
    assert!(password.expose().len() >= 20);
    assert!(report.to_string().contains(password.expose()));
    assert!(report.to_string().contains("64 MiB"));
    assert!(!format!("{report:?}").contains(password.expose()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["admin"]["password"], password.expose());

    let file = private(&dir.path().join("password"), password.expose());
    let bundle = paths.dir.join("keys/admin.bundle");
    let keyring = Keyring::unlock(&bundle, &UnlockFrom::PasswordFile(file)).unwrap();
    assert!(keyring.master().is_ok());
}

#[test]
fn the_password_can_come_from_a_file_and_the_admin_can_be_left_out() {
    let dir = TempDir::new().unwrap();
    let file = private(&dir.path().join("password"), "my own long password\n");
    let paths = inside(&dir);
    let report = run(&paths, AdminPassword::File(&file)).unwrap();
    assert!(report.admin.unwrap().password.is_none());
    let bundle = paths.dir.join("keys/admin.bundle");
    Keyring::unlock(&bundle, &UnlockFrom::PasswordFile(file)).unwrap();

    let other = InitPaths::resolve(&dir.path().join("other"), Elsewhere::default()).unwrap();
    let report = run(&other, AdminPassword::NoAdmin).unwrap();
    assert!(report.admin.is_none());
    assert!(!other.dir.join("keys/admin.bundle").exists());
    unlock_daemon(&other.dir).unwrap();
}

#[test]
fn kit_and_destination_can_be_elsewhere() {
    let dir = TempDir::new().unwrap();
    let (destination, kit) = (dir.path().join("backup"), dir.path().join("kit.txt"));
    let state = dir.path().join("var/state");
    let elsewhere = Elsewhere {
        state: Some(&state),
        destination: Some(&destination),
        kit: Some(&kit),
    };
    let paths = InitPaths::resolve(&dir.path().join("capstan"), elsewhere).unwrap();
    run(&paths, AdminPassword::NoAdmin).unwrap();
    assert!(destination.join("marker").exists());
    assert!(!paths.dir.join("state").exists());
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    verify_kit(&kit, &unlock_daemon(&paths.dir).unwrap()).unwrap();
    let left: Vec<String> = tree(&paths.dir).into_keys().collect();
    let expected = [
        "coordinator.toml",
        "hosts.toml",
        "keys",
        "keys/daemon.bundle",
        "keys/daemon.key",
    ];
    assert_eq!(left, expected);
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    run(&paths, AdminPassword::NoAdmin).unwrap();
    let before = tree(&paths.dir);
    let key = fs::read(paths.dir.join("keys/daemon.key")).unwrap();
    let refused = run(&paths, AdminPassword::NoAdmin).unwrap_err();
    assert!(matches!(refused, InitError::SetUp { .. }), "{refused}");
    assert_eq!(tree(&paths.dir), before);
    assert_eq!(fs::read(paths.dir.join("keys/daemon.key")).unwrap(), key);

    for name in ["keys", "hosts.toml", "recovery-kit.txt"] {
        let dir = TempDir::new().unwrap();
        let paths = inside(&dir);
        fs::create_dir(&paths.dir).unwrap();
        private(&paths.dir.join(name), "mine");
        let refused = run(&paths, AdminPassword::NoAdmin).unwrap_err();
        assert!(matches!(refused, InitError::Occupied { .. }), "{refused}");
        let kept = fs::read_to_string(paths.dir.join(name)).unwrap();
        assert_eq!(kept, "mine");
    }
}

#[test]
fn files_of_the_operators_own_may_be_in_the_directory() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    fs::create_dir(&paths.dir).unwrap();
    private(&paths.dir.join("append-server.toml"), "mine");
    run(&paths, AdminPassword::NoAdmin).unwrap();
    let kept = fs::read_to_string(paths.dir.join("append-server.toml")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    fs::create_dir(&paths.dir).unwrap();
    fs::set_permissions(&paths.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = run(&paths, AdminPassword::NoAdmin).unwrap_err();
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
}

#[test]
fn a_failure_before_the_end_leaves_nothing_in_place_and_can_be_repeated() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    let options = options(&paths, AdminPassword::NoAdmin);
    let failed = init(&options, |_| Err::<(), _>(io::Error::other("disk full")));
    assert!(matches!(failed, Err(InitError::Destination { .. })));
    let left = tree(&paths.dir);
    assert!(
        left.keys().all(|name| name.starts_with(".init")),
        "{left:?}"
    );
    run(&paths, AdminPassword::NoAdmin).unwrap();
    unlock_daemon(&paths.dir).unwrap();
}

#[test]
fn a_crash_at_each_move_can_be_repeated() {
    for moved in 0..=5 {
        let dir = TempDir::new().unwrap();
        let file = private(&dir.path().join("password"), "a long password");
        let paths = inside(&dir);
        let staging = Staging::begin(&paths.dir).unwrap();
        stage(&options(&paths, AdminPassword::NoAdmin), &staging).unwrap();
        make_destination(&staging.path("repository")).unwrap();
        let pieces = paths.pieces();
        staging.mark_whole(&pieces).unwrap();
        staging.move_into_place(&pieces[..moved]).unwrap();
        drop(staging); // Here it died.
        run(&paths, AdminPassword::File(&file)).unwrap();
        assert_whole(&paths.dir);
    }
}

#[test]
fn a_crash_does_not_make_the_next_init_take_what_is_not_its_own() {
    let dir = TempDir::new().unwrap();
    let kit = dir.path().join("kit.txt");
    let elsewhere = Elsewhere {
        kit: Some(&kit),
        ..Elsewhere::default()
    };
    let paths = InitPaths::resolve(&dir.path().join("capstan"), elsewhere).unwrap();
    let staging = Staging::begin(&paths.dir).unwrap();
    stage(&options(&paths, AdminPassword::NoAdmin), &staging).unwrap();
    staging.mark_whole(&paths.pieces()).unwrap();
    drop(staging);
    // A kit of the operator's, at the place that the second attempt would use.
    private(&paths.dir.join("recovery-kit.txt"), "mine");
    let paths = inside(&dir);
    let refused = run(&paths, AdminPassword::NoAdmin).unwrap_err();
    assert!(matches!(refused, InitError::Occupied { .. }), "{refused}");
    let kept = fs::read_to_string(paths.dir.join("recovery-kit.txt")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn two_inits_at_once_are_one() {
    let dir = TempDir::new().unwrap();
    let paths = inside(&dir);
    let staging = Staging::begin(&paths.dir).unwrap();
    let refused = run(&paths, AdminPassword::NoAdmin).unwrap_err();
    assert!(matches!(refused, InitError::InProgress { .. }), "{refused}");
    drop(staging);
    run(&paths, AdminPassword::NoAdmin).unwrap();
}
