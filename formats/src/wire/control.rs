//! The control conversation's messages. The coordinator decides, the agent only reads: see the order of
//! messages in `formats/docs/wire.md`. Each message is a tag and its fields, nothing after.

pub mod bitmap;
pub mod chunks;
pub mod content;
pub mod entries;
pub mod names;
pub mod problem;
pub mod totals;

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{TEXT_BYTES_MAX, TUNNEL_BYTES_MAX};
use crate::wire::control::bitmap::Bitmap;
use crate::wire::control::chunks::{PackStored, Seen};
use crate::wire::control::content::{ContentPart, Details};
use crate::wire::control::entries::Entries;
use crate::wire::control::names::Names;
use crate::wire::control::problem::Problem;
use crate::wire::control::totals::Totals;
use crate::wire::facts::HostFacts;
use crate::wire::framing::PROTOCOL_VERSION;
use crate::wire::start::Start;
use crate::wire::surroundings::Surroundings;

/// What the agent sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// First message.
    Hello(Hello),
    /// The upload connections stand and the agent has removed itself from the disk.
    Ready,
    /// A batch of entries, in listing order across all batches; numbered from 0.
    Entries(Entries),
    /// Content of a wanted file, in order; a big file has several.
    Content(ContentPart),
    /// Closes a wanted entry.
    Details(Details),
    /// "Are these chunks wanted?", numbered from 0.
    Seen(Seen),
    /// The append-server has acknowledged a pack.
    PackStored(PackStored),
    /// Something could not be read, or was left out in a way a person should know.
    Problem(Problem),
    /// Names of users and groups, as far as the target knows them.
    Names(Names),
    /// How far the run is, a few times a second.
    Progress(Totals),
    /// Bytes of an upload connection, when the transport is stdio. No bytes: the connection is closed.
    Tunnel(TunnelBytes),
    /// Everything was sent and acknowledged.
    Finished(Totals),
    /// The agent gives up, and why.
    Abort(String),
    /// Second message: the machine around the agent.
    Surroundings(Surroundings),
}

/// What the coordinator sends.
#[derive(Debug, Clone)]
pub enum FromCoordinator {
    /// The orders, answering `Hello`.
    Start(Box<Start>),
    /// Which entries of a batch need their details; the others are unchanged.
    Verdicts(Bitmap),
    /// Which chunks of a `Seen` are wanted; the others are stored already.
    Wanted(Bitmap),
    /// Bytes of an upload connection, when the transport is stdio.
    Tunnel(TunnelBytes),
    /// Answers `Finished`: the agent may go.
    Bye,
    /// The coordinator gives up, and why.
    Abort(String),
}

impl FromAgent {
    /// The message's bytes, tag first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hello(hello) => {
                out.put_u8(1);
                hello.put(&mut out);
            }
            Self::Ready => out.put_u8(2),
            Self::Entries(entries) => {
                out.put_u8(3);
                entries.put(&mut out);
            }
            Self::Content(part) => {
                out.put_u8(4);
                part.put(&mut out);
            }
            Self::Details(details) => {
                out.put_u8(5);
                details.put(&mut out);
            }
            Self::Seen(seen) => {
                out.put_u8(6);
                seen.put(&mut out);
            }
            Self::PackStored(stored) => {
                out.put_u8(7);
                stored.put(&mut out);
            }
            Self::Problem(problem) => {
                out.put_u8(8);
                problem.put(&mut out);
            }
            Self::Names(names) => {
                out.put_u8(9);
                names.put(&mut out);
            }
            Self::Progress(totals) => {
                out.put_u8(10);
                totals.put(&mut out);
            }
            Self::Tunnel(bytes) => {
                out.put_u8(11);
                bytes.put(&mut out);
            }
            Self::Finished(totals) => {
                out.put_u8(12);
                totals.put(&mut out);
            }
            Self::Abort(text) => {
                out.put_u8(13);
                out.put_prefixed(clipped(text));
            }
            Self::Surroundings(surroundings) => {
                out.put_u8(14);
                surroundings.put(&mut out);
            }
        }
        out
    }

    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message")? {
            1 => Self::Hello(Hello::read(&mut reader)?),
            2 => Self::Ready,
            3 => Self::Entries(Entries::read(&mut reader)?),
            4 => Self::Content(ContentPart::read(&mut reader)?),
            5 => Self::Details(Details::read(&mut reader)?),
            6 => Self::Seen(Seen::read(&mut reader)?),
            7 => Self::PackStored(PackStored::read(&mut reader)?),
            8 => Self::Problem(Problem::read(&mut reader)?),
            9 => Self::Names(Names::read(&mut reader)?),
            10 => Self::Progress(Totals::read(&mut reader)?),
            11 => Self::Tunnel(TunnelBytes::read(&mut reader)?),
            12 => Self::Finished(Totals::read(&mut reader)?),
            13 => Self::Abort(reader.text("abort", TEXT_BYTES_MAX)?),
            14 => Self::Surroundings(Surroundings::read(&mut reader)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "agent message",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("agent message")?;
        Ok(message)
    }
}

impl FromCoordinator {
    /// The message's bytes, tag first. A `Start` holds secrets: the caller wipes it after sending.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Start(start) => {
                out.put_u8(1);
                start.put(&mut out);
            }
            Self::Verdicts(bits) => {
                out.put_u8(2);
                bits.put(&mut out);
            }
            Self::Wanted(bits) => {
                out.put_u8(3);
                bits.put(&mut out);
            }
            Self::Tunnel(bytes) => {
                out.put_u8(4);
                bytes.put(&mut out);
            }
            Self::Bye => out.put_u8(5),
            Self::Abort(text) => {
                out.put_u8(6);
                out.put_prefixed(clipped(text));
            }
        }
        out
    }

    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message")? {
            1 => Self::Start(Box::new(Start::read(&mut reader)?)),
            2 => Self::Verdicts(Bitmap::read(&mut reader)?),
            3 => Self::Wanted(Bitmap::read(&mut reader)?),
            4 => Self::Tunnel(TunnelBytes::read(&mut reader)?),
            5 => Self::Bye,
            6 => Self::Abort(reader.text("abort", TEXT_BYTES_MAX)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "coordinator message",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("coordinator message")?;
        Ok(message)
    }
}

/// A text cut to what a reader accepts, at a character's boundary.
fn clipped(text: &str) -> &[u8] {
    let mut end = text.len().min(1_024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.as_bytes().get(..end).unwrap_or_default()
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Version of the conversation; first on the wire in every version.
    pub protocol: u16,
    /// BLAKE3 of the agent's own file.
    pub digest: [u8; 32],
    /// Information.
    pub facts: HostFacts,
}

impl Hello {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.protocol);
        out.put(&self.digest);
        self.facts.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let protocol = reader.u16("protocol version")?;
        if protocol != PROTOCOL_VERSION {
            return Err(DecodeError::UnknownVersion {
                what: "control conversation",
                found: protocol,
                known: PROTOCOL_VERSION,
            });
        }
        Ok(Self {
            protocol,
            digest: reader.array("agent digest")?,
            facts: HostFacts::read(reader)?,
        })
    }
}

/// Bytes of an upload connection over the control conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelBytes {
    /// The connection, from 0.
    pub connection: u8,
    /// Its next bytes; none closes it.
    pub bytes: Vec<u8>,
}

impl TunnelBytes {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.connection);
        out.put_prefixed(&self.bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            connection: reader.u8("connection")?,
            bytes: reader.prefixed("tunnel bytes", TUNNEL_BYTES_MAX)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{FromAgent, Hello};
    use crate::codec::DecodeError;
    use crate::wire::facts::HostFacts;
    use crate::wire::framing::PROTOCOL_VERSION;

    #[test]
    fn a_hello_of_another_version_is_refused_by_its_version() {
        let hello = FromAgent::Hello(Hello {
            protocol: PROTOCOL_VERSION + 1,
            digest: [1; 32],
            facts: HostFacts::default(),
        });
        let mut bytes = hello.encode();
        bytes.push(7);
        assert!(matches!(
            FromAgent::decode(&bytes),
            Err(DecodeError::UnknownVersion { found, .. }) if found == PROTOCOL_VERSION + 1
        ));
    }
}
