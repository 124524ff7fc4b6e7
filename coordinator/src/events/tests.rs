use std::sync::Arc;

use jiff::Timestamp;

use super::{EVENTS_WAITING_MAX, Event, EventSink};
use crate::catalog::state::Outcome;
use crate::clock::FixedClock;
use crate::events::actor::Actor;
use crate::events::what::What;

fn reloaded(number: usize) -> Event {
    Event::new(What::ConfigReloaded {
        revision: number.to_string(),
    })
}

fn sink() -> EventSink {
    let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
    EventSink::new(clock, Actor::Daemon)
}

#[test]
fn a_listener_that_is_too_slow_loses_the_oldest_and_hears_how_many() {
    let sink = sink();
    let mut stream = sink.listen();
    for number in 0..EVENTS_WAITING_MAX + 7 {
        sink.tell(reloaded(number));
    }
    let told = stream.next_waiting().expect("what was dropped is told");
    assert_eq!(told.event.what, What::EventsDropped { count: 7 });
    for number in 7..EVENTS_WAITING_MAX + 7 {
        let told = stream.next_waiting().expect("it was told");
        assert_eq!(told.event, reloaded(number));
    }
    assert_eq!(stream.next_waiting(), None);
}

#[tokio::test]
async fn every_listener_hears_everything_until_the_last_sink_is_gone() {
    let sink = sink();
    let other = sink.acting_as(Actor::Program);
    let streams = [sink.listen(), other.listen()];
    sink.tell(reloaded(1));
    other.tell(reloaded(2));
    let token = Actor::Token {
        name: "ci".to_owned(),
    };
    other.tell(reloaded(3).by(token));
    drop((sink, other));
    for mut stream in streams {
        let mut heard = Vec::new();
        while let Some(told) = stream.next().await {
            heard.push(told.actor.to_string());
        }
        assert_eq!(heard, ["daemon", "program", "token:ci"]);
    }
}

#[test]
fn telling_nobody_is_harmless() {
    let sink = sink();
    drop(sink.listen());
    sink.tell(reloaded(1));
    EventSink::nowhere().tell(reloaded(1));
    assert_eq!(EventSink::nowhere().listen().next_waiting(), None);
}

#[test]
fn an_event_tells_its_word_and_its_details() {
    let what = What::RunEnded {
        outcome: Outcome::Failed,
        problems: 0,
        files: 0,
        bytes: 0,
        new_bytes: 12,
        millis: 1500,
        error: Some("cut".to_owned()),
    };
    assert_eq!(what.word(), "run-ended");
    let details = what.details();
    assert!(details.contains(&("outcome", "failed".to_owned())));
    assert!(details.contains(&("new_bytes", "12".to_owned())));
    assert!(details.contains(&("error", "cut".to_owned())));
    let pinned = What::PinAdded {
        snapshot: "ab".to_owned(),
        reason: None,
    };
    assert_eq!(pinned.details(), [("snapshot", "ab".to_owned())]);
}
