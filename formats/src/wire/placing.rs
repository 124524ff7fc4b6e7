//! Where repositories are kept, and on how many destinations there an object must be, as the append-server is told.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::RepositoryId;
use crate::wire::upload::destinations::DESTINATIONS_MAX;

/// Control socket: `POST` a [`Placing`] says how repositories are kept.
pub const PATH_PLACING: &str = "/v1/placing";

/// The most repositories in one [`Placing`].
pub const PLACED_REPOSITORIES_MAX: u64 = 1_000;
/// The longest name of a destination.
pub const DESTINATION_NAME_BYTES_MAX: u64 = 64;

const TAG_EVERYWHERE: u8 = 0;
const TAG_NAMED: u8 = 1;
const TAG_AS_BEFORE: u8 = 2;

/// How repositories are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The repositories, in order, each once.
    pub repositories: Vec<RepositoryId>,
    /// What is asked for them. Without it nobody writes to them any more: they stay where they are, everywhere if that is on
    /// too few destinations, and no more copies are asked for than of any other.
    pub asked: Option<AskedPlaces>,
}

/// What is asked for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedPlaces {
    /// The names of its destinations, besides the required ones, which take every one; in byte order, each once. Without them
    /// every destination, those included that are added later.
    pub destinations: Option<Vec<String>>,
    /// On how many of them an object must be before it is acknowledged.
    pub copies: Copies,
}

/// On how many of the destinations that a repository is kept at an object must be before it is acknowledged; on the required
/// ones in any case, and on as many as the server's own configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Copies {
    /// On no others.
    #[default]
    Floor,
    /// On so many, the required ones among them.
    AtLeast(u64),
    /// On every one.
    All,
}

impl Placing {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(self.repositories.len() as u64);
        for repository in &self.repositories {
            out.put(repository.as_bytes());
        }
        match &self.asked {
            Some(asked) => asked.put(&mut out),
            None => out.put_u8(TAG_AS_BEFORE),
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count("repositories", PLACED_REPOSITORIES_MAX, 16)?;
        let mut repositories: Vec<RepositoryId> = Vec::with_capacity(count);
        for _ in 0..count {
            let repository = RepositoryId::read(&mut reader)?;
            if repositories.last().is_some_and(|last| *last >= repository) {
                return Err(DecodeError::NotCanonical {
                    what: "repositories",
                });
            }
            repositories.push(repository);
        }
        let asked = AskedPlaces::read(&mut reader)?;
        reader.finish("placing")?;
        Ok(Self {
            repositories,
            asked,
        })
    }
}

impl AskedPlaces {
    fn put(&self, out: &mut Vec<u8>) {
        match &self.destinations {
            None => out.put_u8(TAG_EVERYWHERE),
            Some(names) => {
                out.put_u8(TAG_NAMED);
                out.put_varint(names.len() as u64);
                for name in names {
                    out.put_prefixed(name.as_bytes());
                }
            }
        }
        self.copies.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let destinations = match reader.u8("places")? {
            TAG_EVERYWHERE => None,
            TAG_NAMED => Some(read_names(reader)?),
            TAG_AS_BEFORE => return Ok(None),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "places",
                    tag: tag.into(),
                });
            }
        };
        Ok(Some(Self {
            destinations,
            copies: Copies::read(reader)?,
        }))
    }
}

impl Copies {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Floor => out.put_u8(0),
            Self::AtLeast(copies) => {
                out.put_u8(1);
                out.put_varint(copies);
            }
            Self::All => out.put_u8(2),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("copies")?;
        match tag {
            0 => Ok(Self::Floor),
            1 => match reader.varint("copies")? {
                copies @ 1..=DESTINATIONS_MAX => Ok(Self::AtLeast(copies)),
                _ => Err(DecodeError::Invalid {
                    what: "copies",
                    rule: "from one to as many as there can be destinations",
                }),
            },
            2 => Ok(Self::All),
            _ => Err(DecodeError::UnknownTag {
                what: "copies",
                tag: tag.into(),
            }),
        }
    }
}

fn read_names(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = reader.count("destinations", DESTINATIONS_MAX, 1)?;
    let mut names: Vec<String> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("destination", DESTINATION_NAME_BYTES_MAX)?;
        if names.last().is_some_and(|last| *last >= name) {
            return Err(DecodeError::NotCanonical {
                what: "destinations",
            });
        }
        names.push(name);
    }
    Ok(names)
}
