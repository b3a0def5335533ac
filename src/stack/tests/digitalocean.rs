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
    insta::assert_snapshot!(said("token = { env = \"DIGITALOCEAN_TOKEN\" }\n", "region = \"fra1\"\n"), @r#""#);
    insta::assert_snapshot!(said("protocol = \"tcp\", port = \"22\"", "protocol = \"gre\""), @r#""#);
    insta::assert_snapshot!(said("ip_range = \"10.20.0.0/20\"\nsubnets", "ip_range = \"10.0.0.0/8\"\nsubnets"), @r#""#);
    insta::assert_snapshot!(said("zone = \"fra1\" }", "zone = \"ams3\" }"), @r#""#);
    insta::assert_snapshot!(said("locations = [\"fra1\"]\n", ""), @r#""#);
    insta::assert_snapshot!(said("runner:debian", "role=runner"), @r#""#);
    insta::assert_snapshot!(said("{ selector = \"runner:debian\", newest = true }", "\"Debian 12\""), @r#""#);
    insta::assert_snapshot!(said("image = { selector = \"runner:debian\", newest = true }\n", ""), @r#""#);
    insta::assert_snapshot!(said("networks = [\"lan\"]\n", "networks = [\"lan\"]\nspread = true\n"), @r#""#);
    insta::assert_snapshot!(said("image = {", "market = \"spot\"\nimage = {"), @r#""#);
}

#[test]
fn a_droplet_is_in_one_network() {
    let text = OCEAN
        .replacen("[pools.linux]", "[networks.other]\nprovider = \"digitalocean\"\nip_range = \"10.30.0.0/20\"\nsubnets = [{ ip_range = \"10.30.0.0/20\", zone = \"fra1\" }]\n\n[pools.linux]", 1)
        .replacen("networks = [\"lan\"]", "networks = [\"lan\", \"other\"]", 1);
    let problems = parse(&text, "stacks/prod.toml").unwrap_err();
    insta::assert_snapshot!(brief(&problems), @r#""#);
}
