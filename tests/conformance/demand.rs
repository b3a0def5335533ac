//! What every CI must tell of its jobs and its runners.

use jiff::SignedDuration;
use runfleet::{
    demand::DemandError,
    model::{
        demand::{Cursor, JobState, PassedOver},
        resource::Completeness,
    },
};

use crate::ci::{
    Bench, Cases, MACHINE, MAX_AGE,
    Need::{
        CountsJobs, FinishedJobs, HeldJobs, Jobs, ListsRunners, MaxAges, OwnRegistrations, Trouble as Makes,
    },
    OTHER, STACK, Trouble, Work, case, counted, jobs, joined, observed, observed_since, registered, view,
    whole,
};

/// In the order of the page.
#[rustfmt::skip]
pub(crate) fn cases() -> Cases {
    vec![
        case!(the_jobs_that_the_pool_could_run_are_counted_and_no_others, Anyone, [CountsJobs],
            "each once, and none that its runners would not be given"),
        case!(many_jobs_are_read_whole, Anyone, [CountsJobs],
            "250 that wait, over more than a page"),
        case!(a_running_job_is_no_longer_queued, Anyone, [CountsJobs],
            "two jobs and one runner: one waits, one runs"),
        case!(the_answer_is_dated_by_the_clock_of_the_server, Anyone, [],
            "and never by ours"),
        case!(how_runners_are_controlled_is_told_with_the_answer, Anyone, [],
            "the cordon's kind, its settle time, and whether runners are listed"),
        case!(a_wait_is_measured_by_the_clock_of_the_server, Anyone, [Jobs],
            "a job says since when it waits"),
        case!(a_running_job_names_its_runner, Anyone, [Jobs],
            "by the registration that its machine joined with, and says since when"),
        case!(a_job_that_ended_is_told_once, Anyone, [FinishedJobs],
            "with its runner and its times, to whoever reads on from the last cursor"),
        case!(held_jobs_are_no_demand, Anyone, [HeldJobs],
            "those that the CI holds back itself are passed over, and counted as such"),
        case!(old_jobs_are_no_demand, Anyone, [MaxAges],
            "those that wait for longer than `pending_max` are passed over, and counted as such"),
        case!(a_stuck_job_is_told_as_stuck, Anyone, [MaxAges, Jobs],
            "one that runs for longer than `running_max` is no demand, and its runner is busy all the same"),
        case!(a_runner_is_told_by_its_registration, Anyone, [ListsRunners, CountsJobs],
            "once it joined it is online, and never called idle while it has a job"),
        case!(runners_of_others_are_not_ours, Anyone, [ListsRunners, OwnRegistrations],
            "whose description begins with another stack's name, or a longer one"),
        case!(a_token_that_it_does_not_know_is_unauthorised_and_no_empty_queue, Anyone, [],
            "nothing is told, for nothing was read"),
        case!(a_part_that_fails_makes_the_answer_partial, Anyone, [Makes(Trouble::PartFails)],
            "and what could be read is told, since it may grow a pool"),
        case!(silence_is_an_error_and_no_empty_queue, Anyone, [Makes(Trouble::NothingAnswers)],
            "a server's errors never look like no work"),
        case!(one_call_too_many_is_told_and_is_no_empty_queue, Anyone, [Makes(Trouble::Throttled)],
            "429 never looks like no work"),
        case!(pages_are_not_followed_for_ever, Anyone, [Makes(Trouble::EndlessPages)],
            "the answer ends, and says that it is partial"),
        case!(a_check_finds_nothing_wrong_with_what_is_right, Anyone, [],
            "`validate --online` has nothing to say"),
        case!(a_check_tells_a_token_that_it_does_not_know, Anyone, [],
            "`validate --online` says so"),
    ]
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn the_jobs_that_the_pool_could_run_are_counted_and_no_others(bench: &dyn Bench) {
    assert_eq!(counted(&whole(bench).await), (0, 0));
    bench.queue(Work::Ours, 3).await;
    bench.queue(Work::OfOthers, 4).await;
    bench.queue(Work::Ours, 2).await;
    assert_eq!(counted(&whole(bench).await), (5, 0));
}

async fn many_jobs_are_read_whole(bench: &dyn Bench) {
    bench.queue(Work::Ours, 250).await;
    assert_eq!(counted(&whole(bench).await), (250, 0));
}

async fn a_running_job_is_no_longer_queued(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    joined(bench, MACHINE).await;
    assert_eq!(counted(&whole(bench).await), (1, 1));
}

async fn the_answer_is_dated_by_the_clock_of_the_server(bench: &dyn Bench) {
    let start = bench.now().await;
    assert!(whole(bench).await.now.duration_since(start).abs() <= SECOND);
    bench.advance(SignedDuration::from_mins(10)).await;
    let later = whole(bench).await.now.duration_since(start);
    assert!(later >= SignedDuration::from_secs(599), "{later}");
}

async fn how_runners_are_controlled_is_told_with_the_answer(bench: &dyn Bench) {
    let snapshot = whole(bench).await;
    assert_eq!(&snapshot.control, bench.control().profile());
    assert_eq!(
        snapshot.control.lists_runners,
        !bench.lacks().contains(&ListsRunners)
    );
}

async fn a_wait_is_measured_by_the_clock_of_the_server(bench: &dyn Bench) {
    let start = bench.now().await;
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_mins(10)).await;
    let snapshot = whole(bench).await;
    let queued_at = jobs(&snapshot, JobState::Queued)[0].queued_at.expect("it waits");
    assert!(queued_at.duration_since(start).abs() <= SECOND);
    assert!(snapshot.now.duration_since(start) >= SignedDuration::from_secs(599));
}

async fn a_running_job_names_its_runner(bench: &dyn Bench) {
    bench.queue(Work::Ours, 1).await;
    let runner = joined(bench, MACHINE).await;
    let snapshot = whole(bench).await;
    let running = jobs(&snapshot, JobState::Running);
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].runner, Some(runner));
    assert!(running[0].started_at.is_some());
}

async fn a_job_that_ended_is_told_once(bench: &dyn Bench) {
    bench.queue(Work::Ours, 1).await;
    let runner = joined(bench, MACHINE).await;
    let before = whole(bench).await;
    assert!(jobs(&before, JobState::Finished).is_empty());
    bench.advance(SignedDuration::from_mins(5)).await;
    let after = observed_since(bench, &before.cursor).await;
    let ended = jobs(&after, JobState::Finished);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].runner, Some(runner));
    assert!(ended[0].finished_at > ended[0].started_at);
    let later = observed_since(bench, &after.cursor).await;
    assert!(jobs(&later, JobState::Finished).is_empty(), "told once");
}

async fn held_jobs_are_no_demand(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    bench.queue(Work::Held, 3).await;
    let snapshot = whole(bench).await;
    assert_eq!(counted(&snapshot), (2, 0));
    assert_eq!(snapshot.passed_over.get(&PassedOver::HeldBack), Some(&3));
}

async fn old_jobs_are_no_demand(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    bench.advance(MAX_AGE + SECOND).await;
    bench.queue(Work::Ours, 1).await;
    let snapshot = whole(bench).await;
    assert_eq!(counted(&snapshot), (1, 0));
    assert_eq!(snapshot.passed_over.get(&PassedOver::TooOld), Some(&2));
}

async fn a_stuck_job_is_told_as_stuck(bench: &dyn Bench) {
    bench.queue(Work::Endless, 1).await;
    let runner = joined(bench, MACHINE).await;
    assert_eq!(counted(&whole(bench).await), (0, 1));
    bench.advance(MAX_AGE + SECOND).await;
    let snapshot = whole(bench).await;
    assert_eq!(counted(&snapshot), (0, 0));
    let running = jobs(&snapshot, JobState::Running);
    assert_eq!(running.len(), 1);
    assert_eq!((running[0].stuck, &running[0].runner), (true, &Some(runner)));
}

async fn a_runner_is_told_by_its_registration(bench: &dyn Bench) {
    let made = registered(bench, MACHINE).await;
    let online = |view: &runfleet::model::demand::RunnerView| view.online == Some(true);
    assert!(
        !whole(bench).await.runners.iter().any(online),
        "it has not joined"
    );
    bench.boot(MACHINE, &made).await;
    let idle = view(&whole(bench).await, &made.id);
    assert_eq!((idle.machine(), idle.online), (MACHINE, Some(true)));
    assert!(idle.last_contact.is_some());
    assert_ne!(idle.busy, Some(true));
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_secs(10)).await;
    let snapshot = whole(bench).await;
    assert_eq!(counted(&snapshot), (0, 1));
    let busy = view(&snapshot, &made.id);
    assert_eq!(busy.online, Some(true));
    assert_ne!(busy.busy, Some(false));
}

async fn runners_of_others_are_not_ours(bench: &dyn Bench) {
    let others = ["production-linux-a", "dev-linux-b"];
    for other in others {
        let made = registered(bench, other).await;
        assert!(whole(bench).await.runners.is_empty());
        bench.boot(other, &made).await;
    }
    assert!(whole(bench).await.runners.is_empty());
    let ours = joined(bench, OTHER).await;
    let snapshot = whole(bench).await;
    assert_eq!(snapshot.runners.len(), 1);
    assert_eq!(snapshot.runners[0].registration, ours);
}

async fn a_token_that_it_does_not_know_is_unauthorised_and_no_empty_queue(bench: &dyn Bench) {
    let seen = bench
        .stranger()
        .observe(&STACK.into(), &[bench.pool()], &Cursor::default())
        .await;
    assert!(matches!(seen, Err(DemandError::Unauthorized { .. })), "{seen:?}");
}

async fn a_part_that_fails_makes_the_answer_partial(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    bench.order(Trouble::PartFails).await;
    let snapshot = observed(bench).await;
    assert!(!snapshot.completeness.is_complete());
    assert_eq!(counted(&snapshot), (2, 0), "what could be read is told");
}

async fn silence_is_an_error_and_no_empty_queue(bench: &dyn Bench) {
    all_fails(bench, Trouble::NothingAnswers).await;
}

async fn one_call_too_many_is_told_and_is_no_empty_queue(bench: &dyn Bench) {
    all_fails(bench, Trouble::Throttled).await;
}

async fn all_fails(bench: &dyn Bench, trouble: Trouble) {
    bench.queue(Work::Ours, 2).await;
    assert_eq!(counted(&whole(bench).await), (2, 0));
    bench.order(trouble).await;
    let seen = bench
        .demand()
        .observe(&STACK.into(), &[bench.pool()], &Cursor::default())
        .await;
    match (seen, trouble) {
        (Ok(snapshot), _) => assert_ne!(snapshot.completeness, Completeness::Complete),
        (Err(DemandError::Throttled { .. }), Trouble::Throttled)
        | (Err(DemandError::Unavailable { .. }), Trouble::NothingAnswers) => {}
        (Err(error), _) => panic!("{error:?}"),
    }
}

async fn pages_are_not_followed_for_ever(bench: &dyn Bench) {
    bench.queue(Work::Ours, 2).await;
    bench.order(Trouble::EndlessPages).await;
    assert!(!observed(bench).await.completeness.is_complete());
}

async fn a_check_finds_nothing_wrong_with_what_is_right(bench: &dyn Bench) {
    assert_eq!(bench.demand().check().await, Ok(Vec::new()));
}

async fn a_check_tells_a_token_that_it_does_not_know(bench: &dyn Bench) {
    match bench.stranger().check().await {
        Err(DemandError::Unauthorized { .. }) => {}
        Ok(problems) => assert!(
            problems.iter().any(|problem| problem.place.ends_with("token")),
            "{problems:?}"
        ),
        Err(error) => panic!("{error:?}"),
    }
}
