//! `graph --format dot`: what waits for what, in Graphviz's language.

use std::fmt::Write as _;

use crate::plan::Plan;

use super::{Change, plan::needs};

/// The plan's actions as a directed graph; an arrow leads from what is done first.
pub fn dot(plan: &Plan) -> String {
    let mut out = String::with_capacity(256 + plan.actions.len() * 160);
    let _ = writeln!(out, "digraph {} {{", quoted(plan.stack.as_str()));
    out.push_str("  rankdir = LR;\n  node [shape = box, fontname = \"monospace\"];\n");
    for action in &plan.actions {
        let change = Change::of(&action.verb);
        let label = format!("{} {}", change.symbol(), action.address);
        let color = match change {
            Change::Create => "darkgreen",
            Change::Update | Change::CreateFirst | Change::DeleteFirst => "darkorange",
            Change::Delete => "firebrick",
            Change::Forget => "gray",
            Change::Cordon => "purple",
        };
        let tooltip = quoted(&action.reason.to_string());
        let _ = writeln!(
            out,
            "  a{} [label = {}, color = {color}, tooltip = {tooltip}];",
            action.id.0,
            quoted(&label)
        );
    }
    for action in &plan.actions {
        for need in needs(action) {
            let _ = writeln!(out, "  a{} -> a{};", need.0, action.id.0);
        }
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn an_arrow_leads_from_the_firewall_to_the_machine_that_needs_it() {
        insta::assert_snapshot!(dot(&fixture::plan()), @r#"
        digraph "prod" {
          rankdir = LR;
          node [shape = box, fontname = "monospace"];
          a0 [label = "~ firewall/default", color = darkorange, tooltip = "rules differs from the stack file"];
          a1 [label = "+ machine.linux/brave-otter", color = darkgreen, tooltip = "5 queued and 1 running jobs want 3 runners"];
          a2 [label = "+ machine.linux/keen-wolf", color = darkgreen, tooltip = "5 queued and 1 running jobs want 3 runners"];
          a3 [label = "- machine.linux/old-crab", color = firebrick, tooltip = "idle, and paid until 01:31:00Z"];
          a4 [label = "! machine.linux/tall-newt", color = purple, tooltip = "above max = 3"];
          a5 [label = ". machine.linux/lost-seal", color = gray, tooltip = "the cloud does not have it any more"];
          a0 -> a1;
          a0 -> a2;
        }
        "#);
    }
}
