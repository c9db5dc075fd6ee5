//! People and instances at the same request at the same time, each with a client of its own on a real Azurite: it comes
//! out one way, everybody was told what is so, and the history is one chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::extend::{ExtensionInput, extend};
use ajar_access::history::{Entry, verify_chain};
use ajar_access::keys::Key;
use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::permission::RecentPermissions;
use ajar_access::ports::store::Table;
use ajar_access::reconcile::{self, Outcome};
use ajar_access::request::AccessRequest;
use ajar_access::testing::{self, World, nsg, user};
use ajar_access::{Ajar, Chains, close, decide, query, submit};
use ajar_tables::TableStore;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const WEB_1: &str = "10.0.0.4";
const NEIGHBOUR: &str = "198.51.100.7";

/// Who comes at a request that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Racer {
    /// Its owner ends it.
    Owner,
    /// Who configures JIT ends it.
    Another,
    /// Its owner extends it from the end that is known by so many minutes.
    Extension(i64),
    /// An instance whose clock says that its time is up brings the NSG to what it should be.
    Expiry,
    /// The message that had it decided is delivered again.
    Message,
}

const RACERS: [Racer; 5] =
    [Racer::Owner, Racer::Another, Racer::Extension(30), Racer::Extension(60), Racer::Expiry];

/// How a racer fared.
#[derive(Debug)]
enum Fared {
    Ended(Result<AccessRequest, AccessError>),
    Extended(Result<AccessRequest, AccessError>),
    Done,
}

/// One Azure, one bus, one set of tables; instances that share nothing else.
struct Deployment {
    world: World,
    endpoint: String,
    prefix: String,
}

impl Deployment {
    async fn new(endpoint: &str) -> Deployment {
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let mut deployment = Deployment { world: World::new(), endpoint: endpoint.to_owned(), prefix };
        deployment.world.ajar = deployment.instance();
        deployment.world.protect("web-1", serde_json::json!({})).await;
        deployment
    }

    /// One more instance.
    fn instance(&self) -> Ajar {
        let store = TableStore::azurite(&self.endpoint).unwrap().with_table_prefix(&self.prefix).unwrap();
        let mut ajar = self.world.ajar.clone();
        ajar.ports.store = Arc::new(store);
        ajar.chains = Chains::default();
        ajar.permissions = RecentPermissions::default();
        ajar
    }

    /// One whose clock goes ahead by as much as clocks may differ.
    fn instance_ahead(&self, by: SignedDuration) -> Ajar {
        let mut ajar = self.instance();
        let clock = World::new().clock;
        clock.advance(self.now().duration_since(testing::EPOCH.parse().unwrap()) + by);
        ajar.ports.clock = clock;
        ajar
    }

    fn now(&self) -> Timestamp {
        self.world.ajar.ports.clock.now()
    }

    async fn asked(&self, who: &str, source: &str) -> AccessRequest {
        let ask = testing::ask("web-1", source, "PT30M");
        submit::submit(&self.world.ajar, &user(who), &ask).await.unwrap()
    }

    async fn seen(&self, request: &AccessRequest) -> AccessRequest {
        query::request(&self.world.ajar, &request.requester, &request.id).await.unwrap()
    }

    /// What is under way comes to rest: messages, and what is due.
    async fn settle(&self) {
        self.world.deliver().await;
        self.world.minutes(1).await;
    }

    fn is_open(&self, source: &str) -> bool {
        self.world.azure.allows(source, WEB_1, 22)
    }

    /// Checks what holds whoever won: steps that follow each other, one end at most, and one chain.
    async fn history(&self, request: &AccessRequest, place: &str) -> Vec<Entry> {
        let entries =
            query::request_history(&self.world.ajar, &request.requester, &request.id).await.unwrap();
        let numbers: Vec<u32> = entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(numbers, (1..=request.history).collect::<Vec<_>>(), "{place}: {entries:#?}");
        let mut came_to: Vec<Status> = entries.iter().map(|entry| entry.status).collect();
        came_to.dedup();
        let straight = [
            Status::Requested,
            Status::Approved,
            Status::Opening,
            Status::Active,
            Status::Closing,
            Status::Closed,
            Status::Cancelled,
        ];
        let places: Vec<usize> = came_to
            .iter()
            .map(|status| {
                straight
                    .iter()
                    .position(|one| one == status)
                    .unwrap_or_else(|| panic!("{place}: {entries:#?}"))
            })
            .collect();
        assert!(places.windows(2).all(|two| two[0] < two[1]), "{place}: it went back\n{entries:#?}");
        assert_eq!(came_to.last(), Some(&request.status), "{place}");
        verify_chain(&self.world.ajar, &request.id).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        entries
    }
}

fn count(entries: &[Entry], what: &str) -> usize {
    entries.iter().filter(|entry| entry.what.starts_with(what)).count()
}

/// Comes later by some real calls to the store, so that not always the same one is first.
async fn dawdle(ajar: &Ajar, calls: usize) {
    for _ in 0..calls {
        let nothing = Key::new(["nothing"]);
        ajar.ports.store.get(Table::Cursors, &nothing, &nothing).await.unwrap();
    }
}

async fn run(racer: Racer, ajar: &Ajar, request: &AccessRequest) -> Fared {
    match racer {
        Racer::Owner => Fared::Ended(close::revoke(ajar, &user("bob"), &request.id).await),
        Racer::Another => Fared::Ended(close::revoke(ajar, &user("alice"), &request.id).await),
        Racer::Extension(minutes) => {
            let input = ExtensionInput {
                duration: Some(format!("PT{minutes}M")),
                expected_end: request.end.map(|end| end.to_string()),
                ..ExtensionInput::default()
            };
            Fared::Extended(extend(ajar, &user("bob"), &request.id, &input).await)
        }
        Racer::Expiry => {
            while matches!(reconcile::reconcile(ajar, &nsg("web-nsg")).await.unwrap(), Outcome::Busy(_)) {}
            Fared::Done
        }
        Racer::Message => {
            decide::decide(ajar, &request.id).await.unwrap();
            Fared::Done
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_at_open_access_together_it_comes_out_one_way() {
    let azurite = azurite::azurite().await;
    let deployment = Deployment::new(&azurite.endpoint).await;
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    // Every set of them, and a message that comes again, all at once; then each one or two, with head starts that differ.
    let sets = 1_usize..1 << RACERS.len();
    let small = sets.clone().filter(|set| set.count_ones() <= 2);
    for (round, set) in sets.clone().chain(small).enumerate() {
        let has_head_starts = round >= sets.len();
        let chosen = (0..RACERS.len()).filter(|index| set >> index & 1 == 1).map(|index| RACERS[index]);
        let racers: Vec<Racer> = chosen.chain([Racer::Message]).collect();
        let place = format!("round {round}, {racers:?}");
        let source = format!("203.0.113.{round}");
        let asked = deployment.asked("bob", &source).await;
        let beside = deployment.asked("alice", NEIGHBOUR).await;
        deployment.world.deliver().await;
        let request = deployment.seen(&asked).await;
        assert_eq!((request.status, deployment.is_open(&source)), (Status::Active, true), "{place}");
        let end = request.end.unwrap();
        // Three seconds before the end; by the clock that is ahead it is over.
        deployment.world.clock.advance(end.duration_since(deployment.now()) - SignedDuration::from_secs(3));

        // Another request on the same VM has its steps in the same chain.
        let start = Arc::new(Barrier::new(racers.len() + 1));
        let mut running = JoinSet::new();
        let (ajar, other, at_once) = (deployment.instance(), beside.clone(), Arc::clone(&start));
        running.spawn(async move {
            dawdle(&ajar, 1).await;
            at_once.wait().await;
            close::revoke(&ajar, &other.requester, &other.id).await.unwrap();
            Fared::Done
        });
        for (index, racer) in racers.iter().copied().enumerate() {
            let ahead = SignedDuration::from_secs(4);
            let ajar =
                if racer == Racer::Expiry { deployment.instance_ahead(ahead) } else { deployment.instance() };
            let (start, request) = (Arc::clone(&start), request.clone());
            running.spawn(async move {
                // The first call makes the client's connection, which is not what is raced.
                dawdle(&ajar, 1).await;
                start.wait().await;
                if has_head_starts {
                    dawdle(&ajar, (round * 5 + index * 3) % 7).await;
                }
                run(racer, &ajar, &request).await
            });
        }
        let fared = running.join_all().await;

        deployment.settle().await;
        let after = deployment.seen(&request).await;
        let entries = deployment.history(&after, &place).await;
        let told = format!("{place}\n{fared:#?}\n{entries:#?}");
        let beside = deployment.seen(&beside).await;
        deployment.history(&beside, &format!("{place}, beside")).await;
        assert!(beside.status == Status::Closed && !deployment.is_open(NEIGHBOUR), "{told}");
        assert_eq!(deployment.is_open(&source), after.status == Status::Active, "{told}");

        let extensions: Vec<Timestamp> = fared
            .iter()
            .filter_map(|fared| match fared {
                Fared::Extended(Ok(request)) => request.end,
                _ => None,
            })
            .collect();
        assert_eq!(
            extensions.len(),
            count(&entries, "extended until"),
            "each that was told yes, and no other: {told}"
        );
        assert!(extensions.len() <= 1, "both knew the same end: {told}");
        for fared in &fared {
            match fared {
                Fared::Ended(answer) => {
                    let status = answer.as_ref().unwrap_or_else(|error| panic!("{error}: {told}")).status;
                    assert!(matches!(status, Status::Closing | Status::Closed), "{told}");
                }
                Fared::Extended(Err(error)) => {
                    assert!(matches!(error, AccessError::Conflict { .. }), "{error}: {told}");
                }
                Fared::Extended(Ok(_)) | Fared::Done => {}
            }
        }
        let ended = count(&entries, "ended");
        assert_eq!(after.close_reason == Some(CloseReason::Revoked), ended == 1, "one end: {told}");
        assert!(ended <= 1, "{told}");
        let is_revoked = racers.contains(&Racer::Owner) || racers.contains(&Racer::Another);
        let outcome = match (after.status, after.close_reason) {
            (Status::Active, None) => {
                assert!(
                    !is_revoked && extensions == [after.end.unwrap()],
                    "only an extension keeps it: {told}"
                );
                "extended"
            }
            (Status::Closed, Some(CloseReason::Revoked)) => {
                assert!(is_revoked, "{told}");
                "revoked"
            }
            (Status::Closed, Some(CloseReason::Expired)) => {
                assert!(extensions.is_empty(), "what was extended did not expire: {told}");
                "expired"
            }
            _ => panic!("{told}"),
        };
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
        close::revoke(&deployment.world.ajar, &user("bob"), &request.id).await.unwrap();
        deployment.world.deliver().await;
        assert!(!deployment.is_open(&source), "{told}");
    }
    for outcome in ["extended", "revoked", "expired"] {
        assert!(outcomes.contains_key(outcome), "no race came out {outcome}: {outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_is_withdrawn_while_it_is_decided_opens_once_or_never() {
    let azurite = azurite::azurite().await;
    let deployment = Deployment::new(&azurite.endpoint).await;
    for round in 0..16_usize {
        let place = format!("round {round}");
        let source = format!("203.0.113.{round}");
        let asked = deployment.asked("bob", &source).await;
        let racers = [Racer::Message, Racer::Owner, Racer::Message];
        let start = Arc::new(Barrier::new(racers.len()));
        let mut running = JoinSet::new();
        for (index, racer) in racers.into_iter().enumerate() {
            let (ajar, start, request) = (deployment.instance(), Arc::clone(&start), asked.clone());
            running.spawn(async move {
                dawdle(&ajar, 1).await;
                start.wait().await;
                dawdle(&ajar, if index == 1 { round } else { index }).await;
                run(racer, &ajar, &request).await
            });
        }
        let fared = running.join_all().await;
        deployment.settle().await;
        let after = deployment.seen(&asked).await;
        let entries = deployment.history(&after, &place).await;
        let opened = entries.iter().filter(|entry| entry.status == Status::Opening).count();
        match after.status {
            Status::Cancelled => assert_eq!(opened, 0, "{place}\n{entries:#?}"),
            Status::Closed => {
                assert_eq!(after.close_reason, Some(CloseReason::Revoked), "{place}\n{entries:#?}");
                assert!(opened >= 1, "{place}\n{entries:#?}");
            }
            _ => panic!("{place}\n{fared:#?}\n{entries:#?}"),
        }
        assert_eq!(count(&entries, "ended"), 1, "{place}\n{entries:#?}");
        assert!(!deployment.is_open(&source), "{place}\n{entries:#?}");
    }
}
