//! DigitalOcean in the stack file: what is read, and what it says in words of its own.

use super::*;
use crate::model::resource::ImageRef;

const EXAMPLE: &str = include_str!("../../../stacks/digitalocean.toml");

const OCEAN: &str = r#"[stack]
name = "prod"

[providers.digitalocean]
token = { env = "DIGITALOCEAN_TOKEN" }

[ci.gitlab]
token = { env = "GITLAB_API_TOKEN" }

[firewalls.default]
provider = "digitalocean"
rules = [{ direction = "in", protocol = "tcp", port = "22", networks = ["::/0"] }]

[networks.lan]
provider = "digitalocean"
ip_range = "10.20.0.0/20"
subnets = [{ ip_range = "10.20.0.0/20", zone = "fra1" }]

[pools.linux]
ci = "gitlab"
max = 5
firewalls = ["default"]
networks = ["lan"]
tags = ["linux"]

[[pools.linux.offerings]]
provider = "digitalocean"
type = "s-2vcpu-4gb"
locations = ["fra1"]
image = { selector = "runner:debian", newest = true }
"#;

/// What is said of [`OCEAN`] with one text in place of another.
fn said(from: &str, to: &str) -> String {
    assert!(OCEAN.contains(from), "{from}");
    let problems = parse(&OCEAN.replacen(from, to, 1), "stacks/prod.toml").unwrap_err();
    brief(&problems)
}

#[test]
fn a_stack_on_digitalocean_is_read() {
    let stack = parse(OCEAN, "stacks/prod.toml").unwrap();
    let provider = stack.providers.values().next().unwrap();
    assert_eq!(provider.kind, ProviderKind::Digitalocean);
    let offering = &stack.pools[0].offerings[0];
    assert_eq!(offering.image, ImageRef::NewestOf("runner:debian".to_owned()));
    assert_eq!(stack.networks["lan"].subnets[0].zone, "fra1");
    parse(EXAMPLE, "stacks/digitalocean.toml").unwrap();
}

#[test]
fn what_digitalocean_does_not_have_is_told_with_what_to_type() {
    let cases = [
        (
            "token = { env = \"DIGITALOCEAN_TOKEN\" }\n",
            "region = \"fra1\"\n",
        ),
        ("protocol = \"tcp\", port = \"22\"", "protocol = \"gre\""),
        (
            "ip_range = \"10.20.0.0/20\"\nsubnets",
            "ip_range = \"10.0.0.0/8\"\nsubnets",
        ),
        ("zone = \"fra1\" }", "zone = \"ams3\" }"),
        ("locations = [\"fra1\"]\n", ""),
        ("runner:debian", "role=runner"),
        ("{ selector = \"runner:debian\", newest = true }", "\"Debian 12\""),
        ("image = { selector = \"runner:debian\", newest = true }\n", ""),
        ("networks = [\"lan\"]\n", "networks = [\"lan\"]\nspread = true\n"),
        ("image = {", "market = \"spot\"\nimage = {"),
    ];
    let all: String = cases.iter().map(|(from, to)| said(from, to)).collect();
    insta::assert_snapshot!(all, @r#"
    4:1 stack::missing_key missing key `token` in `providers.digitalocean`
      = add token = { env = "DIGITALOCEAN_TOKEN" }
    5:1 stack::contradiction `providers.digitalocean.region` says nothing to digitalocean
      = take `region` out
    12:41 stack::bad_value DigitalOcean's firewalls do not know gre
      = write "tcp", "udp" or "icmp", or take the rule out
    16:12 stack::bad_value "10.0.0.0/8" is no range for a VPC of DigitalOcean
      = it has from /16 to /28: "10.20.0.0/20"
    17:11 stack::bad_value `networks.lan.subnets` divides a VPC of DigitalOcean, which has one range
      = name its region with all of it: subnets = [{ ip_range = "10.0.0.0/8", zone = "fra1" }]
    29:13 stack::bad_value the network `lan` of the pool `linux` is in ams3 alone
      = write locations = ["ams3"], or take the network out of the pool
    26:1 stack::bad_value the network `lan` of the pool `linux` is in fra1 alone
      = write locations = ["fra1"], or take the network out of the pool
    30:22 stack::bad_value "role=runner" is no tag of DigitalOcean
      = a tag has letters, digits, `:`, `-` and `_`: selector = "role:runner"
    30:9 stack::bad_value "Debian 12" is no slug of an image
      = write a slug, "debian-12-x64", an image's id, or the newest with a tag: { selector = "runner", newest = true }
    26:1 stack::missing_key missing key `image` in `pools.linux.offerings`
      = add image = "debian-12-x64"
    24:1 stack::contradiction `pools.linux.spread` says nothing to digitalocean
      = take `spread` out
    30:10 stack::contradiction DigitalOcean has no spot market
      = take `market` out, or write market = "on-demand"
    "#);
}

#[test]
fn a_droplet_is_in_one_network() {
    let text = OCEAN
        .replacen("[pools.linux]", "[networks.other]\nprovider = \"digitalocean\"\nip_range = \"10.30.0.0/20\"\nsubnets = [{ ip_range = \"10.30.0.0/20\", zone = \"fra1\" }]\n\n[pools.linux]", 1)
        .replacen("networks = [\"lan\"]", "networks = [\"lan\", \"other\"]", 1);
    let problems = parse(&text, "stacks/prod.toml").unwrap_err();
    insta::assert_snapshot!(brief(&problems), @r"
    28:12 stack::bad_value `pools.linux.networks` names 2 networks of digitalocean
      = leave one of them
    ");
}
