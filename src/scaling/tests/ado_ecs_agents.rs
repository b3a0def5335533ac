//! The state machine of ado-ecs-agents and `ado-delta`, side by side on the same loads.
//!
//! Both have the same agents: a task boots for a while, its agent takes the job that has waited longest, and ends after it. The
//! old one sees what its Lambda saw (jobs that wait, agents that are online and free) and does what its steps did; ours is asked
//! for a target, and what is too many leaves as a plan lets it: who is free, and nobody else.

use proptest::prelude::*;

use super::*;
use crate::stack::Policy;

/// Between two turns of either, in seconds: `rate(2 minutes)`.
const EVERY: u32 = 120;
/// A step of the world, in seconds.
const STEP: u32 = 10;
/// A day that is longer than every load here.
const END: u32 = 12 * 3600;

/// A job: when it is queued, and for how long it runs, in seconds.
#[derive(Clone, Copy, Debug)]
struct Job {
    at: u32,
    takes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    /// Until then.
    Boots(u32),
    Free,
    /// Until then.
    Works(u32),
}

/// What came of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Day {
    /// Tasks that were started.
    started: u32,
    /// Agents that were deregistered while they worked, or waited for their first job.
    cut: u32,
    /// Jobs that ended.
    done: usize,
    /// The most tasks at once.
    most: usize,
    /// Tasks that are left at the end.
    left: usize,
    /// When the last job ended.
    last: u32,
}

/// What a turn changes.
struct Turn {
    starts: u32,
    /// Agents that leave, by their place.
    leaves: Vec<usize>,
}

/// Its Step Functions machine.
fn state_machine(waiting: u32, agents: &[Agent]) -> Turn {
    let idle = agents.iter().filter(|agent| **agent == Agent::Free).count();
    let delta = i64::from(waiting) - i64::try_from(idle).unwrap();
    Turn {
        starts: u32::try_from(delta).unwrap_or(0),
        // Every task of the family that runs, however many are too many. One that boots has no agent yet to be deregistered.
        leaves: match delta {
            ..0 => (0..agents.len())
                .filter(|at| !matches!(agents[*at], Agent::Boots(_)))
                .collect(),
            _ => Vec::new(),
        },
    }
}

/// The policy that takes its place.
fn ado_delta(pool: &Pool, waiting: u32, agents: &[Agent]) -> Turn {
    let count =
        |is: fn(&Agent) -> bool| u32::try_from(agents.iter().filter(|agent| is(agent)).count()).unwrap();
    let busy = count(|agent| matches!(agent, Agent::Works(_)));
    let have = Have {
        serving: u32::try_from(agents.len()).unwrap(),
        booting: count(|agent| matches!(agent, Agent::Boots(_))),
        busy,
        free: count(|agent| *agent == Agent::Free),
    };
    let target = target(pool, load(waiting, busy), have, &Sight::default());
    let free = (0..agents.len()).filter(|at| agents[*at] == Agent::Free);
    Turn {
        starts: target.size.saturating_sub(have.serving),
        leaves: free
            .take(have.serving.saturating_sub(target.size).try_into().unwrap())
            .collect(),
    }
}

fn day(jobs: &[Job], boot: u32, turn: impl Fn(u32, &[Agent]) -> Turn) -> Day {
    let mut day = Day::default();
    let mut agents: Vec<Agent> = Vec::new();
    let mut queue: Vec<u32> = Vec::new();
    for now in (0..END).step_by(STEP.try_into().unwrap()) {
        queue.extend(
            jobs.iter()
                .filter(|job| job.at / STEP == now / STEP)
                .map(|job| job.takes),
        );
        agents.retain_mut(|agent| match *agent {
            Agent::Boots(until) if until <= now => {
                *agent = Agent::Free;
                true
            }
            Agent::Works(until) if until <= now => {
                (day.done, day.last) = (day.done + 1, now);
                false
            }
            _ => true,
        });
        for agent in &mut agents {
            if *agent == Agent::Free && !queue.is_empty() {
                *agent = Agent::Works(now + queue.remove(0));
            }
        }
        if now % EVERY == 0 {
            let turn = turn(u32::try_from(queue.len()).unwrap(), &agents);
            for at in turn.leaves.into_iter().rev() {
                // What deleting an agent at work does is published nowhere: here its job goes on, and is counted as cut.
                match agents[at] {
                    Agent::Works(_) => day.cut += 1,
                    _ => {
                        agents.remove(at);
                    }
                }
            }
            day.started += turn.starts;
            agents.extend((0..turn.starts).map(|_| Agent::Boots(now + boot)));
        }
        day.most = day.most.max(agents.len());
    }
    day.left = agents.len();
    day
}

fn licensed(max: u32) -> Pool {
    Pool {
        policy: Policy::AdoDelta,
        jobs_per_runner: 1,
        ..sized(0, max, 0)
    }
}

#[test]
fn the_old_state_machine_starts_what_boots_again_and_again_and_ours_once() {
    // Three jobs, and tasks that boot for five minutes: at 0, 2 and 4 minutes nobody is free.
    let jobs = [Job { at: 0, takes: 600 }; 3];
    let old = day(&jobs, 300, state_machine);
    assert_eq!((old.started, old.most, old.done), (9, 9, 3));
    let ours = day(&jobs, 300, |waiting, agents| {
        ado_delta(&licensed(20), waiting, agents)
    });
    assert_eq!((ours.started, ours.most, ours.done), (3, 3, 3));
    assert_eq!(ours.last, old.last, "and nobody waits for longer");
}

#[test]
fn the_old_state_machine_deregisters_who_works_and_ours_nobody() {
    // One long job, and what was started for it twice: when the second one is up, one is too many.
    let jobs = [Job { at: 0, takes: 3600 }];
    let old = day(&jobs, 200, state_machine);
    assert!(old.cut > 0, "{old:?}");
    let ours = day(&jobs, 200, |waiting, agents| {
        ado_delta(&licensed(20), waiting, agents)
    });
    assert_eq!((ours.cut, ours.started, ours.left), (0, 1, 0));
}

prop_compose! {
    fn a_load()(
        bursts in prop::collection::vec((0_u32..5400, 1_usize..8, 10_u32..1800), 1..8),
    ) -> Vec<Job> {
        let jobs = bursts.into_iter().flat_map(|(at, count, takes)| vec![Job { at, takes }; count]);
        jobs.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A task for each job and no more, none above the licences, nobody cut off, nothing left.
    #[test]
    fn the_old_state_machine_and_ours_are_played_side_by_side(jobs in a_load(), boot in 10_u32..400, max in 5_u32..40) {
        let old = day(&jobs, boot, state_machine);
        let ours = day(&jobs, boot, |waiting, agents| ado_delta(&licensed(max), waiting, agents));
        prop_assert_eq!(ours.done, jobs.len());
        prop_assert_eq!((ours.cut, ours.left), (0, 0));
        prop_assert_eq!(ours.started as usize, jobs.len());
        prop_assert!(ours.most <= max as usize);
        prop_assert!(old.started >= ours.started, "{:?} {:?}", old, ours);
        // With room for all, nobody waits for longer than until the next turn and for a boot.
        if max as usize >= jobs.len() {
            let over = jobs.iter().map(|job| job.at + job.takes).max().unwrap();
            prop_assert!(ours.last <= over + EVERY + boot + 2 * STEP, "{:?}", ours);
        }
    }
}
