//! Opens a subsystem of a server (RFC 4254 §6.5), such as its SFTP server, as a stream.

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::time::timeout;

use crate::ssh::connect::SshConnection;
use crate::ssh::stream::ChannelStream;

/// A subsystem was not started.
#[derive(Debug, thiserror::Error)]
pub enum SubsystemError {
    /// The server does not start it.
    #[error("{host} does not start its subsystem {name}: is it in its sshd_config?")]
    Refused {
        /// The server's name.
        host: String,
        /// The subsystem.
        name: &'static str,
    },
    /// The server opens no session.
    #[error("{host} opens no session")]
    NoSession {
        /// The server's name.
        host: String,
        /// What it said.
        source: russh::Error,
    },
    /// No answer in time.
    #[error("{host} did not start its subsystem {name} in time")]
    TimedOut {
        /// The server's name.
        host: String,
        /// The subsystem.
        name: &'static str,
    },
}

/// Starts a subsystem; its stream ends with the connection.
pub async fn open_subsystem(
    connection: &SshConnection,
    name: &'static str,
) -> Result<ChannelStream, SubsystemError> {
    let host = || connection.host().to_owned();
    let channel = timeout(connection.request_limit(), start(connection, name))
        .await
        .map_err(|_| SubsystemError::TimedOut { host: host(), name })?
        .map_err(|source| SubsystemError::NoSession {
            host: host(),
            source,
        })?;
    match channel {
        Some(channel) => {
            let closed = connection.gate().closed.clone();
            Ok(ChannelStream::open(channel, closed, None))
        }
        None => Err(SubsystemError::Refused { host: host(), name }),
    }
}

async fn start(
    connection: &SshConnection,
    name: &str,
) -> Result<Option<Channel<Msg>>, russh::Error> {
    let mut channel = connection.handle().channel_open_session().await?;
    channel.request_subsystem(true, name).await?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(Some(channel)),
            Some(ChannelMsg::Failure) => return Ok(None),
            Some(ChannelMsg::Close) | None => return Err(russh::Error::Disconnect),
            // Nothing else means anything before it has started.
            Some(_) => {}
        }
    }
}
