//! Why: the closed set of reasons that decisions and refusals carry.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ids::{CiName, PoolName, ProviderName},
    money::{Currency, Money, Period},
    offering::OfferingKey,
};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident $( { $($field:ident : $ty:ty),* $(,)? } )? => $code:literal, $say:expr;)*) => {
        /// Why something is done, kept or not done. Its words are for a person, its code for a machine.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case", tag = "code")]
        #[expect(missing_docs, reason = "the fields are told by the variant's words")]
        pub enum Reason {
            $($(#[doc = $doc])* $variant $( { $(#[schemars(with = "String")] $field: $ty),* } )?,)*
        }

        impl Reason {
            /// Every reason's code with what it means: the source of `docs/reasons.md`.
            pub const CATALOGUE: &'static [(&'static str, &'static str)] = &[
                $(($code, concat!($($doc),*)),)*
            ];

            /// The reason's code, as in JSON.
            pub fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant $( { $($field: _),* } )? => $code,)*
                }
            }
        }

        impl fmt::Display for Reason {
            #[expect(clippy::unnecessary_to_owned, reason = "some words are made, others are there")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $( { $($field),* } )? => f.pad(&$say),)*
                }
            }
        }
    };
}

reasons! {
    /// A machine is made because jobs wait or run that no machine has room for.
    Demand { queued: u32, running: u32, target: u32 } => "demand", format!("{queued} queued and {running} running jobs want {target} runners");
    /// A machine is made to keep the pool's `min`.
    MinSize { min: u32 } => "min_size", format!("min = {min}");
    /// A machine is made to keep the policy's idle runners ready.
    IdleBuffer { idle: u32 } => "idle_buffer", format!("{idle} kept idle by the policy");
    /// A shared resource is made because a pool needs it.
    Needed { by: PoolName } => "needed", format!("needed by pool {by}");
    /// A shared resource is changed because the stack file says otherwise.
    Differs { what: String } => "differs", format!("{what} differs from the stack file");
    /// A resource that an unfinished attempt of ours made is taken on record.
    Adopted => "adopted", "made by an attempt whose answer was lost".to_owned();
    /// An attempt that made nothing is closed, and its registration forgotten.
    NeverMade => "never_made", "an attempt that made nothing".to_owned();
    /// What was interrupted is gone on with: a delete, a change, or taking on record.
    Unfinished => "unfinished", "interrupted, and gone on with".to_owned();
    /// An idle machine is deleted just before its next paid hour begins.
    PaidHourEnds { paid_until: Timestamp } => "paid_hour_ends", format!("idle, and paid until {}", clock(*paid_until));
    /// An idle machine that is paid by the second has been idle for longer than it is worth.
    IdleTooLong { idle: SignedDuration } => "idle_too_long", format!("idle for {}", span(*idle));
    /// A machine that never registered with its CI is replaced.
    NeverReady { after: SignedDuration } => "never_ready", format!("not ready after {}", span(*after));
    /// A machine that the cloud calls broken or that is switched off is deleted.
    Broken { what: String } => "broken", what.clone();
    /// A machine that ended by itself is cleared away.
    Ended => "ended", "ended by itself".to_owned();
    /// A machine that the cloud took away is cleared away.
    Interrupted { what: String } => "interrupted", format!("taken away: {what}");
    /// A machine above the pool's `max` leaves.
    AboveMax { max: u32 } => "above_max", format!("above max = {max}");
    /// The pool, or the shared resource, is not in the stack file any more.
    NotInStack => "not_in_stack", "not in the stack file any more".to_owned();
    /// A shared resource goes because no machine uses it, and no pool names it.
    Unused => "unused", "no machine uses it any more".to_owned();
    /// Everything is being removed.
    Destroy => "destroy", "destroy".to_owned();
    /// A resource of our lineage without a record, seen twice.
    Orphan { since: Timestamp } => "orphan", format!("of our lineage without a record since {}", clock(*since));
    /// A registration of ours without a machine, seen twice.
    DeadRegistration { since: Timestamp } => "dead_registration", format!("registration without a machine since {}", clock(*since));
    /// A record whose resource the cloud does not have is dropped.
    Gone => "gone", "the cloud does not have it any more".to_owned();
    /// A cordoned machine is wanted again.
    WantedAgain => "wanted_again", "cordoned, and wanted again".to_owned();

    /// A machine is made in the place of one that leaves.
    Replacement { of: String } => "replacement", format!("takes the place of {of}");
    /// A machine leaves because it was made from something else than what the stack file says now.
    Outdated { what: String } => "outdated", format!("made from another {what}");
    /// A machine leaves because it is older than the pool's `max_age`.
    TooOld { age: SignedDuration, limit: SignedDuration } => "too_old", format!("{} old, max_age = {}", span(*age), span(*limit));
    /// A machine leaves because it has run the pool's `max_jobs`.
    WornOut { jobs: u32, limit: u32 } => "worn_out", format!("has run {jobs} jobs, max_jobs = {limit}");
    /// A machine leaves because a person asked for it with `--replace`.
    ReplaceAsked => "replace_asked", "asked for by --replace".to_owned();
    /// Someone else changed it, and it is changed back.
    Drifted { what: String } => "drifted", format!("changed by someone else: {what}");
    /// It has another address now, by a `moved` block or `state mv`.
    Moved { from: String } => "moved", format!("was {from}");
    /// Left alone: a person took it off the record with `state rm`.
    Released => "released", "taken off the record by state rm, and left alone".to_owned();
    /// Not told yet: another process has it in hand, and holds the lock.
    InProgress { by: String } => "in_progress", format!("in progress by {by}");
    /// It is taken on record because a person asked for it.
    AdoptAsked => "adopt_asked", "asked for by adopt".to_owned();
    /// Its record is made to say what is there because a person asked for it.
    AcceptAsked => "accept_asked", "asked for by refresh --accept".to_owned();

    /// Kept: it is to be made anew, and waits until it is idle and its turn comes.
    RollWaits { what: String } => "roll_waits", format!("{what}, waits for its turn");
    /// Kept: outdated, and the roll has stopped at a machine that did not become ready.
    RollStopped { at: String } => "roll_stopped", format!("the roll stopped: {at} did not become ready");
    /// Kept: the pool is protected.
    Protected => "protected", "protect = true".to_owned();
    /// Kept: what differs is among the pool's `ignore_changes`.
    IgnoredChange { what: String } => "ignored_change", format!("{what} differs, which ignore_changes lists");
    /// Not acted on: `--target` names other things.
    NotTargeted => "not_targeted", "--target names other things".to_owned();
    /// Kept as it is: the change takes making it anew, and machines use it.
    InUse { what: String, machines: u32 } => "in_use", format!("{what} differs, which only making it anew changes, and {machines} machine{} use{} it; one of another name lets the pool roll over to it", s(*machines), if *machines == 1 { "s" } else { "" });
    /// A subnet that the stack file does not have any more stays: machines stand in it.
    SubnetInUse { subnet: String, machines: u32 } => "subnet_in_use", format!("{machines} machine{} in subnet {subnet}, which goes after the last of them", s(*machines));
    /// Kept: it runs jobs.
    Busy { jobs: u32 } => "busy", if *jobs == 0 { "busy".to_owned() } else { format!("runs {jobs} job{}", s(*jobs)) };
    /// Kept: sources disagree on whether it runs jobs, or none says.
    BusyUnknown => "busy_unknown", "no certain word on whether it runs jobs".to_owned();
    /// Kept: the target wants it.
    WithinTarget { target: u32 } => "within_target", format!("within the target of {target}");
    /// Kept: idle, and its hour is paid.
    PaidUntil { until: Timestamp } => "paid_until", format!("paid until {}", clock(*until));
    /// Kept: idle, and not yet for long enough to be worth deleting.
    IdleShort { idle: SignedDuration, limit: SignedDuration } => "idle_short", format!("idle for {} of {}", span(*idle), span(*limit));
    /// Kept: booting, and its time is not over.
    Booting { age: SignedDuration, timeout: SignedDuration } => "booting", format!("booting for {} of {}", span(*age), span(*timeout));
    /// Kept: it is cordoned, and waits for its jobs.
    Draining => "draining", "cordoned, waits for its jobs".to_owned();

    /// Not shrunk: a CI's answer was partial.
    PartialDemand { ci: CiName, why: String } => "partial_demand", format!("{ci}'s answer was partial: {why}");
    /// Not shrunk, and not grown there: a cloud's answer was partial.
    PartialCloud { provider: ProviderName, why: String } => "partial_cloud", format!("{provider}'s answer was partial: {why}");
    /// Not grown further: the pool is at its `max`.
    MaxReached { wanted: u32, max: u32 } => "max_reached", format!("{wanted} wanted, max = {max}");
    /// Not grown further: the CI has as many runners as it is licensed for (`ci.NAME.max`), over all its pools.
    LicenceCeiling { ci: CiName, max: u32, wanted: u32 } => "licence_ceiling", format!("{ci} may have {max} runners over all its pools, {wanted} more wanted");
    /// Not grown further: the budget would be exceeded. `offering` is what the money would have bought, at `price` in the budget's period.
    BudgetReached { budget: Box<Money>, per: Period, left: Box<Money>, wanted: u32, offering: String, price: Box<Money> } => "budget_reached", format!("budget of {budget} {per} has no room for {wanted} more: {offering} would cost {price}, {left} is left");
    /// Not grown: something that runs is priced in a currency without a rate, so that no budget could be kept.
    BudgetBlind { currency: Currency, base: Currency } => "budget_blind", format!("what runs is priced in {currency}, which the budget cannot count: say what one is worth, [currency] base = \"{base}\", rates = {{ {currency} = \"…\" }}");
    /// An offering is passed over: its price cannot be compared, since its currency has no rate.
    NoRate { offering: Box<OfferingKey>, currency: Currency, base: Currency } => "no_rate", format!("{offering} is priced in {currency}, not {base}: say what one is worth, [currency] base = \"{base}\", rates = {{ {currency} = \"…\" }}");
    /// Nothing is asked of a cloud in this tick, since its answer was partial; others are.
    CloudPassedOver { provider: ProviderName, why: String } => "cloud_passed_over", format!("nothing is bought of {provider} now: {why}");
    /// Not grown further in this tick: `burst` machines are being made already.
    BurstReached { burst: u32, wanted: u32 } => "burst_reached", format!("burst = {burst}, {wanted} more wait for a later tick");
    /// Not grown: nothing that the pool may buy can be bought.
    NoOffering { why: String } => "no_offering", format!("no offering: {why}");
    /// An offering is passed over: it had no capacity a short while ago.
    CapacityRefused { offering: OfferingKey, until: Timestamp } => "capacity_refused", format!("{offering} had no capacity, asked again from {}", clock(*until));
    /// Not grown further in this tick: an offering that refused or failed lately is asked for a few at a time.
    SlowStart { offering: OfferingKey, launches: u32 } => "slow_start", if *launches == 0 { format!("{offering} refused or failed lately, and one is being tried") } else { format!("{offering} refused or failed lately, {launches} at a time") };
    /// Not grown: machines made like this failed one after the other.
    BreakerOpen { failures: u32, what: String, until: Timestamp } => "breaker_open", format!("{failures} machines in a row failed alike ({what}), tried again from {}", clock(*until));
    /// Nothing is created: the cloud holds resources with our stack's name and another lineage.
    ForeignPresent { count: u32 } => "foreign_present", format!("{count} resource{} with our stack's name and another lineage", s(*count));
    /// Left alone: it carries a lineage that `init --new-lineage` disowned.
    Disowned => "disowned", "of a lineage that was disowned".to_owned();
    /// Nothing is changed: the pool is in mode `advise`.
    Advise => "advise", "mode = \"advise\"".to_owned();
    /// Condemned once: deleted if a later tick sees it too.
    CondemnedOnce { since: Timestamp } => "condemned_once", format!("without a record since {}, deleted if seen again", clock(*since));
    /// A record that a listing lacked once: gone if a later listing lacks it too.
    MissingOnce { since: Timestamp } => "missing_once", format!("not listed since {}, gone if a later listing lacks it too", clock(*since));
    /// An attempt whose end is unknown and too young to judge.
    Unsettled { since: Timestamp } => "unsettled", format!("an attempt of {} whose end is unknown", clock(*since));
    /// Not destroyed: it runs jobs.
    BusyAtDestroy { jobs: u32 } => "busy_at_destroy", if *jobs == 0 { "still busy".to_owned() } else { format!("still runs {jobs} job{}", s(*jobs)) };
    /// Not deleted: a job came between the cordon and the second reading.
    BusyAfterCordon => "busy_after_cordon", "a job came before the cordon took effect".to_owned();
    /// Not deleted: the cordon did not take.
    CordonFailed { why: String } => "cordon_failed", format!("could not be cordoned: {why}");
    /// Not deleted: only a pause of all runners would let it go, which takes longer to settle than others' jobs may wait.
    SharedRunner => "shared_runner", "only a pause of all runners lets it go, and settle is too long for that".to_owned();
    /// Kept: nothing can be done from outside; it goes when it has left by itself.
    LeavesByItself => "leaves_by_itself", "goes when it has left by itself".to_owned();
    /// Kept: a batch stays on record while any of its containers runs, or may be listed yet.
    TasksRun => "tasks_run", "its containers run".to_owned();
    /// A batch leaves the record: all its containers have ended.
    TasksEnded => "tasks_ended", "its containers have ended".to_owned();
    /// Containers wait for their cloud, which says why: no node has room for them.
    TasksWait { why: String } => "tasks_wait", why.clone();
    /// Kept: idle, and younger than its policy lets go.
    TooYoung { age: SignedDuration, limit: SignedDuration } => "too_young", format!("{} old, min_age = {}", span(*age), span(*limit));
    /// A machine leaves because a job on it has been running for longer than its CI lets any: seen twice.
    StuckJob { job: String, limit: SignedDuration } => "stuck_job", format!("job {job} has run for longer than running_max = {}", span(*limit));
    /// Members of a group that run jobs, or may, are protected from what the cloud ends by itself, and no others.
    Protection { members: u32 } => "protection", format!("{members} member{} at work", s(*members));
    /// Nothing is done: the group is not there.
    GroupMissing { name: String } => "group_missing", format!("there is no group {name}");
    /// Nothing is done: somebody else sets the group's size.
    GroupGoverned { by: String } => "group_governed", format!("{by} sets the group's size: disable it, or leave the group to it");
    /// Not now: the group is not to be changed at this moment.
    GroupWaits { why: String } => "group_waits", why.clone();
    /// Not raised: a member leaves by this plan, and one plan does not do both.
    GroupLeaves => "group_leaves", "a member leaves first".to_owned();
    /// Kept: the group may not be smaller than this.
    GroupMinimum { min: u32 } => "group_minimum", format!("the group's own minimum is {min}");
    /// An offering is passed over: it costs more than `max_price` now.
    AbovePriceCap { offering: OfferingKey, cap: Money } => "above_price_cap", format!("{offering} costs more than max_price = {cap}");
    /// Jobs that wait are no demand: their CI holds them back, they are too old, or no pool could run them.
    PassedOver { jobs: u32, why: String } => "passed_over", format!("{jobs} waiting job{} not counted: {why}", s(*jobs));
    /// A machine has become ready, and its `after_ready` hooks have not run.
    BecameReady => "became_ready", "became ready".to_owned();
    /// Not done now: a hook that goes before it failed. The next tick tries again.
    HookFailed { moment: String, why: String } => "hook_failed", format!("its {moment} hook failed: {why}");
    /// A machine is made because the conditions of a step hold.
    StepAdds { step: String, what: String } => "step_adds", format!("step {step}: {what}");
    /// A machine is made in the place of one that failed or is gone: the policy `step` keeps the size that it came to.
    SizeKept { size: u32 } => "size_kept", format!("the size that the steps came to is {size}");
    /// A step does not act: what it goes by is not known.
    StepUnknown { step: String, why: String } => "step_unknown", format!("step {step}: {why}");
    /// A step does not act: its conditions have not held for long enough.
    StepPending { step: String, since: Timestamp, hold: SignedDuration } => "step_pending", format!("step {step} holds since {}, for = {}", clock(*since), span(*hold));
    /// A step does not act: one acted a short while ago.
    StepCools { step: String, after: String, until: Timestamp } => "step_cools", format!("step {step} cools down until {}, after {after}", clock(*until));
    /// A step does not act: the machines that are wanted already are not all ready.
    StepWarmsUp { step: String, ready: u32, size: u32 } => "step_warms_up", format!("step {step} waits: {ready} of {size} machines {} ready", if *ready == 1 { "is" } else { "are" });
    /// A step does not remove: what was removed before has not left yet.
    StepLeaving { step: String, serving: u32, size: u32 } => "step_leaving", format!("step {step} waits: {} of an earlier removal ha{} not left yet", serving.saturating_sub(*size), if serving.saturating_sub(*size) == 1 { "s" } else { "ve" });
    /// A step does not act: another goes before it.
    StepBehind { step: String, other: String } => "step_behind", format!("step {step} holds, and step {other} goes before it");
    /// Its user data is larger than the provider takes.
    UserDataTooLarge { bytes: u64, limit: u64 } => "user_data_too_large", format!("user data of {bytes} bytes, the provider takes {limit}");
}

fn s(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A time of day in UTC, for a line that a person reads now.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// A length of time in two units: `1h 5m`, `40s`.
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m, s) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_json_is_the_code_in_the_catalogue() {
        let reason = Reason::Demand {
            queued: 5,
            running: 0,
            target: 3,
        };
        let json = serde_json::to_value(&reason).unwrap();
        assert_eq!(json["code"], reason.code());
        assert!(Reason::CATALOGUE.iter().any(|(code, _)| *code == reason.code()));
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Reason::CATALOGUE.iter().map(|(code, _)| code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::CATALOGUE.len());
    }
}
