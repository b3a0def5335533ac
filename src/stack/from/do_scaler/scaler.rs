//! One scaler: a file of `conf.d`, with the policies and the droplet that it names.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{
    CREATE, Cfg, DESTROY, HEALTH, Reading, Source, in_file,
    ini::Value,
    json::{self, Droplet},
    policies::{Hook, Step},
    read,
};
use crate::{model::metrics::AddressKind, stack::from::FromError};

/// The section of a scaler itself.
pub(super) const SCALER: &str = "scaler";
/// The section of its metrics.
const METRICS: &str = "scaler.metrics";
/// How long a droplet takes to be made and to boot, at most: do-scaler waited for that without a limit, before it counted tries.
const MAKING: SignedDuration = SignedDuration::from_mins(3);
/// The longest name that a pool is given.
const NAME_MAX: usize = 16;

/// What a scaler says, in our words.
#[derive(Debug)]
pub(super) struct Scaler {
    /// `web.cfg`
    pub(super) file: String,
    /// The pool's name.
    pub(super) name: String,
    pub(super) tag: String,
    pub(super) provider: String,
    pub(super) ci: String,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) steps: Vec<Step>,
    pub(super) health: Option<Health>,
    pub(super) droplet: Droplet,
    /// The names of the keys that stand in the droplet's file.
    pub(super) keys: Vec<String>,
    /// What its policies call besides.
    pub(super) hooks: Vec<Hook>,
}

/// What must answer before a droplet counts.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) ports: Vec<u16>,
    pub(super) timeout: u32,
    pub(super) interval: u32,
    pub(super) tries: u32,
}

impl Health {
    /// How long it was tried at most, with the making of the droplet.
    pub(super) fn ready_timeout(&self) -> SignedDuration {
        let seconds = i64::from(self.tries) * (i64::from(self.interval) + i64::from(self.timeout));
        SignedDuration::from_secs(seconds) + MAKING
    }
}

impl Reading<'_> {
    /// Reads a scaler and all that it names.
    pub(super) fn scaler(&mut self, file: &str) -> Result<Scaler, FromError> {
        let path = format!("{}/{file}", self.folder);
        let cfg = Cfg::read(self.files, &path)?;
        let name = self.pool_name(file);
        let tag = cfg.need(SCALER, "tag_name", "web")?.text;
        self.same_tag(file, &tag);
        let source = metrics(&cfg)?;
        let ci = self.source(source, &name);
        let (steps, hooks) = self.policies(&cfg)?;
        let calls = |action: &str| {
            let mut policies = steps.iter().map(|step: &Step| &step.policy);
            policies.any(|policy| policy.actions.iter().any(|called| called == action))
        };
        let health = if calls(HEALTH) {
            Some(self.health(&cfg, source.address)?)
        } else {
            None
        };
        let (max, value) = cfg.need_number(CREATE, "max", "8")?;
        if max == 0 {
            return Err(cfg.wrong(&value, "max", "above zero", "max = 8"));
        }
        let droplet = self.droplet(&cfg, &tag)?;
        let min = self.min(&cfg, calls(DESTROY), max)?;
        let provider = self.token(&cfg, &name)?;
        let keys = self.keys(&cfg, (&name, &provider), &droplet);
        self.rest(&cfg);
        Ok(Scaler {
            file: file.to_owned(),
            name,
            tag,
            provider,
            ci,
            min,
            max,
            steps,
            health,
            droplet,
            keys,
            hooks,
        })
    }

    /// A name that a pool may have, and none other has.
    fn pool_name(&self, file: &str) -> String {
        let stem = file.trim_end_matches(".cfg").to_lowercase();
        let words: String = stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let words = words.split('-').filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join("-");
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "pool-");
        }
        name.truncate(NAME_MAX);
        let name = name.trim_end_matches('-').to_owned();
        let taken = |name: &String| self.settings.scalers.iter().any(|other| &other.name == name);
        let others = (2..).map(|number: u32| format!("{name}-{number}"));
        std::iter::once(name.clone())
            .chain(others)
            .find(|name| !taken(name))
            .unwrap_or(name)
    }

    fn same_tag(&mut self, file: &str, tag: &str) {
        let mut others = self.settings.scalers.iter();
        if let Some(other) = others.find(|other| other.tag == tag) {
            let why = format!(
                "{} has the same tag, so both scaled the same droplets. A machine has one pool here: import each droplet into \
                 one of them",
                other.file
            );
            self.leave(format!("{file}: [{SCALER}] tag_name"), why);
        }
    }

    /// The provider of the account that the token opens. The token itself goes nowhere.
    fn token(&mut self, cfg: &Cfg, pool: &str) -> Result<String, FromError> {
        let mut tokens = BTreeSet::new();
        for section in [CREATE, SCALER, DESTROY] {
            if let Some(value) = cfg.get(section, "do_token")? {
                tokens.insert(value.text);
            }
        }
        let making = match cfg.get(CREATE, "do_token")? {
            Some(value) => value.text,
            None => cfg.need(SCALER, "do_token", "…")?.text,
        };
        let accounts = self.settings.accounts.len();
        let provider = self.account(&making, pool);
        if let Some((_, variable)) = self.settings.accounts.get(accounts).cloned() {
            self.leave(
                format!("{}: do_token", cfg.file),
                format!(
                    "a secret that stands in a file is not copied: put it into the environment as {variable}"
                ),
            );
        }
        if tokens.len() > 1 {
            self.leave(
                format!("{}: do_token", cfg.file),
                "it has several; runfleet reads, makes and removes with one, which must be allowed all three",
            );
        }
        Ok(provider)
    }

    fn health(&mut self, cfg: &Cfg, metrics: AddressKind) -> Result<Health, FromError> {
        let value = cfg.need(HEALTH, "ports", "9110 80")?;
        let ports: Result<Vec<u16>, _> = value.text.split_whitespace().map(str::parse).collect();
        let ports = match ports {
            Ok(ports) if !ports.is_empty() && !ports.contains(&0) => ports,
            _ => return Err(cfg.wrong(&value, "ports", "ports with a blank between", "ports = 9110 80")),
        };
        let address_of = cfg.need(HEALTH, "address", "private_ip_address")?;
        if address(cfg, &address_of)? != metrics {
            self.leave(
                format!("{}: [{HEALTH}] address", cfg.file),
                "ports are tried at the address at which metrics are read; let both be the same, or use a hook",
            );
        }
        let number = |option: &str, example: &str| {
            let (number, value) = cfg.need_number(HEALTH, option, example)?;
            if number == 0 || number > 86_400 {
                let example = format!("{option} = {example}");
                return Err(cfg.wrong(&value, option, "a whole number from 1 to 86400", &example));
            }
            Ok(number)
        };
        let mut unique = Vec::new();
        for port in ports {
            if !unique.contains(&port) {
                unique.push(port);
            }
        }
        Ok(Health {
            ports: unique,
            timeout: number("timeout", "10")?,
            interval: number("interval", "10")?,
            tries: number("max_tries", "12")?,
        })
    }

    /// Below one there would be nothing that tells anything.
    fn min(&mut self, cfg: &Cfg, destroys: bool, max: u32) -> Result<u32, FromError> {
        let there = cfg.ini.section(DESTROY).is_some();
        if !destroys && !there {
            self.leave(
                format!("{}: min", cfg.file),
                "no policy destroys, so nothing says how few droplets are enough: min = 1",
            );
            return Ok(1);
        }
        let (min, value) = cfg.need_number(DESTROY, "min", "2")?;
        if min > max {
            return Err(cfg.wrong(&value, "min", &format!("at most max, {max}"), "min = 2"));
        }
        if min == 0 {
            self.leave(
                format!("{}: [{DESTROY}] min", cfg.file),
                "without a droplet there is no metric, and no policy would ever make one again: min = 1",
            );
        }
        Ok(min.max(1))
    }

    /// The file that a value names, in the folder that another option may name.
    pub(super) fn named(
        &self,
        cfg: &Cfg,
        file: &str,
        folder: (&str, &str),
        usual: &str,
    ) -> Result<String, FromError> {
        let folder = match cfg.get(folder.0, folder.1)? {
            Some(value) if !value.text.is_empty() => value.text.trim_end_matches('/').to_owned(),
            _ => format!("{}/{usual}", self.folder),
        };
        Ok(format!("{folder}/{file}"))
    }

    fn droplet(&mut self, cfg: &Cfg, tag: &str) -> Result<Droplet, FromError> {
        let value = cfg.need(CREATE, "droplet", "web.json")?;
        let path = self.named(cfg, value.text.trim(), (CREATE, "droplet_dir"), "droplets")?;
        let text = read(self.files, &path, || {
            format!(
                "line {} of {} names it: correct droplet or droplet_dir there",
                value.line, cfg.file
            )
        })?;
        let droplet: Droplet =
            json::read(&text, "a droplet of do-scaler").map_err(|problem| in_file(&path, problem))?;
        self.used.insert(path.clone());
        if let Some(name) = &droplet.name {
            let why = format!(
                "machines are called STACK-POOL-WORDS, unique ones; after a removal the pattern {} gave names twice",
                name.escape_debug()
            );
            self.leave(format!("{path}: name"), why);
        }
        let tags = droplet.tags.iter().flatten();
        let others: BTreeSet<&str> = tags.map(String::as_str).chain([tag]).collect();
        let others: Vec<&str> = others.into_iter().collect();
        let why = format!(
            "{}: new machines carry runfleet's own tags alone. Let a load balancer or firewall that finds droplets by tag look for \
             `runfleet-pool:POOL`, which imported droplets have too",
            others.join(", ")
        );
        self.leave(format!("{path}: tags"), why);
        if droplet.private_networking == Some(true) {
            self.leave(
                format!("{path}: private_networking"),
                "every droplet is in its region's default VPC now, and has a private address; another VPC is a [networks] table",
            );
        }
        for key in &droplet.rest.0 {
            self.leave(format!("{path}: {key}"), lost(key));
        }
        Ok(droplet)
    }

    /// The keys that are told by their text; others are known to the account alone.
    fn keys(&mut self, cfg: &Cfg, (pool, provider): (&str, &str), droplet: &Droplet) -> Vec<String> {
        let mut keys = Vec::new();
        let mut others = Vec::new();
        for key in droplet.ssh_keys.iter().flatten() {
            match key {
                json::NumberOrText::Text(text) if text.starts_with("ssh-") || text.starts_with("ecdsa-") => {
                    let name = self.key(text.trim(), provider, pool);
                    if !keys.contains(&name) {
                        keys.push(name);
                    }
                }
                json::NumberOrText::Text(text) => others.push(text.escape_debug().to_string()),
                json::NumberOrText::Number(id) => others.push(id.to_string()),
            }
        }
        if !others.is_empty() {
            let why = format!(
                "{}: an id or fingerprint says nothing of the key's text. Add [ssh_keys.NAME] with `public_key`, name it in the \
                 pool's `ssh_keys`, and take the account's key on record: runfleet state import ssh_key/NAME ID",
                others.join(", ")
            );
            self.leave(format!("{}: ssh_keys", cfg.file), why);
        }
        keys
    }
}

/// Where metrics are read.
fn metrics(cfg: &Cfg) -> Result<Source, FromError> {
    let value = cfg.need(METRICS, "address", "private_ip_address")?;
    let address = address(cfg, &value)?;
    let (port, value) = cfg.need_number(METRICS, "port", "9110")?;
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(Source { port, address }),
        _ => Err(cfg.wrong(&value, "port", "a port, from 1 to 65535", "port = 9110")),
    }
}

/// Which address the other configuration means.
fn address(cfg: &Cfg, value: &Value) -> Result<AddressKind, FromError> {
    match value.text.trim() {
        // What its README calls the first, its code did not take.
        "ip_address" | "public_ip_address" => Ok(AddressKind::Public),
        "private_ip_address" => Ok(AddressKind::Private),
        "ip_v6_address" => Ok(AddressKind::Ipv6),
        _ => Err(cfg.wrong(
            value,
            "address",
            "ip_address, private_ip_address or ip_v6_address",
            "address = private_ip_address",
        )),
    }
}

/// Why a key of a droplet has no equivalent.
fn lost(key: &str) -> &'static str {
    match key {
        "user_data" => {
            "not copied, since it may hold secrets: make it the pool's `cloud_init` template, with what is secret found by the \
             machine itself"
        }
        "backups" => "machines that come and go are not backed up",
        "ipv6" => "every droplet of runfleet's has an IPv6 address",
        "monitoring" => "every droplet of runfleet's has DigitalOcean's agent",
        "volumes" => "a volume can be on one droplet alone; what machines share belongs into an object store",
        "vpc_uuid" => {
            "import the VPC (runfleet state import network/NAME ID), and name it in the pool's `networks`"
        }
        _ => "runfleet makes droplets without it",
    }
}
