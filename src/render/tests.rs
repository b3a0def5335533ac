use std::collections::BTreeMap;

use jiff::SignedDuration;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::{
    model::{
        demand::AgentPool,
        offering::{Market, OfferingKey},
        resource::{Direction, FirewallRule, FirewallSpec, ImageRef, ResourceSpec, SshKeySpec},
    },
    stack::{Budget, CiConfig, Endpoint, Mode, OfferingChoice, Policy, StateBackend},
};

const TOKEN: &str = "glrt-very-secret";

fn templates(main: &str) -> TemplateSet {
    TemplateSet {
        files: BTreeMap::from([
            ("cloud-init/main.tera".to_owned(), main.to_owned()),
            (
                "templates/part.tera".to_owned(),
                "{# a part #}\n\nx = {{ vars.x | toml }}\n".to_owned(),
            ),
            ("templates/other.tera".to_owned(), "unused".to_owned()),
        ]),
    }
}

fn pool() -> Pool {
    Pool {
        agents: None,
        discover: None,
        name: "linux".into(),
        ci: "gitlab".into(),
        mode: Mode::Act,
        tags: vec!["docker".into(), "linux".into()],
        run_untagged: false,
        jobs_per_runner: 2,
        min: 0,
        max: 5,
        burst: None,
        policy: Policy::Queue { idle: 0 },
        ready_timeout: SignedDuration::from_mins(10),
        idle_timeout: SignedDuration::from_mins(5),
        cloud_init: "cloud-init/main.tera".into(),
        vars: BTreeMap::from([("x".into(), json!({"b": 1, "a": 2}))]),
        ssh_keys: vec!["one".into(), "two".into()],
        firewalls: vec![],
        networks: Vec::new(),
        spread: crate::stack::Spread::No,
        keeping: crate::stack::Keeping::default(),
        registering: crate::stack::Registering::default(),
        offerings: vec![OfferingChoice {
            price: None,
            task: None,
            provider: "hetzner".into(),
            machine_type: "cx33".into(),
            locations: vec![],
            image: ImageRef::Name("debian-12".into()),
            public_ipv4: true,
            market: Market::OnDemand,
            ec2: None,
            priority: 0,
        }],
        group: None,
        order: crate::stack::Order::default(),
        health: None,
        hooks: Vec::new(),
    }
}

fn ci() -> CiConfig {
    CiConfig {
        auth: crate::stack::AzureAuth::default(),
        max: None,
        name: "gitlab".into(),
        kind: crate::stack::CiKind::Gitlab,
        url: Endpoint::Url("https://gitlab.example.com".into()),
        token: None,
        ca_file: None,
        projects: vec![],
        groups: Vec::new(),
        instance: false,
        settle: SignedDuration::from_secs(1),
        api: crate::stack::CircleciApi::default(),
        pending_max: None,
        running_max: None,
        scrape: None,
        program: None,
    }
}

fn stack() -> Stack {
    Stack {
        name: "test".into(),
        state: StateBackend::File,
        interval: SignedDuration::from_mins(3),
        providers: BTreeMap::new(),
        ci: BTreeMap::from([("gitlab".into(), ci())]),
        ssh_keys: BTreeMap::new(),
        firewalls: BTreeMap::new(),
        pools: vec![pool()],
        budget: Budget::default(),
        currency: crate::stack::Currencies::default(),
        login: crate::stack::hooks::Login::default(),
        networks: BTreeMap::new(),
        guard: crate::stack::Guard::default(),
        moved: Vec::new(),
        keep_states: 10,
        plan_key: None,
        metrics_file: None,
        watch: crate::stack::Watching::default(),
        sandbox: None,
        source_hash: String::new(),
    }
}

fn spec(runner: &str) -> MachineSpec {
    MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: runner.into(),
        name: format!("test-linux-{runner}"),
        offering: OfferingKey {
            provider: "hetzner".into(),
            location: "fsn1".into(),
            machine_type: "cx33".into(),
            market: Market::OnDemand,
        },
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        ssh_keys: vec!["one".into(), "two".into()],
        firewalls: vec![],
    }
}

fn render(main: &str) -> Result<String, RenderError> {
    let join = Join {
        system_id: None,
        url: "https://gitlab.example.com".into(),
        token: TOKEN.into(),
    };
    user_data(&templates(main), &stack(), &pool(), &spec("brave-otter"), &join)
        .map(|text| text.expose_secret().to_owned())
}

#[test]
fn a_template_sees_machine_pool_ci_vars_and_token() {
    let text = render(
        "{{ machine.name | json }} {{ pool.tags | json }} {{ ci.url | json }} {{ token | json }} {{ pool.jobs_per_runner | json }}",
    );
    assert_eq!(
        text.unwrap(),
        r#""test-linux-brave-otter" ["docker", "linux"] "https://gitlab.example.com" "glrt-very-secret" 2"#
    );
}

#[test]
fn a_partial_is_written_as_one_value() {
    let main = "f: {% filter block(indent=2) %}{% include \"templates/part.tera\" %}{% endfilter %}\n";
    assert_eq!(
        render(main).unwrap(),
        "f: |2\n\n\n  x = { \"b\" = 1, \"a\" = 2 }\n"
    );
}

#[test]
fn an_undefined_variable_is_told_with_template_and_line() {
    assert_eq!(
        render("a\nb: {{ vars.y | default(value=1) | json }}\nc: {{ vars.y | json }}").unwrap_err(),
        RenderError::Undefined {
            template: "cloud-init/main.tera".into(),
            line: 3,
            variable: "vars.y".into()
        }
    );
    let mut stack = stack();
    stack.pools[0].vars.clear();
    let set = templates("{% include \"templates/part.tera\" %}");
    assert_eq!(
        preview(&set, &stack, &stack.pools[0], &spec("a"), "u")
            .unwrap_err()
            .to_string(),
        "templates/part.tera:3: there is no variable vars.x"
    );
}

#[test]
fn what_is_no_template_is_told_with_its_line() {
    let error = render("a\n{% if token %}\n{% endfor %}").unwrap_err();
    assert!(
        matches!(&error, RenderError::Syntax { template, line: 3, .. } if template == "cloud-init/main.tera"),
        "{error}"
    );
}

#[test]
fn a_value_that_does_not_say_its_language_is_refused() {
    for bare in [
        "{{ token }}",
        "{{ token | upper }}",
        "{{ token | safe }}",
        "{{ token ~ \"| json\" }}",
    ] {
        let error = render(&format!("\n{bare}")).unwrap_err();
        assert!(
            matches!(error, RenderError::Bare { line: 2, .. }),
            "{bare}: {error}"
        );
    }
}

#[test]
fn a_missing_partial_and_a_circle_are_told() {
    assert_eq!(
        render("{% include \"templates/no.tera\" %}")
            .unwrap_err()
            .to_string(),
        "there is no template templates/no.tera, which cloud-init/main.tera includes"
    );
    assert_eq!(
        render("{% include \"cloud-init/main.tera\" %}").unwrap_err(),
        RenderError::Circular {
            template: "cloud-init/main.tera".into()
        }
    );
}

#[test]
fn a_template_does_not_see_the_environment() {
    let error = render("{{ get_env(name=\"PATH\") | json }}").unwrap_err();
    assert!(
        error.to_string().contains("does not see the environment"),
        "{error}"
    );
}

#[test]
fn no_error_holds_the_token() {
    for failing in [
        "{{ token | json }}{{ nobody | json }}",
        "{{ token | toml }}{{ token | first | json }}",
        "{{ throw(message=token) | json }}",
        "{{ throw(message=\"no \" ~ token) | json }}",
        "{% if token == \"***\" %}{% else %}{{ throw(message=token) | json }}{% endif %}",
        "{{ [token] | sh }}{{ vars.x | sh }}",
        "{{ token | block }}",
    ] {
        let error = render(failing).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("very-secret"),
            "{failing}: {error}"
        );
    }
}

#[test]
fn a_preview_hides_the_token() {
    let set = templates("{{ token | json }}");
    let stack = stack();
    assert_eq!(
        preview(&set, &stack, &stack.pools[0], &spec("a"), "u").unwrap(),
        "\"***\""
    );
}

#[test]
fn vars_that_no_template_reads_are_named() {
    let mut pool = pool();
    pool.vars.insert("imgae".into(), json!(1));
    let set = templates("{% include \"templates/part.tera\" %}");
    assert_eq!(set.unread_vars(&pool).unwrap(), ["imgae"]);
}

fn hash_of(change: impl FnOnce(&mut TemplateSet, &mut Pool, &mut CiConfig, &mut MachineSpec)) -> String {
    let (mut set, mut pool, mut ci, mut spec) = (
        templates("{% include \"templates/part.tera\" %}"),
        pool(),
        ci(),
        spec("brave-otter"),
    );
    change(&mut set, &mut pool, &mut ci, &mut spec);
    spec_hash(&set, &pool, &ci, &spec).unwrap().to_string()
}

#[test]
fn the_hash_covers_what_a_machine_is_made_from() {
    let hash = hash_of(|_, _, _, _| ());
    assert_eq!(hash.len(), 32);
    let others = [
        hash_of(|set, _, _, _| {
            set.files.get_mut("cloud-init/main.tera").unwrap().push(' ');
        }),
        hash_of(|set, _, _, _| {
            set.files.get_mut("templates/part.tera").unwrap().push(' ');
        }),
        hash_of(|_, pool, _, _| pool.tags.push("gpu".into())),
        hash_of(|_, pool, _, _| pool.run_untagged = true),
        hash_of(|_, pool, _, _| pool.jobs_per_runner = 3),
        hash_of(|_, pool, _, _| {
            pool.vars.insert("y".into(), json!(1));
        }),
        hash_of(|_, _, ci, _| ci.url = Endpoint::Sandbox),
        hash_of(|_, _, _, spec| spec.offering.machine_type = "cx43".into()),
        hash_of(|_, _, _, spec| spec.image = ImageRef::Id(1)),
        hash_of(|_, _, _, spec| spec.public_ipv4 = false),
        hash_of(|_, _, _, spec| spec.ssh_keys.push("three".into())),
        hash_of(|_, _, _, spec| spec.firewalls.push("default".into())),
    ];
    let different: BTreeSet<_> = others.iter().chain([&hash]).collect();
    assert_eq!(different.len(), others.len() + 1);
}

#[test]
fn the_task_of_an_azure_devops_agent_refers_to_its_token() {
    let mut pool = pool();
    "templates/ecs/azure-devops-agent.json.tera".clone_into(&mut pool.cloud_init);
    let agents = |capabilities: &[(&str, &str)]| {
        let pairs = capabilities
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Some(Box::new(AgentPool {
            pool: "linux-fargate".to_owned(),
            capabilities: pairs.collect(),
        }))
    };
    pool.vars = BTreeMap::from([
        ("image".into(), json!("example/agent:4")),
        ("execution_role".into(), json!("arn:aws:iam::1:role/ci")),
        (
            "token_from".into(),
            json!("arn:aws:ssm:eu-central-1:1:parameter/pat"),
        ),
    ]);
    pool.agents = agents(&[]);
    let join = Join {
        system_id: None,
        url: "https://dev.azure.com/acme/".into(),
        token: TOKEN.into(),
    };
    let rendered = |pool: &Pool| {
        let text = user_data(&builtin(), &stack(), pool, &spec("brave-otter"), &join)?;
        assert!(!text.expose_secret().contains(TOKEN), "no token of ours");
        Ok::<serde_json::Value, RenderError>(serde_json::from_str(text.expose_secret()).expect("JSON"))
    };
    let expected = json!({
        "executionRoleArn": "arn:aws:iam::1:role/ci",
        "containerDefinitions": [{
            "name": "agent", "image": "example/agent:4", "essential": true, "command": ["--once"], "stopTimeout": 120,
            "environment": [
                {"name": "AZP_URL", "value": "https://dev.azure.com/acme"}, {"name": "AZP_POOL", "value": "linux-fargate"},
            ],
            "secrets": [{"name": "AZP_TOKEN", "valueFrom": "arn:aws:ssm:eu-central-1:1:parameter/pat"}],
        }],
    });
    assert_eq!(rendered(&pool).unwrap(), expected);
    pool.agents = agents(&[
        ("Agent.Version", "4.0"),
        ("docker", ""),
        ("size", "a \"small\" one"),
    ]);
    pool.vars
        .insert("environment".into(), json!({"HTTPS_PROXY": "http://proxy:3128"}));
    pool.vars
        .insert("task_role".into(), json!("arn:aws:iam::1:role/jobs"));
    pool.vars.insert("disk_gib".into(), json!(40));
    pool.vars.insert("log".into(), json!({"logDriver": "splunk"}));
    let full = rendered(&pool).unwrap();
    assert_eq!(full["ephemeralStorage"], json!({"sizeInGiB": 40}));
    assert_eq!(full["taskRoleArn"], "arn:aws:iam::1:role/jobs");
    let container = &full["containerDefinitions"][0];
    assert_eq!(container["logConfiguration"], json!({"logDriver": "splunk"}));
    let more = json!([
        {"name": "docker", "value": "true"}, {"name": "size", "value": "a \"small\" one"},
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
    ]);
    assert_eq!(
        container["environment"].as_array().unwrap()[2..],
        *more.as_array().unwrap()
    );
    pool.vars.remove("token_from");
    let error = rendered(&pool).unwrap_err();
    assert!(
        error.to_string().contains("there is no variable vars.token_from"),
        "{error}"
    );
}

#[test]
fn the_hash_does_not_cover_names_limits_and_order() {
    let hash = hash_of(|_, _, _, _| ());
    assert_eq!(hash, hash_of(|_, _, _, made| *made = spec("calm-lynx")));
    assert_eq!(hash, hash_of(|_, pool, _, _| pool.max = 50));
    assert_eq!(hash, hash_of(|_, pool, _, _| pool.tags.reverse()));
    assert_eq!(hash, hash_of(|_, _, _, spec| spec.ssh_keys.reverse()));
    assert_eq!(
        hash,
        hash_of(|_, pool, _, _| {
            pool.vars.insert("x".into(), json!({"a": 2, "b": 1}));
        })
    );
    assert_eq!(
        hash,
        hash_of(|set, _, _, _| {
            set.files.get_mut("templates/other.tera").unwrap().push(' ');
        })
    );
}

#[test]
fn a_shared_resource_is_its_content_whatever_the_order() {
    let rule = |port: &str, networks: &[&str]| FirewallRule {
        direction: Direction::In,
        protocol: "tcp".into(),
        port: Some(port.into()),
        networks: networks.iter().map(|&network| network.to_owned()).collect(),
    };
    let firewall = |name: &str, rules: Vec<FirewallRule>| {
        shared_hash(&ResourceSpec::Firewall(FirewallSpec {
            name: name.into(),
            rules,
        }))
    };
    let one = firewall(
        "a",
        vec![rule("22", &["0.0.0.0/0", "::/0"]), rule("80", &["::/0"])],
    );
    assert_eq!(
        one,
        firewall(
            "b",
            vec![rule("80", &["::/0"]), rule("22", &["::/0", "0.0.0.0/0"])]
        )
    );
    assert_ne!(one, firewall("a", vec![rule("22", &["::/0"])]));
    let key = |text: &str| {
        shared_hash(&ResourceSpec::SshKey(SshKeySpec {
            name: "k".into(),
            public_key: text.into(),
        }))
    };
    assert_ne!(key("a"), key("b"));
}
