//! Hosts files that were there before a recovery: where one names destinations that the recovered configuration does not have, or
//! asks for more of them than it has, the setting becomes a comment, and the file as it was is kept beside. Changes nothing else in
//! them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use append_server::places::Place;
use serde::Serialize;
use toml_edit::{Document, DocumentMut, Item, TableLike};

use crate::commands::recover::RecoverError;
use crate::config::hosts_file::files_beside;
use crate::config::replace_file::replace_file;

/// The key of the lists.
const DESTINATIONS: &str = "destinations";
/// The key of how many destinations must have a host's objects.
const COMMIT: &str = "commit";

/// A setting that is a comment now; also an element of what `recover --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct SetAside {
    file: PathBuf,
    line: usize,
    key: &'static str,
    list: String,
    /// The file as it was.
    before: PathBuf,
}

impl fmt::Display for SetAside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wrong, remedy) = match self.key {
            COMMIT => (
                "asks for more destinations than coordinator.toml has",
                "Add the others there, then write it again",
            ),
            _ => (
                "names what coordinator.toml does not have",
                "Give the destination in coordinator.toml the name that it had, or add the others there, then write the list again",
            ),
        };
        write!(
            out,
            "{}:{}: {} = {} {wrong}, and is no setting any more; the file as it was is {}. {remedy}",
            self.file.display(),
            self.line,
            self.key,
            self.list,
            self.before.display()
        )
    }
}

/// A list that names a destination that is not known, or a number that is more than there are.
#[derive(Debug, PartialEq, Eq)]
struct Unfit {
    line: usize,
    key: &'static str,
    list: String,
}

/// Makes settings comments that name other destinations than these, or ask for more: in the main hosts file, if it was there, and those beside it.
pub(super) fn set_lists_aside(
    main: &Path,
    has_main: bool,
    places: &[Place],
) -> Result<Vec<SetAside>, RecoverError> {
    let known: Vec<String> = places.iter().map(|place| place.name.to_string()).collect();
    let main_file = has_main.then(|| main.to_owned());
    let mut told = Vec::new();
    for file in main_file.into_iter().chain(files_beside(main)?) {
        let failed = |action, source| RecoverError::KeptHosts {
            action,
            path: file.clone(),
            source,
        };
        let text = fs::read_to_string(&file).map_err(|source| failed("read", source))?;
        let Some((changed, lists)) = without_unfit(&text, &known) else {
            continue;
        };
        let before = free_name(&file).map_err(|source| failed("look beside", source))?;
        replace_file(&before, text.as_bytes()).map_err(|source| failed("set aside", source))?;
        replace_file(&file, changed.as_bytes()).map_err(|source| failed("write", source))?;
        told.extend(lists.into_iter().map(|Unfit { line, key, list }| SetAside {
            file: file.clone(),
            line,
            key,
            list,
            before: before.clone(),
        }));
    }
    Ok(told)
}

/// A name beside the file that nothing has, so that an earlier copy stays.
fn free_name(file: &Path) -> std::io::Result<PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push(".before");
    while fs::exists(&name)? {
        name.push("-again");
    }
    Ok(name.into())
}

/// A hosts file's text with the settings as comments that name other destinations than these, or ask for more, and which they
/// were; nothing where there are none, or where it is no TOML, which is told when it is read.
fn without_unfit(text: &str, known: &[String]) -> Option<(String, Vec<Unfit>)> {
    let document = Document::parse(text).ok()?;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let line_of = |at: usize| text[..at].matches('\n').count();
    let mut lists = Vec::new();
    let tables = tables(document.as_table()).into_iter();
    let settings = tables.flat_map(|table| {
        let settings = [DESTINATIONS, COMMIT].into_iter();
        settings.filter_map(|name| Some((name, table.get_key_value(name)?)))
    });
    for (name, (key, item)) in settings {
        let (Some(key), Some(value)) = (key.span(), item.span()) else {
            continue;
        };
        if !is_unfit(name, item, known) {
            continue;
        }
        lists.push(Unfit {
            line: line_of(key.start) + 1,
            key: name,
            list: text[value.clone()].to_owned(),
        });
        let before = &text[..key.start];
        let before = before.rsplit('\n').next().unwrap_or_default();
        let after = text[value.end..].lines().next().unwrap_or_default().trim();
        // In a table on one line it is taken out below.
        if before.contains('{') || !(after.is_empty() || after.starts_with('#')) {
            continue;
        }
        let of_list = line_of(key.start)..=line_of(value.end);
        for line in &mut lines[of_list] {
            line.insert(0, '#');
        }
    }
    if lists.is_empty() {
        return None;
    }
    let mut changed: DocumentMut = lines.concat().parse().ok()?;
    take_out(&mut changed, known);
    lists.sort_by_key(|list| list.line);
    Some((changed.to_string(), lists))
}

/// The tables of a hosts file that can have such settings.
fn tables(root: &dyn TableLike) -> Vec<&dyn TableLike> {
    let groups = ["group", "host"].into_iter();
    let groups = groups.filter_map(|key| root.get(key)?.as_table_like());
    let named = groups.flat_map(|tables| tables.iter().map(|(_, item)| item));
    let all = root.get("defaults").into_iter().chain(named);
    all.filter_map(Item::as_table_like).collect()
}

/// Takes out what is still there.
fn take_out(document: &mut DocumentMut, known: &[String]) {
    let take_out_of = |item: &mut Item| {
        let Some(table) = item.as_table_like_mut() else {
            return;
        };
        for name in [DESTINATIONS, COMMIT] {
            if table
                .get(name)
                .is_some_and(|item| is_unfit(name, item, known))
            {
                table.remove(name);
            }
        }
    };
    if let Some(defaults) = document.get_mut("defaults") {
        take_out_of(defaults);
    }
    for key in ["group", "host"] {
        let tables = document.get_mut(key).and_then(Item::as_table_like_mut);
        for (_, item) in tables.into_iter().flat_map(TableLike::iter_mut) {
            take_out_of(item);
        }
    }
}

fn is_unfit(name: &str, item: &Item, known: &[String]) -> bool {
    if name == COMMIT {
        let copies = item
            .as_integer()
            .and_then(|copies| usize::try_from(copies).ok());
        return copies.is_some_and(|copies| copies > known.len());
    }
    let mut names = item.as_array().into_iter().flatten();
    names.any(|name| {
        let name = name.as_str().unwrap_or_default();
        !known.iter().any(|known| known == name)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::path::Path;

    use append_server::places::Place;

    use super::{set_lists_aside, without_unfit};

    const HOSTS: &str = "\
[defaults]
user = \"root\"
destinations = [\"nas\"] # near

[host.web1]
address = \"web1\"
destinations = [ # ümlaut
  \"nas\",
  \"s3-eu\",
]
paths = [\"/\"]

[host]
web2 = { address = \"web2\", destinations = [\"tape\"], paths = [\"/\"] }
web3.destinations = []
web4.commit = 1
web5.commit = \"all\"
web6 = { address = \"web6\", commit = 2, paths = [\"/\"] }

[host.web7]
commit = 3 # all of them
";

    #[test]
    fn a_list_with_an_unknown_name_is_a_comment_and_the_rest_stays() {
        let known = ["nas".to_owned()];
        let (text, lists) = without_unfit(HOSTS, &known).unwrap();
        let found: Vec<_> = lists.iter().map(|list| list.line).collect();
        assert_eq!(found, [7, 14, 18, 21]);
        assert!(lists[0].list.contains("s3-eu"), "{lists:?}");
        let expected = HOSTS
            .replace(
                "destinations = [ # ümlaut\n  \"nas\",\n  \"s3-eu\",\n]\n",
                "#destinations = [ # ümlaut\n#  \"nas\",\n#  \"s3-eu\",\n#]\n",
            )
            .replace(" destinations = [\"tape\"],", "")
            .replace(" commit = 2,", "")
            .replace("commit = 3 #", "#commit = 3 #");
        assert_eq!(text, expected);
        assert_eq!(without_unfit(&text, &known), None);
    }

    #[test]
    fn the_file_as_it_was_is_kept_beside_and_so_is_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("hosts.toml");
        let beside = dir.path().join("hosts.d");
        fs::create_dir(&beside).unwrap();
        let text = "[host.web1]\ndestinations = [\"nas\"]\n";
        for file in [
            &main,
            &beside.join("more.toml"),
            &dir.path().join("hosts.toml.before"),
        ] {
            fs::write(file, text).unwrap();
        }
        let place = |name: &str| {
            [Place::local(
                name.parse().unwrap(),
                Path::new("/srv"),
                false,
            )]
        };
        assert!(
            set_lists_aside(&main, true, &place("nas"))
                .unwrap()
                .is_empty()
        );
        assert_eq!(fs::read_to_string(&main).unwrap(), text);

        let told = set_lists_aside(&main, true, &place("recovered")).unwrap();
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2);
        for (told, file) in told.iter().zip(["hosts.toml:2:", "more.toml:2:"]) {
            assert!(told.contains(file) && told.contains("[\"nas\"]"), "{told}");
        }
        for before in [
            "hosts.toml.before",
            "hosts.toml.before-again",
            "hosts.d/more.toml.before",
        ] {
            assert_eq!(fs::read_to_string(dir.path().join(before)).unwrap(), text);
        }
        let changed = fs::read_to_string(&main).unwrap();
        assert_eq!(changed, text.replace("destinations", "#destinations"));
    }
}
