//! Sends a message as a mail, over TLS unless the server is this machine's own.

use std::error::Error as _;
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

/// How what a server says begins where it knows an address not (RFC 3463).
const OF_ADDRESSES: &str = "5.1.";

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
    /// The server takes mails, and not this one.
    #[error("mail server {server}:{port} refuses this mail")]
    Refused {
        /// The server.
        server: String,
        /// Its port.
        port: u16,
        /// What it said.
        source: lettre::transport::smtp::Error,
    },
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
    let exchange = async {
        let Err(source) = sending.send(letter).await else {
            return Ok(());
        };
        match is_of_the_mail(&source, &sending).await {
            true => Err(MailError::Refused {
                server: mail.server.clone(),
                port: mail.port,
                source,
            }),
            false => Err(failed(source)),
        }
    };
    match tokio::time::timeout(DEADLINE_WHOLE, exchange).await {
        Ok(sent) => sent,
        Err(_) => Err(MailError::Deadline {
            server: mail.server.clone(),
            port: mail.port,
        }),
    }
}

/// Whether the server refuses a mail for what it is, so that another one may be taken: for good, not for its addresses, and it
/// does not refuse so before there is any mail, as where the login is wrong.
async fn is_of_the_mail(
    refusal: &lettre::transport::smtp::Error,
    sending: &AsyncSmtpTransport<Tokio1Executor>,
) -> bool {
    let said = refusal.source().map(ToString::to_string);
    if !refusal.is_permanent() || said.is_some_and(|said| said.starts_with(OF_ADDRESSES)) {
        return false;
    }
    let without_mail = sending.test_connection().await;
    !without_mail.is_err_and(|error| error.is_permanent())
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use jiff::Timestamp;

    use super::{MailError, send};
    use crate::config::notify_settings::{Mail, Security};
    use crate::notify::notifier::test_message;

    /// What a server says that gives one answer to one command, and takes everything else.
    async fn answered(command: &'static str, answer: &'static str) -> Result<(), MailError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let say = |mut stream: &std::net::TcpStream, text: &str| {
                    stream.write_all(format!("{text}\r\n").as_bytes()).is_ok()
                };
                let answer_to = |word: &str| match word {
                    _ if word == command => answer,
                    "GREETING" => "220 here",
                    "DATA" => "354 go on",
                    _ => "250 OK",
                };
                let mut is_there = say(&stream, answer_to("GREETING"));
                let mut is_text = false;
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    if is_text && line != "." {
                        continue;
                    }
                    let word = line.split(' ').next().unwrap_or_default();
                    is_there = is_there && say(&stream, answer_to(word));
                    is_text = word == "DATA" && command != "DATA";
                }
            }
        });
        let mail = Mail {
            server: "127.0.0.1".to_owned(),
            port,
            security: Security::None,
            from: "capstan@example.org".to_owned(),
            to: vec!["ops@example.org".to_owned()],
            login: None,
        };
        send(&mail, &test_message("c", Timestamp::UNIX_EPOCH), "c").await
    }

    #[tokio::test]
    async fn only_what_a_server_refuses_for_good_once_it_takes_mails_is_refused_for_what_it_is() {
        answered("NOOP", "250 OK").await.unwrap();
        let refused = answered(".", "550 5.7.1 a virus").await.unwrap_err();
        assert!(matches!(refused, MailError::Refused { .. }), "{refused:?}");
        for (command, answer) in [
            (".", "451 4.7.1 later"),
            ("GREETING", "554 5.7.1 not from there"),
            ("RCPT", "550 5.1.1 nobody of that name"),
        ] {
            let other = answered(command, answer).await.unwrap_err();
            assert!(matches!(other, MailError::Smtp { .. }), "{other:?}");
        }
    }
}
