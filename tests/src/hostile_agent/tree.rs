//! Trees that exist only in the agent's words: entries, and the conversation that backs them up.

use anyhow::{Result, bail, ensure};
use formats::ids::ChunkId;
use formats::listing::content::Extent;
use formats::listing::entry::{EntryFlags, EntryKind, Stat, Timestamp};
use formats::wire::control::chunks::Seen;
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::{Block, Entries, EntryRef, EntryStat};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator};

use super::{HostileAgent, packs};

/// One entry, with what it holds.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name, which may be anything.
    pub name: Vec<u8>,
    /// What is told of it.
    pub stat: Stat,
    /// A file's bytes.
    pub content: Vec<u8>,
    /// A symlink's target.
    pub target: Vec<u8>,
    /// The size that it is listed with, where that is another one than it has in the end.
    pub listed_size: Option<u64>,
    /// The length of its one chunk as the file has it, where that is another one than the chunk has.
    pub claimed: Option<u32>,
}

/// A file.
pub fn file(name: &[u8], inode: u64, content: &[u8]) -> Told {
    let stat = Stat {
        size: content.len() as u64,
        ..stat(EntryKind::File, inode)
    };
    Told {
        name: name.to_vec(),
        stat,
        content: content.to_vec(),
        target: Vec::new(),
        listed_size: None,
        claimed: None,
    }
}

/// A directory.
pub fn directory(name: &[u8], inode: u64) -> Told {
    Told {
        name: name.to_vec(),
        stat: Stat {
            mode: 0o755,
            links: 2,
            ..stat(EntryKind::Directory, inode)
        },
        content: Vec::new(),
        target: Vec::new(),
        listed_size: None,
        claimed: None,
    }
}

/// A symlink.
pub fn symlink(name: &[u8], inode: u64, target: &[u8]) -> Told {
    Told {
        name: name.to_vec(),
        stat: Stat {
            mode: 0o777,
            ..stat(EntryKind::Symlink, inode)
        },
        content: Vec::new(),
        target: target.to_vec(),
        listed_size: None,
        claimed: None,
    }
}

fn stat(kind: EntryKind, inode: u64) -> Stat {
    let time = Timestamp {
        seconds: 1_600_000_000,
        nanoseconds: 1,
    };
    Stat {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: time,
        ctime: time,
        inode,
        links: 1,
        device: (0, 0),
    }
}

/// Blocks from the root down to a directory, then that directory's own entries, then further blocks.
pub fn below(
    path: &[u8],
    entries: &[Told],
    further: &[(&[u8], &[Told])],
) -> Vec<(Vec<u8>, Vec<Told>)> {
    let mut blocks = Vec::new();
    let mut parent = Vec::new();
    for (level, name) in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .enumerate()
    {
        blocks.push((parent.clone(), vec![directory(name, 10 + level as u64)]));
        if !parent.is_empty() {
            parent.push(b'/');
        }
        parent.extend_from_slice(name);
    }
    blocks.push((parent.clone(), entries.to_vec()));
    for (relative, entries) in further {
        blocks.push((
            [parent.as_slice(), b"/", relative].concat(),
            entries.to_vec(),
        ));
    }
    blocks
}

impl HostileAgent {
    /// Tells a tree in one batch and stores what is wanted, all as an honest agent would; then finishes.
    pub async fn back_up(&mut self, tree: &[(Vec<u8>, Vec<Told>)]) -> Result<FromCoordinator> {
        self.tell(tree).await?;
        self.finish().await
    }

    /// The same without the end.
    pub async fn tell(&mut self, tree: &[(Vec<u8>, Vec<Told>)]) -> Result<()> {
        self.send(&FromAgent::Entries(Entries {
            batch: 0,
            blocks: tree.iter().map(block).collect(),
        }))
        .await?;
        let verdicts = match self.receive().await? {
            FromCoordinator::Verdicts(verdicts) => verdicts,
            other => bail!("instead of verdicts came {other:?}"),
        };
        ensure!(verdicts.of == 0, "verdicts of batch {}", verdicts.of);
        for (index, told) in tree.iter().flat_map(|(_, told)| told).enumerate() {
            if verdicts.get(index) {
                self.details(
                    EntryRef {
                        batch: 0,
                        entry: u32::try_from(index)?,
                    },
                    told,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Tells a tree whose last entry is a file, and claims for its content a chunk that was never stored.
    pub async fn claim_without_storing(
        &mut self,
        tree: &[(Vec<u8>, Vec<Told>)],
        id: ChunkId,
    ) -> Result<FromCoordinator> {
        let content = tree
            .last()
            .and_then(|(_, told)| told.last())
            .map(|told| told.content.clone())
            .unwrap_or_default();
        let last = tree.iter().map(|(_, told)| told.len()).sum::<usize>() - 1;
        let of = EntryRef {
            batch: 0,
            entry: u32::try_from(last)?,
        };
        self.send(&FromAgent::Entries(Entries {
            batch: 0,
            blocks: tree.iter().map(block).collect(),
        }))
        .await?;
        self.receive().await?;
        for (index, told) in tree
            .iter()
            .flat_map(|(_, told)| told)
            .take(last)
            .enumerate()
        {
            self.details(
                EntryRef {
                    batch: 0,
                    entry: u32::try_from(index)?,
                },
                told,
            )
            .await?;
        }
        self.ask(id, &content).await?;
        let extents = vec![Extent::Chunk {
            id,
            bytes: u32::try_from(content.len())?,
        }];
        self.send(&FromAgent::Content(ContentPart { of, extents }))
            .await?;
        if let Some(told) = tree.last().and_then(|(_, told)| told.last()) {
            self.send(&FromAgent::Details(honest_details(of, told)))
                .await?;
        }
        self.finish().await
    }

    /// Says that everything was sent, and waits for the answer.
    pub async fn finish(&mut self) -> Result<FromCoordinator> {
        let totals = Totals {
            entries: self.entries_sent,
            packs: self.packs_told,
            ..Totals::default()
        };
        self.send(&FromAgent::Finished(totals)).await?;
        self.wait_for_end().await
    }

    async fn details(&mut self, of: EntryRef, told: &Told) -> Result<()> {
        if !told.content.is_empty() {
            let id = packs::data_id(self.orders()?, &told.content);
            if self.ask(id, &told.content).await? {
                let pack = packs::honest(self.orders()?, &[&told.content])?;
                self.store(&pack).await?;
            }
            let bytes = u32::try_from(told.content.len())?;
            let extents = vec![Extent::Chunk {
                id,
                bytes: told.claimed.unwrap_or(bytes),
            }];
            self.send(&FromAgent::Content(ContentPart { of, extents }))
                .await?;
        }
        self.send(&FromAgent::Details(honest_details(of, told)))
            .await
    }

    /// Asks whether one chunk is wanted.
    pub async fn ask(&mut self, id: ChunkId, content: &[u8]) -> Result<bool> {
        let query = self.next_query();
        self.send(&FromAgent::Seen(Seen {
            query,
            chunks: vec![(id, u32::try_from(content.len())?)],
        }))
        .await?;
        match self.receive().await? {
            FromCoordinator::Wanted(wanted) => Ok(wanted.get(0)),
            other => bail!("instead of an answer came {other:?}"),
        }
    }
}

/// Details as an honest agent gives them.
pub fn honest_details(of: EntryRef, told: &Told) -> Details {
    Details {
        of,
        outcome: ReadOutcome::Read,
        flags: EntryFlags::default(),
        stat: told.stat,
        xattrs: Vec::new(),
        link_target: told.target.clone(),
    }
}

fn block((directory, told): &(Vec<u8>, Vec<Told>)) -> Block {
    Block {
        directory: directory.clone(),
        entries: told.iter().map(entry_stat).collect(),
    }
}

fn entry_stat(told: &Told) -> EntryStat {
    EntryStat {
        name: told.name.clone(),
        stat: Stat {
            size: told.listed_size.unwrap_or(told.stat.size),
            ..told.stat
        },
        filesystem: 1,
    }
}
