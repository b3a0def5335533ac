//! Prism, the validating proxy, as a process that ends with the test.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// One at a time: the first installs it.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Prism {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Prism {
    /// Stands before `upstream`, held to that description.
    pub(crate) fn start(description: &Path, upstream: &str) -> Self {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/prism.sh");
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = Command::new(&tool).status().unwrap();
        drop(turn);
        assert!(
            installed.success(),
            "the descriptions are here, and the proxy is not: {installed}"
        );
        let mut child = Command::new(&tool)
            .arg(description)
            .arg(upstream)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let listening = |line: String| Some(line.split_once("Prism is listening on ")?.1.trim().to_owned());
        let address = lines.by_ref().find_map(listening).unwrap();
        // What it goes on to say is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Prism {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
