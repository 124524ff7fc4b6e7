//! How far the agent stands back on its host: words in front of it that start it with less of the processors and the disks.
//! What the agent starts stands back with it.

use crate::config::io_priority::IoPriority;

/// Arguments: `ionice`'s options, the program and its arguments. A host without `ionice`, or that does not let it, starts the
/// program all the same.
const WITH_IONICE: &str = concat!(
    "o=$1; shift; ",
    "ionice $o true >/dev/null 2>&1 && exec ionice $o \"$@\"; ",
    "exec \"$@\"",
);

/// The words in front of a program; none where it takes its part like any other.
pub fn priority_words(nice: u8, io: Option<IoPriority>) -> Vec<String> {
    let mut words = Vec::new();
    if nice > 0 {
        words.extend(["nice".to_owned(), "-n".to_owned(), nice.to_string()]);
    }
    if let Some(io) = io {
        let script = ["sh", "-c", WITH_IONICE, "capstan"];
        words.extend(script.map(str::to_owned));
        words.push(io.options());
    }
    words
}
