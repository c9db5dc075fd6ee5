//! What a sweep does first, what it leaves alone, and what it tells. Time is Tokio's, paused: what waits at the same
//! time takes no longer than the longest of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod slow_azure;

use super::*;
use crate::configure;
use crate::metrics::TARGET;
use crate::ports::azure::AzureError;
use crate::ports::clock::Clock;
use crate::submit;
use crate::testing::{self, EPOCH, FakeAzure, World, nsg, user, vm};
use async_trait::async_trait;
use serde_json::json;
use slow_azure::SlowAzure;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

const BOB: &str = "203.0.113.7";

/// Tokio's time, since the world began.
#[derive(Debug)]
struct PausedClock(Instant);

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.0.elapsed()).unwrap();
        EPOCH.parse::<Timestamp>().unwrap() + passed
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(duration.try_into().unwrap_or_default()).await;
    }
}

/// Points of one VM each, on which access is open; every message about its end is lost.
struct Night {
    world: World,
    azure: Arc<SlowAzure>,
}

impl Night {
    /// Point `p0` with access that ends after the first of these minutes, `p1` after the second, and so on.
    async fn of(minutes: &[u64]) -> Night {
        let mut world = World::new();
        for (index, minutes) in minutes.iter().enumerate() {
            let (group, machine) = (format!("p{index}"), format!("m{index}"));
            let address = format!("10.1.{}.{}", index / 200, index % 200 + 4);
            world.azure.set_rules(&group, Vec::new());
            world.azure.set_machine(&machine, &address, Some(&group), None);
            world.protect(&machine, json!({ "minimumDuration": "PT1S" })).await;
            let input = testing::ask(&machine, BOB, &format!("PT{minutes}M"));
            submit::submit(&world.ajar, &user("bob"), &input).await.unwrap();
            world.deliver().await;
            assert!(is_open(&world.azure, index), "{group}");
        }
        world.bus.clear();
        let azure = Arc::new(SlowAzure::of(world.azure.clone()));
        world.ajar.ports.azure = azure.clone();
        world.ajar.ports.clock = Arc::new(PausedClock(Instant::now()));
        Night { world, azure }
    }

    fn now(&self) -> Timestamp {
        self.world.ajar.ports.clock.now()
    }

    /// How many points are open.
    fn open(&self, points: usize) -> usize {
        (0..points).filter(|index| is_open(&self.world.azure, *index)).count()
    }

    async fn sweep(&self) -> SweepReport {
        sweep(&self.world.ajar).await.unwrap()
    }

    /// One sweep a minute after another, as the timer makes them: each begins when its minute does.
    async fn next_minute(&self) -> SweepReport {
        let second = self.now().as_second().rem_euclid(60);
        pass(Duration::from_secs(60 - second.unsigned_abs())).await;
        self.sweep().await
    }
}

fn is_open(azure: &FakeAzure, index: usize) -> bool {
    let is_allow = |rule: &serde_json::Value| rule["name"].as_str().unwrap().contains("-allow-");
    azure.rules(&format!("p{index}")).iter().any(is_allow)
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

fn hangs() -> AzureError {
    AzureError::Unavailable { reason: "no answer".into(), retry_after: None }
}

fn throttles(wait: SignedDuration) -> AzureError {
    AzureError::Unavailable { reason: "429".into(), retry_after: Some(wait) }
}

/// The values of metrics, as an exporter sees them.
#[derive(Clone, Default)]
struct Measured(Arc<Mutex<Vec<(String, f64)>>>);

impl Measured {
    fn take(&self, metric: Metric) -> Vec<f64> {
        let mut all = self.0.lock().unwrap();
        let found = all.iter().filter(|(name, _)| name == metric.name()).map(|(_, value)| *value).collect();
        all.retain(|(name, _)| name != metric.name());
        found
    }
}

#[derive(Default)]
struct Seen(Option<String>, Option<f64>);

impl Visit for Seen {
    fn record_f64(&mut self, _: &Field, value: f64) {
        self.1 = Some(value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "metric" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Measured {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        if let Seen(Some(name), Some(value)) = seen {
            self.0.lock().unwrap().push((name, value));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_azure_wants_left_alone_is_left_alone_for_as_long_and_no_other() {
    const POINTS: usize = 20;
    let night = Night::of(&[10; POINTS]).await;
    let elsewhere = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/g/providers/\
                     Microsoft.Network/networkSecurityGroups/elsewhere";
    let elsewhere = ResourceId::parse(elsewhere).unwrap();
    // The youngest row: it comes after all those that are throttled.
    let at = night.now() + SignedDuration::from_mins(11);
    due::note(&night.world.ajar, at, Task::Reconcile { point: elsewhere }).await.unwrap();
    night.azure.takes(Duration::from_millis(100));
    for index in 0..POINTS {
        night.azure.answer(&format!("p{index}"), throttles(SignedDuration::from_secs(150)));
    }
    pass(Duration::from_mins(30)).await;
    night.sweep().await;
    let read = night.azure.take_read();
    let throttled = read.iter().filter(|name| *name != "elsewhere").count();
    assert!((1..=CONCURRENCY).contains(&throttled), "those under way, and none after the answer: {read:?}");
    assert!(read.contains(&"elsewhere".to_owned()), "limits are a subscription's own");

    for index in 0..POINTS {
        night.azure.forget(&format!("p{index}"));
    }
    night.next_minute().await;
    night.next_minute().await;
    let read = night.azure.take_read();
    assert!(read.iter().all(|name| name == "elsewhere"), "150 seconds are not over: {read:?}");
    night.next_minute().await;
    assert_eq!(night.open(POINTS), 0, "and then all is done");
}

#[tokio::test(start_paused = true)]
async fn azure_is_not_left_alone_for_an_hour_while_something_is_open() {
    let night = Night::of(&[10]).await;
    night.azure.answer("p0", throttles(SignedDuration::from_hours(1)));
    pass(Duration::from_mins(10)).await;
    night.sweep().await;
    night.azure.forget("p0");
    for _ in 0..5 {
        assert!(night.open(1) == 1, "left alone");
        night.next_minute().await;
    }
    assert_eq!(night.open(1), 0);
}

/// Forty points hang until their calls time out. What has just ended is shut as if they were not there, and so is what
/// is as old as they are, which comes after all of them.
#[tokio::test(start_paused = true)]
async fn points_that_fail_delay_no_other() {
    const HANGING: usize = 40;
    let mut ends = vec![10; HANGING];
    ends.extend([11, 30]);
    let night = Night::of(&ends).await;
    for index in 0..HANGING {
        night.azure.hang(&format!("p{index}"), Duration::from_secs(20), hangs());
    }
    pass(Duration::from_mins(30)).await;
    let began = night.now();
    let (report, ()) = futures::join!(night.sweep(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_open(&night.world.azure, HANGING + 1), "shut at once");
    });
    assert!(report.failed > 0);
    assert!(night.now().duration_since(began) <= SignedDuration::from_secs(60), "inside its minute");
    // Those that were tried have a lane of their own from now on; the others have not failed yet.
    night.next_minute().await;
    night.next_minute().await;
    assert!(!is_open(&night.world.azure, HANGING), "what can be shut is shut");
    assert_eq!(night.open(HANGING), HANGING, "the others hang");
    // One that works again comes to its turn, although it is the last of many that hang.
    night.azure.forget("p9");
    night.next_minute().await;
    night.next_minute().await;
    night.next_minute().await;
    assert!(!is_open(&night.world.azure, 9));
}

/// Rows beyond what one sweep takes on, all of one point that fails, are older than the row of one that does not.
#[tokio::test(start_paused = true)]
async fn rows_that_fail_keep_no_others_from_being_read() {
    let night = Night::of(&[10, 20]).await;
    let (early, id) = (night.now(), |number: usize| format!("{number:032x}"));
    for number in 0..=MOST_ROWS {
        let request = RequestId::new(&vm("m0"), early, &id(number));
        let task = Task::Expire { point: nsg("p0"), request };
        due::note(&night.world.ajar, early, task).await.unwrap();
    }
    night.azure.answer("p0", hangs());
    pass(Duration::from_mins(20)).await;
    night.sweep().await;
    night.next_minute().await;
    assert!(!is_open(&night.world.azure, 1));
    assert!(is_open(&night.world.azure, 0));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_five_sweeps_could_not_carry_out_is_an_alarm_and_one_that_was_is_none() {
    let night = Night::of(&[10, 10]).await;
    let measured = Measured::default();
    let _capture = tracing::subscriber::set_default(measured.clone());
    night.azure.answer("p0", hangs());
    pass(Duration::from_mins(10)).await;
    for _ in 0..4 {
        assert_eq!(night.next_minute().await.overdue, 0);
    }
    assert_eq!(night.next_minute().await.overdue, 1);
    night.azure.forget("p0");
    assert_eq!(night.next_minute().await.overdue, 0);
    assert_eq!(measured.take(Metric::OverdueGrants), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(night.open(2), 0);
}

#[tokio::test(start_paused = true)]
async fn after_days_without_azure_what_ended_first_is_shut_first() {
    let ends = [50, 20, 90, 10, 40, 80, 30, 100, 60, 70, 25, 95];
    let night = Night::of(&ends).await;
    night.world.azure.is_down.store(true, Ordering::SeqCst);
    for _ in 0..12 {
        pass(Duration::from_hours(6)).await;
        night.sweep().await;
    }
    assert_eq!(night.open(ends.len()), ends.len());
    night.world.azure.is_down.store(false, Ordering::SeqCst);
    night.azure.take_read();
    night.azure.takes(Duration::from_secs(1));
    night.next_minute().await;
    assert_eq!(night.open(ends.len()), 0);
    let mut seen = Vec::new();
    for name in night.azure.take_read() {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    let mut wanted: Vec<usize> = (0..ends.len()).collect();
    wanted.sort_by_key(|index| ends[*index]);
    let wanted: Vec<String> = wanted.into_iter().map(|index| format!("p{index}")).collect();
    assert_eq!(seen, wanted);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_its_minute_is_left_to_the_next() {
    const POINTS: usize = 60;
    let night = Night::of(&[10; POINTS]).await;
    // Each point is read, written and read again: ten seconds, eight of them at once.
    night.azure.takes(Duration::from_secs(5));
    pass(Duration::from_mins(10)).await;
    let began = night.now();
    let mut left = POINTS;
    for _ in 0..5 {
        let before = night.now();
        night.sweep().await;
        assert!(night.now().duration_since(before) < SignedDuration::from_secs(60), "inside its minute");
        let now = night.open(POINTS);
        assert!(now < left || now == 0, "{now} of {left} are still open");
        left = now;
        let minute =
            Duration::from_secs(60).saturating_sub(night.now().duration_since(before).try_into().unwrap());
        pass(minute).await;
    }
    assert_eq!(left, 0, "{} after it began", night.now().duration_since(began));
}

#[tokio::test]
async fn all_is_opened_and_shut_without_a_bus() {
    let world = World::new();
    world.bus.is_down.store(true, Ordering::SeqCst);
    world.protect("web-1", json!({ "minimumDuration": "PT1S" })).await;
    world.minutes(2).await;
    assert!(!world.azure.allows(BOB, "10.0.0.4", 22), "shut");
    submit::submit(&world.ajar, &user("bob"), &testing::ask("web-1", BOB, "PT10M")).await.unwrap();
    world.minutes(3).await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22), "open");
    world.minutes(10).await;
    assert!(!world.azure.allows(BOB, "10.0.0.4", 22), "shut at its end");
    assert_eq!(world.bus.waiting(), []);
}

#[tokio::test]
async fn a_sweep_finds_nothing_that_messages_have_done_and_says_so() {
    let world = World::new();
    let measured = Measured::default();
    let _capture = tracing::subscriber::set_default(measured.clone());
    world.protect("web-1", json!({ "minimumDuration": "PT1S" })).await;
    let ask = async || {
        submit::submit(&world.ajar, &user("bob"), &testing::ask("web-1", BOB, "PT10M")).await.unwrap();
    };
    ask().await;
    world.deliver().await;
    world.minutes(60).await;
    assert!(!world.azure.allows(BOB, "10.0.0.4", 22));
    assert_eq!(measured.take(Metric::SweepMissed), [0.0; 60]);
    assert_eq!(measured.take(Metric::SweepHeartbeat), [1.0; 60]);

    ask().await;
    world.bus.clear();
    world.minutes(2).await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22), "the sweep opens it");
    assert_eq!(measured.take(Metric::SweepMissed), [1.0, 0.0], "and says that a message was lost");
}

/// Writers that stand still between their row and their change: what they write then is found.
#[tokio::test]
async fn a_row_whose_change_is_not_there_yet_is_kept_for_an_hour() {
    let world = World::new();
    let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }] });
    let policy = serde_json::from_value(policy).unwrap();
    configure::enable(&world.ajar, &user("alice"), &policy).await.unwrap();
    world.minutes(2).await;
    assert_eq!(world.store.count(Table::Due), 0);

    let (request, point) =
        (RequestId::new(&vm("web-1"), jiff::Timestamp::UNIX_EPOCH, &"0".repeat(32)), nsg("web-nsg"));
    let at = world.clock.now() + GUARD_DELAY;
    for task in [
        Task::Decide { request: request.clone() },
        Task::Project { vm: vm("web-1") },
        Task::Reconcile { point: point.clone() },
        Task::Expire { point, request },
    ] {
        due::note(&world.ajar, at, task).await.unwrap();
    }
    world.minutes(55).await;
    assert_eq!(world.store.count(Table::Due), 4, "{:?}", world.store.contents());
    world.minutes(10).await;
    assert_eq!(world.store.count(Table::Due), 0, "{:?}", world.store.contents());
}
