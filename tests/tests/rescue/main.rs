//! What a destination still has when its log, its config or some of its packs are gone, restored with the recovery kit
//! alone: everything that the packs hold, nothing that they do not, and a name for whatever is missing.

mod wreck;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::compare::expect_equal;
use tests::corpus::bytes::incompressible;
use tests::corpus::{Corpus, CorpusOptions};
use tests::places::{Stored, add_to_config, make_bucket, s3_table, write_secret};
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server};
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions, below};

use crate::wreck::{RescueReport, Wreck, flip, wrong_bytes};

/// Six runs, each with a directory of its own: as many data packs, and listings of which each has something new.
fn back_up_six_times(world: &World) -> Result<()> {
    for run in 0..6u8 {
        let directory = world.source().join(format!("dir-{run}"));
        fs::create_dir(&directory)?;
        let big = incompressible(u64::from(run), 3 << 20);
        fs::write(directory.join("big"), big)?;
        for number in 0..40 {
            fs::write(
                directory.join(format!("small-{number}")),
                format!("run {run} file {number}"),
            )?;
        }
        fs::hard_link(directory.join("big"), directory.join("linked"))?;
        world.run()?;
    }
    Ok(())
}

/// A file that goes away between two snapshots, and comes back from the first.
struct Deleted {
    path: PathBuf,
    kept: PathBuf,
}

impl Deleted {
    fn take_away(world: &World, path: PathBuf) -> Result<Self> {
        let kept = world.directory().join("kept");
        fs::rename(&path, &kept)?;
        Ok(Self { path, kept })
    }

    /// Puts it back where the rescue brings it, and leaves its directory's time as the last snapshot has it.
    fn put_back(&self) -> Result<()> {
        let directory = self.path.parent().context("it has a parent")?;
        let time = directory.metadata()?.modified()?;
        fs::rename(&self.kept, &self.path)?;
        Ok(File::open(directory)?.set_times(FileTimes::new().set_modified(time))?)
    }
}

/// Two snapshots of everything a filesystem can hold: a file changed, one gone, one moved to another first name.
fn back_up_the_corpus(world: &World) -> Result<Deleted> {
    let mut options = CorpusOptions::tiny();
    options.big_file_bytes = 40 << 20;
    Corpus::create(&world.source(), &options)?;
    let directory = world.source().join("changing");
    fs::create_dir(&directory)?;
    let at = |name: &str| directory.join(name);
    fs::write(at("changed"), "as it was")?;
    fs::write(at("gone"), "deleted between the snapshots")?;
    fs::write(at("link-a"), "has three names")?;
    fs::hard_link(at("link-a"), at("link-b"))?;
    fs::hard_link(at("link-a"), at("link-c"))?;
    world.run()?;
    fs::write(at("changed"), "as it is, and longer")?;
    // The first name becomes another file; the others are now each other's.
    fs::remove_file(at("link-a"))?;
    fs::write(at("link-a"), "a file of its own")?;
    let deleted = Deleted::take_away(world, at("gone"))?;
    world.run()?;
    Ok(deleted)
}

#[test]
fn packs_and_the_kit_alone_bring_back_the_newest_of_everything() -> Result<()> {
    let world = World::new()?;
    let deleted = back_up_the_corpus(&world)?;
    let wreck = Wreck::of(world)?;
    let source = wreck.world.source();

    // While log and config are there, the better way is named.
    let listed = wreck.list(exit::OK)?;
    let intact = listed.intact.as_ref().context("the log is whole")?;
    ensure!(
        intact.host == HOST && intact.seq == 4 && listed.dry_run,
        "{listed:?}"
    );

    wreck.lose_all_but_packs()?;
    let stored = tokio::runtime::Runtime::new()?;
    let directory = Stored::Directory(wreck.store.clone());
    let before = stored.block_on(directory.objects())?;
    deleted.put_back()?;
    let listed = wreck.list(exit::OK)?;
    let rescued = wreck.rescue(&wreck.url(), "out", exit::OK, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    let report = &rescued.report;
    ensure!(report.intact.is_none() && report.packs.refused_count == 0);
    ensure!(report.packs.found == report.packs.opened && report.packs.known_missing == Some(0));
    ensure!(report.pages.read > 0 && report.pages.damaged + report.pages.known_missing == 0);
    ensure!(
        (listed.files, listed.directories) == (report.files, report.directories),
        "{listed:?} {report:?}"
    );

    // A repository's folder by itself, and packs under other names in a heap, are as good.
    let folder = wreck.repository.display().to_string();
    let rescued = wreck.rescue(
        &folder,
        "folder",
        exit::OK,
        &["--repository", &report.repository],
    )?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    let heap = wreck.world.directory().join("heap");
    fs::create_dir(&heap)?;
    for (number, pack) in ["packs", "meta"]
        .iter()
        .map(|folder| wreck.packs(folder))
        .collect::<Result<Vec<_>>>()?
        .concat()
        .iter()
        .enumerate()
    {
        fs::copy(pack, heap.join(format!("f{number:08}")))?;
    }
    fs::write(heap.join("f99999999.jpg"), "not a pack")?;
    let rescued = wreck.rescue(&heap.display().to_string(), "heap", exit::OK, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;

    // A part of it, by pattern.
    let include = source.join("changing").display().to_string();
    let rescued = wreck.rescue(&wreck.url(), "part", exit::OK, &["--include", &include])?;
    ensure!(rescued.report.files == 5, "{:?}", rescued.report);
    ensure!(
        stored.block_on(directory.objects())? == before,
        "rescue wrote to the destination"
    );
    Ok(())
}

#[test]
fn without_half_of_the_data_packs_every_file_is_right_or_named() -> Result<()> {
    let world = World::new()?;
    back_up_six_times(&world)?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    let source = wreck.world.source();
    let seed: [u8; 1] = [blake3::hash(&std::process::id().to_le_bytes()).as_bytes()[0]];
    println!("seed {seed:?}");
    let packs = wreck.packs("packs")?;
    ensure!(packs.len() >= 6, "{packs:?}");
    let mut taken = Vec::new();
    for (number, pack) in packs.iter().enumerate() {
        if (number + usize::from(seed[0])) % 2 == 0 {
            taken.push((pack.clone(), fs::read(pack)?));
            fs::remove_file(pack)?;
        }
    }
    let listed = wreck.list(exit::INTEGRITY)?;
    let rescued = wreck.rescue(&wreck.url(), "half", exit::INTEGRITY, &[])?;
    let (right, named) = rescued.expect_right_or_named(&source)?;
    let report = &rescued.report;
    ensure!(right > 0 && named > 0, "{right} {named}");
    ensure!(
        right == report.files && named == report.problem_count,
        "{report:?}"
    );
    ensure!(right + named == 6 * 42);
    ensure!(
        report.packs.known_missing == Some(taken.len() as u64) && report.packs.refused_count == 0
    );
    ensure!(
        report.problems.len() == 20 && report.directories == listed.directories,
        "{report:?}"
    );
    // What a list says of packs that are not there is what a restore finds.
    ensure!(
        (listed.files, listed.problem_count) == (report.files, report.problem_count),
        "{listed:?} {report:?}"
    );

    // What is there can be added to, once it is.
    let out = rescued.out.display().to_string();
    let again = ["--to", &out, "--overwrite", "if-changed"];
    wreck
        .call(&wreck.kit, &wreck.url(), &again)?
        .expect_code(exit::INTEGRITY)?;
    for (pack, bytes) in &taken {
        fs::write(pack, bytes)?;
    }
    wreck
        .call(&wreck.kit, &wreck.url(), &again)?
        .expect_code(exit::OK)?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    for (pack, _) in &taken {
        fs::remove_file(pack)?;
    }

    // A byte flipped inside a pack is found by the restore, and costs the files in that frame.
    let packs = wreck.packs("packs")?;
    let pack = packs.first().context("a pack is left")?;
    flip(pack, 1_000)?;
    let flipped = wreck.rescue(&wreck.url(), "flipped", exit::INTEGRITY, &[])?;
    let (fewer, more) = flipped.expect_right_or_named(&source)?;
    ensure!(
        fewer < right && fewer + more == right + named,
        "{fewer} {right}"
    );
    Ok(())
}

#[test]
fn without_some_meta_packs_what_the_others_list_is_restored() -> Result<()> {
    let world = World::new()?;
    back_up_six_times(&world)?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    let source = wreck.world.source();
    let packs = wreck.packs("meta")?;
    ensure!(packs.len() >= 6, "{packs:?}");

    // Damage of a frame, of a table and of a run header: those packs' pages are told, the others' are used.
    flip(&packs[0], 100)?;
    flip(
        &packs[1],
        usize::try_from(fs::metadata(&packs[1])?.len())? - 2_367 - 20,
    )?;
    flip(
        &packs[2],
        usize::try_from(fs::metadata(&packs[2])?.len())? - 16 - 100,
    )?;
    let rescued = wreck.rescue(&wreck.url(), "flipped", exit::INTEGRITY, &[])?;
    let report = &rescued.report;
    println!("{report:?}");
    ensure!(
        report.packs.refused_count == 2 && report.pages.damaged > 0,
        "{report:?}"
    );
    for refused in &report.packs.refused {
        ensure!(
            refused.kind == "keys" && refused.pack.starts_with("meta/"),
            "{refused:?}"
        );
        ensure!(rescued.stderr.contains(&refused.pack) && !refused.text.is_empty());
    }
    let wrong = wrong_bytes(&source, &rescued.out)?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(report.files > 0, "{report:?}");

    Ok(())
}

#[test]
fn one_meta_pack_gives_back_what_it_lists_and_none_gives_nothing() -> Result<()> {
    let world = World::new()?;
    back_up_six_times(&world)?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    let source = wreck.world.source();
    // With one meta pack left, what its pages list comes back. The first run's are all its own: nothing tells of
    // later pages but the data packs whose run is not known.
    let by_age = |pack: &PathBuf| fs::metadata(pack).and_then(|facts| facts.modified()).ok();
    let mut packs = wreck.packs("meta")?;
    packs.sort_by_key(by_age);
    let newest = fs::read(&packs[packs.len() - 1])?;
    for pack in &packs[1..] {
        fs::remove_file(pack)?;
    }
    let rescued = wreck.rescue(&wreck.url(), "first", exit::WARNINGS, &[])?;
    let report = &rescued.report;
    ensure!(wrong_bytes(&source, &rescued.out)?.is_empty());
    ensure!(
        report.files == 42 && report.packs.unnamed == Some(5),
        "{report:?}"
    );

    // The last run's list names pages of runs before it, if some stayed as they were.
    fs::remove_file(&packs[0])?;
    fs::write(&packs[packs.len() - 1], newest)?;
    let listed = wreck.call(&wreck.kit, &wreck.url(), &["--list"])?;
    let report: RescueReport = listed.json()?;
    let code = match report.pages.known_missing {
        0 => exit::WARNINGS,
        _ => exit::INTEGRITY,
    };
    let rescued = wreck.rescue(&wreck.url(), "last", code, &[])?;
    println!("{:?}", rescued.report);
    ensure!(wrong_bytes(&source, &rescued.out)?.is_empty());
    ensure!(rescued.report.files >= 42 && rescued.report.packs.unnamed == Some(5));

    // And without any, nothing has a name.
    fs::remove_file(&packs[packs.len() - 1])?;
    let to = wreck.world.output("none").display().to_string();
    wreck
        .call(&wreck.kit, &wreck.url(), &["--to", &to])?
        .expect_code(exit::INTEGRITY)?
        .expect_stderr(&["no page of a listing"])?;
    ensure!(!Path::new(&to).exists());
    Ok(())
}

#[test]
fn a_path_that_was_a_directory_is_what_it_became_and_the_rest_is_told() -> Result<()> {
    let world = World::new()?;
    let path = world.source().join("was-directory");
    fs::create_dir_all(path.join("deep"))?;
    fs::write(path.join("deep/inside"), "older")?;
    fs::write(world.source().join("was-file"), "older")?;
    world.run()?;
    fs::remove_dir_all(&path)?;
    fs::write(&path, "a file now")?;
    fs::remove_file(world.source().join("was-file"))?;
    fs::create_dir(world.source().join("was-file"))?;
    fs::write(world.source().join("was-file/inside"), "newer")?;
    world.run()?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    let source = wreck.world.source();
    let rescued = wreck.rescue(&wreck.url(), "out", exit::WARNINGS, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    let problem = rescued.missing.get(&path.display().to_string());
    let problem = problem.context("the displaced directory is named")?;
    ensure!(
        problem.kind == "refused" && problem.text.contains("2 older objects"),
        "{problem:?}"
    );
    Ok(())
}

#[test]
fn garbage_among_the_packs_is_counted_and_named_and_harms_nothing() -> Result<()> {
    let world = World::new()?;
    back_up_six_times(&world)?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    let source = wreck.world.source();
    let place = |folder: &str, digit: char| -> Result<PathBuf> {
        let name: String = std::iter::repeat_n(digit, 64).collect();
        let shard = wreck.repository.join(folder).join(&name[..2]);
        fs::create_dir_all(&shard)?;
        Ok(shard.join(name))
    };
    let whole = fs::read(&wreck.packs("packs")?[0])?;
    let meta = fs::read(&wreck.packs("meta")?[0])?;
    let mut huge_table = whole.clone();
    let end = huge_table.len();
    huge_table[end - 16..end - 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let hostile: [(&str, char, Vec<u8>); 7] = [
        ("packs", '0', incompressible(9, 100_000)),
        ("packs", '1', whole[..whole.len() / 2].to_vec()),
        ("packs", '2', Vec::new()),
        ("packs", '3', huge_table),
        // A tail without its frames, and a meta pack where a target may write.
        ("packs", '4', whole[end - 4_000..].to_vec()),
        ("packs", '5', meta),
        ("meta", '6', whole.clone()),
    ];
    for (folder, digit, bytes) in &hostile {
        fs::write(place(folder, *digit)?, bytes)?;
    }
    fs::write(wreck.repository.join("packs/README"), "no pack's name")?;
    let rescued = wreck.rescue(&wreck.url(), "out", exit::INTEGRITY, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    let packs = &rescued.report.packs;
    println!("{packs:?}");
    ensure!(
        packs.refused_count == 7 && rescued.report.problem_count == 0,
        "{packs:?}"
    );
    let named: BTreeSet<char> = packs
        .refused
        .iter()
        .filter_map(|refused| refused.pack.chars().last())
        .collect();
    ensure!(named == ('0'..='6').collect(), "{named:?}");
    ensure!(
        packs
            .refused
            .iter()
            .all(|refused| rescued.stderr.contains(&refused.pack))
    );

    // The same in a heap: what only looks like a pack by its name is told, the rest is ignored.
    let folder = wreck.repository.display().to_string();
    let rescued = wreck.rescue(&folder, "folder", exit::INTEGRITY, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    Ok(())
}

/// One snapshot of one file, of which the packs are left.
fn small_wreck() -> Result<Wreck> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let wreck = Wreck::of(world)?;
    wreck.lose_all_but_packs()?;
    Ok(wreck)
}

#[test]
fn places_without_packs_and_other_kits_are_refused_with_their_reason() -> Result<()> {
    let wreck = small_wreck()?;
    let directory = wreck.world.directory().to_owned();
    let other = World::new()?;
    let strange = other.coordinator_dir().join("recovery-kit.txt");
    for place in [wreck.url(), wreck.repository.display().to_string()] {
        wreck
            .call(&strange, &place, &["--list"])?
            .expect_code(exit::WRONG_KEY)?
            .expect_stderr(&["none opens with this kit"])?;
    }
    let refused = |place: &str, code: i32, words: &[&str]| wreck.refused(place, &[], code, words);
    let empty = directory.join("empty");
    fs::create_dir(&empty)?;
    let (plain, url) = (
        empty.display().to_string(),
        format!("file://{}", empty.display()),
    );
    refused(&plain, exit::NOT_FOUND, &["no pack"])?;
    refused(
        &url,
        exit::ERROR,
        &["without file://", "capstan-destination"],
    )?;
    fs::copy(
        wreck.store.join("capstan-destination"),
        empty.join("capstan-destination"),
    )?;
    refused(&url, exit::NOT_FOUND, &["no pack"])?;
    fs::create_dir(empty.join("0123456789abcdef0123456789abcdef"))?;
    refused(&url, exit::NOT_FOUND, &["no pack"])?;
    refused("file:///nowhere", exit::ERROR, &["does not exist"])?;
    refused("/nowhere", exit::ERROR, &["/nowhere"])?;
    Ok(())
}

#[test]
fn what_is_asked_for_wrongly_is_refused_with_its_reason() -> Result<()> {
    let wreck = small_wreck()?;
    let url = wreck.url();
    let unknown = ["--repository", "0123456789abcdef0123456789abcdef"];
    let known = wreck.repository.file_name().and_then(OsStr::to_str);
    let known = known.context("the repository has a name")?;
    wreck.refused(
        &url,
        &unknown,
        exit::NOT_FOUND,
        &["no repository 0123", known],
    )?;
    wreck.refused(&url, &["--epoch", "2"], exit::WRONG_KEY, &["say --epoch 1"])?;
    wreck.refused(&url, &["--repository", "x"], exit::USAGE, &["--repository"])?;
    wreck.refused(&url, &["--include", "["], exit::USAGE, &["bad glob"])?;
    wreck.refused(&url, &["--set", "endpoint=x"], exit::ERROR, &["endpoint"])?;
    fs::create_dir(wreck.store.join("0123456789abcdef0123456789abcdef"))?;
    wreck.refused(
        &url,
        &[],
        exit::USAGE,
        &["several repositories", "--repository", known],
    )?;
    let chosen = ["--repository", known];
    wreck.rescue(&url, "chosen", exit::OK, &chosen)?;

    // A directory that holds something, a list of problems that is there, and no directory at all.
    let to = wreck.world.directory().join("to");
    fs::create_dir(&to)?;
    fs::write(to.join("mine"), "stays")?;
    let arguments = ["--repository", known, "--to", &to.display().to_string()];
    wreck
        .call(&wreck.kit, &url, &arguments)?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["is not empty"])?;
    ensure!(fs::read_dir(&to)?.count() == 1);
    let mine = to.join("mine").display().to_string();
    wreck.refused(
        &url,
        &["--problems", &mine],
        exit::ERROR,
        &["could not write", "mine"],
    )?;
    ensure!(fs::read_to_string(to.join("mine"))? == "stays");
    wreck
        .call(&wreck.kit, &url, &[])?
        .expect_code(exit::USAGE)?
        .expect_stderr(&["--to"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_lost_its_log_and_a_pack_is_rescued() -> Result<()> {
    let world = World::new()?;
    let s3_dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, s3_dir.path())?;
    make_bucket(&s3).await?;
    add_to_config(&world, &s3_table(&s3.endpoint(), true))?;
    back_up_six_times(&world)?;
    let wreck = Wreck::of(world)?;
    fs::remove_dir_all(&wreck.store)?;
    let source = wreck.world.source();
    let secret = wreck.world.directory().join("s3.secret");
    write_secret(&secret)?;
    let settings = [
        format!("endpoint={}", s3.endpoint()),
        format!("access_key_id={ACCESS_KEY_ID}"),
        format!("secret_key_file={}", secret.display()),
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();

    let bucket = Stored::bucket(&s3);
    let objects = bucket.objects().await?;
    for name in objects.keys() {
        if ["/log/", "/config", "/keys/"]
            .iter()
            .any(|part| name.contains(part))
        {
            bucket.remove(name).await?;
        }
    }
    let before = bucket.objects().await?;
    let url = "s3://backups/capstan";
    let rescued = wreck.rescue(url, "whole", exit::OK, &settings)?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    ensure!(
        bucket.objects().await? == before,
        "rescue wrote to the bucket"
    );

    let pack = before.keys().find(|name| name.contains("/packs/"));
    bucket.remove(pack.context("a data pack")?).await?;
    let rescued = wreck.rescue(url, "part", exit::INTEGRITY, &settings)?;
    let (right, named) = rescued.expect_right_or_named(&source)?;
    ensure!(right > 0 && named > 0 && rescued.report.packs.known_missing == Some(1));
    Ok(())
}

/// What prune removed is not missed: neither its packs, nor the files that only forgotten snapshots had.
#[test]
fn what_prune_removed_is_not_taken_for_lost_while_the_log_is_whole() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["keep = { last = 1 }".into(), "keep_floor = 1".into()],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    // Several pages of a listing, one of which is another in the second snapshot: the others keep its pack.
    for directory in 0..40 {
        let path = world.source().join(format!("directory-{directory:02}"));
        fs::create_dir(&path)?;
        for number in 0..200 {
            let name = format!("a-file-with-a-name-that-is-not-short-{number:03}");
            fs::write(path.join(name), format!("{directory} {number}"))?;
        }
    }
    let gone = world.source().join("directory-07/gone");
    let linked = world.source().join("directory-07/linked-to-gone");
    // Large enough that some frames have nothing else in them, however it is cut and whatever is read beside it.
    fs::write(&gone, incompressible(3, 24 << 20))?;
    fs::hard_link(&gone, &linked)?;
    world.run()?;
    fs::remove_file(&gone)?;
    fs::remove_file(&linked)?;
    world.run()?;
    let prune = ["prune", HOST, "--yes"];
    world.coordinator(&prune)?.expect_code(exit::OK)?;
    std::thread::sleep(Duration::from_millis(2_200));
    world.coordinator(&prune)?.expect_code(exit::OK)?;

    let wreck = Wreck::of(world)?;
    let source = wreck.world.source();
    let listed = wreck.list(exit::OK)?;
    let rescued = wreck.rescue(&wreck.url(), "pruned", exit::OK, &[])?;
    expect_equal(&source, &below(&rescued.out, &source))?;
    let report = &rescued.report;
    ensure!(
        report.packs.known_missing == Some(0) && report.pages.known_missing == 0,
        "{report:?}"
    );
    // Where the repository's keys happen to cut the listing so that the page of what is gone survives, both names of it are
    // known to be pruned.
    ensure!(
        report.packs.pruned.is_some() && [0, 2].contains(&report.pages.pruned),
        "{report:?}"
    );
    ensure!(listed.problem_count == 0, "{listed:?}");

    // What was lost besides is told all the same.
    let packs = wreck.packs("packs")?;
    fs::remove_file(packs.first().context("a pack")?)?;
    let listed = wreck.list(exit::INTEGRITY)?;
    ensure!(listed.problem_count > 0, "{listed:?}");
    Ok(())
}
