//! Builds command lines for the login shell of a target. Never passes a word unquoted.
//!
//! The login shell may be anything, so a line is only ever single-quoted words: that much is read
//! alike by every Bourne shell, csh and fish as long as no word has a backslash, a line break or a
//! `!`, which the scripts in this module's neighbours avoid.

/// The words as a command line that gives exactly these arguments.
pub(super) fn command_line<S: AsRef<str>>(words: &[S]) -> String {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&quote(word.as_ref()));
    }
    line
}

/// A command line that runs a POSIX script with arguments, whatever the login shell is.
pub(super) fn script_line(script: &str, arguments: &[&str]) -> String {
    // The word after the script is `$0`.
    let mut words = vec!["sh", "-c", script, "capstan"];
    words.extend_from_slice(arguments);
    format!("exec {}", command_line(&words))
}

/// Defines what [`one_line`] writes for a line break.
pub(super) const LINE_BREAK: &str = r"newline=$(printf '\nx'); newline=${newline%x}; ";

/// A word that a POSIX shell reads as it is, on one line, after [`LINE_BREAK`].
pub(super) fn one_line(word: &str) -> String {
    let quoted = format!("'{}'", word.replace('\'', r"'\''"));
    quoted.replace('\n', "'\"$newline\"'")
}

/// Splits a `become` prefix such as `sudo -n` into its words. There is no quoting in it.
pub(super) fn words(prefix: &str) -> Vec<&str> {
    prefix.split_ascii_whitespace().collect()
}

/// A word that every shell reads as it is.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
