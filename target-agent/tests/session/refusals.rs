//! Runs that end early, as they must.

use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::{FromAgent, FromCoordinator};

use crate::peer::{Script, run, start};
use crate::runs::noise;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), noise(1, 100_000)).unwrap();
    dir
}

#[test]
fn another_token_is_refused_before_anything_is_read() {
    let dir = tree();
    for over_stdio in [false, true] {
        let mut script = Script::new(&[dir.path()]);
        script.wrong_token = true;
        script.over_stdio = over_stdio;
        let text = run(script).err().unwrap();
        assert!(text.contains("does not know this run's token"), "{text}");
    }
}

#[test]
fn a_servers_refusal_is_passed_on() {
    let dir = tree();
    let mut script = Script::new(&[dir.path()]);
    script.refuses = true;
    let text = run(script).err().unwrap();
    assert!(text.contains("the spool is full"), "{text}");
}

#[test]
fn an_acknowledgement_of_other_bytes_is_noticed() {
    let dir = tree();
    let mut script = Script::new(&[dir.path()]);
    script.lies = true;
    let text = run(script).err().unwrap();
    assert!(text.contains("sent was"), "{text}");
}

#[test]
fn a_bad_pattern_is_named() {
    let dir = tree();
    let mut script = Script::new(&[dir.path()]);
    script.rules.exclude = vec!["a[".into()];
    let text = run(script).err().unwrap();
    assert!(text.contains("\"a[\""), "{text}");
}

#[test]
fn the_agent_ends_when_its_coordinator_does() {
    let dir = tree();
    // Before the orders, and while verdicts are awaited.
    let mut peer = start(&Script::new(&[dir.path()]));
    assert!(matches!(peer.receive(), Some(FromAgent::Hello(_))));
    assert!(!peer.hang_up().success());

    let mut peer = start(&Script::new(&[dir.path()]));
    peer.receive();
    peer.send_start();
    while !matches!(peer.receive(), Some(FromAgent::Entries(_))) {}
    assert!(!peer.hang_up().success());
}

#[test]
fn answers_that_nobody_asked_for_end_the_run() {
    let dir = tree();
    let answers = [
        FromCoordinator::Verdicts(Bitmap::new(99, [true].into_iter())),
        FromCoordinator::Verdicts(Bitmap::new(0, [true; 3_000].into_iter())),
        FromCoordinator::Wanted(Bitmap::new(0, [true].into_iter())),
    ];
    for answer in answers {
        let mut peer = start(&Script::new(&[dir.path()]));
        peer.receive();
        peer.send_start();
        while !matches!(peer.receive(), Some(FromAgent::Entries(_))) {}
        peer.send(&answer);
        let text = loop {
            match peer.receive() {
                Some(FromAgent::Abort(text)) => break text,
                Some(_) => {}
                None => panic!("it ends with a word"),
            }
        };
        assert!(text.starts_with("the coordinator's"), "{text}");
        assert!(!peer.wait().success());
    }
}

#[test]
fn others_cannot_look_into_its_memory() {
    let dir = tree();
    let mut peer = start(&Script::new(&[dir.path()]));
    peer.receive();
    let process = format!("/proc/{}", peer.child.id());
    let command = std::fs::read(format!("{process}/cmdline")).unwrap();
    assert!(command.ends_with(b"\0serve\0"));
    // What is not dumpable belongs to root, whoever runs it.
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    assert!(
        core.unwrap().split_whitespace().nth(4) == Some("0"),
        "{core:?}"
    );
    peer.hang_up();
}
