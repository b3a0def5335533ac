//! The way to the servers: a proxy from the environment, certificates from the stack file.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::Stdio,
};

use crate::support::{Project, Sandbox, stack_text};

#[test]
fn the_proxy_of_the_environment_is_asked_for_what_is_not_on_loopback() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = stack_text("https://api.hetzner.cloud/v1", "https://gitlab.example.com", "");
    let project = Project::with_stack(&text, "token");
    let mut child = project
        .command(&["plan"])
        .env("HTTPS_PROXY", format!("http://{}", proxy.local_addr().unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (connection, _) = proxy.accept().unwrap();
    let mut first = String::new();
    BufReader::new(connection).read_line(&mut first).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let hosts = ["CONNECT api.hetzner.cloud:443", "CONNECT gitlab.example.com:443"];
    assert!(hosts.iter().any(|host| first.starts_with(host)), "{first}");
}

#[test]
fn a_certificate_of_our_own_is_trusted_where_the_stack_file_names_its_authority() {
    let sandbox = Sandbox::start(&["tls=on"]);
    assert!(sandbox.hetzner().starts_with("https://"));
    let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), "").replace("min = 0", "min = 1");
    let project = Project::with_stack(&text, sandbox.token());
    project.run(&["plan"]).exits(1).says("certificate");
    let authority = sandbox.addresses["ca_file"].as_str().expect("ca_file");
    std::fs::copy(authority, project.path("stacks/ca.pem")).unwrap();
    project.edit("endpoint = ", "ca_file = \"ca.pem\"\nendpoint = ");
    project.edit("url = ", "ca_file = \"ca.pem\"\nurl = ");
    project.run(&["scale"]).exits(0);
    assert_eq!(project.machines_on_record().len(), 1);
}
