//! The loop under virtual time: what it does when, and what it tells.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use tokio::sync::watch::Sender;

use super::*;
use crate::{
    state::lock::lock_info,
    tick::{Clock, LastTick},
    watch::schedule::QuotaUse,
};

const INTERVAL: Duration = Duration::from_secs(60);

/// What the world does next, and what it was asked for.
#[derive(Default)]
struct Script {
    /// Whether the lock is had, the last for ever.
    leads: VecDeque<bool>,
    ends: VecDeque<Ended>,
    reloads: VecDeque<Reloaded>,
    takes: Duration,
    changed: bool,
    lost: bool,
    said: Vec<String>,
    /// When each tick began, in seconds.
    ticks: Vec<u64>,
}

struct World {
    script: Rc<RefCell<Script>>,
    began: Instant,
    stop: Sender<u32>,
}

fn ended(outcome: Outcome) -> Ended {
    Ended {
        outcome,
        reads: Vec::new(),
        due: None,
    }
}

#[async_trait(?Send)]
impl Ticker for World {
    async fn lead(&mut self) -> Result<Lead, String> {
        let mut script = self.script.borrow_mut();
        let leads = script.leads.front().copied();
        if script.leads.len() > 1 {
            script.leads.pop_front();
        }
        match leads {
            None => Err("no answer".into()),
            Some(true) => {
                script.lost = false;
                Ok(Lead::Ours(Vec::new()))
            }
            Some(false) => {
                let mut info = lock_info("watch");
                info.id = "theirs".into();
                Ok(Lead::Anothers(Box::new(info)))
            }
        }
    }

    async fn tick(&mut self) -> Ended {
        let (takes, end) = {
            let mut script = self.script.borrow_mut();
            script.ticks.push(self.began.elapsed().as_secs());
            let end = script.ends.pop_front();
            (script.takes, end)
        };
        tokio::time::sleep(takes).await;
        end.unwrap_or_else(|| {
            self.stop.send_replace(1);
            ended(Outcome::Done)
        })
    }

    fn holds(&self) -> bool {
        !self.script.borrow().lost
    }

    async fn still_holds(&mut self) -> bool {
        self.holds()
    }

    async fn reload(&mut self, _: Trigger) -> Reloaded {
        let mut script = self.script.borrow_mut();
        script.changed = false;
        script.reloads.pop_front().unwrap_or(Reloaded::Same)
    }

    fn changed(&mut self) -> bool {
        self.script.borrow().changed
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn now(&self) -> Timestamp {
        Clock::of(|| Timestamp::UNIX_EPOCH).now()
    }

    fn say(&mut self, said: &Said<'_>) {
        let text = match said {
            Said::Leads { again, .. } => format!("leads, again: {again}"),
            Said::StandsBy { .. } => "stands by".into(),
            Said::Lost => "lost".into(),
            Said::Ticked { number, ended, .. } => format!("tick {number} {}", ended.outcome.as_str()),
            Said::Reloaded { trigger } => format!("reloaded by {trigger:?}"),
            Said::NotReloaded { trigger } => format!("not reloaded by {trigger:?}"),
            Said::Trouble { why, .. } => format!("trouble: {why}"),
            Said::Stopping => "stopping".into(),
        };
        self.script.borrow_mut().said.push(text);
    }
}

/// A world and its wires.
struct Stage {
    script: Rc<RefCell<Script>>,
    board: Board,
    stop: Sender<u32>,
    reload: Sender<u32>,
    world: World,
    orders: Orders,
}

fn stage(script: Script) -> Stage {
    let script = Rc::new(RefCell::new(script));
    let ((stop, stopped), (reload, reloads)) = (watch::channel(0), watch::channel(0));
    Stage {
        world: World {
            script: Rc::clone(&script),
            began: Instant::now(),
            stop: stop.clone(),
        },
        script,
        board: Board::new("prod", INTERVAL, LastTick::default()),
        stop,
        reload,
        orders: Orders {
            stop: stopped,
            reload: reloads,
        },
    }
}

/// Runs the loop until its script has ended, beside what somebody else does.
async fn play(
    mut stage: Stage,
    beside: impl AsyncFnOnce(&Sender<u32>, &Sender<u32>, &Rc<RefCell<Script>>),
) -> (Left, Vec<String>, Vec<u64>) {
    let notifier = Notifier::default();
    let run = run(&mut stage.world, &stage.board, &notifier, stage.orders, 7);
    let beside = async {
        beside(&stage.stop, &stage.reload, &stage.script).await;
        std::future::pending::<()>().await;
    };
    let left = tokio::select! { left = run => left, () = beside => Left::Between };
    let script = stage.script.borrow();
    (left, script.said.clone(), script.ticks.clone())
}

async fn nothing(_: &Sender<u32>, _: &Sender<u32>, _: &Rc<RefCell<Script>>) {}

fn near(seconds: u64, wanted: u64) -> bool {
    seconds.abs_diff(wanted) <= wanted / 8 + 1
}

#[tokio::test(start_paused = true)]
async fn a_leader_ticks_at_the_interval_until_a_signal_comes_between_ticks() {
    let script = Script {
        leads: [true].into(),
        ends: vec![ended(Outcome::Done); 3].into(),
        takes: Duration::from_secs(5),
        ..Script::default()
    };
    let (left, said, ticks) = play(stage(script), nothing).await;
    assert_eq!(left, Left::Between);
    assert_eq!(
        said,
        [
            "leads, again: false",
            "tick 1 done",
            "tick 2 done",
            "tick 3 done",
            "tick 4 done",
            "stopping"
        ]
    );
    assert_eq!(ticks.len(), 4);
    for (count, tick) in ticks.windows(2).enumerate() {
        assert!(near(tick[1] - tick[0], 60), "pause {count}: {ticks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_stands_by_says_so_once_and_takes_over_within_seconds() {
    let script = Script {
        leads: [false, false, false, false, true].into(),
        ..Script::default()
    };
    let (_, said, ticks) = play(stage(script), nothing).await;
    assert_eq!(said[..2], ["stands by", "leads, again: false"]);
    assert!((15..=25).contains(&ticks[0]), "{ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_success_ends_that() {
    let failed = ended(Outcome::Failed);
    let script = Script {
        leads: [true].into(),
        ends: [
            failed.clone(),
            failed.clone(),
            failed.clone(),
            ended(Outcome::Done),
            failed,
        ]
        .into(),
        ..Script::default()
    };
    let (_, _, ticks) = play(stage(script), nothing).await;
    let pauses: Vec<u64> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, wanted) in pauses.iter().zip([7, 15, 30, 60, 7]) {
        assert!(near(*pause, wanted), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_stretches_the_pause_and_what_is_due_shortens_it() {
    let due = Ended {
        due: Some(Duration::from_secs(10)),
        ..ended(Outcome::Done)
    };
    let greedy = Ended {
        reads: vec![QuotaUse {
            place: "providers.hetzner".into(),
            calls: 100,
            per_hour: 3600,
        }],
        ..due.clone()
    };
    let script = Script {
        leads: [true].into(),
        ends: [due, greedy].into(),
        ..Script::default()
    };
    let (_, _, ticks) = play(stage(script), nothing).await;
    assert!(
        near(ticks[1] - ticks[0], 10) && near(ticks[2] - ticks[1], 200),
        "{ticks:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_signal_in_a_tick_ends_it_there() {
    let script = Script {
        leads: [true].into(),
        ends: [ended(Outcome::Done), ended(Outcome::Interrupted)].into(),
        ..Script::default()
    };
    let (left, said, _) = play(stage(script), nothing).await;
    assert_eq!(left, Left::InTick);
    assert_eq!(said.last().unwrap(), "stopping");
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_a_rest_at_once_and_standing_by_too() {
    for leads in [true, false] {
        let script = Script {
            leads: [leads].into(),
            ends: vec![ended(Outcome::Done); 9].into(),
            ..Script::default()
        };
        let stage = stage(script);
        let began = Instant::now();
        let (left, _, _) = play(stage, async |stop: &Sender<u32>, _, _| {
            tokio::time::sleep(Duration::from_secs(31)).await;
            stop.send_replace(1);
        })
        .await;
        assert_eq!((left, began.elapsed().as_secs()), (Left::Between, 31));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hangup_and_a_changed_file_are_read_and_the_next_tick_is_at_once() {
    let script = Script {
        leads: [true].into(),
        ends: vec![ended(Outcome::Done); 2].into(),
        reloads: [
            Reloaded::Refused,
            Reloaded::Taken,
            Reloaded::Same,
            Reloaded::Taken,
        ]
        .into(),
        ..Script::default()
    };
    let (_, said, ticks) = play(
        stage(script),
        async |_, reload: &Sender<u32>, script: &Rc<RefCell<Script>>| {
            for seconds in [10, 10] {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                reload.send_modify(|count| *count += 1);
            }
            for seconds in [10, 10] {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                script.borrow_mut().changed = true;
            }
        },
    )
    .await;
    assert_eq!(
        said,
        [
            "leads, again: false",
            "tick 1 done",
            "not reloaded by Signal",
            "reloaded by Signal",
            "leads, again: true",
            "tick 2 done",
            "reloaded by File",
            "leads, again: true",
            "tick 3 done",
            "stopping"
        ]
    );
    // What was refused, and what says the same, makes no tick.
    assert_eq!(ticks[1], 20);
    assert!((40..=42).contains(&ticks[2]), "{ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_noticed_at_rest_and_asked_for_again() {
    let script = Script {
        leads: [true, false, true].into(),
        ends: vec![ended(Outcome::Done); 1].into(),
        ..Script::default()
    };
    let (_, said, _) = play(stage(script), async |_, _, script: &Rc<RefCell<Script>>| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        script.borrow_mut().lost = true;
    })
    .await;
    assert_eq!(
        said,
        [
            "leads, again: false",
            "tick 1 done",
            "lost",
            "stands by",
            "leads, again: false",
            "tick 2 done",
            "stopping"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_asked_for_is_tried_more_and_more_seldom() {
    let (_, said, ticks) = play(
        stage(Script::default()),
        async |stop: &Sender<u32>, _, script: &Rc<RefCell<Script>>| {
            tokio::time::sleep(Duration::from_secs(100)).await;
            script.borrow_mut().leads.push_back(true);
            tokio::time::sleep(Duration::from_secs(400)).await;
            stop.send_replace(1);
        },
    )
    .await;
    let troubles = said
        .iter()
        .filter(|said| said.as_str() == "trouble: no answer")
        .count();
    assert!((4..=5).contains(&troubles), "{said:?}");
    assert_eq!(ticks.len(), 1, "{said:?}");
}

#[cfg(feature = "object")]
mod over_a_bucket {
    use std::sync::{Arc, Mutex};

    use object_store::{ObjectStore, memory::InMemory};

    use super::*;
    use crate::state::{
        Lease, StateStore as _,
        object::{LeaseTimes, ObjectOptions, ObjectState, ServerClock},
    };

    const LEASE: Duration = Duration::from_secs(2);
    const LONGEST_CALL: Duration = Duration::from_millis(200);

    /// A watch that does nothing in its ticks but count them.
    struct Over {
        store: ObjectState,
        lease: Option<Lease>,
        said: Arc<Mutex<Vec<String>>>,
    }

    impl Over {
        fn new(objects: &Arc<InMemory>, said: &Arc<Mutex<Vec<String>>>) -> Self {
            let options = ObjectOptions {
                prefix: String::new(),
                place: "s3://bucket".to_owned(),
                keep: 1,
                times: LeaseTimes {
                    length: LEASE,
                    longest_call: LONGEST_CALL,
                },
                clock: ServerClock::default(),
            };
            let objects = Arc::clone(objects) as Arc<dyn ObjectStore>;
            Self {
                store: ObjectState::new(objects, &"prod".into(), options),
                lease: None,
                said: Arc::clone(said),
            }
        }

        async fn run(mut self, stop: watch::Receiver<u32>) {
            let board = Board::new("prod", self.interval(), LastTick::default());
            let (_never, reload) = watch::channel(0);
            let orders = Orders { stop, reload };
            run(&mut self, &board, &Notifier::default(), orders, 3).await;
        }
    }

    #[async_trait(?Send)]
    impl Ticker for Over {
        async fn lead(&mut self) -> Result<Lead, String> {
            match self.store.lock(&lock_info("watch"), Duration::ZERO).await {
                Ok(lease) => {
                    self.lease = Some(lease);
                    Ok(Lead::Ours(Vec::new()))
                }
                Err(crate::state::StateError::Locked { holder }) => Ok(Lead::Anothers(holder)),
                Err(error) => Err(error.to_string()),
            }
        }

        async fn tick(&mut self) -> Ended {
            ended(Outcome::Done)
        }

        fn holds(&self) -> bool {
            let until = self.lease.as_ref().and_then(|lease| lease.until.as_ref());
            until.is_some_and(|until| until.at() > Clock::system().now())
        }

        async fn still_holds(&mut self) -> bool {
            self.holds()
        }

        async fn reload(&mut self, _: Trigger) -> Reloaded {
            Reloaded::Same
        }

        fn changed(&mut self) -> bool {
            false
        }

        fn interval(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn now(&self) -> Timestamp {
            Clock::system().now()
        }

        fn say(&mut self, said: &Said<'_>) {
            let word = match said {
                Said::Leads { .. } => "leads",
                Said::StandsBy { .. } => "stands by",
                Said::Lost => "lost",
                Said::Trouble { .. } => "trouble",
                _ => return,
            };
            self.said.lock().unwrap().push(word.to_owned());
        }
    }

    async fn until(said: &Arc<Mutex<Vec<String>>>, wanted: &[&str]) {
        let heard = async {
            while *said.lock().unwrap() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), heard).await;
        assert!(heard.is_ok(), "{:?} and not {wanted:?}", said.lock().unwrap());
    }

    /// A process that stops for good, or whose host does: whatever it did, it renews no more.
    #[tokio::test]
    async fn when_a_leader_renews_its_lease_no_more_the_other_takes_over_once_it_has_ended() {
        let objects = Arc::new(InMemory::new());
        let (first, second) = (Arc::default(), Arc::default());
        let (stop, stopped) = watch::channel(0);
        let frozen = Over::new(&objects, &first);
        let dies = stopped.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "another process, whose clock can stand still"
        )]
        let host = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut dies = dies;
            runtime.block_on(async {
                tokio::select! {
                    () = frozen.run(watch::channel(0).1) => {}
                    _ = dies.wait_for(|count| *count > 0) => {}
                }
            });
        });
        until(&first, &["leads"]).await;
        let (ends, ended) = watch::channel(0);
        let other = Over::new(&objects, &second).run(ended);
        let checks = async {
            until(&second, &["stands by"]).await;
            stop.send_replace(1);
            tokio::task::spawn_blocking(|| host.join().unwrap())
                .await
                .unwrap();
            let died = Instant::now();
            until(&second, &["stands by", "leads"]).await;
            let took = died.elapsed();
            assert!(took < LEASE + LONGEST_CALL + Duration::from_secs(5), "{took:?}");
            ends.send_replace(1);
        };
        tokio::join!(other, checks);
    }

    #[tokio::test]
    async fn a_leader_whose_lock_is_taken_by_force_says_so_and_asks_for_it_again() {
        let objects = Arc::new(InMemory::new());
        let said = Arc::default();
        let (ends, ended) = watch::channel(0);
        let leader = Over::new(&objects, &said).run(ended);
        let checks = async {
            until(&said, &["leads"]).await;
            let person = Over::new(&objects, &Arc::default());
            let holder = person.store.holder().await.unwrap().unwrap();
            person.store.unlock_by_force(&holder.id).await.unwrap();
            until(&said, &["leads", "lost", "leads"]).await;
            ends.send_replace(1);
        };
        tokio::join!(leader, checks);
    }
}
