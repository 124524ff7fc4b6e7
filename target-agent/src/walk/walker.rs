//! The walker: depth first, each directory's entries as one block in name order, then its subdirectories.
//! Memory is bounded whatever the tree: names of one directory at a time, metadata in batches.

use std::sync::Arc;

use formats::limits::{PATH_BYTES_MAX, PATH_DEPTH_MAX};
use formats::listing::entry::EntryKind;
use formats::wire::control::entries::EntryStat;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::start::Rules;
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use crate::cpu_limit::CpuLimit;
use crate::facts::SeenIds;
use crate::filter::Filter;
use crate::limits::{Limit, NAMES_BYTES_MAX, PENDING_NAMES_BYTES_MAX};
use crate::stat;
use crate::streams::Streams;
use crate::walk::batch::{Batch, BatchBuilder};
use crate::walk::directory::Directory;
use crate::walk::ground::Ground;
use crate::walk::names::{NamePage, NameQueue, Named};
use crate::walk::pseudo::{Mounts, pseudo_type_of};
use crate::walk::skip;
use crate::walk::sources::SourceTree;

/// Takes what the walk finds.
pub trait Sink {
    /// The next batch of entries.
    fn batch(&mut self, batch: Batch);
    /// Something that could not be walked.
    fn problem(&mut self, problem: Problem);
}

/// What to walk, and with what.
#[derive(Debug)]
pub struct WalkOptions<'a> {
    /// The tree.
    pub ground: &'a Ground,
    /// The sources and what to leave out of them.
    pub rules: &'a Rules,
    /// The patterns of the rules.
    pub filter: &'a Filter,
    /// The streams, listed beside what the disk has.
    pub streams: &'a Streams,
    /// How many directories may be open.
    pub open_directories: usize,
    /// What the walk keeps to.
    pub cpu: &'a CpuLimit,
}

/// What is to be done with a directory's entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    /// The way to sources at and below it, if any.
    sources: Option<&'a SourceTree>,
    /// Whether all its entries are wanted, not just those on the way to a source.
    full: bool,
    /// Whether it is a source itself: no rule keeps it from being entered.
    is_source: bool,
    /// The filesystem that `one_file_system` stays on.
    filesystem: u64,
}

/// A directory whose subdirectories are being walked.
#[derive(Debug)]
pub(super) struct Level<'a> {
    /// Closed for a while when too many are open.
    pub(super) directory: Option<Arc<Directory>>,
    pub(super) identity: (u64, u64),
    /// The path's length up to and with this directory.
    pub(super) path_bytes: usize,
    pub(super) plan: Plan<'a>,
    pub(super) waiting: NameQueue,
}

/// The walk under way. How it goes down and up again is in `descent`.
pub(super) struct Walker<'a, S> {
    pub(super) options: &'a WalkOptions<'a>,
    pub(super) handles: Limit,
    mounts: Mounts,
    sink: S,
    building: BatchBuilder,
    pub(super) path: Vec<u8>,
    pub(super) levels: Vec<Level<'a>>,
    pub(super) waiting_bytes: usize,
    seen: SeenIds,
}

/// Walks the sources; gives the sink back, how many batches there were, and the owners seen.
pub fn walk<S: Sink>(options: &WalkOptions<'_>, sink: S) -> (S, u64, SeenIds) {
    let tree = SourceTree::new(options.rules.sources.iter().map(Vec::as_slice));
    let mut walker = Walker {
        options,
        handles: Limit::new(options.open_directories),
        mounts: Mounts::read(),
        sink,
        building: BatchBuilder::new((options.open_directories / 4).max(1)),
        path: Vec::new(),
        levels: Vec::new(),
        waiting_bytes: 0,
        seen: SeenIds::default(),
    };
    walker.enter_root(&tree);
    while let Some(level) = walker.levels.last_mut() {
        match level.waiting.pop() {
            Some(name) => walker.enter(&name),
            None => walker.leave(),
        }
    }
    walker.flush();
    (walker.sink, walker.building.taken(), walker.seen)
}

impl<'a, S: Sink> Walker<'a, S> {
    fn enter_root(&mut self, tree: &'a SourceTree) {
        let permit = self.permit();
        match Directory::open_root(&self.options.ground.root, permit) {
            Ok(directory) => {
                let plan = Plan {
                    sources: Some(tree),
                    full: tree.is_source,
                    is_source: tree.is_source,
                    filesystem: directory.identity.0,
                };
                self.list(Arc::new(directory), plan);
            }
            Err(error) => self.problem_here(ProblemKind::Unreadable, Some(error), "open directory"),
        }
    }

    /// Enters a subdirectory of the last level and lists it.
    fn enter(&mut self, name: &[u8]) {
        self.options.cpu.pace();
        if self.is_streams_directory(name) {
            self.list_streams();
            return;
        }
        let Some(level) = self.levels.last() else {
            return;
        };
        let (parent, plan) = (level.directory.clone(), level.plan);
        self.push_name(name);
        let permit = self.permit();
        let opened = match &parent {
            Some(parent) => parent.open(name, permit),
            // Its descriptor was given up and could not be had back.
            None => Err(Errno::NOENT),
        };
        match opened {
            Ok(directory) => {
                let plan = self.plan_of(plan, name, directory.identity.0);
                if let Some(plan) = self.entered_plan(&directory, plan) {
                    self.list(Arc::new(directory), plan);
                    return;
                }
            }
            Err(error @ (Errno::NOENT | Errno::LOOP | Errno::NOTDIR)) => {
                self.problem_here(ProblemKind::Vanished, Some(error), "open directory");
            }
            Err(error) => self.problem_here(ProblemKind::Unreadable, Some(error), "open directory"),
        }
        self.pop_name();
    }

    /// What is to be done in a subdirectory.
    fn plan_of(&self, parent: Plan<'a>, name: &[u8], filesystem: u64) -> Plan<'a> {
        let sources = parent.sources.and_then(|tree| tree.children.get(name));
        let is_source = sources.is_some_and(|tree| tree.is_source);
        // On the way to a source, an exclude takes the other entries only.
        let inherits =
            parent.full && (sources.is_none() || !self.options.filter.excludes(&self.path, true));
        Plan {
            sources,
            full: is_source || inherits,
            is_source,
            filesystem: if is_source {
                filesystem
            } else {
                parent.filesystem
            },
        }
    }

    /// What of an opened directory's entries is listed, by what it turned out to be; none if nothing.
    fn entered_plan(&mut self, directory: &Directory, plan: Plan<'a>) -> Option<Plan<'a>> {
        let by_table = self.mounts.pseudo_type(directory.identity.0);
        let pseudo = pseudo_type_of(directory).or(by_table);
        if let Some(kind) = pseudo
            && plan.is_source
        {
            self.note_pseudo(kind);
        }
        if self.is_own(directory.identity) {
            return None;
        }
        let rules = self.options.rules;
        let tagged = !plan.is_source
            && plan.full
            && ((rules.one_file_system && directory.identity.0 != plan.filesystem)
                || (rules.exclude_caches && skip::is_cache(directory))
                || skip::has_any(directory, &rules.exclude_if_present));
        match plan.sources {
            _ if !tagged && pseudo.is_none() => Some(plan),
            // Sources further down are still reached.
            Some(tree) if !tree.children.is_empty() => Some(Plan {
                full: false,
                ..plan
            }),
            _ => None,
        }
    }

    fn is_own(&self, identity: (u64, u64)) -> bool {
        self.options.ground.own_directories.contains(&identity)
    }

    fn note_pseudo(&mut self, kind: &str) {
        let text = format!("a {kind} filesystem is never backed up");
        self.problem_here(ProblemKind::Other, None, &text);
    }

    /// Sends a directory's entries as its block, and remembers its subdirectories.
    fn list(&mut self, directory: Arc<Directory>, plan: Plan<'a>) {
        let mut level = Level {
            identity: directory.identity,
            directory: Some(directory.clone()),
            path_bytes: self.path.len(),
            plan,
            waiting: NameQueue::default(),
        };
        let mut after: Option<Vec<u8>> = None;
        let mut streams_are_due = self.streams_are_due();
        loop {
            let page = self.names(&directory, plan, after.as_deref());
            let (waiting, due) = (&mut level.waiting, &mut streams_are_due);
            self.consider_page(&directory, plan, &page, waiting, due);
            if let Some(error) = page.error {
                self.problem_here(ProblemKind::Unreadable, Some(error), "read directory");
            }
            match page.get(page.len().wrapping_sub(1)) {
                Some(last) if page.more && page.error.is_none() => after = Some(last.name.to_vec()),
                _ => break,
            }
        }
        if streams_are_due {
            self.add_streams_directory(&directory, &mut level.waiting);
        }
        if let (true, Some(tree)) = (plan.full, plan.sources) {
            self.check_sources(&directory, tree);
        }
        level.waiting.shrink();
        self.waiting_bytes += level.waiting.held_bytes();
        self.levels.push(level);
        self.close_far_levels();
    }

    fn names(&self, directory: &Arc<Directory>, plan: Plan<'a>, after: Option<&[u8]>) -> NamePage {
        match plan.sources {
            Some(tree) if !plan.full => NamePage::of(tree.children.keys().map(Vec::as_slice)),
            _ => NamePage::read(directory.as_ref(), after, NAMES_BYTES_MAX),
        }
    }

    /// Looks at one name: leaves it out, or sends it and, for a directory, remembers to enter it.
    pub(super) fn consider(
        &mut self,
        directory: &Arc<Directory>,
        plan: Plan<'a>,
        named: Named<'_>,
        waiting: &mut NameQueue,
    ) {
        self.options.cpu.pace();
        let way = plan.sources.and_then(|tree| tree.children.get(named.name));
        let block_path_bytes = self.path.len();
        self.push_name(named.name);
        // Before any system call on it: what is excluded may be a mount that hangs.
        if way.is_some() || !self.is_excluded(named) {
            match self.look(directory, plan, named, way) {
                Ok(Some(entry)) => {
                    if self.goes_on(&entry, plan, way, waiting) {
                        waiting.push(&entry.name);
                    }
                    let block = self.path.get(..block_path_bytes).unwrap_or_default();
                    self.seen.note(entry.stat.uid, entry.stat.gid);
                    if let Some(batch) = self.building.push(block, directory, entry) {
                        self.sink.batch(batch);
                    }
                }
                Ok(None) => {}
                Err(error) => self.problem_here(ProblemKind::Unreadable, Some(error), "stat"),
            }
        }
        self.path.truncate(block_path_bytes);
    }

    /// Sends an entry of a directory that no name on the disk stands for.
    pub(super) fn add(&mut self, path: &[u8], directory: &Arc<Directory>, entry: EntryStat) {
        self.seen.note(entry.stat.uid, entry.stat.gid);
        if let Some(batch) = self.building.push(path, directory, entry) {
            self.sink.batch(batch);
        }
    }

    fn is_excluded(&self, named: Named<'_>) -> bool {
        let filter = self.options.filter;
        match named.kind {
            Some(kind) => filter.excludes(&self.path, kind == EntryKind::Directory),
            // Filesystems that do not tell the kind: only what is excluded either way.
            None => filter.excludes(&self.path, true) && filter.excludes(&self.path, false),
        }
    }

    /// The entry of a name; none when it is gone again or excluded after all.
    fn look(
        &mut self,
        directory: &Arc<Directory>,
        plan: Plan<'a>,
        named: Named<'_>,
        way: Option<&SourceTree>,
    ) -> Result<Option<EntryStat>, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = match statat(directory, named.name, flags) {
            // Deleted since its name was read: it never was part of this snapshot.
            Err(Errno::NOENT) if way.is_none() => return Ok(None),
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                self.sources_missing(way, error);
                return Ok(None);
            }
            other => other?,
        };
        let Some(stat) = stat::from_kernel(&found) else {
            self.problem_here(
                ProblemKind::Other,
                None,
                "a file type unknown to this agent",
            );
            return Ok(None);
        };
        let is_directory = stat.kind == EntryKind::Directory;
        if !is_directory && way.is_some_and(|way| !way.children.is_empty()) {
            self.sources_missing(way, Errno::NOTDIR);
        }
        let is_own = is_directory && self.is_own((found.st_dev, found.st_ino));
        let is_excluded = named.kind.is_none()
            && way.is_none()
            && plan.full
            && self.options.filter.excludes(&self.path, is_directory);
        if is_own || is_excluded || !self.is_within_limits(is_directory) {
            return Ok(None);
        }
        Ok(Some(EntryStat {
            name: named.name.to_vec(),
            stat,
            filesystem: found.st_dev,
        }))
    }

    /// A directory at the deepest place could not have its entries listed, so it is left out itself.
    fn is_within_limits(&mut self, is_directory: bool) -> bool {
        let deep = is_directory && self.levels.len() + 1 >= PATH_DEPTH_MAX;
        if deep {
            self.problem_here(
                ProblemKind::BeyondLimit,
                None,
                "deeper than a listing can be",
            );
        }
        !deep
    }

    /// Whether a listed entry is a directory to be entered.
    fn goes_on(
        &mut self,
        entry: &EntryStat,
        plan: Plan<'a>,
        way: Option<&SourceTree>,
        waiting: &NameQueue,
    ) -> bool {
        if entry.stat.kind != EntryKind::Directory {
            return false;
        }
        let rules = self.options.rules;
        let elsewhere = rules.one_file_system && entry.filesystem != plan.filesystem;
        if elsewhere && way.is_none() {
            return false;
        }
        let ground = self.options.ground;
        if ground.is_missing_subvolume(entry.filesystem, entry.stat.inode) {
            let text = "a subvolume made while the snapshots were taken: its contents are left out";
            self.problem_here(ProblemKind::Other, None, text);
            return false;
        }
        // With a source in it or below it, opening tells.
        if way.is_none() && self.mounts.pseudo_type(entry.filesystem).is_some() {
            return false;
        }
        if self.path.len() as u64 > PATH_BYTES_MAX
            || self.waiting_bytes + waiting.held_bytes() > PENDING_NAMES_BYTES_MAX
        {
            self.problem_here(
                ProblemKind::BeyondLimit,
                None,
                "path too long, or too many directories wait: its contents are left out",
            );
            return false;
        }
        true
    }

    /// Sends the batch under way.
    pub(super) fn flush(&mut self) {
        if let Some(batch) = self.building.take() {
            self.sink.batch(batch);
        }
    }

    /// Tells of sources that a directory listed in full does not have.
    fn check_sources(&mut self, directory: &Directory, tree: &SourceTree) {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        for (name, way) in &tree.children {
            if let Err(error @ Errno::NOENT) = statat(directory, name.as_slice(), flags) {
                let path_bytes = self.path.len();
                self.push_name(name);
                self.sources_missing(Some(way), error);
                self.path.truncate(path_bytes);
            }
        }
    }

    fn sources_missing(&mut self, way: Option<&SourceTree>, error: Errno) {
        for path in way.map_or_else(Vec::new, |way| way.sources_below(&self.path)) {
            if path != self.path || error == Errno::NOENT {
                self.sink.problem(Problem {
                    kind: ProblemKind::SourceMissing,
                    path,
                    errno: stat::errno(error),
                    text: "find source (symbolic links are not followed)".to_owned(),
                });
            }
        }
    }

    pub(super) fn problem_here(&mut self, kind: ProblemKind, error: Option<Errno>, text: &str) {
        let path_max = (PATH_BYTES_MAX + formats::limits::NAME_BYTES_MAX) as usize;
        self.sink.problem(Problem {
            kind,
            path: self.path.get(..path_max).unwrap_or(&self.path).to_vec(),
            errno: error.map_or(0, stat::errno),
            text: text.to_owned(),
        });
    }
}
