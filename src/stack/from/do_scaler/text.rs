//! The stack file that settings come to.

use std::fmt::Write as _;

use super::{
    Settings,
    json::{Condition, NumberOrText},
    policies::Step,
    scaler::Scaler,
};
use crate::{
    model::metrics::AddressKind,
    stack::{
        from::{go, quoted},
        step::{Change, Matching},
    },
};

pub(super) fn written(name: &str, settings: &Settings) -> String {
    let shown = name.escape_debug();
    let mut text = format!(
        r#"# The stack `{shown}`, made by `runfleet init --from do-scaler`.
# What differs from the program that it replaces: docs/migrating/do-scaler.md. Before the first tick:
#
{exports}#     runfleet -s {shown} validate --online
{imports}#     runfleet -s {shown} plan
#
# Pools only advise until you say mode = "act": two programs must never scale the same droplets. That page says how to hand over.

[stack]
name     = {name}
interval = "{interval}"                 # [scheduler] interval: tick it as often (OnUnitActiveSec of packaging/systemd/runfleet.timer)

"#,
        exports = exports(settings),
        imports = imports(&shown.to_string(), settings),
        name = quoted(name),
        interval = go::written(settings.interval),
    );
    for (provider, variable) in &settings.accounts {
        let kind = if provider == "digitalocean" {
            ""
        } else {
            "kind  = \"digitalocean\"\n"
        };
        let _ = writeln!(
            text,
            "[providers.{provider}]\n{kind}token = {{ env = \"{variable}\" }}\n"
        );
    }
    for (ci, source) in &settings.sources {
        let address = match source.address {
            AddressKind::Private => "private",
            AddressKind::Public => "public",
            AddressKind::Ipv6 => "ipv6",
        };
        let _ = writeln!(
            text,
            "[ci.{ci}]                    # no CI: what machines tell of themselves\nkind   = \"prometheus\"\n\
             scrape = {{ port = {}, path = \"/\", address = \"{address}\" }}   # do-agent answers at /, node_exporter at /metrics\n",
            source.port
        );
    }
    for key in &settings.keys {
        let _ = writeln!(
            text,
            "[ssh_keys.{}]\nprovider   = \"{}\"\npublic_key = {}\n",
            key.name,
            key.provider,
            quoted(&key.text)
        );
    }
    let pools: Vec<String> = settings
        .scalers
        .iter()
        .map(|scaler| pool(scaler, settings))
        .collect();
    text.push_str(&pools.join("\n"));
    text
}

/// The variables that must be there.
fn exports(settings: &Settings) -> String {
    let mut text = String::new();
    for (_, variable) in &settings.accounts {
        let _ = writeln!(
            text,
            "#     export {variable}=…     # the token that it has now, or a new one: docs/guides/digitalocean.md has its scopes"
        );
    }
    text
}

/// How droplets that are there come in.
fn imports(stack: &str, settings: &Settings) -> String {
    let mut text = String::new();
    for scaler in &settings.scalers {
        let _ = writeln!(
            text,
            "#     runfleet -s {stack} state import machine.{}/NAME ID     # each droplet that has the tag {} now",
            scaler.name,
            scaler.tag.escape_debug()
        );
    }
    text
}

fn pool(scaler: &Scaler, settings: &Settings) -> String {
    let Scaler { name, file, .. } = scaler;
    let cooldown = go::written(settings.interval);
    let hysteresis = go::written(settings.interval * 2);
    let mut text = format!(
        r#"[pools.{name}]                    # {file}
ci            = "{ci}"
mode          = "advise"        # plans and reports, and changes nothing; "act" lets it
min           = {min}               # [digitalocean_destroy_droplet] min
max           = {max}               # [digitalocean_create_droplet] max
idle_timeout  = "0s"            # it waited for nothing before it destroyed
"#,
        file = file.escape_debug(),
        ci = scaler.ci,
        min = scaler.min,
        max = scaler.max,
    );
    if let Some(health) = &scaler.health {
        let _ = writeln!(
            text,
            "ready_timeout = \"{}\"            # [health_check_tcp] max_tries x (interval + timeout), and three minutes to be made and to boot",
            go::written(health.ready_timeout())
        );
    }
    let _ = writeln!(
        text,
        "policy        = {{ kind = \"step\", cooldown = \"{cooldown}\", hysteresis = \"{hysteresis}\" }}   # of its policies one could act at each interval"
    );
    if !scaler.keys.is_empty() {
        let names: Vec<String> = scaler.keys.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(text, "ssh_keys      = [{}]", names.join(", "));
    }
    for step in &scaler.steps {
        text.push_str(&step_text(name, step));
    }
    if let Some(health) = &scaler.health {
        let ports: Vec<String> = health.ports.iter().map(u16::to_string).collect();
        let _ = writeln!(
            text,
            "\n[pools.{name}.health]             # [health_check_tcp]: a machine counts once these answer\ntcp     = [{}]\ntimeout = \"{}s\"",
            ports.join(", "),
            health.timeout
        );
    }
    for (action, moment) in &scaler.hooks {
        let _ = writeln!(
            text,
            "\n# [[pools.{name}.hooks]]          # in place of the action {action}: a program of yours, the event as JSON on its standard input\n\
             # on      = [\"{moment}\"]\n# command = [{command}]",
            action = action.escape_debug(),
            command = quoted(&format!("./hooks/{action}")),
        );
    }
    let droplet = &scaler.droplet;
    let image = match (&droplet.image, droplet.image.id()) {
        (NumberOrText::Text(slug), None) => quoted(slug),
        (_, Some(id)) => id.to_string(),
        (NumberOrText::Number(id), None) => id.to_string(),
    };
    let _ = writeln!(
        text,
        "\n[[pools.{name}.offerings]]        # the droplet's file\nprovider  = \"{}\"\ntype      = {}\nlocations = [{}]\n\
         image     = {image}           # one with do-agent in it; for another, see the page above",
        scaler.provider,
        quoted(&droplet.size_slug),
        quoted(&droplet.region),
    );
    text
}

fn step_text(pool: &str, step: &Step) -> String {
    let matching = match step.policy.matching {
        Matching::All => "all",
        Matching::Any => "any",
    };
    let change = match step.change {
        Change::Add(number) => format!("add   = {number}"),
        Change::Remove(number) => format!("remove = {number}"),
    };
    let mut text = format!(
        "\n[[pools.{pool}.steps]]            # {file}\nname  = {name}\nmatch = \"{matching}\"\n{change}\nconditions = [\n",
        file = step.file.escape_debug(),
        name = quoted(&step.name),
    );
    for condition in &step.policy.conditions {
        let _ = writeln!(text, "    {{ {} }},", condition_text(condition));
    }
    text.push_str("]\n");
    text
}

fn condition_text(condition: &Condition) -> String {
    let mut parts = Vec::new();
    if !condition.name.is_empty() {
        parts.push(format!("name = {}", quoted(&condition.name)));
    }
    let samples: Vec<String> = condition
        .samples
        .iter()
        .map(|sample| quoted(&sample.name))
        .collect();
    parts.push(format!("samples = [{}]", samples.join(", ")));
    let word = |value: Result<serde_json::Value, _>| {
        let value: Result<_, serde_json::Error> = value;
        value.map(|value| value.to_string()).unwrap_or_default()
    };
    if let Some(reducer) = condition.reducer.filter(|_| condition.samples.len() > 1) {
        parts.push(format!("reducer = {}", word(serde_json::to_value(reducer))));
    }
    parts.push(format!(
        "function = {}",
        word(serde_json::to_value(condition.function))
    ));
    parts.push(format!(
        "operator = {}",
        word(serde_json::to_value(condition.operator))
    ));
    parts.push(format!("threshold = {:?}", condition.threshold.get()));
    parts.join(", ")
}
