//! Saved plans, guards, and the forms that a plan is printed in, as their users have them.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Project, Ran, Sandbox};

/// JSON with keys in order and no white space, as docs/plans.md says; written here once more, by another hand.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            let pairs = keys
                .iter()
                .map(|key| format!("{}:{}", json!(key), canonical(&map[*key])));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// What it said, without the line breaks of a report.
trait Says {
    fn tells(self, text: &str) -> Self;
}

impl Says for Ran {
    #[track_caller]
    fn tells(self, text: &str) -> Self {
        let all = format!("{} {}", self.stdout, self.stderr).replace(['│', '╰', '─', '▶'], " ");
        let all = all.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(all.contains(text), "{text:?} is not in {all}");
        self
    }
}

fn plan_file(project: &Project) -> Value {
    serde_json::from_slice(&std::fs::read(project.path("p.plan")).unwrap()).unwrap()
}

/// Edits a saved plan, and makes its digest fit again: what only a MAC can see.
fn forge(project: &Project, edit: impl FnOnce(&mut Value)) {
    let mut plan = plan_file(project);
    edit(&mut plan);
    let mut bare = plan.clone();
    bare.as_object_mut().unwrap().remove("digest");
    bare.as_object_mut().unwrap().remove("mac");
    plan["digest"] = json!(hex::encode(Sha256::digest(canonical(&bare).as_bytes())));
    std::fs::write(project.path("p.plan"), plan.to_string()).unwrap();
}

fn made_by(plan: &Value) -> Vec<String> {
    let actions = plan["actions"].as_array().unwrap().iter();
    let mut names: Vec<String> = actions
        .filter(|action| action["verb"] == "create" && action["ladder"][0]["spec"]["kind"] == "machine")
        .map(|action| action["ladder"][0]["spec"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Five jobs, and a plan for them in `p.plan`.
fn planned(sandbox: &Sandbox, pool: &str) -> Project {
    let project = Project::new(sandbox, pool);
    sandbox.jobs(5, "10m");
    project.run(&["plan", "--out", "p.plan"]).exits(0);
    project
}

#[track_caller]
fn is_refused(sandbox: &Sandbox, project: &Project, why: &str) {
    let before = sandbox.servers();
    let state = std::fs::read(project.path("stacks/test.json")).ok();
    project
        .run(&["apply", "p.plan"])
        .exits(5)
        .tells(why)
        .tells("nothing was changed");
    assert_eq!(sandbox.servers(), before);
    assert_eq!(std::fs::read(project.path("stacks/test.json")).ok(), state);
}

#[test]
fn a_saved_plan_is_done_as_it_was_shown_once_and_nobody_is_asked() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    project
        .run(&["plan", "--out", "p.plan"])
        .exits(0)
        .tells("Saved to p.plan")
        .tells("apply p.plan");
    assert!(
        !project.path("stacks/test.json").exists(),
        "a plan writes no state"
    );
    let mode = std::fs::metadata(project.path("p.plan"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let plan = plan_file(&project);
    for key in [
        "format_version",
        "lineage",
        "serial",
        "stack_file",
        "tool_version",
        "made_at",
        "expires",
        "actions",
        "digest",
    ] {
        assert!(!plan[key].is_null(), "{key}");
    }

    sandbox.jobs(4, "10m");
    project.run(&["apply", "p.plan"]).exits(0).tells("5 created");
    assert_eq!(
        sandbox.servers(),
        made_by(&plan),
        "under the names that were shown, and no more"
    );
    assert_eq!(project.state()["lineage"], plan["lineage"]);

    project
        .run(&["apply", "p.plan"])
        .exits(5)
        .tells("it has been applied already");
    std::fs::remove_file(project.path("stacks/test.history")).unwrap();
    project
        .run(&["apply", "p.plan"])
        .exits(5)
        .tells("is on record already");
    assert_eq!(sandbox.servers(), made_by(&plan));
}

#[test]
fn what_happened_since_is_named_and_nothing_is_done() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(1, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.jobs(4, "10m");
    project
        .run(&["plan", "--out", "p.plan"])
        .exits(0)
        .tells("2 to create");
    project.edit("max = 20", "max = 3");
    is_refused(&sandbox, &project, "the stack file has changed since");

    project.run(&["plan", "--out", "p.plan"]).exits(0);
    project.run(&["scale"]).exits(0);
    is_refused(&sandbox, &project, "max = 3 of pools.linux leaves no room");

    sandbox.advance("12m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("45m");
    project
        .run(&["plan", "--out", "p.plan"])
        .exits(0)
        .tells("3 to delete");
    sandbox.jobs(2, "10m");
    sandbox.advance("30s");
    is_refused(&sandbox, &project, "runs");
    assert_eq!(sandbox.servers().len(), 3);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_template_that_was_edited_since_is_named() {
    let sandbox = Sandbox::start(&[]);
    let project = planned(&sandbox, "");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud-init/gitlab-runner.yaml.tera");
    let text = std::fs::read_to_string(shipped).unwrap() + "\n# edited\n";
    std::fs::create_dir(project.path("cloud-init")).unwrap();
    std::fs::write(project.path("cloud-init/gitlab-runner.yaml.tera"), text).unwrap();
    is_refused(
        &sandbox,
        &project,
        "gitlab-runner.yaml.tera, or a part that it includes",
    );
}

#[test]
fn an_old_plan_another_lineage_a_damaged_file_and_none_at_all_are_refused() {
    let sandbox = Sandbox::start(&[]);
    let project = planned(&sandbox, "");
    let whole = std::fs::read_to_string(project.path("p.plan")).unwrap();
    forge(&project, |plan| plan["expires"] = json!("2020-01-01T00:00:00Z"));
    is_refused(&sandbox, &project, "it expired at 2020-01-01");
    std::fs::write(project.path("p.plan"), whole.replace("cx33", "cx53")).unwrap();
    is_refused(&sandbox, &project, "its digest does not fit");
    std::fs::write(project.path("p.plan"), &whole).unwrap();
    forge(&project, |plan| plan["stack"] = json!("other"));
    is_refused(&sandbox, &project, "a plan of stack other");
    std::fs::write(project.path("p.plan"), &whole).unwrap();
    forge(&project, |plan| plan["tool_version"] = json!("9.9.9"));
    is_refused(&sandbox, &project, "runfleet 9.9.9 made it");

    std::fs::write(project.path("p.plan"), &whole).unwrap();
    project.run(&["scale"]).exits(0);
    project.run(&["plan", "--out", "p.plan"]).exits(0);
    forge(&project, |plan| plan["lineage"] = json!("0000000000000000"));
    is_refused(&sandbox, &project, "lineage");

    std::fs::write(project.path("p.plan"), "no plan").unwrap();
    project
        .run(&["apply", "p.plan"])
        .exits(1)
        .tells("not a plan file");
    project
        .run(&["apply", "nowhere.plan"])
        .exits(1)
        .tells("nowhere.plan");
}

#[test]
fn with_a_plan_key_only_its_own_plans_are_applied() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    project.edit(
        "state = \"file\"",
        "state = \"file\"\nplan_key = { env = \"PLAN_KEY\" }",
    );
    sandbox.jobs(3, "10m");
    let with = |key: &str, arguments: &[&str]| {
        Ran::of(&project.command(arguments).env("PLAN_KEY", key).output().unwrap())
    };
    project
        .run(&["plan", "--out", "p.plan"])
        .exits(1)
        .tells("PLAN_KEY");
    assert!(!project.path("p.plan").exists());
    project.run(&["plan"]).exits(0);
    with("hunter2-plan-key", &["plan", "--out", "p.plan"]).exits(0);
    let whole = std::fs::read_to_string(project.path("p.plan")).unwrap();
    assert!(!whole.contains("hunter2"));

    with("another", &["apply", "p.plan"])
        .exits(5)
        .tells("its MAC is not of the stack's plan_key");
    forge(&project, |plan| plan["serial"] = json!(0));
    with("hunter2-plan-key", &["apply", "p.plan"]).exits(0);
    let servers = sandbox.servers();
    assert_eq!(servers.len(), 2, "the same content, the same MAC");

    std::fs::write(project.path("p.plan"), &whole).unwrap();
    forge(&project, |plan| plan["expires"] = json!("2099-01-01T00:00:00Z"));
    with("hunter2-plan-key", &["apply", "p.plan"])
        .exits(5)
        .tells("MAC");
    forge(&project, |plan| {
        plan.as_object_mut().unwrap().remove("mac");
    });
    with("hunter2-plan-key", &["apply", "p.plan"])
        .exits(5)
        .tells("it has no MAC, and the stack has a plan_key");
    assert_eq!(sandbox.servers(), servers);
}

#[test]
fn a_plan_that_deletes_more_than_the_guard_allows_changes_nothing_unless_told_to() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    project.edit("[pools.linux]", "[guard]\nmax_delete = \"50%\"\n\n[pools.linux]");
    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("12m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("45m");
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(2)
        .tells("max-delete: deletes 3 of 3 machines (linux: 3); guard.max_delete = 50% allows 1");
    project
        .run(&["-s", "stacks/test.toml", "scale"])
        .exits(5)
        .tells("the plan is refused: it deletes 3 of 3 machines")
        .tells("-s stacks/test.toml scale --allow max-delete");
    let lines = project.run(&["scale", "--json"]).exits(5);
    let last: Value = serde_json::from_str(lines.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["changes"]["remove"]),
        (&json!("change_summary"), &json!(0))
    );
    project.run(&["plan", "--out", "p.plan"]).exits(0);
    is_refused(&sandbox, &project, "guard.max_delete");
    assert_eq!(sandbox.servers().len(), 3);
    project
        .run(&["apply", "p.plan", "--allow", "max-delete"])
        .exits(0)
        .tells("3 deleted");
    assert!(sandbox.servers().is_empty());
    project.run(&["destroy"]).exits(0);
}

#[test]
fn a_budget_that_was_lowered_below_what_runs_refuses_until_told_or_until_less_runs() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.edit(
        "[pools.linux]",
        "[budget]\nhourly = \"0.0001 EUR\"\n\n[pools.linux]",
    );
    project
        .run(&["plan"])
        .exits(0)
        .tells("refused without --allow budget");
    project
        .run(&["scale"])
        .exits(5)
        .tells("budget.hourly allows 0.0001 EUR")
        .tells("scale --allow budget");
    project.run(&["scale", "--allow", "budget"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3);
    sandbox.advance("12m");
    project.run(&["scale", "--allow", "budget"]).exits(0);
    sandbox.advance("44m30s");
    project.run(&["scale"]).exits(0).tells("3 deleted");
}

#[test]
fn what_is_typed_next_repeats_what_was_typed() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(1, "10m");
    project
        .run(&["apply", "-s", "stacks/test.toml"])
        .exits(5)
        .tells("-s stacks/test.toml apply --auto-approve");
    let root = project.root().display().to_string();
    project
        .run(&["apply"])
        .exits(5)
        .tells(&format!("runfleet -C {root} apply --auto-approve"));
}

#[test]
fn a_plan_for_a_stack_that_someone_else_began_meanwhile_is_refused() {
    let sandbox = Sandbox::start(&[]);
    let project = planned(&sandbox, "");
    project.run(&["scale"]).exits(0);
    is_refused(&sandbox, &project, "the state's lineage is");
}

#[test]
fn json_lines_are_of_terraforms_shape_from_version_to_summary() {
    let sandbox = Sandbox::start(&[]);
    let project = planned(&sandbox, "");
    let ran = project.run(&["apply", "p.plan", "--json"]).exits(0);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &lines {
        for key in ["@level", "@message", "@module", "@timestamp", "type"] {
            assert!(line[key].is_string(), "{key} of {line}");
        }
    }
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], *types.last().unwrap()), ("version", "change_summary"));
    for wanted in ["planned_change", "apply_start", "apply_complete"] {
        assert_eq!(
            types.iter().filter(|found| **found == wanted).count(),
            5,
            "{wanted}: {types:?}"
        );
    }
    let machine = lines
        .iter()
        .find(|line| line["type"] == "apply_complete" && line["hook"]["resource"]["kind"] == "machine")
        .unwrap();
    let hook = &machine["hook"];
    assert_eq!(hook["action"], "create");
    assert!(hook["elapsed_seconds"].is_number() && hook["id_value"].is_string());
    assert_eq!(hook["resource"]["resource_type"], "machine");
    assert_eq!(hook["resource"]["resource_name"], "linux");
    assert_eq!(hook["resource"]["addr"], hook["resource"]["resource"]);
    let summary = &lines.last().unwrap()["changes"];
    assert_eq!(
        (&summary["add"], &summary["operation"]),
        (&json!(5), &json!("apply"))
    );
}

#[test]
fn gitlabs_report_and_a_comment_are_printed_without_anything_beside_them() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    let report = project
        .run(&["plan", "--format", "gitlab", "--out", "p.plan"])
        .exits(0);
    assert_eq!(report.stdout, "{\"create\":5,\"update\":0,\"delete\":0}\n");
    assert!(report.stderr.contains("Saved to p.plan"));
    let comment = project.run(&["plan", "--format", "markdown"]).exits(0).stdout;
    assert!(comment.starts_with("### runfleet: stack `test`"), "{comment}");
    assert!(comment.contains("| `+` create | `firewall/default`"), "{comment}");
}

#[expect(clippy::print_stderr, reason = "a test tells what it skips")]
fn checkov(file: &Path) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("tests/tools/checkov.sh"))
        .args([
            "--framework",
            "terraform_plan",
            "--compact",
            "--output",
            "json",
            "--file",
        ])
        .arg(file)
        .arg("--external-checks-dir")
        .arg(root.join("tests/tools/checkov"))
        .args(["--check", "CKV2_RUNFLEET_1"])
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    }))
}

/// The resources that checkov found, and those that the plan says will be there.
fn found_and_planned(project: &Project) -> Option<(Vec<String>, Vec<String>)> {
    let text = project.run(&["plan", "--format", "terraform"]).exits(0).stdout;
    let file = project.path("terraform.json");
    std::fs::write(&file, &text).unwrap();
    let plan: Value = serde_json::from_str(&text).unwrap();
    let planned = plan["planned_values"]["root_module"]["resources"]
        .as_array()
        .unwrap();
    let mut planned: Vec<String> = planned
        .iter()
        .map(|resource| resource["address"].as_str().unwrap().to_owned())
        .collect();
    let report = checkov(&file)?;
    assert_eq!(report["summary"]["resource_count"], planned.len(), "{report:#}");
    let passed = report["results"]["passed_checks"].as_array();
    let passed = passed.unwrap_or_else(|| panic!("{report:#}"));
    let mut found: Vec<String> = passed
        .iter()
        .map(|check| {
            let address = &check["resource_address"];
            let address = address.as_str().or(check["resource"].as_str());
            address.unwrap().to_owned()
        })
        .collect();
    found.sort();
    planned.sort();
    Some((found, planned))
}

#[test]
fn checkov_finds_every_resource_of_a_plan_in_terraforms_format() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    let Some((found, planned)) = found_and_planned(&project) else {
        return;
    };
    assert_eq!(planned.len(), 5, "three servers, a key, a firewall");
    assert_eq!(found, planned);
    project.run(&["scale"]).exits(0);
    sandbox.jobs(3, "10m");
    let Some((found, planned)) = found_and_planned(&project) else {
        return;
    };
    assert_eq!(planned.len(), 6, "what stays, and what is made");
    assert_eq!(found, planned);
}

#[test]
fn a_plan_is_written_over_nothing_but_a_plan() {
    let sandbox = Sandbox::start(&["boot=0s"]);
    let project = Project::new(&sandbox, "");
    let stack = project.path("stacks/test.toml");
    let before = std::fs::read(&stack).unwrap();
    project
        .run(&["plan", "--out", stack.to_str().unwrap()])
        .exits(1)
        .says("is no plan");
    assert_eq!(std::fs::read(&stack).unwrap(), before);
    let plan = project.path("p.plan");
    for _ in 0..2 {
        project.run(&["plan", "--out", plan.to_str().unwrap()]).exits(0);
    }
}
