//! The real `terraform` and this program keep each other out of one state.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use runfleet::state::{StateError, StateStore as _, lock::lock_info};

use super::places::Gitlab;

fn terraform(folder: &Path, gitlab: &Gitlab, arguments: &[&str]) -> Command {
    let empty = folder.join("empty.tfrc");
    std::fs::write(&empty, "").unwrap();
    let mut command = Command::new("terraform");
    command
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", folder)
        .env("TF_CLI_CONFIG_FILE", &empty)
        .env("CHECKPOINT_DISABLE", "1")
        .env("TF_HTTP_ADDRESS", &gitlab.address)
        .env("TF_HTTP_LOCK_ADDRESS", format!("{}/lock", gitlab.address))
        .env("TF_HTTP_UNLOCK_ADDRESS", format!("{}/lock", gitlab.address))
        .env("TF_HTTP_LOCK_METHOD", "POST")
        .env("TF_HTTP_UNLOCK_METHOD", "DELETE")
        .env("TF_HTTP_USERNAME", "root")
        .env("TF_HTTP_PASSWORD", &gitlab.token)
        .env("TF_HTTP_RETRY_MAX", "0");
    command
}

fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terraform_and_this_program_respect_each_other_s_lock() {
    if Command::new("terraform").arg("version").output().is_err() {
        println!("skipped: there is no terraform here");
        return;
    }
    let gitlab = Gitlab::start().await;
    let folder = tempfile::tempdir().unwrap();
    let text =
        "terraform {\n  backend \"http\" {}\n}\n\nresource \"terraform_data\" \"one\" {\n  input = 1\n}\n";
    std::fs::write(folder.path().join("main.tf"), text).unwrap();
    let (good, said) = run(terraform(
        folder.path(),
        &gitlab,
        &["init", "-input=false", "-no-color"],
    ));
    assert!(good, "{said}");

    // Ours keeps terraform out.
    let store = gitlab.open();
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let plan = ["plan", "-input=false", "-no-color", "-lock-timeout=0s"];
    let (good, said) = run(terraform(folder.path(), &gitlab, &plan));
    assert!(!good && said.contains("Error acquiring the state lock"), "{said}");
    store.unlock(lease).await.unwrap();
    let (good, said) = run(terraform(folder.path(), &gitlab, &plan));
    assert!(good && said.contains("1 to add"), "{said}");

    // Terraform's keeps us out, while it asks whether it may go on.
    let mut child = terraform(folder.path(), &gitlab, &["apply", "-no-color"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let asks = said
        .by_ref()
        .any(|line| line.unwrap().contains("Only 'yes' will be accepted"));
    assert!(asks, "terraform ended before it asked");
    match gitlab.open().lock(&lock_info("scale"), Duration::ZERO).await {
        Err(StateError::Locked { holder }) => {
            assert_eq!(holder.who, "root", "the user of the token");
            assert!(!holder.id.is_empty());
        }
        answer => panic!("{answer:?}"),
    }
    child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    while said.next().is_some() {}
    assert!(child.wait().unwrap().success());
    let lease = gitlab
        .open()
        .lock(&lock_info("scale"), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(lease.taken_from, None);
    // And what it wrote is not taken for ours.
    let refused = gitlab.open().load().await.unwrap_err();
    assert!(
        refused.to_string().contains("it is a state of Terraform"),
        "{refused}"
    );
}
