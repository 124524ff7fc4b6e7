//! Keys, certificates and agents, and files that must not be used.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use append_server::ssh::connect::connect;
use append_server::ssh::credentials::CredentialError;
use append_server::ssh::error::{SshError, Stage};
use append_server::ssh::target::SshTarget;

use crate::ssh::tests::sshd::{Agent, Sshd, keygen, text, tool};

async fn credential_error(target: &SshTarget) -> CredentialError {
    match connect(target).await.unwrap_err() {
        SshError::Credentials { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_login_names_user_and_allowed_methods() {
    let sshd = Sshd::start("");
    keygen(&sshd.path("stranger"), "ed25519");
    let mut target = sshd.target();
    target.identity_file = Some(sshd.path("stranger"));
    let error = connect(&target).await.unwrap_err();
    let SshError::AuthRefused {
        host,
        user,
        tried,
        allowed,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((host.as_str(), user), ("web1", &target.user));
    assert!(tried.contains("stranger"));
    assert_eq!(allowed, "publickey");
    assert_eq!(error.stage(), Stage::Authentication);
}

#[tokio::test]
async fn a_server_that_gives_up_is_quoted() {
    let sshd = Sshd::start("MaxAuthTries 1");
    keygen(&sshd.path("stranger"), "ed25519");
    let mut target = sshd.target();
    target.identity_file = Some(sshd.path("stranger"));
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
    assert!(
        error.to_string().contains("Too many authentication"),
        "{error}"
    );
}

#[tokio::test]
async fn an_agent_that_does_not_sign_is_named() {
    let sshd = Sshd::start("");
    let agent = Agent::start();
    agent.add(&sshd.path("client"));
    let mut target = certified(&sshd);
    // The certificate's key is not in the agent, and the agent's own means nothing to the server.
    target.identity_file = None;
    target.agent_socket = Some(agent.socket.clone());
    let error = connect(&target).await.unwrap_err();
    let SshError::AuthRefused { tried, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(tried.contains("certified-cert.pub"), "{tried}");
    assert!(tried.contains("agent key SHA256:"), "{tried}");
}

#[tokio::test]
async fn logs_in_with_an_ecdsa_key() {
    let sshd = Sshd::start("");
    keygen(&sshd.path("second"), "ecdsa");
    fs::copy(sshd.path("second.pub"), sshd.path("authorized_keys")).unwrap();
    let mut target = sshd.target();
    target.identity_file = Some(sshd.path("second"));
    connect(&target).await.unwrap();
}

#[tokio::test]
async fn logs_in_with_a_certificate_alone() {
    let sshd = Sshd::start("");
    let target = certified(&sshd);
    connect(&target).await.unwrap();
    // Without it, the key means nothing to the server.
    let mut bare = target;
    bare.certificate_file = None;
    let error = connect(&bare).await.unwrap_err();
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error:?}");
}

/// A target whose key only a certificate vouches for.
fn certified(sshd: &Sshd) -> SshTarget {
    keygen(&sshd.path("certified"), "ed25519");
    let mut target = sshd.target();
    let ca = sshd.path("ca");
    let key = sshd.path("certified.pub");
    let arguments = ["-q", "-s", text(&ca), "-I", "backup", "-n", &target.user];
    tool("ssh-keygen", &[&arguments[..], &[text(&key)]].concat());
    let trusted = fs::read_to_string(sshd.path("ca.pub")).unwrap();
    let line = format!("cert-authority {trusted}");
    fs::write(sshd.path("authorized_keys"), line).unwrap();
    target.identity_file = Some(sshd.path("certified"));
    target.certificate_file = Some(sshd.path("certified-cert.pub"));
    target
}

#[tokio::test]
async fn logs_in_with_a_key_of_the_agent() {
    let sshd = Sshd::start("");
    let agent = Agent::start();
    agent.add(&sshd.path("client"));
    let mut target = sshd.target();
    target.identity_file = None;
    target.agent_socket = Some(agent.socket.clone());
    connect(&target).await.unwrap();
}

#[tokio::test]
async fn logs_in_with_an_rsa_key_of_the_agent() {
    let sshd = Sshd::start("");
    keygen(&sshd.path("rsa"), "rsa");
    fs::copy(sshd.path("rsa.pub"), sshd.path("authorized_keys")).unwrap();
    let agent = Agent::start();
    agent.add(&sshd.path("rsa"));
    let mut target = sshd.target();
    target.identity_file = None;
    target.agent_socket = Some(agent.socket.clone());
    connect(&target).await.unwrap();
}

#[tokio::test]
async fn logs_in_with_a_certificate_for_a_key_of_the_agent() {
    let sshd = Sshd::start("");
    let mut target = certified(&sshd);
    let agent = Agent::start();
    // Away from its certificate, which `ssh-add` would load as well.
    fs::rename(sshd.path("certified"), sshd.path("moved")).unwrap();
    agent.add(&sshd.path("moved"));
    target.identity_file = None;
    target.agent_socket = Some(agent.socket.clone());
    connect(&target).await.unwrap();
}

#[tokio::test]
async fn an_agent_without_keys_says_so() {
    let sshd = Sshd::start("");
    let agent = Agent::start();
    let mut target = sshd.target();
    target.identity_file = None;
    target.agent_socket = Some(agent.socket.clone());
    let error = credential_error(&target).await;
    assert!(
        matches!(error, CredentialError::AgentEmpty { .. }),
        "{error:?}"
    );
    target.agent_socket = Some(sshd.path("nothing"));
    let error = credential_error(&target).await;
    assert!(matches!(error, CredentialError::Agent { .. }), "{error:?}");
}

#[tokio::test]
async fn files_that_cannot_or_must_not_be_used_are_refused() {
    let sshd = Sshd::start("");
    let mut target = sshd.target();

    target.identity_file = Some(sshd.path("missing"));
    let error = credential_error(&target).await;
    assert!(
        matches!(error, CredentialError::Unreadable { .. }),
        "{error:?}"
    );

    target.identity_file = Some(sshd.path("client"));
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(sshd.path("client"), fs::Permissions::from_mode(mode)).unwrap();
        let error = credential_error(&target).await;
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(sshd.path("client"), fs::Permissions::from_mode(0o600)).unwrap();

    let locked = sshd.path("locked");
    let arguments = ["-q", "-t", "ed25519", "-N", "secret", "-f", text(&locked)];
    tool("ssh-keygen", &arguments);
    target.identity_file = Some(locked);
    let error = credential_error(&target).await;
    assert!(
        matches!(error, CredentialError::Encrypted { .. }),
        "{error:?}"
    );

    keygen(&sshd.path("rsa"), "rsa");
    target.identity_file = Some(sshd.path("rsa"));
    let error = credential_error(&target).await;
    assert!(
        matches!(error, CredentialError::Unsupported { .. }),
        "{error:?}"
    );

    let mut other = certified(&sshd);
    other.identity_file = Some(sshd.path("client"));
    let error = credential_error(&other).await;
    let expected = matches!(error, CredentialError::CertificateOfOtherKey { .. });
    assert!(expected, "{error:?}");

    target.identity_file = None;
    let error = credential_error(&target).await;
    assert!(matches!(error, CredentialError::None), "{error:?}");
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
}
