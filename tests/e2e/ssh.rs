//! Logging in: a server of OpenSSH's on this host, and what the verbs ask the client for.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use runfleet::{
    hooks::{Caller as _, EventMachine, FORMAT_VERSION, HookError, HookEvent, HookPlace, Hooks},
    model::{ids::ResourceKind, resource::ResourceRef},
    secrets::Policy,
    ssh::{SshError, alias},
    stack::{
        Stack,
        hooks::{Hook, HookCall, Moment, OnFailure},
    },
};

use crate::support::{Project, Sandbox, eventually, stack_text};

/// A server of SSH; gone when dropped.
struct Server {
    child: Child,
    port: u16,
    user: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves on this port, with the host key of that folder; none where no server can be had here.
#[expect(clippy::print_stderr, reason = "what is skipped is said aloud")]
fn serve(folder: &Path, port: u16, key: &Path) -> Option<Server> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/sshd.sh");
    let mut command = Command::new(script);
    command.arg(folder).arg(port.to_string()).arg(key);
    let log = std::fs::File::create(folder.with_extension("log")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut user = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut user)
        .unwrap();
    if user.is_empty() {
        let ended = child.wait().unwrap();
        assert_eq!(
            ended.code(),
            Some(77),
            "{}",
            std::fs::read_to_string(folder.with_extension("log")).unwrap()
        );
        eprintln!("skipped: no server of SSH can be had here");
        return None;
    }
    eventually("the server listens", Duration::from_secs(30), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some(Server {
        child,
        port,
        user: user.trim().to_owned(),
    })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn machine(id: &str) -> ResourceRef {
    ResourceRef {
        provider: "hetzner".into(),
        kind: ResourceKind::Machine,
        id: id.into(),
    }
}

fn event() -> HookEvent {
    HookEvent {
        format_version: FORMAT_VERSION.into(),
        event: Moment::AfterReady,
        stack: "test".into(),
        pool: "linux".into(),
        machine: Some(EventMachine {
            address: "machine.linux/brave-otter".into(),
            name: "test-linux-brave-otter".into(),
            id: Some("42".into()),
            provider: Some("hetzner".into()),
            machine_type: Some("cx33".into()),
            location: Some("nbg1".into()),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            price_hourly: None,
            currency: None,
        }),
        reason: "became ready".into(),
        reason_code: "became_ready".into(),
        error: None,
        time: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// A folder with a login key, a stack that logs in with it, and the first server.
struct Site {
    folder: tempfile::TempDir,
    server: Option<Server>,
    stack: Stack,
}

impl Site {
    #[expect(clippy::print_stderr, reason = "what is skipped is said aloud")]
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let key = folder.path().join("id");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        if !made.is_ok_and(|made| made.success()) {
            eprintln!("skipped: no ssh-keygen here");
            return None;
        }
        let server = serve(
            &folder.path().join("one"),
            free_port(),
            &key.with_extension("pub"),
        )?;
        let text = stack_text("http://127.0.0.1:9/v1", "http://127.0.0.1:9", "");
        let login = format!(
            "{text}\n[ssh]\nuser = \"{}\"\nport = {}\nkey_file = \"id\"\n",
            server.user, server.port
        );
        let stack = runfleet::stack::parse(&login, "test.toml").unwrap();
        Some(Self {
            folder,
            server: Some(server),
            stack,
        })
    }

    fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("test.known_hosts")
    }

    /// Runs this on the machine that has that id.
    fn call(&self, command: &str, id: &str, timeout: i64) -> Result<(), HookError> {
        let hook = Hook {
            on: vec![Moment::AfterReady],
            call: HookCall::Ssh(command.into()),
            timeout: jiff::SignedDuration::from_secs(timeout),
            retries: 0,
            on_failure: OnFailure::Stop,
        };
        let hooks = Hooks::new(&self.stack, self.folder.path(), Policy::Trusted);
        let pool = "linux".into();
        let place = HookPlace {
            pool: &pool,
            index: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(hooks.call(place, &hook, &event(), Some(&machine(id))))
    }
}

#[test]
fn a_host_key_is_learnt_by_the_machines_identity_and_another_one_is_refused() {
    let Some(mut site) = Site::new() else { return };
    let out = site.folder.path().join("one/out");
    site.call(&format!("cat > {}", out.display()), "42", 20).unwrap();
    let told: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(told["machine"]["id"], "42", "the event is on its standard input");
    let known = std::fs::read_to_string(site.known_hosts()).unwrap();
    assert!(
        known.starts_with(&format!("{} ssh-ed25519 ", alias(&machine("42")))),
        "{known}"
    );

    let failed = site.call("echo no space left >&2; exit 7", "42", 20).unwrap_err();
    let HookError::Failed { how, output, .. } = &failed else {
        panic!("{failed:?}");
    };
    assert_eq!(
        (how.as_str(), output.as_str()),
        ("exit status: 7", "no space left")
    );
    let late = site.call("sleep 60", "42", 2).unwrap_err();
    assert!(matches!(late, HookError::TimedOut { .. }), "{late:?}");

    // At the same address, and with another key: another machine may be there, this one must not.
    let port = site.server.take().unwrap().port;
    let key = site.folder.path().join("id.pub");
    site.server = serve(&site.folder.path().join("two"), port, &key);
    assert!(site.server.is_some());
    let refused = site.call("true", "42", 20).unwrap_err();
    assert!(
        matches!(refused, HookError::Ssh(SshError::KeyChanged { .. })),
        "{refused:?}"
    );
    site.call("true", "43", 20).unwrap();

    let hooks = Hooks::new(&site.stack, site.folder.path(), Policy::Trusted);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(hooks.forget(&[machine("42")]));
    let known = std::fs::read_to_string(site.known_hosts()).unwrap();
    assert_eq!(known.lines().count(), 1, "{known}");
    assert!(known.starts_with("hetzner.43 "), "{known}");
    site.call("true", "42", 20).unwrap();
}

#[test]
fn a_stranger_is_not_let_in_and_the_error_says_so() {
    let Some(site) = Site::new() else { return };
    std::fs::remove_file(site.folder.path().join("id")).unwrap();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(site.folder.path().join("id"))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let refused = site.call("true", "42", 20).unwrap_err();
    let HookError::Ssh(SshError::NotIn { why, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("Permission denied"), "{why}");
}

/// A client that says what it is asked for, and ends with 7.
const CLIENT: &str = "#!/bin/sh\nfor word in \"$@\"; do echo \"[$word]\"; done\nexit 7\n";

#[test]
fn the_verbs_name_the_machine_by_its_identity_and_end_as_the_client_ends() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(1, "10m");
    project.run(&["scale"]).exits(0);
    std::fs::create_dir(project.path("bin")).unwrap();
    let client = project.path("bin/ssh");
    std::fs::write(&client, CLIENT).unwrap();
    std::fs::set_permissions(&client, PermissionsExt::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        let path = format!(
            "{}:{}",
            project.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        crate::support::Ran::of(&command.env("PATH", path).output().unwrap())
    };
    let server = sandbox.server(0);
    let name = server["name"].as_str().unwrap();
    let id = server["id"].to_string();
    let ran = run(&["ssh", name, "--", "uname", "-a"]).exits(7);
    let words: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        words.contains(&format!("[HostKeyAlias=hetzner.{id}]").as_str()),
        "{words:?}"
    );
    assert!(words.contains(&"[StrictHostKeyChecking=accept-new]"), "{words:?}");
    assert!(words.contains(&"[BatchMode=yes]"), "{words:?}");
    let file = project.path("stacks/test.known_hosts");
    let file = file.strip_prefix(project.root()).unwrap().display().to_string();
    assert!(ran.stdout.contains(&format!("{file}\"]")), "{words:?}");
    let at = words.iter().position(|word| *word == "[--]").unwrap();
    assert_eq!(&words[at + 2..], ["[uname]", "[-a]"]);

    let short = name.rsplit('-').take(2).collect::<Vec<_>>();
    let short = format!("{}-{}", short[1], short[0]);
    run(&["ssh", &short[..4]]).exits(7).says("[-T]");
    run(&["logs", &short, "--follow"])
        .exits(7)
        .says("tail -n +1 -F /var/log/cloud-init-output.log");
    run(&["logs", &short, "--json"]).exits(1).says("cannot be read");
    run(&["logs", &short, "--console"])
        .exits(1)
        .says("is not supported by this provider");
    run(&["ssh", "brave-otters-everywhere"])
        .exits(1)
        .says("no runner is called brave-otters-everywhere");
    run(&["ssh", "--", "x"]).exits(1).says("<RUNNER>");
}
