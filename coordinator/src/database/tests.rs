#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::{Database, DatabaseError, Schema};

const SCHEMA: Schema = Schema {
    what: "test file",
    remedy: "begin anew",
    application_id: 7,
    version: 1,
    sql: "CREATE TABLE numbers (number INTEGER) STRICT",
    upgrades: &[],
    cache_kib: 64,
};

/// Waits for a file until another task of the same thread has had its turn.
fn use_file_beside_another_task(
    path: PathBuf,
    work: impl FnOnce(PathBuf) -> Result<(), DatabaseError> + Send + 'static,
    let_go: impl FnOnce(),
) -> Result<(), DatabaseError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (begins, begun) = oneshot::channel();
        let using = tokio::spawn(async move {
            begins.send(()).unwrap();
            work(path)
        });
        begun.await.unwrap();
        tokio::spawn(async {}).await.unwrap();
        let_go();
        using.await.unwrap()
    })
}

fn locked(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn insert(database: &mut Database) -> Result<(), DatabaseError> {
    database.write(|transaction| {
        transaction.execute("INSERT INTO numbers VALUES (1)", [])?;
        Ok(())
    })
}

#[test]
fn a_task_that_waits_for_a_file_lets_the_others_of_its_thread_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.db");
    let mut database = Database::open(&path, &SCHEMA).unwrap();
    let other = locked(&path);
    let write = move |_| insert(&mut database);
    let let_go = || other.execute_batch("COMMIT").unwrap();
    // On the same thread the other task would have had its turn after the lock's time-out, and the write had failed.
    use_file_beside_another_task(path, write, let_go).unwrap();
}

#[test]
fn a_task_that_begins_a_file_does_so_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.db");
    let other = locked(&path);
    let open = |path: PathBuf| insert(&mut Database::open(&path, &SCHEMA)?);
    let let_go = || other.execute_batch("COMMIT").unwrap();
    use_file_beside_another_task(path, open, let_go).unwrap();
}

#[test]
fn a_file_is_used_as_well_where_there_is_no_other_thread() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut database = Database::open(&dir.path().join("file.db"), &SCHEMA).unwrap();
        insert(&mut database).unwrap();
        database.close().unwrap();
    });
}
