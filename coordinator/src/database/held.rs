//! A connection whose end, too, keeps nobody waiting but whoever ends it.

use std::ops::{Deref, DerefMut};

use append_server::small_database::aside;
use rusqlite::Connection;

/// A connection. Its end waits for the disk: the last one of a file moves the journal into it.
#[derive(Debug)]
pub(super) struct Held(Option<Connection>);

impl Held {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Some(connection))
    }

    /// Ends it. It cannot be used after that.
    pub(super) fn close(&mut self) -> rusqlite::Result<()> {
        match self.0.take() {
            Some(connection) => aside(|| connection.close()).map_err(|(_, error)| error),
            None => Ok(()),
        }
    }
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("nobody uses what is closed")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("nobody uses what is closed")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            aside(|| drop(connection));
        }
    }
}
