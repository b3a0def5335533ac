//! What becomes of a hook's program, and what is told of it.

use std::path::Path;

use super::*;
use crate::stack::hooks::{Moment, OnFailure};

fn event() -> HookEvent {
    HookEvent {
        format_version: FORMAT_VERSION.into(),
        event: Moment::AfterReady,
        stack: "test".into(),
        pool: "linux".into(),
        machine: None,
        reason: "became ready".into(),
        reason_code: "became_ready".into(),
        error: None,
        time: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn hook(call: HookCall, timeout: i64, retries: u32) -> Hook {
    Hook {
        on: vec![Moment::AfterReady],
        call,
        timeout: jiff::SignedDuration::from_millis(timeout),
        retries,
        on_failure: OnFailure::Stop,
    }
}

fn shell(script: &str) -> HookCall {
    HookCall::Command(["sh", "-c", script].map(str::to_owned).to_vec())
}

async fn call(hook: &Hook, folder: &Path, policy: Policy) -> Result<(), HookError> {
    let stack = crate::plan::testing::World::new().stack;
    let pool = PoolName::from("linux");
    let place = HookPlace {
        pool: &pool,
        index: 0,
    };
    Hooks::new(&stack, folder, policy)
        .call(place, hook, &event(), None)
        .await
}

#[tokio::test]
async fn the_event_is_on_standard_input_and_the_folder_is_the_stack_files() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(shell("cat > told"), 20_000, 0);
    call(&hook, folder.path(), Policy::Trusted).await.unwrap();
    let told = fs_err::read_to_string(folder.path().join("told")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["event"], "after_ready");
    assert_eq!(told["time"], "1970-01-01T00:00:00Z");
}

#[tokio::test]
async fn only_the_end_of_what_is_printed_is_kept_however_much_it_is() {
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; printf 'no \\033[31mroom' >&2; exit 4";
    let error = call(&hook(shell(script), 20_000, 0), Path::new("."), Policy::Trusted)
        .await
        .unwrap_err();
    let HookError::Failed { how, output, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(how, "exit status: 4");
    assert!(
        output.len() <= 2048 && output.contains("no  [31mroom"),
        "{output}"
    );
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo waiting; sleep 600 & echo $! > child; wait";
    let error = call(&hook(shell(script), 500, 0), folder.path(), Policy::Trusted)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "sh took longer than 500ms and was ended; it said: waiting"
    );
    let child = fs_err::read_to_string(folder.path().join("child")).unwrap();
    let gone = || {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", child.trim()));
        // Nobody may have waited for it yet.
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !gone() {
        assert!(tokio::time::Instant::now() < limit, "{child} still runs");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_child_that_is_left_running_holds_nothing_up() {
    let begun = tokio::time::Instant::now();
    call(
        &hook(shell("sleep 60 & exit 0"), 30_000, 0),
        Path::new("."),
        Policy::Trusted,
    )
    .await
    .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo x >> tries; [ $(wc -l < tries) -ge 2 ]";
    call(&hook(shell(script), 20_000, 5), folder.path(), Policy::Trusted)
        .await
        .unwrap();
    assert_eq!(
        fs_err::read_to_string(folder.path().join("tries"))
            .unwrap()
            .lines()
            .count(),
        2
    );

    let absent = HookCall::Command(vec!["./absent".to_owned()]);
    let error = call(&hook(absent, 1000, 5), folder.path(), Policy::Trusted)
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("./absent cannot be started: "),
        "{error}"
    );
}

#[tokio::test]
async fn an_untrusted_stack_file_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(shell("touch ran"), 1000, 0);
    let error = call(&hook, folder.path(), Policy::Untrusted).await.unwrap_err();
    assert!(matches!(error, HookError::Untrusted), "{error:?}");
    assert!(!folder.path().join("ran").exists());
}

#[tokio::test]
async fn there_is_no_login_where_there_is_no_machine() {
    let hook = hook(HookCall::Ssh("true".to_owned()), 1000, 0);
    let error = call(&hook, Path::new("."), Policy::Trusted).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no public address to log in at");
}
