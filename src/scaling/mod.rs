//! How many machines a pool should have, and how many may be made now.
//!
//! `queue`: `clamp(ceil((queued + running) / jobs_per_runner) + idle, min, max)`. Machines that boot count as serving,
//! attempts without an outcome too.
//!
//! `drone-autoscaler`, `asg-increment` and `ado-delta` are the rules of systems that this one replaces, so that a fleet can be moved
//! over as it is. What those got wrong is mended here: capacity that is free or booting is counted, and no size is above
//! `max`. docs/migrating/ has each step beside its original. `step` is do-scaler's: [`step`] has it.

mod learn;
mod load;
mod spend;
pub mod step;

pub use learn::{BREAKER_MEMORY, learn};
pub use load::{Load, loads};
pub use step::{Sight, Stepped, remember};

use crate::{
    model::reason::Reason,
    stack::{Policy, Pool},
};

/// The size that a pool should have, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it should have.
    pub size: u32,
    /// What it would have without `min` and `max`.
    pub wanted: u32,
    /// The machines that its jobs need.
    pub work: u32,
    /// For a person: `ceil((5 + 0) / 2) + 0 = 3`.
    pub formula: String,
    /// How steps came to it; none with another policy.
    pub stepped: Option<Box<Stepped>>,
}

/// What a pool has, for the policies that go by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Machines that serve or will.
    pub serving: u32,
    /// Machines of these that are not ready yet.
    pub booting: u32,
    /// Machines of these that run jobs, or may.
    pub busy: u32,
    /// Jobs that the ready ones of these could take beside those that they run.
    pub free: u32,
}

/// The target of a pool under this load; `sight` is what the policy `step` goes by, and no other.
pub fn target(pool: &Pool, load: Load, have: Have, sight: &Sight<'_>) -> Target {
    let mut target = match &pool.policy {
        Policy::Step(policy) => step::target(pool, policy, have, sight),
        _ => by_jobs(pool, load, have),
    };
    let bound = match target.size.cmp(&target.wanted) {
        std::cmp::Ordering::Less => format!(", max = {}", pool.max),
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!(", min = {}", pool.min),
    };
    target.formula.push_str(&bound);
    target
}

/// The target by the jobs that wait and run.
fn by_jobs(pool: &Pool, load: Load, have: Have) -> Target {
    let per = pool.jobs_per_runner.max(1);
    let (work, wanted, how) = match &pool.policy {
        Policy::Queue { idle } => {
            let idle = *idle;
            let work = load.queued.saturating_add(load.running).div_ceil(per);
            let how = format!("ceil(({} + {}) / {per}) + {idle}", load.queued, load.running);
            (work, work.saturating_add(idle), how)
        }
        Policy::DroneAutoscaler { .. } if load.queued == 0 => (have.busy, have.busy, "busy".to_owned()),
        Policy::DroneAutoscaler { .. } => {
            let room = have.free.saturating_add(have.booting.saturating_mul(per));
            let wanted = have
                .serving
                .saturating_add(load.queued.saturating_sub(room).div_ceil(per));
            let how = format!(
                "{} + ceil(max({} - {room}, 0) / {per})",
                have.serving, load.queued
            );
            (wanted, wanted, how)
        }
        Policy::AdoDelta => {
            let room = have.free.saturating_add(have.booting.saturating_mul(per));
            let more = load.queued.saturating_sub(room).div_ceil(per);
            // What is at work is not too many, whatever slots it has left.
            let spare = have.serving.saturating_sub(have.busy);
            let fewer = (room.saturating_sub(load.queued) / per).min(spare);
            let wanted = have.serving.saturating_add(more).saturating_sub(fewer);
            let how = format!("{} + ({} - {room}) / {per}", have.serving, load.queued);
            (wanted, wanted, how)
        }
        Policy::AsgIncrement | Policy::Step(_) => {
            let room = have.booting.saturating_mul(per);
            let wanted = have
                .serving
                .saturating_add(load.queued.saturating_sub(room).div_ceil(per));
            let how = format!(
                "{} + ceil(max({} - {room}, 0) / {per})",
                have.serving, load.queued
            );
            (wanted, wanted, how)
        }
    };
    Target {
        size: wanted.max(pool.min).min(pool.max),
        wanted,
        work,
        formula: format!("{how} = {wanted}"),
        stepped: None,
    }
}

/// Why the machine with this ordinal (from zero) is wanted.
pub fn reason(pool: &Pool, load: Load, target: &Target, ordinal: u32) -> Reason {
    if let Some(stepped) = &target.stepped {
        return match &stepped.acted {
            _ if ordinal < pool.min => Reason::MinSize { min: pool.min },
            Some((step, what)) if ordinal >= stepped.before => Reason::StepAdds {
                step: step.clone(),
                what: what.clone(),
            },
            _ => Reason::SizeKept { size: stepped.before },
        };
    }
    let idle = match pool.policy {
        Policy::Queue { idle } => idle,
        Policy::DroneAutoscaler { .. } | Policy::AsgIncrement | Policy::AdoDelta | Policy::Step(_) => 0,
    };
    if ordinal < target.work {
        Reason::Demand {
            queued: load.queued,
            running: load.running,
            target: target.size,
        }
    } else if ordinal < target.wanted {
        Reason::IdleBuffer { idle }
    } else {
        Reason::MinSize { min: pool.min }
    }
}

/// What limits how many machines a pool may be given in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Machines that serve or will.
    pub serving: u32,
    /// Machines that exist in any way: those that leave too, and attempts without an outcome.
    pub existing: u32,
    /// Machines in creation: booting, or attempts without an outcome.
    pub booting: u32,
}

/// How many machines to make, and what held more back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// This many.
    pub create: u32,
    /// What held more back, with how many.
    pub limits: Vec<(u32, Reason)>,
}

/// How many machines to make for a target: never above `max`, whatever exists; never more than `burst` in creation.
pub fn growth(pool: &Pool, target: &Target, room: Room) -> Growth {
    let mut growth = Growth {
        create: target.size.saturating_sub(room.serving),
        limits: Vec::new(),
    };
    let fit = pool.max.saturating_sub(room.existing);
    let beyond = target.wanted.saturating_sub(target.size) + growth.create.saturating_sub(fit);
    if beyond > 0 {
        let reason = Reason::MaxReached {
            wanted: target.wanted.max(target.size),
            max: pool.max,
        };
        growth.limits.push((beyond, reason));
    }
    growth.create = growth.create.min(fit);
    if let Some(burst) = pool.burst {
        let now = growth.create.min(burst.saturating_sub(room.booting));
        let wanted = growth.create - now;
        if wanted > 0 {
            growth
                .limits
                .push((wanted, Reason::BurstReached { burst, wanted }));
        }
        growth.create = now;
    }
    growth
}

#[cfg(test)]
mod tests;
