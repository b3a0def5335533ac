//! Tests that keep the house: import direction, dead files, oversized files, strangers in the tree.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

use runfleet::stack::{Endpoint, ProviderKind, StateBackend};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const RUNGS: [&str; 7] = [
    "words",
    "core",
    "ports",
    "shell",
    "composition",
    "command line",
    "program",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root().join("src"))
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The rung of a path of modules below the crate's root: `["provider", "hetzner"]`.
fn rung(path: &[&str], ports: &BTreeMap<&str, BTreeSet<String>>) -> usize {
    match path {
        [] | ["lib" | "main"] => 6,
        ["model", ..] => 0,
        [
            "stack" | "scaling" | "placement" | "drain" | "graph" | "plan" | "render" | "journal",
            ..,
        ] => 1,
        [port @ ("provider" | "demand" | "state"), rest @ ..] => {
            let inner = rest.first().is_some_and(|name| ports[port].contains(*name));
            if inner { 3 } else { 2 }
        }
        [
            "net" | "secrets" | "ssh" | "hooks" | "sandbox" | "observe" | "apply" | "telemetry",
            ..,
        ] => 3,
        ["tick" | "watch" | "simulate", ..] => 4,
        ["cli", ..] => 5,
        other => panic!("{other:?} has no rung: add it to tests/house.rs and to ARCHITECTURE.md"),
    }
}

/// The module files and folders inside each port's folder.
fn port_modules() -> BTreeMap<&'static str, BTreeSet<String>> {
    ["provider", "demand", "state"]
        .into_iter()
        .map(|port| {
            let inner = fs::read_dir(root().join("src").join(port))
                .unwrap()
                .map(|entry| {
                    entry
                        .unwrap()
                        .path()
                        .file_stem()
                        .unwrap()
                        .to_string_lossy()
                        .into_owned()
                })
                .filter(|name| name != "mod")
                .collect();
            (port, inner)
        })
        .collect()
}

/// Every `crate::…` path in the text, groups in braces spelt out, as far as module names go.
fn imports(text: &str) -> Vec<Vec<String>> {
    fn paths(text: &str, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
        let mut path = prefix.to_vec();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let word: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !word.is_empty() {
                at += word.len();
                path.push(word);
                if text[at..].starts_with("::") {
                    at += 2;
                    continue;
                }
                found.push(path);
                return at;
            }
            if rest.starts_with('{') {
                at += 1;
                loop {
                    let skip = text[at..]
                        .chars()
                        .take_while(|c| c.is_whitespace() || *c == ',')
                        .count();
                    at += skip;
                    if at >= text.len() || text[at..].starts_with('}') {
                        return at + 1;
                    }
                    let used = paths(&text[at..], &path, found);
                    if used == 0 {
                        return at;
                    }
                    at += used;
                    // `as name`
                    if let Some(tail) = text[at..].strip_prefix(" as ") {
                        at += 4 + tail
                            .chars()
                            .take_while(|c| c.is_alphanumeric() || *c == '_')
                            .count();
                    }
                }
            }
            found.push(path);
            return at.max(1);
        }
    }
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c == '$' || c.is_alphanumeric() || c == '_') {
            continue;
        }
        paths(&text[at + "crate::".len()..], &[], &mut found);
    }
    found
}

/// The text without its comments and its own tests, which may look anywhere.
fn without_tests(text: &str) -> String {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    match code.find("#[cfg(test)]\nmod ") {
        Some(at) => code[..at].to_owned(),
        None => code,
    }
}

#[test]
fn each_module_imports_only_from_its_own_rung_or_a_lower_one() {
    let ports = port_modules();
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let trimmed = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let path: Vec<&str> = trimmed.split('/').collect();
        if path
            .last()
            .is_some_and(|last| *last == "testing" || *last == "tests")
        {
            continue;
        }
        let own = rung(&path, &ports);
        for import in imports(&without_tests(&text)) {
            let parts: Vec<&str> = import.iter().map(String::as_str).collect();
            let head = parts.first().copied().unwrap_or_default();
            if head.is_empty() || head.chars().next().is_some_and(char::is_uppercase) || path == ["main"] {
                continue;
            }
            let other = rung(&parts, &ports);
            if other > own {
                broken.push(format!(
                    "{name} ({}) imports {} ({})",
                    RUNGS[own],
                    import.join("::"),
                    RUNGS[other]
                ));
            }
            let clients = matches!(path[0], "provider" | "demand" | "net" | "apply" | "observe");
            if clients && head == "sandbox" || path[0] == "sandbox" && head != "sandbox" {
                broken.push(format!(
                    "{name} and the sandbox must not know each other: {}",
                    import.join("::")
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_ladders_test_sees_an_import_that_goes_up() {
    let ports = port_modules();
    let found =
        imports("use crate::{model::ids::Address, tick::{self, Session}};\nlet a = crate::cli::run();");
    let heads: Vec<&str> = found.iter().map(|path| path[0].as_str()).collect();
    assert_eq!(heads, ["model", "tick", "tick", "cli"]);
    assert!(rung(&["tick"], &ports) > rung(&["plan"], &ports));
    assert!(rung(&["state", "file"], &ports) > rung(&["state", "StateStore"], &ports));
}

#[test]
fn every_source_file_is_a_module_of_the_crate() {
    let all = sources();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let mut dead = Vec::new();
    for name in &names {
        if matches!(*name, "lib.rs" | "main.rs") {
            continue;
        }
        let trimmed = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let (parent, own) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        let declared_in = if parent.is_empty() {
            vec!["lib.rs".to_owned()]
        } else {
            vec![format!("{parent}.rs"), format!("{parent}/mod.rs")]
        };
        let declared = all.iter().any(|(file, text)| {
            declared_in.contains(file)
                && text
                    .lines()
                    .any(|line| line.trim_end().ends_with(&format!("mod {own};")))
        });
        if !declared {
            dead.push(*name);
        }
    }
    assert!(dead.is_empty(), "no module declares {dead:?}");
}

#[test]
fn a_long_source_file_says_why_it_is_long() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.ends_with("testing.rs"))
        .filter(|(_, text)| without_tests(text).lines().count() > 440 && !text.contains("Long because"))
        .map(|(name, text)| {
            format!(
                "{name}: {} lines without comments and tests",
                without_tests(&text).lines().count()
            )
        })
        .collect();
    assert!(
        long.is_empty(),
        "split these, or say in the module's documentation \"Long because …\":\n{}",
        long.join("\n")
    );
}

#[test]
fn only_the_command_line_prints() {
    let printing: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("cli/") && name != "main.rs")
        // What tests share says aloud what they skip.
        .filter(|(name, _)| !name.ends_with("testing.rs"))
        .filter(|(_, text)| {
            let code = without_tests(text);
            ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("]
                .iter()
                .any(|print| code.contains(print))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(printing.is_empty(), "{printing:?}");
}

#[test]
fn every_reason_is_in_the_docs() {
    let page = fs::read_to_string(root().join("docs/reasons.md")).unwrap();
    for (code, _) in runfleet::model::reason::Reason::CATALOGUE {
        assert!(
            page.contains(&format!("`{code}`")),
            "{code} is not in docs/reasons.md; run: make docs"
        );
    }
}

/// What `make scale` builds is what the stack's providers need.
#[test]
fn an_example_stack_is_built_with_what_it_needs_and_no_more() {
    let stacks = fs::read_dir(root().join("stacks")).unwrap();
    let files = stacks.map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "toml")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let stack = runfleet::stack::parse(&fs::read_to_string(&file).unwrap(), name).unwrap();
        let kinds: Vec<_> = stack.providers.values().map(|provider| provider.kind).collect();
        let embedded = stack.providers.values().map(|provider| &provider.endpoint);
        let embedded = embedded.chain(stack.ci.values().map(|ci| &ci.url));
        let needs = [
            ("aws", kinds.iter().any(|kind| kind.is_aws())),
            ("digitalocean", kinds.contains(&ProviderKind::Digitalocean)),
            ("hetzner", kinds.contains(&ProviderKind::Hetzner)),
            ("kubernetes", kinds.contains(&ProviderKind::Kubernetes)),
            ("object", matches!(stack.state, StateBackend::Object(_))),
            (
                "sandbox",
                embedded
                    .into_iter()
                    .any(|endpoint| *endpoint == Endpoint::Sandbox),
            ),
        ];
        let needs: Vec<&str> = needs
            .iter()
            .filter(|(_, needed)| *needed)
            .map(|(name, _)| *name)
            .collect();
        let said = std::process::Command::new(root().join("scripts/features"))
            .arg(name)
            .current_dir(root())
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let wished = format!("--no-default-features --features {}", needs.join(","));
        assert_eq!(said.trim(), wished, "{name}");
        seen += 1;
    }
    assert!(seen >= 6, "{seen} example stacks");
}

/// A crate that we build with asks for reqwest's own default, which is OpenSSL: it would be what a client takes that does not say.
#[test]
fn every_http_client_says_that_its_tls_is_rustls() {
    let mut seen = 0;
    for (path, text) in sources() {
        let text = without_tests(&text);
        assert!(
            !text.contains("reqwest::Client::new("),
            "{path}: a client that says nothing"
        );
        let of_tests = path.contains("tests/") || path.ends_with("tests.rs");
        if text.contains("reqwest::Client::builder()") && !of_tests {
            assert!(text.contains(".use_rustls_tls()"), "{path}: not with rustls");
            seen += 1;
        }
    }
    assert!(seen >= 2, "the clients that we have are seen");
}
