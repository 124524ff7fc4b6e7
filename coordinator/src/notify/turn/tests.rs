#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Outbox, RETRY_MAX, Turn, retry_after};
use crate::catalog::state::State;
use crate::catalog::state::notifications::{Condition, NotifyStep, Position};
use crate::clock::{Clock as _, FixedClock};
use crate::config::notify_settings::{Endpoint, Target, Way};
use crate::daemon::health::Health;
use crate::notify::alert::{Alert, Level, Message};
use crate::notify::http::Poster;

/// What the target does not take, as a mail server does not take what a scanner of viruses knows.
const BAD: &str = "EICAR";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A target that refuses whatever has [`BAD`] in it, and what waits for it.
struct Scene {
    _dir: tempfile::TempDir,
    file: PathBuf,
    clock: Arc<FixedClock>,
    health: Health,
    url: String,
    taken: Arc<Mutex<Vec<String>>>,
    /// What it answers to everything, if it does.
    refusal: Arc<Mutex<Option<&'static str>>>,
    took: Mutex<Option<Timestamp>>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let takes = Arc::clone(&taken);
        let refusal = Arc::new(Mutex::new(None));
        let refuses = Arc::clone(&refusal);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let body = posted(&stream);
                let refused: Option<&str> = *refuses.lock().unwrap();
                let status = match refused {
                    Some(status) => status,
                    None if body.contains(BAD) => "400 Bad Request",
                    None => {
                        takes.lock().unwrap().push(body);
                        "200 OK"
                    }
                };
                let head = "content-length: 0\r\nconnection: close";
                write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n").unwrap();
            }
        });
        Self {
            file: dir.path().join("state.db"),
            _dir: dir,
            clock: Arc::new(FixedClock::at(NOW)),
            health: Health::new(Instant::now()),
            url,
            taken,
            refusal,
            took: Mutex::default(),
        }
    }

    fn state(&self) -> State {
        State::open(&self.file).unwrap()
    }

    /// Lets messages wait, one for each alert.
    fn wait(&self, alerts: &[Alert], raised: Vec<Condition>) {
        let messages = alerts.iter().map(|alert| {
            let key = alert.title.clone();
            let message = Message::of_alerts(std::slice::from_ref(alert), key, "c", NOW);
            message.unwrap().to("hook")
        });
        let step = NotifyStep {
            raised,
            cleared: Vec::new(),
            messages: messages.collect(),
        };
        let position = Position {
            sequence: 0,
            digest: NOW,
        };
        let now = self.clock.now();
        self.state().notify_step(&step, position, now).unwrap();
    }

    /// Gives the target so many turns, each when everything is due.
    async fn turns(&self, count: usize) {
        for _ in 0..count {
            let clock: Arc<FixedClock> = Arc::clone(&self.clock);
            let turn = Turn {
                target: Target {
                    name: "hook".to_owned(),
                    digest: true,
                    alerts: true,
                    way: Way::Webhook(Endpoint {
                        url: self.url.clone(),
                        secret: None,
                    }),
                },
                outbox: Outbox {
                    file: self.file.clone(),
                    clock,
                },
                machine: "c".into(),
                poster: Arc::new(Poster::new()),
                health: self.health.clone(),
                stop: CancellationToken::new(),
                unnoted: None,
                took: *self.took.lock().unwrap(),
            };
            let ended = turn.take().await;
            *self.took.lock().unwrap() = ended.took;
            assert_eq!((ended.unnoted, ended.goes_on), (None, true));
            self.clock.advance_secs(600);
        }
    }

    fn refuse(&self, status: Option<&'static str>) {
        *self.refusal.lock().unwrap() = status;
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    fn problems(&self) -> Vec<String> {
        let troubles = self.health.troubles(Instant::now()).into_iter();
        troubles.map(|trouble| trouble.problem).collect()
    }

    fn waiting(&self) -> usize {
        let mut state = self.state();
        state.drop_messages("hook").unwrap()
    }
}

/// The body of a request.
fn posted(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(told) = line.strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn alert(host: &str, title: &str, detail: &str) -> Alert {
    Alert {
        at: NOW,
        level: Level::Warning,
        subject: format!("host:{host}"),
        facet: "run".to_owned(),
        title: title.to_owned(),
        detail: detail.to_owned(),
        run: None,
    }
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_text_silences_nobody_and_comes_without_it() {
    let scene = Scene::new();
    let said = format!("it printed {BAD}");
    let wrong = Condition {
        subject: "host:web1".to_owned(),
        facet: "run".to_owned(),
        since: NOW,
        detail: said.clone(),
        run: None,
    };
    let alerts = [
        alert("web1", "web1: backing up fails", &said),
        alert("web2", "web2: backing up fails", "no route"),
    ];
    scene.wait(&alerts, vec![wrong]);

    scene.turns(1).await;
    let taken = scene.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0].contains("web2: backing up fails"), "{taken:?}");
    assert!(
        scene.problems()[0].contains("400"),
        "{:?}",
        scene.problems()
    );

    // Three times the message, three times the one in its place that quotes the host, and then the one that does not.
    scene.turns(5).await;
    assert_eq!(scene.taken().len(), 1);
    scene.turns(1).await;
    let taken = scene.taken();
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken[1].contains("web1: backing up fails"), "{taken:?}");
    assert!(taken[1].contains(r#""brief":true"#), "{taken:?}");
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.waiting(), 0);
}

#[tokio::test]
async fn what_is_refused_without_any_details_is_given_up_and_that_is_told() {
    let scene = Scene::new();
    scene.wait(&[alert("web1", BAD, "")], Vec::new());
    scene.turns(30).await;
    let is_given_up = |problems: &[String]| problems.iter().any(|one| one.contains("given up"));
    assert!(!is_given_up(&scene.problems()));
    // Now it takes something, and it is the message.
    scene.wait(&[alert("web2", "web2", "")], Vec::new());
    scene.turns(1).await;
    assert_eq!(scene.taken().len(), 1);
    scene.wait(&[alert("web3", "web3", "")], Vec::new());
    scene.turns(1).await;
    // Whatever is taken after that.
    assert_eq!(scene.taken().len(), 2);
    let problems = scene.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("given up: 1 message was not"),
        "{problems:?}"
    );
    assert_eq!(scene.waiting(), 0);
}

#[tokio::test]
async fn a_target_that_refuses_everything_for_hours_is_told_it_all_once_it_takes_something() {
    let scene = Scene::new();
    for (status, came) in [
        ("405 Method Not Allowed", 2),
        ("410 Gone", 2),
        ("400 Bad Request", 1),
    ] {
        scene.taken.lock().unwrap().clear();
        scene.refuse(Some(status));
        let said = [format!("web1 {status}"), format!("web2 {status}")];
        let alerts = [alert("web1", &said[0], "why"), alert("web2", &said[1], "")];
        scene.wait(&alerts, Vec::new());
        scene.turns(30).await;
        let problems = scene.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(status), "{problems:?}");

        scene.refuse(None);
        scene.turns(1).await;
        let taken = scene.taken();
        // What is refused for its text is summed up before.
        assert_eq!(taken.len(), came, "{taken:?}");
        let all = taken.concat();
        assert!(said.iter().all(|title| all.contains(title)), "{all}");
        assert_eq!(scene.problems(), Vec::<String>::new());
        assert_eq!(scene.waiting(), 0);
    }
}

#[test]
fn what_fails_is_tried_again_ever_more_seldom_and_never_not_at_all() {
    assert_eq!(retry_after(0), SignedDuration::from_secs(15));
    assert_eq!(retry_after(2), SignedDuration::from_secs(60));
    assert_eq!(retry_after(u32::MAX), RETRY_MAX);
}
