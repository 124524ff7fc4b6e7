//! "Did you mean …": turns a near miss into its remedy. Never changes what was written.

/// How many single-character slips still count as the same word.
const SLIPS_MAX: usize = 2;
/// Longer words are not compared: nobody means a key by them.
const WORD_BYTES_MAX: usize = 64;

/// The candidate that `word` is most likely a slip for.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= WORD_BYTES_MAX)
        .map(|candidate| (slips(word, candidate), candidate))
        // A short word is one slip away from too many others.
        .filter(|(count, candidate)| *count <= SLIPS_MAX && *count * 2 < candidate.len().max(2))
        .min_by_key(|(count, _)| *count)
        .map(|(_, candidate)| candidate)
}

/// A TOML reader's complaint in our words, with a remedy where there is one.
///
/// The reader gives unknown keys and variants only as text. Should that text change, its own words are
/// shown instead.
pub fn explain(complaint: &str) -> String {
    if let Some(rest) = complaint.strip_prefix("unknown field ") {
        return unknown("key", rest);
    }
    if let Some(rest) = complaint.strip_prefix("unknown variant ") {
        return unknown("value", rest);
    }
    if complaint.starts_with("duplicate key") {
        return "written twice: keep one, or rename it (names and keys are unique in a file)"
            .to_owned();
    }
    if let Some(rest) = complaint.strip_prefix("missing field ") {
        return format!("missing key {rest}: add it");
    }
    complaint.trim_end().replace('\n', "; ")
}

fn unknown(what: &str, rest: &str) -> String {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let Some(written) = quoted.next() else {
        return format!("unknown {what} {rest}");
    };
    let known: Vec<&str> = quoted.collect();
    let remedy = match nearest(written, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "take it out".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    format!("unknown {what} `{written}`: {remedy}")
}

/// The number of inserted, dropped, changed or swapped characters between two words.
fn slips(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let changed = above[column] + usize::from(from != to);
            let mut cost = changed.min(above[column + 1] + 1).min(line[column] + 1);
            let swapped =
                row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to;
            if swapped {
                cost = cost.min(before[column - 1] + 1);
            }
            line.push(cost);
        }
        before = std::mem::replace(&mut above, line);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{explain, nearest};

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let keys = ["address", "user", "paths", "host_key"];
        assert_eq!(nearest("adress", keys), Some("address"));
        assert_eq!(nearest("path", keys), Some("paths"));
        assert_eq!(nearest("hostkey", keys), Some("host_key"));
        assert_eq!(nearest("suer", keys), Some("user"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"a".repeat(1 << 20), keys), None);
    }

    #[test]
    fn complaints_in_other_words_are_passed_on() {
        assert_eq!(explain("something\nelse\n"), "something; else");
        assert_eq!(
            explain("unknown field `x`, there are no fields"),
            "unknown key `x`: take it out"
        );
    }
}
