//! A directory of this machine: whose it is, and its mode. Nothing else can keep apart what roles may do there.

use std::io::{self, Write};
use std::path::Path;

use append_server::places::Place;

use crate::cli::destination::DestinationRole;
use crate::commands::destination_policy::does;
use crate::ssh::shell::quote;

pub(super) fn write(
    place: &Place,
    path: &Path,
    role: DestinationRole,
    out: &mut impl Write,
) -> io::Result<()> {
    let (name, word, does) = (&place.name, role.word(), does(role));
    let path = quote(&path.display().to_string());
    write!(
        out,
        "\
# {name} ({path}), role {word}: {does}.
#
# A directory knows one owner, for every role: the user that the append-server runs as (`capstan` here). It may do
# everything, remove included; nobody else may even look. As a program under a user of its own, the append-server keeps
# that from the coordinator.

install -d -o capstan -g capstan -m 0700 {path}
"
    )
}
