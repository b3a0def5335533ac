//! Two programs at once over each kind of place: one wins, the other says who holds the lock and exits 4.

use super::support::{Project, Sandbox, stack_text};

fn text(sandbox: &Sandbox, state: &str) -> String {
    let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), "");
    assert!(text.contains("[stack]\n"));
    text.replacen("[stack]\n", &format!("[stack]\n{state}\n"), 1)
}
