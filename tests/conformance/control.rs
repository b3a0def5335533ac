//! What every CI must let be done to its runners, and how its runners leave.

use jiff::SignedDuration;
use runfleet::{
    demand::{DemandError, RunnerReading},
    model::ids::RegistrationId,
};
use secrecy::ExposeSecret;

use crate::ci::{
    Bench, Cases, MACHINE,
    Need::{
        Cordons, CordonsAhead, CountsJobs, ListsRunners, OwnRegistrations, ReadsJobs, TellsPauses,
        Trouble as Makes,
    },
    OTHER, Trouble, Work, case, counted, joined, registered, view, whole,
};

/// In the order of the page.
#[rustfmt::skip]
pub(crate) fn cases() -> Cases {
    vec![
        case!(machines_are_told_apart, Anyone, [],
            "each has an id of its own"),
        case!(each_machine_has_a_token_of_its_own, Anyone, [OwnRegistrations],
            "and what is done to one registration is done to no other"),
        case!(a_lost_reply_of_register_leaves_a_registration_that_can_be_found, Anyone, [Makes(Trouble::RegisterReplyLost)],
            "there is one, and its machine can join with it"),
        case!(forgetting_twice_is_fine, Anyone, [],
            "and forgetting what never was"),
        case!(what_was_forgotten_is_gone, Anyone, [OwnRegistrations, ListsRunners],
            "from the listing, and from its own reading"),
        case!(a_lost_answer_to_forgetting_is_settled_by_repeating_it, Anyone, [Makes(Trouble::ForgetReplyLost)],
            "the outcome is told as unknown"),
        case!(a_runner_with_a_job_is_never_read_as_idle, Anyone, [CountsJobs],
            "its reading says that it has one, or nothing; when nothing runs, it says so"),
        case!(a_reading_counts_the_jobs_of_its_runner, Anyone, [ReadsJobs],
            "its own, whatever others have"),
        case!(a_list_that_lags_does_not_make_a_busy_runner_idle, Anyone, [Makes(Trouble::BusyLags)],
            "witnesses that disagree are no reading"),
        case!(a_cordoned_runner_ends_its_job_and_takes_no_other, Pausing, [Cordons],
            "the job goes on, and the next one waits"),
        case!(a_cordon_takes_effect_before_the_reading_counts, Pausing, [Cordons],
            "a reading of no jobs, begun a settle time after it, is true from then on"),
        case!(reading_again_after_the_cordon_sees_the_job_that_landed_between, Pausing, [],
            "idle at first, then given a job, then paused: it is read as busy"),
        case!(a_pause_is_lifted, Pausing, [Cordons, CordonsAhead],
            "and jobs are taken again"),
        case!(a_cordon_and_its_end_may_be_repeated, Pausing, [Cordons],
            "twice each"),
        case!(a_lost_answer_to_a_cordon_is_settled_by_repeating_it, Pausing, [Makes(Trouble::CordonReplyLost)],
            "the outcome is told as unknown"),
        case!(a_pause_is_told, Pausing, [TellsPauses],
            "by the listing and by the runner's own reading"),
        case!(a_pause_is_of_one_runner_and_no_other, Pause, [Cordons],
            "the other takes the job"),
        case!(what_it_does_not_know_takes_no_job, Pause, [OwnRegistrations],
            "a cordon of it is fine, its reading is absent, and it cannot be let take jobs again"),
        case!(a_pause_is_of_the_whole_queue, PauseAll, [],
            "nobody takes a job until it is lifted"),
        case!(what_cannot_be_cordoned_says_so, Leaves, [],
            "a cordon and its end are `Rejected`, and the runner goes on"),
    ]
}

const MOMENT: SignedDuration = SignedDuration::from_secs(10);

async fn read(bench: &dyn Bench, runner: &RegistrationId) -> RunnerReading {
    let reading = bench.control().read(runner).await.expect("an answer");
    reading.expect("it is known")
}

async fn cordon(bench: &dyn Bench, runner: &RegistrationId) {
    let cordoned = bench.control().cordon(runner).await.expect("it is cordoned");
    let age = cordoned.since.duration_since(bench.now().await).abs();
    assert!(
        age <= SignedDuration::from_secs(1),
        "by the server's clock: {age}"
    );
}

async fn uncordon(bench: &dyn Bench, runner: &RegistrationId) {
    bench
        .control()
        .uncordon(runner)
        .await
        .expect("it takes jobs again");
}

async fn machines_are_told_apart(bench: &dyn Bench) {
    let (one, other) = (registered(bench, MACHINE).await, registered(bench, OTHER).await);
    assert_ne!(one.id, other.id);
}

async fn each_machine_has_a_token_of_its_own(bench: &dyn Bench) {
    let (one, other) = (registered(bench, MACHINE).await, registered(bench, OTHER).await);
    assert_ne!(one.token.expose_secret(), other.token.expose_secret());
    for _ in 0..2 {
        bench.control().forget(&one.id).await.expect("it is forgotten");
        assert_eq!(bench.control().read(&one.id).await, Ok(None));
    }
    let left = whole(bench).await;
    assert_eq!(left.runners.len(), 1, "only that one");
    assert_eq!(left.runners[0].registration, other.id);
}

async fn a_lost_reply_of_register_leaves_a_registration_that_can_be_found(bench: &dyn Bench) {
    bench.order(Trouble::RegisterReplyLost).await;
    let made = registered(bench, MACHINE).await;
    let snapshot = whole(bench).await;
    assert_eq!(snapshot.runners.len(), 1);
    assert_eq!(snapshot.runners[0].registration, made.id);
    bench.boot(MACHINE, &made).await;
    assert_eq!(view(&whole(bench).await, &made.id).online, Some(true));
}

async fn forgetting_twice_is_fine(bench: &dyn Bench) {
    let made = registered(bench, MACHINE).await;
    for _ in 0..2 {
        assert_eq!(bench.control().forget(&made.id).await, Ok(()));
    }
    assert_eq!(
        bench.control().forget(&RegistrationId::from("4711")).await,
        Ok(())
    );
}

async fn what_was_forgotten_is_gone(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    assert_eq!(whole(bench).await.runners.len(), 1);
    bench.control().forget(&runner).await.expect("it is forgotten");
    assert!(whole(bench).await.runners.is_empty());
    assert_eq!(bench.control().read(&runner).await, Ok(None));
}

async fn a_lost_answer_to_forgetting_is_settled_by_repeating_it(bench: &dyn Bench) {
    let made = registered(bench, MACHINE).await;
    bench.order(Trouble::ForgetReplyLost).await;
    let lost = bench.control().forget(&made.id).await;
    assert!(matches!(lost, Err(DemandError::Ambiguous { .. })), "{lost:?}");
    assert_eq!(bench.control().forget(&made.id).await, Ok(()));
    assert_eq!(bench.control().read(&made.id).await, Ok(None));
}

async fn a_runner_with_a_job_is_never_read_as_idle(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0), "nothing runs");
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    assert_eq!(counted(&whole(bench).await), (0, 1));
    assert_ne!(read(bench, &runner).await.jobs, Some(0));
    bench.advance(SignedDuration::from_mins(5)).await;
    assert_eq!(counted(&whole(bench).await), (0, 0));
    assert_eq!(read(bench, &runner).await.jobs, Some(0), "nothing runs any more");
}

async fn a_reading_counts_the_jobs_of_its_runner(bench: &dyn Bench) {
    let (one, other) = (joined(bench, MACHINE).await, joined(bench, OTHER).await);
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    let counts = [read(bench, &one).await.jobs, read(bench, &other).await.jobs];
    assert!(
        counts == [Some(1), Some(0)] || counts == [Some(0), Some(1)],
        "{counts:?}"
    );
}

async fn a_list_that_lags_does_not_make_a_busy_runner_idle(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_secs(5)).await;
    bench.order(Trouble::BusyLags).await;
    assert_ne!(read(bench, &runner).await.jobs, Some(0));
    assert_ne!(read(bench, &runner).await.jobs, Some(0));
}

async fn a_cordoned_runner_ends_its_job_and_takes_no_other(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    let runner = joined(bench, MACHINE).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(1));
    cordon(bench, &runner).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(1), "its job goes on");
    bench.advance(SignedDuration::from_mins(5)).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0));
    assert_eq!(counted(&whole(bench).await), (1, 0), "it took no new job");
}

async fn a_cordon_takes_effect_before_the_reading_counts(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    cordon(bench, &runner).await;
    bench.advance(bench.control().profile().settle).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0));
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_mins(1)).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0), "it was true");
    assert_eq!(counted(&whole(bench).await), (1, 0));
}

async fn reading_again_after_the_cordon_sees_the_job_that_landed_between(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0));
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    cordon(bench, &runner).await;
    bench.advance(bench.control().profile().settle).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(1));
}

async fn a_pause_is_lifted(bench: &dyn Bench) {
    let made = registered(bench, MACHINE).await;
    cordon(bench, &made.id).await;
    bench.boot(MACHINE, &made).await;
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_mins(1)).await;
    assert_eq!(read(bench, &made.id).await.jobs, Some(0));
    uncordon(bench, &made.id).await;
    bench.advance(MOMENT).await;
    assert_eq!(read(bench, &made.id).await.jobs, Some(1));
}

async fn a_cordon_and_its_end_may_be_repeated(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    for _ in 0..2 {
        cordon(bench, &runner).await;
    }
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0));
    for _ in 0..2 {
        uncordon(bench, &runner).await;
    }
    bench.advance(MOMENT).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(1));
}

async fn a_lost_answer_to_a_cordon_is_settled_by_repeating_it(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    bench.order(Trouble::CordonReplyLost).await;
    let lost = bench.control().cordon(&runner).await;
    assert!(matches!(lost, Err(DemandError::Ambiguous { .. })), "{lost:?}");
    cordon(bench, &runner).await;
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    assert_eq!(read(bench, &runner).await.jobs, Some(0));
}

async fn a_pause_is_told(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    let told = async || {
        (
            read(bench, &runner).await.paused,
            view(&whole(bench).await, &runner).paused,
        )
    };
    assert_eq!(told().await, (false, false));
    for _ in 0..2 {
        cordon(bench, &runner).await;
        assert_eq!(told().await, (true, true));
    }
    for _ in 0..2 {
        uncordon(bench, &runner).await;
        assert_eq!(told().await, (false, false));
    }
}

async fn a_pause_is_of_one_runner_and_no_other(bench: &dyn Bench) {
    let (one, other) = (joined(bench, MACHINE).await, joined(bench, OTHER).await);
    cordon(bench, &one).await;
    assert!(!read(bench, &other).await.paused, "only that one");
    bench.queue(Work::Ours, 2).await;
    bench.advance(MOMENT).await;
    assert_eq!(read(bench, &one).await.jobs, Some(0));
    assert_eq!(read(bench, &other).await.jobs, Some(1));
}

async fn what_it_does_not_know_takes_no_job(bench: &dyn Bench) {
    let unknown = RegistrationId::from("4711");
    assert_eq!(bench.control().read(&unknown).await, Ok(None));
    assert!(bench.control().cordon(&unknown).await.is_ok());
    assert!(bench.control().forget(&unknown).await.is_ok());
    let error = bench
        .control()
        .uncordon(&unknown)
        .await
        .expect_err("there is none");
    assert!(matches!(error, DemandError::Rejected { .. }), "{error:?}");
}

async fn a_pause_is_of_the_whole_queue(bench: &dyn Bench) {
    let (one, other) = (joined(bench, MACHINE).await, joined(bench, OTHER).await);
    cordon(bench, &one).await;
    bench.queue(Work::Ours, 2).await;
    bench.advance(SignedDuration::from_mins(1)).await;
    assert_eq!(counted(&whole(bench).await), (2, 0));
    assert_eq!(read(bench, &other).await.jobs, Some(0));
    uncordon(bench, &one).await;
    bench.advance(MOMENT).await;
    assert_eq!(counted(&whole(bench).await), (0, 2));
}

async fn what_cannot_be_cordoned_says_so(bench: &dyn Bench) {
    let runner = joined(bench, MACHINE).await;
    let cordoned = bench.control().cordon(&runner).await;
    assert!(
        matches!(cordoned, Err(DemandError::Rejected { .. })),
        "{cordoned:?}"
    );
    let lifted = bench.control().uncordon(&runner).await;
    assert!(matches!(lifted, Err(DemandError::Rejected { .. })), "{lifted:?}");
    bench.queue(Work::Ours, 1).await;
    bench.advance(MOMENT).await;
    assert_eq!(counted(&whole(bench).await), (0, 1), "it goes on");
}
