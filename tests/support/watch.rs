//! A `runfleet watch` in a process of its own, read line by line.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use crate::support::Project;

/// How long a line is waited for: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watch; killed when dropped.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    /// All that it has said so far, as far as it was waited for.
    pub said: Vec<String>,
}

impl Watch {
    /// Starts one of the project's stack.
    pub fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut all = vec!["watch"];
        all.extend(arguments);
        Self::spawn(&mut project.command(&all))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the watch starts");
        let (sender, lines) = channel();
        pass_on(child.stdout.take().expect("its stdout"), sender.clone());
        pass_on(child.stderr.take().expect("its stderr"), sender);
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line with this text, and answers with it.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("not said: {text:?}\n{}", self.said.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without saying {text:?}\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// The lines that have come meanwhile.
    pub fn heard(&mut self) -> &[String] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    /// Waits until it has ended by itself; its exit code.
    #[track_caller]
    pub fn ends(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        // Its pipes close when it ends.
        while let Ok(line) = self
            .lines
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.said.push(line);
        }
        assert!(
            Instant::now() < until,
            "it does not end\n{}",
            self.said.join("\n")
        );
        self.child.wait().expect("its end").code()
    }

    /// Sends it a signal: `-TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("its end");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}
