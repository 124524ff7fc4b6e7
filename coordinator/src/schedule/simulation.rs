//! Years of schedules in seconds: the roster with hosts that fail, a daemon that is down now and then and forgets all but what
//! it stored, and a clock that is wrong for a while.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use jiff::{SignedDuration, Timestamp};

use crate::config::prune_settings::Zone;
use crate::schedule::outlook::{Attempted, LastOccasion, Outlook, Record, outlook};
use crate::schedule::roster::{Act, Roster};
use crate::schedule::timing::Timing;

fn secs(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

/// xorshift64*; enough for weather.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }
}

#[test]
fn ten_years_of_one_host_bring_one_run_for_each_night() {
    let timing = Timing {
        calendar: Some("30 2 * * *".parse().unwrap()),
        zone: Zone::named("Europe/Zurich").unwrap(),
        jitter: "45m".parse().unwrap(),
        window: Some("01:00-05:00".parse().unwrap()),
        ..Timing::default()
    };
    let zone = timing.zone.zone().clone();
    let begins: Timestamp = "2026-01-01T00:00:00+01:00".parse().unwrap();
    let ends: Timestamp = "2036-01-01T00:00:00+01:00".parse().unwrap();
    let (mut now, mut record, mut nights) = (begins, Record::new(begins), Vec::new());
    while now < ends {
        match outlook("web1", &timing, &record, None, now) {
            Outlook::Waits { until, .. } => {
                assert!(until > now);
                now = until;
            }
            Outlook::Due { occasion, .. } => {
                assert!(timing.is_open(now));
                nights.push(zone.to_datetime(now).date());
                record.last = Some(LastOccasion {
                    at: occasion,
                    attempts: 1,
                    tried: now,
                    result: Attempted::Done,
                });
            }
            other => unreachable!("{other:?} at {now}"),
        }
    }
    let first = zone.to_datetime(begins).date();
    let every: Vec<_> = first.series(jiff::Span::new().days(1)).take(3652).collect();
    assert_eq!(nights, every);
}

/// What a state file keeps.
#[derive(Default)]
struct Kept {
    occasions: BTreeMap<(String, Timestamp), LastOccasion>,
    last_good: BTreeMap<String, Timestamp>,
    last_tried: BTreeMap<String, Timestamp>,
}

impl Kept {
    fn record(&self, host: &str, since: Timestamp, now: Timestamp) -> Record {
        let mine = (host.to_owned(), Timestamp::MIN)..=(host.to_owned(), now);
        let last = self.occasions.range(mine).next_back();
        Record {
            since: since.min(now),
            last: last.map(|(_, last)| *last),
            last_good: self.last_good.get(host).copied(),
            last_tried: self.last_tried.get(host).copied(),
        }
    }

    /// Whether it may begin: what is done with does not.
    fn attempt(&mut self, host: &str, occasion: Timestamp, now: Timestamp) -> bool {
        let fresh = LastOccasion {
            at: occasion,
            attempts: 0,
            tried: now,
            result: Attempted::Running,
        };
        let key = (host.to_owned(), occasion);
        let last = self.occasions.entry(key).or_insert(fresh);
        if last.result == Attempted::Done {
            return false;
        }
        // What is under way never begins again.
        assert_eq!(
            last.attempts == 0,
            last.result == Attempted::Running,
            "{host} {occasion}"
        );
        last.attempts += 1;
        last.result = Attempted::Running;
        self.last_tried.insert(host.to_owned(), now);
        true
    }

    fn end(&mut self, host: &str, occasion: Timestamp, result: Attempted, now: Timestamp) {
        let last = self
            .occasions
            .get_mut(&(host.to_owned(), occasion))
            .unwrap();
        (last.result, last.tried) = (result, now);
        self.last_tried.insert(host.to_owned(), now);
        if result == Attempted::Done {
            self.last_good.insert(host.to_owned(), now);
        }
    }

    fn all_died(&mut self, now: Timestamp) {
        for last in self.occasions.values_mut() {
            if last.result == Attempted::Running {
                (last.result, last.tried) = (Attempted::Failed, now);
            }
        }
    }
}

struct Fleet {
    timings: BTreeMap<String, Timing>,
    since: Timestamp,
    max_parallel: usize,
    kept: Kept,
    roster: Roster,
    /// By their ends.
    runs: BinaryHeap<Reverse<(Timestamp, String, Timestamp)>>,
    dice: Dice,
    begun: u64,
    /// Occasions that came a second time, and were let be.
    repeats: u64,
}

impl Fleet {
    fn new(hosts: usize, max_parallel: usize, since: Timestamp) -> Self {
        let zones = [
            "UTC",
            "Europe/Zurich",
            "America/New_York",
            "Australia/Lord_Howe",
        ];
        let timings = (0..hosts).map(|number| {
            let timing = Timing {
                calendar: Some(
                    ["0 1 * * *", "daily", "15 2 * * *", "*-*-* 03:30"][number % 4]
                        .parse()
                        .unwrap(),
                ),
                zone: Zone::named(zones[number / 4 % 4]).unwrap(),
                jitter: "30m".parse().unwrap(),
                window: (number % 3 == 0).then(|| "23:30-07:30".parse().unwrap()),
                concurrency_key: (number % 10 == 0)
                    .then(|| format!("san{}", number % 50).parse().unwrap()),
                ..Timing::default()
            };
            (format!("host{number:03}"), timing)
        });
        let mut fleet = Self {
            timings: timings.collect(),
            since,
            max_parallel,
            kept: Kept::default(),
            roster: Roster::new(max_parallel),
            runs: BinaryHeap::new(),
            dice: Dice(20_261_129),
            begun: 0,
            repeats: 0,
        };
        fleet.load(since);
        fleet
    }

    /// As after a start: everything comes from what was kept.
    fn load(&mut self, now: Timestamp) {
        self.roster = Roster::new(self.max_parallel);
        for (host, timing) in &self.timings {
            let record = self.kept.record(host, self.since, now);
            self.roster.put(host, timing.clone(), record);
        }
    }

    fn die(&mut self, now: Timestamp) {
        self.runs.clear();
        self.kept.all_died(now);
    }

    /// Everything that happens at a time; gives the next time at which something may.
    fn step(&mut self, now: Timestamp) -> Timestamp {
        while let Some(Reverse((end, ..))) = self.runs.peek()
            && *end <= now
        {
            let Some(Reverse((_, host, occasion))) = self.runs.pop() else {
                break;
            };
            let result = match self.dice.roll(20) {
                0 => Attempted::Failed,
                _ => Attempted::Done,
            };
            self.kept.end(&host, occasion, result, now);
            let good = (result == Attempted::Done).then_some(now);
            self.roster.ended(&host, Some(result), good, now);
        }
        for act in self.roster.poll(now) {
            let Act::Begin { host, occasion } = act else {
                unreachable!("everything is caught up");
            };
            let timing = &self.timings[&host];
            assert!(
                timing.is_open(now),
                "{host} begins outside its window at {now}"
            );
            if !self.kept.attempt(&host, occasion, now) {
                let record = self.kept.record(&host, self.since, now);
                self.roster.ended(&host, None, None, now);
                self.roster.put(&host, timing.clone(), record);
                self.repeats += 1;
                continue;
            }
            let mut takes = 60 + i64::try_from(self.dice.roll(900)).unwrap();
            if let Some(closes) = timing.closes(now) {
                takes = takes.min(closes.duration_since(now).as_secs());
            }
            self.runs.push(Reverse((now + secs(takes), host, occasion)));
            self.begun += 1;
        }
        self.check_limits();
        let next_end = self.runs.peek().map(|Reverse((end, ..))| *end);
        let next = [self.roster.wake(), next_end].into_iter().flatten().min();
        next.unwrap().max(now + secs(1))
    }

    fn check_limits(&self) {
        assert!(self.runs.len() <= self.max_parallel);
        let mut keys = BTreeSet::new();
        for Reverse((_, host, _)) in &self.runs {
            if let Some(key) = &self.timings[host].concurrency_key {
                assert!(keys.insert(key.as_str().to_owned()), "{key} is taken twice");
            }
        }
    }
}

#[test]
fn five_hundred_hosts_over_three_months_with_outages_keep_every_limit_and_none_starves() {
    let begins: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let ends = begins + secs(92 * 86_400);
    let mut fleet = Fleet::new(500, 24, begins);
    let mut now = begins;
    let mut next_outage = begins + secs(40_000);
    let mut outages = 0;
    while now < ends {
        if now >= next_outage {
            fleet.die(now);
            // From a second to most of two days.
            let longest =
                [60, 3_600, 40_000, 160_000][usize::try_from(fleet.dice.roll(4)).unwrap()];
            now += secs(1 + i64::try_from(fleet.dice.roll(longest)).unwrap());
            next_outage = now + secs(i64::try_from(fleet.dice.roll(400_000)).unwrap());
            fleet.load(now);
            outages += 1;
        }
        let next = fleet.step(now);
        // As the daemon does, at least every few minutes.
        now = next.min(now + secs(300)).min(next_outage);
    }
    assert!(outages > 10, "{outages}");
    assert!(fleet.begun > 500 * 70, "{}", fleet.begun);
    for host in fleet.timings.keys() {
        let good = fleet.kept.last_good[host];
        let age = ends.duration_since(good).as_hours();
        assert!(
            age < 120,
            "{host} was last backed up {age} hours before the end"
        );
    }
}

#[test]
fn a_clock_that_is_wrong_for_a_while_stops_no_backups_and_repeats_none() {
    let begins: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let day = secs(86_400);
    let mut fleet = Fleet::new(8, 8, begins);
    let run_days = |fleet: &mut Fleet, from: Timestamp, days: i32| {
        let (mut now, until) = (from, from + day * days);
        let before = fleet.begun;
        while now < until {
            let next = fleet.step(now);
            now = next.min(now + secs(300));
        }
        (now, fleet.begun - before)
    };
    let (now, _) = run_days(&mut fleet, begins, 5);
    // Ten years ahead for a day, then right again.
    let ahead = now + day * 3650;
    fleet.die(now);
    fleet.load(ahead);
    run_days(&mut fleet, ahead, 1);
    fleet.die(ahead + day);
    fleet.load(now);
    let (now, begun) = run_days(&mut fleet, now, 5);
    assert!(
        begun >= 8 * 5,
        "{begun} runs in five days after the clock was put right"
    );
    // Three days back: nothing that was done is done again, and the new days are.
    fleet.die(now);
    let back = now - day * 3;
    fleet.load(back);
    assert_eq!(fleet.repeats, 0);
    let (_, begun) = run_days(&mut fleet, back, 6);
    assert!(fleet.repeats >= 8 * 2, "{} came twice", fleet.repeats);
    assert!(
        begun >= 8 * 3,
        "{begun} runs in six days of which three were there before"
    );
}
