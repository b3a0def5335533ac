//! Any CI in ten lines: what docs/guides/any-ci.md shows, as it stands there, for a day.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use crate::support::{Project, Ran, Sandbox};

const PAGE: &str = include_str!("../../docs/guides/any-ci.md");

/// The first block below the line that names this.
fn shown(name: &str) -> &'static str {
    let named = PAGE.find(&format!("`{name}`")).expect(name);
    let block = &PAGE[named..][PAGE[named..].find("\n```").expect(name)..];
    let begin = block[1..].find('\n').expect(name) + 2;
    let end = block[begin..].find("```").expect(name) + begin;
    &block[begin..end]
}

/// Whether the programs that the page uses are here; said aloud where they are not.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn has_tools() -> bool {
    let missing = ["curl", "jq", "find"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        eprintln!("skipped: there is no {tool}, which docs/guides/any-ci.md uses");
    }
    missing.is_none()
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// The page's queue of files, with its machines in the sandbox.
struct Queue {
    sandbox: Sandbox,
    project: Project,
}

impl Queue {
    fn new() -> Self {
        let sandbox = Sandbox::start(&["boot=20s"]);
        let endpoint = format!(
            "token = {{ env = \"HCLOUD_TOKEN\" }}\nendpoint = \"{}\"",
            sandbox.hetzner()
        );
        let stack = shown("stacks/queue.toml")
            .replace("token = { env = \"HCLOUD_TOKEN\" }", &endpoint)
            .replace("settle   = \"5s\"", "settle   = \"50ms\"");
        assert!(stack.contains("endpoint") && stack.contains("50ms"), "{stack}");
        let project = Project::with_stack(&stack, sandbox.token());
        executable(&project.path("stacks/queue.sh"), shown("stacks/queue.sh"));
        fs::create_dir(project.path("cloud-init")).unwrap();
        let template = project.path("cloud-init/worker.yaml.tera");
        fs::write(template, shown("cloud-init/worker.yaml.tera")).unwrap();
        for folder in ["queued/linux", "running", "paused"] {
            fs::create_dir_all(project.path("stacks/jobs").join(folder)).unwrap();
        }
        Self { sandbox, project }
    }

    fn queue(&self, jobs: &[&str]) {
        for job in jobs {
            fs::write(self.project.path("stacks/jobs/queued/linux").join(job), "true\n").unwrap();
        }
    }

    /// What a worker does: takes a job, if it may.
    fn take(&self, machine: &str, job: &str) {
        let jobs = self.project.path("stacks/jobs");
        assert!(!jobs.join("paused").join(machine).exists());
        fs::create_dir_all(jobs.join("running").join(machine)).unwrap();
        let (from, to) = (
            jobs.join("queued/linux").join(job),
            jobs.join("running").join(machine).join(job),
        );
        fs::rename(from, to).unwrap();
    }

    fn end(&self, machine: &str, job: &str) {
        fs::remove_file(self.project.path("stacks/jobs/running").join(machine).join(job)).unwrap();
    }

    fn is_paused(&self, machine: &str) -> bool {
        self.project.path("stacks/jobs/paused").join(machine).exists()
    }
}

#[test]
fn a_queue_of_ones_own_makes_machines_and_lets_them_go_when_they_have_no_job() {
    if !has_tools() {
        return;
    }
    let queue = Queue::new();
    let (sandbox, project) = (&queue.sandbox, &queue.project);
    project.run(&["validate", "--online"]).exits(0);
    queue.queue(&["a", "b", "c"]);
    project.run(&["scale"]).exits(0);
    let machines = sandbox.servers();
    assert_eq!(machines.len(), 3);
    project.run(&["plan", "--detailed-exitcode"]).exits(0);

    sandbox.advance("1m");
    for (machine, job) in machines.iter().zip(["a", "b", "c"]) {
        queue.take(machine, job);
    }
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 3, "{status:#}");
    queue.end(&machines[0], "a");
    queue.end(&machines[1], "b");
    sandbox.advance("57m");
    project.run(&["scale"]).exits(0).says("2 to delete");
    assert_eq!(sandbox.servers(), [machines[2].clone()], "that has a job");
    assert!(queue.is_paused(&machines[0]) && !queue.is_paused(&machines[2]));

    queue.end(&machines[2], "c");
    sandbox.advance("60m");
    project.run(&["scale"]).exits(0).says("1 to delete");
    assert_eq!(sandbox.servers(), [""; 0]);
    project.run(&["scale"]).exits(0).says("No changes");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["runners"], serde_json::json!([]), "{status:#}");
}

#[test]
fn a_job_that_lands_just_before_the_cordon_keeps_its_machine() {
    if !has_tools() {
        return;
    }
    let queue = Queue::new();
    let (sandbox, project) = (&queue.sandbox, &queue.project);
    queue.queue(&["a"]);
    project.run(&["scale"]).exits(0);
    let machine = sandbox.servers().remove(0);
    sandbox.advance("1m");
    queue.take(&machine, "a");
    project.run(&["scale"]).exits(0);
    queue.end(&machine, "a");
    sandbox.advance("57m");
    let honest = shown("stacks/queue.sh");
    let race = honest.replace("cordon) touch", "cordon) mv late \"running/$runner/\"; touch");
    assert_eq!(race.matches("mv late").count(), 1);
    executable(&project.path("stacks/queue.sh"), &race);
    fs::write(project.path("stacks/jobs/late"), "true\n").unwrap();
    project.run(&["scale"]).says("job");
    assert_eq!(sandbox.servers(), std::slice::from_ref(&machine));
    assert!(!queue.is_paused(&machine), "it takes jobs again");

    executable(&project.path("stacks/queue.sh"), honest);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), std::slice::from_ref(&machine), "its job runs");
    queue.end(&machine, "late");
    project.run(&["scale"]).exits(0).says("1 to delete");
    assert_eq!(sandbox.servers(), [""; 0]);
}

#[test]
fn a_queue_that_cannot_be_read_makes_no_machine_and_removes_none() {
    if !has_tools() {
        return;
    }
    let queue = Queue::new();
    let (sandbox, project) = (&queue.sandbox, &queue.project);
    queue.queue(&["a"]);
    project.run(&["scale"]).exits(0);
    sandbox.advance("59m");
    fs::rename(project.path("stacks/jobs"), project.path("stacks/away")).unwrap();
    project.run(&["scale"]).exits(0).says("./queue.sh failed");
    project.run(&["scale", "--strict"]).exits(3);
    assert_eq!(sandbox.servers().len(), 1);
}

#[test]
fn a_stack_that_is_not_trusted_runs_no_command() {
    let queue = Queue::new();
    let mut plan = queue.project.command(&["plan", "--untrusted"]);
    plan.env("RUNFLEET_HOSTS", "127.0.0.1");
    let refused = Ran::of(&plan.output().unwrap());
    refused.says("the program ./queue.sh, which `ci.files.demand` wants to be run, is refused");
}

#[test]
fn gitlab_by_a_script_is_served_for_a_day() {
    if !has_tools() {
        return;
    }
    let sandbox = Sandbox::start(&["boot=20s"]);
    let id = sandbox.gitlab_get("/projects/acme%2Fapp")["id"].clone();
    let words = format!("\"./gitlab.sh\", \"{}\", \"{id}\"", sandbox.gitlab());
    let calls: Vec<String> = ["demand", "register", "cordon", "uncordon", "forget"]
        .map(|call| format!("{call} = [{words}]"))
        .to_vec();
    let pool = "cloud_init = \"cloud-init/gitlab-runner.yaml.tera\"";
    let stack = crate::support::stack_text(sandbox.hetzner(), sandbox.gitlab(), pool)
        .replace(
            "kind = \"gitlab\"",
            &format!("kind = \"exec\"\n{}", calls.join("\n")),
        )
        .replace("projects = [\"acme/app\"]\n", "");
    let project = Project::with_stack(&stack, sandbox.token());
    executable(&project.path("stacks/gitlab.sh"), shown("stacks/gitlab.sh"));
    project.run(&["validate", "--online"]).exits(0);

    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3, "two jobs on each");
    assert_eq!(sandbox.servers(), project.machines_on_record());
    sandbox.advance("1m");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 5, "{status:#}");
    for _ in 0..3 {
        sandbox.advance("12m");
        project.run(&["scale"]).exits(0);
        assert_eq!(sandbox.servers().len(), 3, "their hour is paid");
    }
    sandbox.jobs(1, "30m");
    sandbox.advance("20m30s");
    project.run(&["scale"]).exits(0).says("2 to delete");
    assert_eq!(sandbox.servers().len(), 1, "one has a job");
    sandbox.advance("60m");
    project.run(&["scale"]).exits(0).says("1 to delete");
    let world = sandbox.world();
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(
        world["runners"].as_array().map_or(0, Vec::len),
        0,
        "all are forgotten"
    );
    assert!(sandbox.servers().is_empty());
    let everything = crate::support::everything_in(project.root());
    assert!(!everything.contains(sandbox.token()), "the token is in no file");
}
