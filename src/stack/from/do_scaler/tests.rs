//! What a folder of do-scaler's comes to, and what is said of one that is none.

use super::*;
use crate::{
    model::{
        ids::ProviderName,
        metrics::{Finite, HealthCheck, SampleName},
        resource::ImageRef,
    },
    stack::{
        CiKind, Mode, Policy, ProviderKind, SecretRef,
        step::{Change, Condition, Function, Matching, Operator, Reducer, StepPolicy, Subject},
    },
};

type Folder = BTreeMap<String, String>;

/// The folder of tests/scenarios, a token and all.
fn folder() -> Folder {
    let files = [
        (
            MAIN,
            include_str!("../../../../tests/scenarios/do_scaler/do-scaler.cfg"),
        ),
        (
            "conf.d/web.cfg",
            include_str!("../../../../tests/scenarios/do_scaler/conf.d/web.cfg"),
        ),
        (
            "conf.d/droplets/web.json",
            include_str!("../../../../tests/scenarios/do_scaler/conf.d/droplets/web.json"),
        ),
        (
            "conf.d/policies/mem_avail.json",
            include_str!("../../../../tests/scenarios/do_scaler/conf.d/policies/mem_avail.json"),
        ),
        (
            "conf.d/policies/loadavg.json",
            include_str!("../../../../tests/scenarios/do_scaler/conf.d/policies/loadavg.json"),
        ),
        (
            "conf.d/policies/down.json",
            include_str!("../../../../tests/scenarios/do_scaler/conf.d/policies/down.json"),
        ),
    ];
    files
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

/// The folder with something of a file written otherwise.
fn with(path: &str, from: &str, to: &str) -> Folder {
    let mut folder = folder();
    let file = folder.get_mut(path).unwrap();
    assert!(file.contains(from), "{file}");
    *file = file.replace(from, to);
    folder
}

fn web(from: &str, to: &str) -> Folder {
    with("conf.d/web.cfg", from, to)
}

fn made(folder: &Folder) -> Converted {
    convert(folder, "droplets").unwrap_or_else(|error| match error {
        FromError::Stack(problems) => panic!("{problems:#?}"),
        error => panic!("{error}"),
    })
}

/// The error with what it says to type.
fn refused(folder: &Folder) -> String {
    match convert(folder, "droplets").unwrap_err() {
        FromError::InFile {
            file,
            line,
            why,
            help,
        } => {
            let error = FromError::InFile {
                file,
                line,
                why,
                help: String::new(),
            };
            format!("{error} | {help}")
        }
        other => panic!("{other:?}"),
    }
}

fn left(converted: &Converted) -> Vec<&str> {
    converted.left.iter().map(|left| left.key.as_str()).collect()
}

fn why<'c>(converted: &'c Converted, key: &str) -> &'c str {
    let found = converted.left.iter().find(|left| left.key == key);
    &found
        .unwrap_or_else(|| panic!("{key} is not among {:?}", left(converted)))
        .why
}

fn steps(converted: &Converted) -> &StepPolicy {
    match &converted.stack.pools[0].policy {
        Policy::Step(policy) => policy,
        other => panic!("{other:?}"),
    }
}

fn finite(number: f64) -> Finite {
    Finite::new(number).unwrap()
}

fn of_machines(
    name: &str,
    samples: &[&str],
    function: Function,
    operator: Operator,
    number: f64,
) -> Condition {
    let samples = samples.iter().map(|name| SampleName {
        name: (*name).to_owned(),
        labels: BTreeMap::new(),
    });
    Condition {
        name: name.to_owned(),
        subject: Subject::Machines {
            samples: samples.collect(),
            reducer: Reducer::Add,
            function,
        },
        operator,
        threshold: finite(number),
    }
}

#[test]
fn a_scaler_becomes_a_pool() {
    let made = made(&folder());
    let (stack, pool) = (&made.stack, &made.stack.pools[0]);
    assert_eq!(stack.interval, SignedDuration::from_mins(2));
    let provider = &stack.providers["digitalocean"];
    assert_eq!(provider.kind, ProviderKind::Digitalocean);
    assert_eq!(
        provider.token,
        Some(SecretRef::Env("DIGITALOCEAN_TOKEN".to_owned()))
    );
    let ci = &stack.ci["metrics"];
    assert_eq!(ci.kind, CiKind::Prometheus);
    let scrape = ci.scrape.as_ref().unwrap();
    assert_eq!(
        (scrape.port, &*scrape.path, scrape.address),
        (9110, "/", AddressKind::Private)
    );
    assert_eq!((pool.name.as_str(), pool.mode), ("web", Mode::Advise));
    assert_eq!((pool.min, pool.max), (2, 4));
    assert_eq!(pool.idle_timeout, SignedDuration::ZERO);
    assert_eq!(pool.ready_timeout, SignedDuration::from_mins(7));
    assert_eq!(pool.ssh_keys, ["web-1"]);
    assert!(stack.ssh_keys["web-1"].public_key.starts_with("ssh-ed25519 "));
    let health = HealthCheck {
        tcp: vec![9110, 80],
        http: None,
        timeout: SignedDuration::from_secs(10),
    };
    assert_eq!(pool.health, Some(health));
    let offering = &pool.offerings[0];
    assert_eq!(offering.provider, ProviderName::from("digitalocean"));
    assert_eq!(offering.machine_type, "s-2vcpu-4gb");
    assert_eq!(offering.locations, ["fra1"]);
    assert_eq!(offering.image, ImageRef::Name("debian-12-x64".to_owned()));
}

#[test]
fn its_policies_become_steps_in_their_order() {
    let made = made(&folder());
    let policy = steps(&made);
    assert_eq!(policy.cooldown, SignedDuration::from_mins(2));
    assert_eq!(policy.hysteresis, SignedDuration::from_mins(4));
    let memory = ["node_memory_MemFree_bytes", "node_memory_Cached_bytes"];
    let loads = |function: Function, operator: Operator, number: f64| {
        ["1", "5", "15"].map(|minutes| {
            of_machines(
                &format!("load of {minutes} minutes"),
                &[&format!("node_load{minutes}")],
                function,
                operator,
                number,
            )
        })
    };
    let mut down = vec![of_machines(
        "available memory",
        &memory,
        Function::Min,
        Operator::AtLeast,
        3_102_148_608.0,
    )];
    down.extend(loads(Function::Max, Operator::AtMost, 0.5));
    let expected = [
        (
            "mem_avail",
            Change::Add(1),
            vec![of_machines(
                "available memory",
                &memory,
                Function::Mean,
                Operator::AtMost,
                2_068_099_072.0,
            )],
        ),
        (
            "loadavg",
            Change::Add(1),
            loads(Function::Mean, Operator::AtLeast, 2.0).to_vec(),
        ),
        ("down", Change::Remove(1), down),
    ];
    assert_eq!(policy.steps.len(), expected.len());
    for (step, (name, change, conditions)) in policy.steps.iter().zip(expected) {
        assert_eq!((step.name.as_str(), step.matching), (name, Matching::All));
        assert_eq!((step.change, &step.conditions), (change, &conditions));
        assert_eq!(step.hold, SignedDuration::ZERO);
    }
}

#[test]
fn what_has_no_equivalent_is_named_and_no_secret_is_copied() {
    let mut folder = folder();
    folder.insert("conf.d/policies/old.json".to_owned(), "not even JSON".to_owned());
    let made = made(&folder);
    assert_eq!(
        left(&made),
        [
            "conf.d/droplets/web.json: name",
            "conf.d/droplets/web.json: tags",
            "conf.d/droplets/web.json: private_networking",
            "conf.d/web.cfg: do_token",
            "conf.d/policies/old.json",
        ]
    );
    assert!(why(&made, "conf.d/web.cfg: do_token").ends_with("into the environment as DIGITALOCEAN_TOKEN"));
    assert!(why(&made, "conf.d/droplets/web.json: tags").starts_with("web: new machines carry"));
    let told = format!("{} {:?}", made.text, made.left);
    assert!(!told.contains("dop_v1"), "{told}");
}

#[test]
fn keys_and_images_by_id_are_told_apart_from_words() {
    let key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFKb61eFlJwEOHHpNhZbAuUltvLQD+cMl4k4sQmZfYNr ops@example.com";
    let folder = with(
        "conf.d/droplets/web.json",
        &format!("\"{key}\""),
        "289794, \"3b:16:bf\"",
    );
    let made_ = made(&folder);
    assert_eq!(made_.stack.pools[0].ssh_keys, [""; 0]);
    assert!(why(&made_, "conf.d/web.cfg: ssh_keys").starts_with("289794, 3b:16:bf: "));
    for image in ["7555620", "\"7555620\""] {
        let folder = with("conf.d/droplets/web.json", "\"debian-12-x64\"", image);
        assert_eq!(
            made(&folder).stack.pools[0].offerings[0].image,
            ImageRef::Id(7_555_620)
        );
    }
    let folder = with(
        "conf.d/droplets/web.json",
        "\"region\"",
        "\"user_data\": \"verysecret\", \"backups\": true, \"colour\": 1, \"region\"",
    );
    let made = made(&folder);
    assert!(why(&made, "conf.d/droplets/web.json: user_data").contains("may hold secrets"));
    assert!(why(&made, "conf.d/droplets/web.json: colour").starts_with("runfleet makes droplets without"));
    assert!(!format!("{} {:?}", made.text, made.left).contains("verysecret"));
}

#[test]
fn the_address_of_the_readme_is_understood_beside_those_of_the_code() {
    for (word, kind) in [
        ("ip_address", AddressKind::Public),
        ("public_ip_address", AddressKind::Public),
        ("ip_v6_address", AddressKind::Ipv6),
        ("private_ip_address", AddressKind::Private),
    ] {
        let made = made(&web("address = private_ip_address", &format!("address = {word}")));
        let scrape = made.stack.ci["metrics"].scrape.as_ref().unwrap();
        assert_eq!(scrape.address, kind, "{word}");
    }
    let made = made(&web("${scaler.metrics:address}", "ip_address"));
    assert!(why(&made, "conf.d/web.cfg: [health_check_tcp] address").contains("at which metrics are read"));
}

#[test]
fn folders_may_be_elsewhere() {
    let mut folder = folder();
    let moved = [
        ("conf.d/web.cfg", "/srv/scalers/web.cfg"),
        ("conf.d/droplets/web.json", "made/web.json"),
        ("conf.d/policies/mem_avail.json", "/srv/rules/mem_avail.json"),
        ("conf.d/policies/loadavg.json", "/srv/rules/loadavg.json"),
        ("conf.d/policies/down.json", "/srv/rules/down.json"),
    ];
    for (from, to) in moved {
        let text = folder.remove(from).unwrap();
        folder.insert(to.to_owned(), text);
    }
    let file = folder.get_mut("/srv/scalers/web.cfg").unwrap();
    *file = file.replace("tag_name = web\n", "tag_name = web\npolicy_dir = /srv/rules/\n");
    *file = file.replace("max = 4\n", "max = 4\ndroplet_dir: made\n");
    let main = folder.get_mut(MAIN).unwrap();
    main.push_str("confd_dir = /srv/scalers/\n");
    let made = made(&folder);
    assert_eq!(steps(&made).steps.len(), 3);
}

#[test]
fn several_scalers_share_what_is_the_same() {
    let mut folder = folder();
    let text = folder["conf.d/web.cfg"].clone();
    folder.insert("conf.d/Web.API.cfg".to_owned(), text.clone());
    let other = text
        .replace("dop_v1_not_a_token", "another")
        .replace("port = 9110", "port = 9100")
        .replace("tag_name = web", "tag_name = worker")
        .replace("${scaler:tag_name}.json", "web.json");
    folder.insert("conf.d/worker.cfg".to_owned(), other);
    let made = made(&folder);
    let pools: Vec<(&str, &str, &str)> = made
        .stack
        .pools
        .iter()
        .map(|pool| {
            (
                pool.name.as_str(),
                pool.ci.as_str(),
                pool.offerings[0].provider.as_str(),
            )
        })
        .collect();
    assert_eq!(
        pools,
        [
            ("web-api", "metrics", "digitalocean"),
            ("web", "metrics", "digitalocean"),
            ("worker", "metrics-worker", "digitalocean-worker")
        ]
    );
    let keys: Vec<&str> = made
        .stack
        .pools
        .iter()
        .map(|pool| pool.ssh_keys[0].as_str())
        .collect();
    assert_eq!(keys, ["web-api-1", "web-api-1", "worker-1"]);
    let provider = &made.stack.providers["digitalocean-worker"];
    assert_eq!(
        provider.token,
        Some(SecretRef::Env("DIGITALOCEAN_TOKEN_WORKER".to_owned()))
    );
    assert!(why(&made, "web.cfg: [scaler] tag_name").starts_with("Web.API.cfg has the same tag"));
}

#[test]
fn actions_of_ones_own_become_hooks_that_are_commented_out_or_are_named() {
    let mut folder = with(
        "conf.d/policies/loadavg.json",
        "\"health_check_tcp\"",
        "\"announce\"",
    );
    let down = folder.get_mut("conf.d/policies/down.json").unwrap();
    *down = down.replace(
        "\"digitalocean_destroy_droplet\"",
        "\"digitalocean_destroy_droplet\", \"tidy\"",
    );
    folder.insert(
        "conf.d/actions/announce/__init__.py".to_owned(),
        "class Action: ...".to_owned(),
    );
    let file = folder.get_mut("conf.d/web.cfg").unwrap();
    file.push_str("[announce]\nroom = ops\n");
    *file = file.replace("down.json", "down.json page.json");
    folder.insert(
        "conf.d/policies/page.json".to_owned(),
        folder["conf.d/policies/loadavg.json"]
            .replace("digitalocean_create_droplet", "page")
            .replace("\"announce\"", "\"health_check_tcp\""),
    );
    let made = made(&folder);
    assert_eq!(steps(&made).steps.len(), 3);
    assert!(
        why(&made, "conf.d/policies/loadavg.json: action announce")
            .starts_with("its Python module is not called; a hook")
    );
    assert!(why(&made, "conf.d/policies/down.json: action tidy").starts_with("nor is there a module"));
    assert!(
        why(&made, "conf.d/policies/page.json: action page")
            .ends_with("nothing here is called while conditions hold")
    );
    assert!(why(&made, "conf.d/policies/page.json").contains("neither makes nor removes"));
    assert!(why(&made, "conf.d/web.cfg: [announce] room").contains("an action of your own"));
    for words in [
        "# on      = [\"after_ready\"]\n# command = [\"./hooks/announce\"]",
        "# on      = [\"after_delete\"]",
    ] {
        assert!(made.text.contains(words), "{}", made.text);
    }
    // What is commented out is a hook when it is not.
    let hooked = made
        .text
        .replace("# [[pools", "[[pools")
        .replace("# on ", "on ")
        .replace("# command", "command");
    let stack = parse(&hooked, "stacks/droplets.toml").unwrap();
    assert_eq!(stack.pools[0].hooks.len(), 2);
}

#[test]
fn steps_have_names_of_their_own_whatever_the_policies_are_called() {
    let mut folder = with(
        "conf.d/policies/mem_avail.json",
        "\"mem_avail\"",
        "\" high load! \"",
    );
    for file in ["loadavg", "down"] {
        let text = folder.get_mut(&format!("conf.d/policies/{file}.json")).unwrap();
        *text = text.replace(&format!("\"{file}\""), "\"high_load_\"");
    }
    let made = made(&folder);
    let names: Vec<&str> = steps(&made).steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["high_load_", "high_load_-2", "high_load_-3"]);
}

#[test]
fn a_scaler_that_only_grows_keeps_one() {
    let mut folder = web(" down.json", "");
    let file = folder.get_mut("conf.d/web.cfg").unwrap();
    *file = file.replace(
        "[digitalocean_destroy_droplet]\ndo_token = ${scaler:do_token}\nmin = 2\n",
        "",
    );
    let made_ = made(&folder);
    assert_eq!(made_.stack.pools[0].min, 1);
    assert!(why(&made_, "conf.d/web.cfg: min").contains("min = 1"));
    let made = made(&web("min = 2", "min = 0"));
    assert_eq!(made.stack.pools[0].min, 1);
    assert!(
        why(&made, "conf.d/web.cfg: [digitalocean_destroy_droplet] min")
            .contains("no policy would ever make one")
    );
}

/// Each folder is refused with words that begin so.
fn are_refused(folders: &[(Folder, &str)]) {
    let mut other = Vec::new();
    for (folder, expected) in folders {
        let told = refused(folder);
        if !told.starts_with(expected) {
            other.push(format!("{told}\n  and not {expected}"));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn files_that_are_missing_and_a_wrong_clock_are_told_with_what_to_type() {
    let mut no_main = folder();
    no_main.remove(MAIN);
    let mut no_scalers = folder();
    no_scalers.remove("conf.d/web.cfg");
    let mut no_policy = folder();
    no_policy.remove("conf.d/policies/down.json");
    are_refused(&[
        (
            no_main,
            "do-scaler.cfg: cannot be read: No such file or directory | name the folder that has",
        ),
        (
            no_scalers,
            "conf.d: has no scaler | each scaler is a file there that ends in .cfg",
        ),
        (
            no_policy,
            "conf.d/policies/down.json: cannot be read: No such file or directory | line 5 of conf.d/web.cfg names it",
        ),
        (
            with(MAIN, "[scheduler]", "[clock]"),
            "do-scaler.cfg, line 4: the section [scheduler] is missing | add the section [scheduler] with `interval = 120`",
        ),
        (
            with(MAIN, "interval = 120", "every = 120"),
            "do-scaler.cfg, line 2: interval is missing in [scheduler] | write `interval = 120` there",
        ),
        (
            with(MAIN, "= 120", "= 2m"),
            "do-scaler.cfg, line 3: interval is not a whole number, zero or above | write `interval = 120`",
        ),
        (
            with(MAIN, "= 120", "= 0"),
            "do-scaler.cfg, line 3: interval is not above zero | write `interval = 120`",
        ),
    ]);
}

#[test]
fn what_is_missing_or_wrong_in_a_scaler_is_told_with_its_line_and_what_to_type() {
    are_refused(&[
        (
            web("[scaler.metrics]", "[metrics]"),
            "conf.d/web.cfg, line 26: the section [scaler.metrics] is missing | add the section",
        ),
        (
            web("[digitalocean_create_droplet]", "[create]"),
            "conf.d/web.cfg, line 26: the section [digitalocean_create_droplet] is missing",
        ),
        (
            web("tag_name = web", "tag = web"),
            "conf.d/web.cfg, line 2: tag_name is missing in [scaler] | write `tag_name = web` there",
        ),
        (
            web("= web\n", "=\n"),
            "conf.d/web.cfg, line 4: tag_name is empty in [scaler]",
        ),
        (
            web("${scaler:tag_name}", "${scaler:tag}"),
            "conf.d/web.cfg, line 14: droplet: ${scaler:tag} refers to nothing | write `tag = …` into [scaler]",
        ),
        (
            web(
                "address = private_ip_address",
                "address = ${health_check_tcp:address}",
            ),
            "conf.d/web.cfg, line 8: address: ${scaler.metrics:address} refers to itself in the end",
        ),
        (
            web("address = private_ip_address", "address = private"),
            "conf.d/web.cfg, line 8: address is not ip_address, private_ip_address or ip_v6_address | write `address = private_ip_address`",
        ),
        (
            web("port = 9110", "port = 91100"),
            "conf.d/web.cfg, line 9: port is not a port, from 1 to 65535",
        ),
        (
            web("max = 4", "max = 0"),
            "conf.d/web.cfg, line 13: max is not above zero",
        ),
        (
            web("min = 2", "min = 5"),
            "conf.d/web.cfg, line 18: min is not at most max, 4",
        ),
        (
            web("max_tries = 12", "max_tries = none"),
            "conf.d/web.cfg, line 25: max_tries is not a whole number",
        ),
        (
            web("ports = ${scaler.metrics:port} 80", "ports = 9110,80"),
            "conf.d/web.cfg, line 22: ports is not ports with a blank between",
        ),
        (
            web("tag_name = web\n", "tag_name = web\nTAG_NAME = web\n"),
            "conf.d/web.cfg, line 5: tag_name is there already in [scaler], in line 4",
        ),
        (
            web(".json loadavg.json down.json", ".jsn"),
            "conf.d/policies/mem_avail.jsn: cannot be read",
        ),
    ]);
}

#[test]
fn what_is_missing_or_wrong_in_a_policy_or_a_droplet_is_told_with_its_line_and_what_to_type() {
    let policy = |from: &str, to: &str| with("conf.d/policies/mem_avail.json", from, to);
    are_refused(&[
        (
            policy("\"+\"", "\"%\""),
            "conf.d/policies/mem_avail.json, line 11: unknown variant `%`, expected one of `+`, `-`, `*`, `/` | a policy of do-scaler",
        ),
        (
            policy("\"<=\"", "\"=<\""),
            "conf.d/policies/mem_avail.json, line 22: unknown variant `=<`, expected one of `<`, `<=`, `>`, `>=`, `==`",
        ),
        (
            policy("\"mean\"", "\"avg\""),
            "conf.d/policies/mem_avail.json, line 24: unknown variant `avg`, expected one of `min`, `max`, `median`, `mean`",
        ),
        (
            policy("\"2068099072.0\"", "\"2 GiB\""),
            "conf.d/policies/mem_avail.json, line 23: a threshold is a number, such as \"2.5\"",
        ),
        (
            policy("\"2068099072.0\"", "\"nan\""),
            "conf.d/policies/mem_avail.json, line 23: a threshold is a number",
        ),
        (
            policy("\"all\"", "\"none\""),
            "conf.d/policies/mem_avail.json, line 7: unknown variant `none`, expected `all` or `any`",
        ),
        (
            policy("node_memory_Cached_bytes", "node memory"),
            "conf.d/policies/mem_avail.json, line 19: a sample's name is letters, digits",
        ),
        (
            policy("\"operator\": \"<=\",", ""),
            "conf.d/policies/mem_avail.json, line 25: missing field `operator`",
        ),
        (
            policy("\"reducer\": \"+\",", ""),
            "conf.d/policies/mem_avail.json: its condition 1 (available memory) has several samples and no reducer | write \"reducer\"",
        ),
        (
            policy("\"all\",", "\"all\""),
            "conf.d/policies/mem_avail.json, line 8: expected `,` or `}`",
        ),
        (
            with("conf.d/droplets/web.json", "\"size_slug\"", "\"slug\""),
            "conf.d/droplets/web.json, line 11: missing field `size_slug` | a droplet of do-scaler",
        ),
    ]);
}

#[test]
fn no_secret_is_in_an_error() {
    for (from, to) in [
        ("max = 4", "max = verysecret"),
        ("do_token = dop_v1_not_a_token", "do_token = verysecret$"),
        ("# Web droplets", "verysecret"),
        ("[scaler]\n", "[scaler]\nverysecret\n"),
        ("port = 9110", "port = verysecret"),
        ("ports = ${scaler.metrics:port} 80", "ports = verysecret"),
        ("address = private_ip_address", "address = verysecret"),
    ] {
        let error = convert(&web(from, to), "droplets").unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("verysecret"), "{told}");
    }
}

#[test]
fn thresholds_are_read_as_python_reads_them() {
    for (written, number) in [
        ("\"1e9\"", 1e9),
        ("\" 2.5 \"", 2.5),
        ("\"1_000\"", 1000.0),
        ("-3", -3.0),
        ("0.25", 0.25),
        ("\"+.5\"", 0.5),
    ] {
        let made = made(&with(
            "conf.d/policies/mem_avail.json",
            "\"2068099072.0\"",
            written,
        ));
        assert_eq!(
            steps(&made).steps[0].conditions[0].threshold,
            finite(number),
            "{written}"
        );
    }
    for written in ["\"1__0\"", "\"_1\"", "\"1_\"", "\"\"", "\"inf\"", "true"] {
        refused(&with(
            "conf.d/policies/mem_avail.json",
            "\"2068099072.0\"",
            written,
        ));
    }
}
