//! Streams: commands on the target whose output is kept as a file of the listing. They lie in one directory below the root,
//! which is theirs alone: what the target has there itself is left out.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{
    STREAM_ENDING_BYTES_MAX, STREAM_NAME_BYTES_MAX, STREAM_WORD_BYTES_MAX, STREAM_WORDS_MAX,
    STREAMS_MAX,
};
use crate::listing::entry::{check_path, join};
use crate::listing::order::is_within;

/// The directory of all streams.
pub const STREAMS_DIRECTORY: &[u8] = b".streams";

/// A command whose output is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its path below [`STREAMS_DIRECTORY`].
    pub name: Vec<u8>,
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// How long it may take.
    pub seconds_max: u32,
    /// The most bytes it may give.
    pub bytes_max: u64,
    /// What its output has to end with, white space aside.
    pub ending: Vec<u8>,
}

impl Stream {
    /// Where it lies in the listing.
    pub fn path(&self) -> Vec<u8> {
        join(STREAMS_DIRECTORY, &self.name)
    }
}

/// Whether streams of these names can lie beside each other: none is the directory of another.
pub fn names_fit<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut sorted: Vec<&[u8]> = names.into_iter().collect();
    // With the slash lowest, what is below a name follows it at once.
    sorted.sort_by(|a, b| crate::listing::order::compare_directories(a, b));
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    !pairs.any(|(first, next)| is_within(next, first))
}

/// Appends them.
pub(super) fn put_streams(streams: &[Stream], out: &mut Vec<u8>) {
    out.put_varint(streams.len() as u64);
    for stream in streams {
        out.put_prefixed(&stream.name);
        out.put_varint(stream.command.len() as u64);
        for word in &stream.command {
            out.put_prefixed(word);
        }
        out.put_u32(stream.seconds_max);
        out.put_varint(stream.bytes_max);
        out.put_prefixed(&stream.ending);
    }
}

/// Reads them.
pub(super) fn read_streams(reader: &mut Reader<'_>) -> Result<Vec<Stream>, DecodeError> {
    let mut streams: Vec<Stream> = Vec::new();
    for _ in 0..reader.count("streams", STREAMS_MAX, 1)? {
        let name = reader.prefixed("stream", STREAM_NAME_BYTES_MAX)?;
        check_path(name)?;
        if name.is_empty() {
            return Err(DecodeError::Invalid {
                what: "stream",
                rule: "needs a name",
            });
        }
        if streams
            .last()
            .is_some_and(|last| last.name.as_slice() >= name)
        {
            return Err(DecodeError::NotCanonical { what: "streams" });
        }
        streams.push(Stream {
            name: name.to_vec(),
            command: read_command(reader)?,
            seconds_max: reader.u32("seconds of a stream")?,
            bytes_max: reader.varint("bytes of a stream")?,
            ending: reader
                .prefixed("end of a stream", STREAM_ENDING_BYTES_MAX)?
                .to_vec(),
        });
    }
    if !names_fit(streams.iter().map(|stream| stream.name.as_slice())) {
        return Err(DecodeError::Invalid {
            what: "streams",
            rule: "one cannot lie below another",
        });
    }
    Ok(streams)
}

fn read_command(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut command = Vec::new();
    for _ in 0..reader.count("words", STREAM_WORDS_MAX, 1)? {
        let word = reader.prefixed("word", STREAM_WORD_BYTES_MAX)?;
        if word.contains(&0) {
            return Err(DecodeError::Invalid {
                what: "word",
                rule: "cannot hold a NUL",
            });
        }
        command.push(word.to_vec());
    }
    if command.first().is_none_or(Vec::is_empty) {
        return Err(DecodeError::Invalid {
            what: "stream",
            rule: "needs a program",
        });
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::names_fit;

    #[test]
    fn no_stream_is_the_directory_of_another() {
        let fit = |names: &[&'static [u8]]| names_fit(names.iter().copied());
        assert!(fit(&[b"pg/users", b"pg/orders", b"pg-x", b"pgx/y", b"a"]));
        assert!(!fit(&[b"pg/users", b"pg-x", b"pg"]));
        assert!(!fit(&[b"a/b/c", b"a/b"]));
        assert!(!fit(&[b"a", b"b", b"a"]));
    }
}
