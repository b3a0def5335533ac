//! The official SDK of DigitalOcean, a recording relay, Prism, a bending relay, the sandbox: what is said between them, held
//! to the vendor's description.

use std::{collections::BTreeSet, panic::UnwindSafe};

use runfleet::sandbox::Party;
use serde_json::Value;

use crate::{
    descriptions, operations,
    prism::Prism,
    relay::{Bend, Exchange, Options, Relay, Route, STRAIGHT},
    sdk,
    support::Sandbox,
};

/// Where the sandbox has its DigitalOcean, without the version.
const ROOT: &str = "/digitalocean";

/// What passed, of a life of the SDK's in which `answer` bends the sandbox's answers, which may end the script early; `None`
/// where it cannot be had here.
fn exchanges(answer: Bend, may_end: bool) -> Option<Vec<Exchange>> {
    let (ran, seen) = between(&["speed=0"], answer, |addresses| {
        sdk::run_at("sdk_pydo.py", addresses, true)
    })?;
    match ran {
        Ok(true) => Some(seen),
        Ok(false) => None,
        Err(_) if may_end => Some(seen),
        Err(why) => std::panic::resume_unwind(why),
    }
}

/// How a life ended, and what passed of it; `None` where the description cannot be had here.
fn between<T>(
    settings: &[&str],
    answer: Bend,
    live: impl FnOnce(&Value) -> T + UnwindSafe,
) -> Option<(std::thread::Result<T>, Vec<Exchange>)> {
    let Some(description) = descriptions::digitalocean() else {
        eprintln!("skipped: the vendors' API descriptions are not beside this project");
        return None;
    };
    let sandbox = Sandbox::start(settings);
    let origin = sandbox.hetzner().strip_suffix("/hetzner/v1").unwrap().to_owned();
    let options = |answer| Options {
        request: STRAIGHT,
        answer,
        origin: origin.clone(),
    };
    let upstream = origin.clone();
    let back = Relay::start(options(answer), move |_, path| Route {
        url: format!("{upstream}{path}"),
        validated: false,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("digitalocean.json");
    description.write(&file);
    let prism = Prism::start(&file, &format!("{}{ROOT}", back.address));
    let address = prism.address.clone();
    let front = Relay::start(options(STRAIGHT), move |_, path| Route {
        url: format!("{address}{}", path.strip_prefix(ROOT).unwrap_or(path)),
        validated: true,
    });
    let mut addresses = sandbox.addresses.clone();
    addresses["digitalocean"] = format!("{}{ROOT}/v2", front.address).into();
    let ran = std::panic::catch_unwind(|| live(&addresses));
    Some((ran, front.seen()))
}

fn violations(seen: &[Exchange]) -> Vec<String> {
    seen.iter()
        .filter_map(|seen| {
            let found = seen.violations.as_ref()?;
            Some(format!("{} {} {}: {found}", seen.method, seen.path, seen.status))
        })
        .collect()
}

#[test]
fn every_operation_is_exercised_without_a_violation_in_either_direction() {
    let Some(seen) = exchanges(STRAIGHT, false) else {
        return;
    };
    assert_eq!(violations(&seen), [""; 0]);
    let done: BTreeSet<_> = seen
        .iter()
        .map(|seen| {
            operations::of(&seen.method, &seen.path).unwrap_or_else(|| panic!("no operation: {seen:?}"))
        })
        .collect();
    // docs/sandbox.md says the same.
    let said = operations::claimed(|check| check.operation.party == Party::Digitalocean && check.proxy);
    assert_eq!(done, said);
    eprintln!("validated: {} exchanges of {} operations", seen.len(), done.len());
}

#[test]
fn a_wrong_type_in_a_droplet_is_seen() {
    let bend: Bend = |method, path, body: &mut Value| {
        if method == "GET" && path == "/digitalocean/v2/sizes" {
            body["sizes"][0]["vcpus"] = "one".into();
        }
    };
    let Some(seen) = exchanges(bend, true) else {
        return;
    };
    let told = violations(&seen);
    assert!(
        told.iter()
            .any(|told| told.starts_with("GET /digitalocean/v2/sizes") && told.contains("vcpus")),
        "{told:#?}"
    );
}

/// What the provider does in a life of each kind that it makes: made, listed, changed, relabelled, gone.
#[cfg(feature = "digitalocean")]
#[test]
fn runfleets_own_calls_are_without_a_violation_in_either_direction() {
    let settings = ["action_time=100ms", "rate_limit=off"];
    let Some((lived, seen)) = between(&settings, STRAIGHT, own::live) else {
        return;
    };
    if let Err(why) = lived {
        std::panic::resume_unwind(why);
    }
    assert_eq!(violations(&seen), [""; 0]);
    for (method, path) in [
        ("POST", "/droplets"),
        ("POST", "/firewalls"),
        ("PUT", "/account/keys/"),
        ("PATCH", "/vpcs/"),
        ("DELETE", "/tags/"),
        ("GET", "/actions"),
    ] {
        let said = |one: &Exchange| one.method == method && one.path.contains(path);
        assert!(seen.iter().any(said), "{method} {path}");
    }
}

#[cfg(feature = "digitalocean")]
mod own {
    use runfleet::{
        model::{
            offering::{Market, OfferingKey},
            resource::{
                ClaimLabels, Direction, FirewallRule, FirewallSpec, ImageRef, Labels, MachineSpec,
                NetworkSpec, ResourceSpec, SshKeySpec, Subnet,
            },
        },
        net::{Auth, ClientConfig},
        provider::{Accepted, Claim, Provider as _, digitalocean::Digitalocean},
    };
    use secrecy::SecretString;
    use serde_json::Value;

    pub(super) fn live(addresses: &Value) {
        let base = addresses["digitalocean"].as_str().unwrap();
        let token = SecretString::from(addresses["token"].as_str().unwrap());
        let config = ClientConfig::new(base, Auth::Bearer(token));
        let provider = Digitalocean::new("digitalocean".into(), config, 4).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(lives(&provider));
    }

    async fn lives(provider: &Digitalocean) {
        let make = async |claim: Claim| provider.create(&[claim]).await.remove(0).unwrap();
        let key = make(claim("ops", login_key())).await;
        let wall = make(claim("default", wall("22"))).await;
        let lan = make(claim("lan", lan("faithful-lan"))).await;
        let mut wanted = claim("brave-otter", machine("brave-otter"));
        wanted.shared = [&key, &wall, &lan].map(|seen| seen.target.clone()).to_vec();
        wanted.user_data = Some(SecretString::from("#cloud-config\n"));
        let droplet = make(wanted.clone()).await;
        assert_eq!(droplet.uses.as_ref().map(Vec::len), Some(2), "{droplet:?}");
        let two = ["calm-heron", "dry-wren"].map(|id| {
            let mut claim = claim(id, machine(id));
            claim.shared.clone_from(&wanted.shared);
            claim
        });
        let pair = provider.create(&two).await;
        let pair: Vec<_> = pair.into_iter().map(Result::unwrap).collect();

        provider.update(&wall, &self::wall("443")).await.unwrap();
        provider.update(&lan, &self::lan("faithful-wide")).await.unwrap();
        let mut renamed = machine("brave-otter");
        if let ResourceSpec::Machine(spec) = &mut renamed {
            "faithful-linux-renamed".clone_into(&mut spec.name);
        }
        provider.update(&droplet, &renamed).await.unwrap();
        let labels = Labels::from([("team".to_owned(), "blue".to_owned())]);
        for seen in [&key, &wall, &lan, &droplet] {
            let labelled = provider.relabel(seen, &labels).await.unwrap();
            assert_eq!(provider.read(&seen.target).await.unwrap(), Some(labelled));
        }
        assert!(provider.offerings().await.unwrap().completeness.is_complete());
        assert_eq!(provider.check(&[]).await.unwrap(), []);
        let everything = provider.list_all().await.unwrap();
        assert!(everything.completeness.is_complete());
        assert_eq!(everything.resources.len(), 6);
        for seen in pair.iter().chain([&droplet, &wall, &lan, &key]) {
            provider.delete(&seen.target).await.unwrap();
        }
        assert_eq!(provider.list(&"faithful".into()).await.unwrap().resources, []);
    }

    fn claim(id: &str, spec: ResourceSpec) -> Claim {
        let pool = matches!(spec, ResourceSpec::Machine(_)).then(|| "linux".into());
        Claim {
            labels: ClaimLabels {
                stack: "faithful".into(),
                lineage: "lineage-1".into(),
                pool,
                id: id.to_owned(),
                hash: "0123abcd".into(),
                intent: format!("i-{id}").as_str().into(),
                registration: None,
            },
            spec,
            user_data: None,
            shared: Vec::new(),
            accepted: Accepted::default(),
        }
    }

    fn login_key() -> ResourceSpec {
        ResourceSpec::SshKey(SshKeySpec {
            name: "faithful-ops".to_owned(),
            public_key:
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops"
                    .to_owned(),
        })
    }

    fn wall(port: &str) -> ResourceSpec {
        ResourceSpec::Firewall(FirewallSpec {
            name: "faithful-default".to_owned(),
            rules: vec![FirewallRule {
                direction: Direction::In,
                protocol: "tcp".to_owned(),
                port: Some(port.to_owned()),
                networks: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            }],
        })
    }

    fn lan(name: &str) -> ResourceSpec {
        let ip_range = "10.77.0.0/20".to_owned();
        ResourceSpec::Network(NetworkSpec {
            name: name.to_owned(),
            ip_range: ip_range.clone(),
            subnets: vec![Subnet {
                ip_range,
                zone: "fra1".to_owned(),
            }],
        })
    }

    fn machine(id: &str) -> ResourceSpec {
        ResourceSpec::Machine(MachineSpec {
            task: None,
            pool: "linux".into(),
            runner: id.into(),
            name: format!("faithful-linux-{id}"),
            offering: OfferingKey {
                provider: "digitalocean".into(),
                location: "fra1".to_owned(),
                machine_type: "s-2vcpu-4gb".to_owned(),
                market: Market::OnDemand,
            },
            image: ImageRef::Name("debian-12-x64".to_owned()),
            public_ipv4: true,
            ssh_keys: vec!["ops".to_owned()],
            firewalls: vec!["default".to_owned()],
            networks: vec!["lan".to_owned()],
            placement_group: None,
            ec2: None,
            parts: std::collections::BTreeMap::new(),
        })
    }
}
