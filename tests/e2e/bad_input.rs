//! Bad input: a clear error, its exit code, and nothing lost.

use std::process::Stdio;

use crate::support::{Project, Sandbox, eventually};

fn with_fleet() -> (Sandbox, Project) {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "10m");
    project.run(&["scale"]).exits(0);
    (sandbox, project)
}

#[test]
fn broken_toml_and_unknown_keys_are_shown_at_their_place() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "policy = { kind = \"queue\", idel = 1 }");
    project
        .run(&["plan"])
        .exits(1)
        .says("idel")
        .says("idle")
        .says("test.toml");
    project.edit("[pools.linux]", "[pools.linux");
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(1)
        .says("test.toml");
}

#[test]
fn a_missing_secret_names_the_variable_the_key_and_how_to_set_it() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    let output = project
        .command(&["plan"])
        .env_remove("HCLOUD_TOKEN")
        .output()
        .unwrap();
    crate::support::Ran::of(&output)
        .exits(1)
        .says("HCLOUD_TOKEN")
        .says("providers.hetzner.token")
        .says("export HCLOUD_TOKEN=");
}

#[test]
fn a_wrong_token_holds_everything_and_deletes_nothing() {
    let (sandbox, mut project) = with_fleet();
    let before = project.state();
    project.hetzner_token = "wrong".to_owned();
    project.run(&["scale"]).exits(1).says("providers.hetzner.token");
    project.hetzner_token = sandbox.token().to_owned();
    project.gitlab_token = "wrong".to_owned();
    sandbox.advance("57m");
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(1)
        .says("ci.gitlab.token");
    project.run(&["scale"]).exits(1);
    assert_eq!(sandbox.servers().len(), 1);
    assert_eq!(project.state(), before);
    project
        .run(&["validate", "--online"])
        .exits(1)
        .says("ci.gitlab.token");
}

#[test]
fn an_unknown_type_location_or_image_is_named_before_anything_is_made() {
    let sandbox = Sandbox::start(&[]);
    for (from, to, key) in [
        ("\"cx33\"", "\"cx34\"", "cx34"),
        ("[\"nbg1\", \"fsn1\"]", "[\"nbg9\"]", "nbg9"),
        ("\"debian-12\"", "\"debian-99\"", "debian-99"),
    ] {
        let project = Project::new(&sandbox, "");
        project.edit(from, to);
        project.run(&["validate"]).exits(0);
        project.run(&["validate", "--online"]).exits(1).says(key);
        sandbox.jobs(1, "1m");
        project.run(&["scale"]);
        assert!(sandbox.servers().is_empty());
    }
}

#[test]
fn user_data_that_is_too_large_is_found_before_any_call() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "cloud_init = \"cloud-init/large.yaml.tera\"");
    std::fs::create_dir(project.path("cloud-init")).unwrap();
    let large = format!("#cloud-config\n# {}\n", "x".repeat(40_000));
    std::fs::write(project.path("cloud-init/large.yaml.tera"), large).unwrap();
    sandbox.jobs(1, "1m");
    project.run(&["scale"]).says("32768");
    assert!(sandbox.servers().is_empty());
    assert_eq!(sandbox.world()["runners"].as_array().map_or(0, Vec::len), 0);
}

#[test]
fn a_corrupt_newer_or_empty_state_file_is_refused_and_left_as_it_is() {
    let (_sandbox, project) = with_fleet();
    let path = project.path("stacks/test.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (bad, word) in [
        (String::new(), "corrupt"),
        (good[..good.len() / 2].to_owned(), "corrupt"),
        (good.replacen("\"version\": 2", "\"version\": 99", 1), "version"),
    ] {
        std::fs::write(&path, &bad).unwrap();
        project.run(&["scale"]).exits(1).says(word).says("test.json");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
    }
    std::fs::write(&path, &good).unwrap();
    project.run(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_torn_journal_loses_only_its_torn_line() {
    let (sandbox, project) = with_fleet();
    let serial = project.state()["serial"].as_u64().unwrap();
    let journal = project.path("stacks/test.journal");
    std::fs::write(&journal, format!("{{\"serial\":{serial},\"torn")).unwrap();
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn no_network_is_an_error_that_names_the_host() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = crate::support::stack_text(
        &format!("http://127.0.0.1:{port}/v1"),
        &format!("http://127.0.0.1:{port}"),
        "",
    );
    let project = Project::with_stack(&text, "token");
    project
        .run(&["scale"])
        .exits(1)
        .says("providers.hetzner")
        .says("ci.gitlab")
        .says(&format!("127.0.0.1:{port}"));
}

#[test]
fn a_lock_of_a_living_process_is_respected_and_one_of_a_dead_process_is_taken_over() {
    let sandbox = Sandbox::start(&["latency=20ms", "action_time=3s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "30m");
    let mut holder = project
        .command(&["scale"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is applying", std::time::Duration::from_secs(30), || {
        !sandbox.servers().is_empty()
    });
    project.run(&["scale"]).exits(4).says("scale");
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.advance("10m");
    project.run(&["scale"]).says("took over");
    sandbox.advance("10m");
    project.run(&["scale"]);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn usage_errors_exit_with_1_and_never_with_2() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    project
        .run(&["plan", "--detailed-exitcode", "--no-such-flag"])
        .exits(1);
    project.run(&["no-such-verb"]).exits(1);
    project.run(&[]).exits(1);
    project
        .run(&["-s", "nowhere", "plan"])
        .exits(1)
        .says("nowhere")
        .says("test");
}

#[test]
fn a_full_disk_stops_the_tick_and_leaves_the_old_state_readable() {
    let (sandbox, project) = with_fleet();
    let small = project.path("small");
    std::fs::create_dir_all(small.join("stacks")).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(small.join("stacks"))
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    for name in ["test.toml", "test.json"] {
        std::fs::copy(project.path("stacks").join(name), small.join("stacks").join(name)).unwrap();
    }
    let before = std::fs::read(small.join("stacks/test.json")).unwrap();
    let _ = std::fs::write(small.join("stacks/filler"), vec![0_u8; 60 * 1024]);
    sandbox.jobs(30, "30m");
    let path = small.display().to_string();
    let mut command = project.command(&["-C", &path, "scale"]);
    let ran = crate::support::Ran::of(&command.output().unwrap());
    let after = std::fs::read_to_string(small.join("stacks/test.json")).unwrap();
    let _ = std::process::Command::new("umount")
        .arg(small.join("stacks"))
        .status();
    assert!(
        serde_json::from_str::<serde_json::Value>(&after).is_ok(),
        "{after}"
    );
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    assert!(!before.is_empty());
}
