//! Logs in with a key file, a certificate, an SSH agent or a configured password.
//! Never answers a prompt.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg};
use russh::{AgentAuthError, MethodSet, Signer};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::ssh::credentials::{self, CredentialError, Credentials};
use crate::ssh::error::{SshError, Stage};
use crate::ssh::escape::escape_trimmed;
use crate::ssh::gate::Gate;
use crate::ssh::peer::Peer;
use crate::ssh::target::SshTarget;

/// Keys of an SSH agent that are tried; servers close the connection after about six.
const AGENT_KEYS_MAX: usize = 5;

/// How long to wait for what a server says when it ends the connection.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Logs in with whatever the target is configured with, in the order certificate, key, agent.
pub(super) async fn authenticate(
    handle: &mut Handle<Peer>,
    gate: &Gate,
    target: &SshTarget,
) -> Result<(), SshError> {
    let credentials_error = |source| SshError::Credentials {
        host: target.name.clone(),
        user: target.user.clone(),
        source,
    };
    let credentials = credentials::load(target).map_err(credentials_error)?;
    let mut attempts = Attempts::default();
    let done = match try_files(handle, target, &credentials, &mut attempts).await {
        Ok(true) => true,
        Ok(false) => match &target.agent_socket {
            Some(socket) => try_agent(handle, target, socket, &credentials, &mut attempts)
                .await
                .map_err(credentials_error)?,
            None => false,
        },
        // The session is gone.
        Err(_) => false,
    };
    if done || try_password(handle, target, &mut attempts).await {
        return Ok(());
    }
    if handle.is_closed() && attempts.allowed.is_none() {
        // The server's last words arrive just before the end.
        timeout(LAST_WORDS, gate.closed.cancelled())
            .await
            .unwrap_or_default();
        return Err(gate.lost(&target.name, Stage::Authentication));
    }
    if attempts.refused == 0
        && let Some(socket) = &target.agent_socket
    {
        return Err(credentials_error(CredentialError::AgentSilent {
            socket: socket.clone(),
            keys: attempts.tried.join(", "),
        }));
    }
    Err(SshError::AuthRefused {
        host: target.name.clone(),
        user: target.user.clone(),
        tried: attempts.tried.join(", "),
        allowed: attempts.allowed(),
        banner: escape_trimmed(&gate.banner()),
    })
}

/// What has been tried, for the error that names it.
#[derive(Default)]
struct Attempts {
    tried: Vec<String>,
    refused: usize,
    allowed: Option<MethodSet>,
    partial: bool,
}

impl Attempts {
    fn note(&mut self, what: String, result: &AuthResult) -> bool {
        self.tried.push(what);
        match result {
            AuthResult::Success => return true,
            AuthResult::Failure {
                remaining_methods,
                partial_success,
            } => {
                self.refused += 1;
                self.partial |= *partial_success;
                // Empty also stands for a connection that the server has closed.
                if !remaining_methods.is_empty() {
                    self.allowed = Some(remaining_methods.clone());
                }
            }
        }
        false
    }

    fn allowed(&self) -> String {
        let names: Vec<&str> = match &self.allowed {
            Some(methods) => methods.iter().map(<&str>::from).collect(),
            None => return "nothing more".into(),
        };
        let note = if self.partial {
            " (in addition to the key, which Capstan cannot give)"
        } else {
            ""
        };
        format!("{}{note}", names.join(", "))
    }
}

async fn try_files(
    handle: &mut Handle<Peer>,
    target: &SshTarget,
    credentials: &Credentials,
    attempts: &mut Attempts,
) -> Result<bool, russh::Error> {
    let Some((path, key)) = &credentials.identity else {
        return Ok(false);
    };
    if let Some((certificate_path, certificate)) = &credentials.certificate {
        let result = handle
            .authenticate_openssh_cert(&target.user, Arc::clone(key), certificate.clone())
            .await?;
        let what = format!("certificate {}", certificate_path.display());
        if attempts.note(what, &result) {
            return Ok(true);
        }
    }
    let key = PrivateKeyWithHashAlg::new(Arc::clone(key), Some(HashAlg::Sha512));
    let result = handle.authenticate_publickey(&target.user, key).await?;
    Ok(attempts.note(format!("key {}", path.display()), &result))
}

async fn try_password(
    handle: &mut Handle<Peer>,
    target: &SshTarget,
    attempts: &mut Attempts,
) -> bool {
    let Some(password) = &target.password else {
        return false;
    };
    let login = handle.authenticate_password(&target.user, password.as_str());
    match login.await {
        Ok(result) => attempts.note("the password".into(), &result),
        // The session is gone.
        Err(_) => false,
    }
}

async fn try_agent(
    handle: &mut Handle<Peer>,
    target: &SshTarget,
    socket: &Path,
    credentials: &Credentials,
    attempts: &mut Attempts,
) -> Result<bool, CredentialError> {
    let broken = |source| CredentialError::Agent {
        socket: socket.into(),
        source,
    };
    let mut agent = AgentClient::connect_uds(socket).await.map_err(broken)?;
    if let Some(binding) = handle.agent_session_binding()
        && let Err(error) = agent.bind_session(binding, false).await
    {
        // Agents before OpenSSH 8.9 do not know it; only constrained keys need it.
        tracing::debug!(%error, "the SSH agent does not bind to the session");
    }
    let identities = agent.request_identities().await.map_err(broken)?;
    if identities.is_empty() && attempts.refused == 0 {
        return Err(CredentialError::AgentEmpty {
            socket: socket.into(),
        });
    }
    if let (None, Some((path, certificate))) = (&credentials.identity, &credentials.certificate) {
        let mut signer = CertifiedKey(&mut agent);
        let result = handle
            .authenticate_certificate_with(
                &target.user,
                certificate.clone(),
                rsa_hash(&certificate.algorithm()),
                &mut signer,
            )
            .await;
        let what = format!("certificate {}", path.display());
        if note_signed(attempts, what, result) {
            return Ok(true);
        }
    }
    for identity in identities.into_iter().take(AGENT_KEYS_MAX) {
        let result = try_identity(handle, &target.user, &mut agent, &identity).await;
        if note_signed(attempts, agent_text(&identity), result) {
            return Ok(true);
        }
        if handle.is_closed() {
            break;
        }
    }
    Ok(false)
}

async fn try_identity(
    handle: &mut Handle<Peer>,
    user: &str,
    agent: &mut AgentClient<UnixStream>,
    identity: &AgentIdentity,
) -> Result<AuthResult, AgentAuthError> {
    match identity {
        AgentIdentity::PublicKey { key, .. } => {
            let hash = rsa_hash(&key.algorithm());
            handle
                .authenticate_publickey_with(user, key.clone(), hash, agent)
                .await
        }
        AgentIdentity::Certificate { certificate, .. } => {
            let hash = rsa_hash(&certificate.algorithm());
            handle
                .authenticate_certificate_with(user, certificate.clone(), hash, agent)
                .await
        }
    }
}

/// The agent signs, so RSA works here; its SHA-1 form never does.
fn rsa_hash(algorithm: &Algorithm) -> Option<HashAlg> {
    matches!(algorithm, Algorithm::Rsa { .. }).then_some(HashAlg::Sha512)
}

/// Signs for a certificate from a file with the agent's key. The agent knows the key alone, and
/// would not find it by the certificate.
struct CertifiedKey<'a>(&'a mut AgentClient<UnixStream>);

impl Signer for CertifiedKey<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        let key = AgentIdentity::from(identity.public_key().into_owned());
        Ok(self.0.sign_request(&key, hash, data).await?)
    }
}

/// Notes an attempt that the agent had to sign; not signing is no refusal by the server.
fn note_signed(
    attempts: &mut Attempts,
    what: String,
    result: Result<AuthResult, AgentAuthError>,
) -> bool {
    match result {
        Ok(result) => attempts.note(what, &result),
        Err(error) => {
            tracing::debug!(%error, key = what, "the SSH agent does not sign");
            attempts
                .tried
                .push(format!("{what} (the agent does not sign)"));
            false
        }
    }
}

fn agent_text(identity: &AgentIdentity) -> String {
    let fingerprint = identity.public_key().fingerprint(HashAlg::Sha256);
    match identity {
        AgentIdentity::PublicKey { .. } => format!("agent key {fingerprint}"),
        AgentIdentity::Certificate { .. } => format!("certificate of agent key {fingerprint}"),
    }
}
