//! The graph of resources, read by those who draw it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Project, Ran, Sandbox};

/// Feeds a tool of `tests/tools` with a text; none where the tool cannot be had here.
#[expect(clippy::print_stderr, reason = "says what was not checked")]
fn fed(script: &str, text: &str) -> Option<Ran> {
    let mut child = Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/tools")
            .join(script),
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    // A tool that ends without reading is told by its exit code.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let ran = Ran::of(&output);
    if ran.code == 77 {
        eprintln!("skipped: {}", ran.stderr);
        return None;
    }
    Some(ran)
}

fn actions(graph: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let nodes = graph["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| (text(&node["kind"]), text(&node["action"])))
        .collect()
}

#[test]
fn the_graph_of_a_stack_shows_what_is_there_and_what_the_plan_does_and_others_can_draw_it() {
    let sandbox = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "10m");
    let graph = project.run(&["graph", "--json"]).exits(0).json();
    let expected = |fate: &str| {
        ["ssh_key", "firewall", "machine"]
            .map(|kind| (kind.to_owned(), fate.to_owned()))
            .to_vec()
    };
    assert_eq!(actions(&graph), expected("create"));
    assert_eq!(
        (&graph["format_version"], &graph["complete"]),
        (&"1.0".into(), &true.into())
    );
    assert_eq!(graph["edges"].as_array().unwrap().len(), 2);
    project.run(&["scale"]).exits(0);
    project.run(&["plan"]).exits(0).says("No changes");
    let graph = project.run(&["graph", "--json"]).exits(0).json();
    assert_eq!(actions(&graph), expected("keep"), "nothing to do, and not empty");

    project.edit("port = \"22\"", "port = \"80\"");
    for (format, script, sign) in [
        ("dot", "graphviz.sh", "firewall/default"),
        ("mermaid", "mermaid.sh", "flowchart-v2"),
    ] {
        let drawn = project
            .run(&["graph", "--format", format])
            .exits(0)
            .says("~ firewall/default");
        if let Some(ran) = fed(script, &drawn.stdout) {
            ran.exits(0).says(sign);
        }
        if let Some(ran) = fed(script, &drawn.stdout.replacen("\"]", "", 1).replacen("];", "", 1)) {
            assert_ne!(ran.code, 0, "{script} takes anything");
        }
    }
    let drawn = project.run(&["graph", "--format", "svg"]).exits(0);
    let tree = roxmltree::Document::parse(&drawn.stdout).unwrap();
    let texts: Vec<&str> = tree
        .descendants()
        .filter(|node| node.tag_name().name() == "text")
        .filter_map(|node| node.text())
        .collect();
    assert!(texts.contains(&"~ firewall/default"), "{texts:?}");
}
