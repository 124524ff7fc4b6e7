//! Takes a body into the spool: counted, hashed and paced as it comes. A body that is too long, too slow or cut
//! leaves nothing behind.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use crate::grants::GrantError;
use crate::limits::{PROGRESS_BYTES_MIN, PROGRESS_INTERVAL};
use crate::spool::{Purpose, Spool, SpoolError, SpooledObject};

/// How slow a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// In every interval of this length…
    pub interval: Duration,
    /// …at least this many bytes must come.
    pub bytes_min: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: PROGRESS_INTERVAL,
            bytes_min: PROGRESS_BYTES_MIN,
        }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct BodyRules {
    /// The most bytes.
    pub bytes_max: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// How slow it may be.
    pub pace: Pace,
}

/// A body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is too long.
    #[error("the body has more than {bytes_max} bytes")]
    TooLong {
        /// Its limit.
        bytes_max: u64,
    },
    /// It has no bytes.
    #[error("the body is empty")]
    Empty,
    /// It is too slow.
    #[error("the body brought less than {bytes_min} bytes in {} seconds", interval.as_secs())]
    TooSlow {
        /// What it should bring.
        bytes_min: u64,
        /// In this time.
        interval: Duration,
    },
    /// It was cut.
    #[error("the body was cut")]
    Cut(#[source] Box<dyn Error + Send + Sync>),
    /// The grant does not allow more.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The spool did not take it.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Takes a whole body. `count` is told of every piece before it is kept, and may refuse it.
pub async fn receive<B>(
    spool: &Arc<Spool>,
    body: B,
    rules: BodyRules,
    mut count: impl FnMut(u64) -> Result<(), GrantError>,
) -> Result<SpooledObject, ReceiveError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_long = ReceiveError::TooLong {
        bytes_max: rules.bytes_max,
    };
    // What is announced is refused before anything is read or reserved.
    if body.size_hint().lower() > rules.bytes_max {
        return Err(too_long);
    }
    let announced = body.size_hint().exact().unwrap_or(rules.bytes_max);
    let mut body = body;
    let mut writer = spool.begin(announced, rules.purpose).await?;
    let mut taken = 0u64;
    let mut progress = Progress::begin(rules.pace);
    while let Some(piece) = progress.next_piece(&mut body).await? {
        taken += piece.len() as u64;
        if taken > rules.bytes_max {
            return Err(too_long);
        }
        count(piece.len() as u64)?;
        writer.write(piece).await?;
        progress.wrote();
    }
    if taken == 0 {
        return Err(ReceiveError::Empty);
    }
    Ok(writer.finish().await?)
}

/// Bytes since the interval began. Only waiting for the peer counts, not for our own disk.
struct Progress {
    pace: Pace,
    bytes: u64,
    deadline: Instant,
    waited_since: Instant,
}

impl Progress {
    fn begin(pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            pace,
            bytes: 0,
            deadline: now + pace.interval,
            waited_since: now,
        }
    }

    async fn next_piece<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, ReceiveError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        loop {
            let frame = match timeout_at(self.deadline, body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|error| ReceiveError::Cut(error.into()))?,
                Err(_) if self.bytes >= self.pace.bytes_min => {
                    self.restart();
                    continue;
                }
                Err(_) => {
                    return Err(ReceiveError::TooSlow {
                        bytes_min: self.pace.bytes_min,
                        interval: self.pace.interval,
                    });
                }
            };
            // Trailers carry nothing that is wanted.
            if let Ok(piece) = frame.into_data()
                && !piece.is_empty()
            {
                self.bytes += piece.len() as u64;
                self.waited_since = Instant::now();
                return Ok(Some(piece));
            }
        }
    }

    fn restart(&mut self) {
        self.bytes = 0;
        self.deadline = Instant::now() + self.pace.interval;
    }

    /// The piece is with the writer; the time that took is not the peer's.
    fn wrote(&mut self) {
        self.deadline += self.waited_since.elapsed();
        if self.bytes >= self.pace.bytes_min {
            self.restart();
        }
    }
}
