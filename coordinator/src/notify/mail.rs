//! Sends a message as a mail, over TLS unless the server is this machine's own.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::config::notify_settings::{Mail, Security};
use crate::notify::alert::Message;
use crate::notify::secret::{FetchError, fetch};

/// How long the server may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long all of it may take.
const DEADLINE_WHOLE: Duration = Duration::from_secs(90);

/// A mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The password.
    #[error(transparent)]
    Secret(#[from] FetchError),
    /// An address.
    #[error("a mail address cannot be used")]
    Address(#[from] lettre::address::AddressError),
    /// The mail could not be written.
    #[error("the mail could not be written")]
    Message(#[from] lettre::error::Error),
    /// The server.
    #[error("mail server {server}:{port} did not take the mail")]
    Smtp {
        /// The server.
        server: String,
        /// Its port.
        port: u16,
        /// What it said.
        source: lettre::transport::smtp::Error,
    },
    /// It took too long.
    #[error("mail server {server}:{port} did not take the mail within {} s", DEADLINE_WHOLE.as_secs())]
    Deadline {
        /// The server.
        server: String,
        /// Its port.
        port: u16,
    },
}

/// Sends a message; goes on only after the server has taken it.
pub async fn send(mail: &Mail, message: &Message, coordinator: &str) -> Result<(), MailError> {
    let failed = |source| MailError::Smtp {
        server: mail.server.clone(),
        port: mail.port,
        source,
    };
    let letter = letter(mail, message, coordinator)?;
    let server = mail.server.clone();
    let tls = |server| TlsParameters::new(server).map_err(failed);
    let tls = match mail.security {
        Security::Starttls => Tls::Required(tls(server)?),
        Security::Tls => Tls::Wrapper(tls(server)?),
        Security::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.server)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(DEADLINE));
    if let Some((user, secret)) = &mail.login {
        let password = fetch(secret).await?;
        builder = builder.credentials(Credentials::new(user.clone(), (*password).clone()));
    }
    let sending = builder.build::<Tokio1Executor>();
    match tokio::time::timeout(DEADLINE_WHOLE, sending.send(letter)).await {
        Ok(sent) => sent.map(drop).map_err(failed),
        Err(_) => Err(MailError::Deadline {
            server: mail.server.clone(),
            port: mail.port,
        }),
    }
}

fn letter(mail: &Mail, message: &Message, coordinator: &str) -> Result<lettre::Message, MailError> {
    let from: Address = mail.from.parse()?;
    // The same for every attempt, so that a server or a reader can tell a second copy.
    let digest = blake3::hash(message.key.as_bytes()).to_hex();
    let id = format!("<{}@{}>", &digest[..32], from.domain());
    let mut builder: MessageBuilder = lettre::Message::builder()
        .message_id(Some(id))
        .from(Mailbox::new(Some("Capstan".to_owned()), from))
        .subject(format!("[{coordinator}] {}", message.title))
        .header(ContentType::TEXT_PLAIN);
    for address in &mail.to {
        builder = builder.to(Mailbox::new(None, address.parse()?));
    }
    Ok(builder.body(message.body.clone())?)
}
