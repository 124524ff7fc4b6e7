//! Who did something.

use std::fmt;

/// Whoever did something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person at a command line, or whoever connected to a local socket.
    User {
        /// The user's number.
        uid: u32,
        /// The user's name, where there is one.
        name: Option<String>,
        /// Who became that user through sudo, as sudo's environment says. A word, not a proof.
        through: Option<String>,
    },
    /// The daemon, of its own accord.
    Daemon,
    /// Whoever has a token.
    Token {
        /// The token's name.
        name: String,
    },
    /// This program, about itself.
    Program,
}

impl Actor {
    /// The user that runs this program.
    pub fn current_user() -> Self {
        Self::user(rustix::process::getuid().as_raw(), through_sudo())
    }

    /// A user of this machine, as the kernel says of the other end of a socket, and who that says it was before.
    pub fn user(uid: u32, through: Option<String>) -> Self {
        Self::User {
            uid,
            name: user_name(uid),
            through: through.filter(|name| is_user_name(name)),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { uid, name, through } => {
                match name {
                    Some(name) => write!(out, "user:{name}({uid})")?,
                    None => write!(out, "user:{uid}")?,
                }
                match through {
                    Some(through) => write!(out, "<{through}"),
                    None => Ok(()),
                }
            }
            Self::Daemon => out.write_str("daemon"),
            Self::Token { name } => write!(out, "token:{name}"),
            Self::Program => out.write_str("program"),
        }
    }
}

/// Who became the user that runs this program, as sudo's environment says.
pub fn through_sudo() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

/// The largest passwd file that is looked into.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// A local user's name. Users of a directory service have a number alone: asking such a service could take for ever.
pub fn user_name(uid: u32) -> Option<String> {
    use std::io::Read as _;

    let file = std::fs::File::open("/etc/passwd").ok()?;
    let mut text = Vec::new();
    file.take(PASSWD_BYTES_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.filter(|name| is_user_name(name))
}

/// Whether a text may stand as a name in what is logged: it comes from outside.
fn is_user_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@\\".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}
