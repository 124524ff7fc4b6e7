//! Each role holds its keys and no other, and hostile bundles are refused.

use crate::ids::RepositoryId;
use crate::keys::bundle::header;
use crate::keys::bundle::{BundleError, KeyBundle, Lock, PasswordCost, Role, Unlock};
use crate::keys::certificate::Certificate;
use crate::keys::derive::Use;
use crate::keys::repository::RepositoryKeys;
use crate::keys::secret::{FileKey, MasterKey};

#[test]
fn each_role_holds_its_keys_and_no_other() {
    let master = MasterKey::from_bytes([7; 32]);
    let file = FileKey::from_bytes([9; 32]);
    let user = "someone".parse().expect("a good name");
    for role in Role::ALL {
        let sealed = KeyBundle::new(&master, role)
            .seal(&user, &Lock::File(&file))
            .expect("sealing works");
        let (opened_user, bundle) =
            KeyBundle::open(&sealed, &Unlock::File(&file)).expect("opening works");
        assert_eq!((opened_user, bundle.role()), (user.clone(), role));
        assert_eq!(bundle.master().is_some(), role == Role::Admin);
        let opens = matches!(role, Role::Admin | Role::Data | Role::Read);
        let keys = RepositoryKeys::derive(&bundle, RepositoryId([1; 16]), 1);
        assert_eq!((role.opens(), keys.opens()), (opens, opens), "{role}");
        for use_ in Use::ALL {
            assert_eq!(
                bundle.root(use_).is_some(),
                role.uses().contains(&use_),
                "{role} {use_:?}"
            );
        }
    }
}

#[test]
fn a_reader_knows_who_signs_by_a_certificate_alone_and_signs_nothing() {
    let master = MasterKey::from_bytes([7; 32]);
    let file = FileKey::from_bytes([9; 32]);
    let user = "box".parse().expect("a good name");
    let (repository, other) = (RepositoryId([1; 16]), RepositoryId([2; 16]));
    let admin = KeyBundle::new(&master, Role::Admin);
    let public = RepositoryKeys::derive(&admin, repository, 1)
        .public()
        .expect("the admin holds all");
    let signing = admin.root(Use::Signing).expect("the admin holds it");
    let good = Certificate::issue(&signing, repository, 1, &public.verifying);
    let sealed = KeyBundle::new(&master, Role::Read)
        .seal(&user, &Lock::File(&file))
        .expect("sealing works");
    assert_eq!(header::certificate(&sealed), Ok(None));
    let stored = header::with_certificate(&sealed, Some(&good)).expect("it is a bundle");
    assert_eq!(header::certificate(&stored), Ok(Some(good)));
    assert_eq!(header::owner(&stored), Ok((user, Role::Read)));
    assert_eq!(header::with_certificate(&stored, None), Ok(sealed));

    let (_, bundle) = KeyBundle::open(&stored, &Unlock::File(&file)).expect("opening works");
    let keys = RepositoryKeys::derive(&bundle, repository, 1);
    assert!(keys.wants_certificate() && keys.verifying().is_err());
    assert!(keys.clone().certified([5; 32], &good).is_err());
    let elsewhere = RepositoryKeys::derive(&bundle, other, 1);
    assert!(elsewhere.certified(public.verifying, &good).is_err());
    let keys = keys
        .certified(public.verifying, &good)
        .expect("it is vouched for");
    assert!(!keys.wants_certificate());
    assert_eq!(keys.public(), Ok(public));
    assert!(keys.sign(b"a record").is_err() && keys.chunking().is_err());
}

#[test]
fn a_bundle_of_another_version_than_its_roles_is_refused() {
    let file = FileKey::from_bytes([9; 32]);
    let user = "u".parse().expect("a good name");
    for role in Role::ALL {
        let mut sealed = KeyBundle::new(&MasterKey::from_bytes([7; 32]), role)
            .seal(&user, &Lock::File(&file))
            .expect("sealing works");
        assert_eq!(sealed[8], if role == Role::Read { 2 } else { 1 });
        for version in [0, 1, 2, 3] {
            let written = std::mem::replace(&mut sealed[8], version);
            let opened = KeyBundle::open(&sealed, &Unlock::File(&file));
            assert_eq!(opened.is_ok(), version == written, "{role} {version}");
            sealed[8] = written;
        }
    }
}

#[test]
fn a_wrong_secret_and_hostile_parameters_are_refused() {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([7; 32]), Role::Data);
    let user = "u".parse().expect("a good name");
    let mut sealed = bundle
        .seal(&user, &Lock::Password(b"right", PasswordCost::SMALL))
        .expect("sealing works");
    assert!(KeyBundle::open(&sealed, &Unlock::Password(b"right")).is_ok());
    assert!(matches!(
        KeyBundle::open(&sealed, &Unlock::Password(b"wrong")),
        Err(BundleError::Wrong { .. })
    ));
    let file = FileKey::from_bytes([1; 32]);
    assert!(matches!(
        KeyBundle::open(&sealed, &Unlock::File(&file)),
        Err(BundleError::OtherProtection { .. })
    ));
    // Memory stands after magic, version, name length, name, role and protection.
    let memory = 8 + 2 + 2 + 1 + 1;
    sealed[memory..memory + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        KeyBundle::open(&sealed, &Unlock::Password(b"right")),
        Err(BundleError::Decode(_))
    ));
}

#[test]
fn a_bundle_that_no_reader_would_open_is_not_made() {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([7; 32]), Role::Log);
    let user = "u".parse().expect("a good name");
    for (memory_kib, passes, lanes) in [(1 << 10, 3, 4), (64 << 10, 17, 4), (64 << 10, 1, 17)] {
        let cost = PasswordCost {
            memory_kib,
            passes,
            lanes,
        };
        let sealed = bundle.seal(&user, &Lock::Password(b"right", cost));
        assert!(matches!(sealed, Err(BundleError::Stretch { .. })));
    }
}
