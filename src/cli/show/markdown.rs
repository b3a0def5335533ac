//! `plan --format markdown`: a plan as a comment on a merge request.
//!
//! GitLab takes a note of 1,000,000 characters; the comment stays below [`LIMIT`] bytes, and says what was left out.
//! Whatever comes from outside is escaped, so that no name can end a table or a code span, or mention anybody.

use std::fmt::Write as _;

use super::{
    Change, bought, counted,
    document::DiagnosticView,
    hourly, monthly,
    plan::{paired, summary_line},
    sections::{fate, guard},
    together,
};
use crate::plan::{Plan, Stray, Verb};

/// The most bytes of a comment. GitLab counts characters and takes a million; the rest is room for what a pipeline adds
/// around it.
pub const LIMIT: usize = 900_000;
/// Above this many rows a table is folded.
const FOLDED: usize = 15;

/// The comment.
pub fn comment(plan: &Plan, unread: &[DiagnosticView], again: &str) -> String {
    let mut out = Bounded {
        text: String::new(),
        cut: 0,
    };
    head(&mut out, plan, unread);
    changes(&mut out, plan);
    drift(&mut out, plan, again);
    let orphans = "Orphans: of our lineage, without a record";
    strays(&mut out, &plan.orphans, orphans, &format!("{again} adopt"));
    let foreign = "Foreign: our stack's name, another lineage; never touched";
    strays(&mut out, &plan.foreign, foreign, &format!("{again} audit"));
    held(&mut out, plan);
    cost(&mut out, plan);
    let _ = write!(
        out.text,
        "\n<sub>serial {}, {}; good for an apply until {}</sub>\n",
        plan.serial,
        plan.made_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        plan.made_at
            .checked_add(plan.expires_in)
            .unwrap_or(plan.made_at)
            .strftime("%H:%M:%SZ")
    );
    out.text
}

/// Text that stops growing at [`LIMIT`], with room for its end.
struct Bounded {
    text: String,
    cut: usize,
}

impl Bounded {
    /// Room kept for what follows the tables: cost, the last line, what was cut.
    const END: usize = 4096;

    fn row(&mut self, row: &str) {
        if self.text.len() + row.len() + Self::END > LIMIT {
            self.cut += 1;
        } else {
            self.text.push_str(row);
        }
    }

    /// A table, folded when it is long; says how many rows did not fit.
    fn table(&mut self, title: &str, header: &[&str], rows: &[Vec<String>]) {
        let folded = rows.len() > FOLDED;
        if folded {
            let _ = write!(
                self.text,
                "\n<details><summary>{title} ({})</summary>\n",
                rows.len()
            );
        } else {
            let _ = write!(self.text, "\n**{title}**\n");
        }
        let _ = write!(
            self.text,
            "\n| {} |\n|{}\n",
            header.join(" | "),
            "---|".repeat(header.len())
        );
        for row in rows {
            self.row(&format!("| {} |\n", row.join(" | ")));
        }
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            let _ = write!(
                self.text,
                "\n_{} left out: a comment has an end. `plan --format text` shows them all._\n",
                counted(cut, "row")
            );
        }
        if folded {
            self.text.push_str("\n</details>\n");
        }
    }
}

fn head(out: &mut Bounded, plan: &Plan, unread: &[DiagnosticView]) {
    let _ = writeln!(out.text, "### runfleet: stack {}\n", code(plan.stack.as_str()));
    let line = if plan.is_noop() {
        "No changes.".to_owned()
    } else {
        summary_line(plan.summary())
    };
    let _ = writeln!(out.text, "**{line}**");
    for source in unread {
        let _ = write!(
            out.text,
            "\n> :warning: {}: {}\n",
            plain(&source.summary),
            plain(&source.detail)
        );
    }
    for breach in &plan.breaches {
        let rule = guard(breach.rule);
        let then = if breach.allowed {
            "allowed"
        } else {
            "an apply refuses it without this option"
        };
        let _ = write!(
            out.text,
            "\n> :no_entry: {}: `--allow {rule}`: {then}\n",
            plain(&breach.what)
        );
    }
}

fn changes(out: &mut Bounded, plan: &Plan) {
    if plan.is_noop() {
        return;
    }
    let kinds = Change::of_plan(plan);
    let rows: Vec<Vec<String>> = plan
        .actions
        .iter()
        .zip(kinds)
        .map(|(action, change)| {
            let (place, price) = bought(action);
            let mut why = plain(&action.reason.to_string());
            if let Verb::Update { changes, .. } = &action.verb {
                for change in changes {
                    let _ = write!(why, "<br>{}", code(change));
                }
            }
            vec![
                format!("{} {}", code(change.symbol()), action.verb.as_str()),
                code(&action.address.to_string()),
                place.as_deref().map(plain).unwrap_or_default(),
                price.map(hourly).unwrap_or_default(),
                why,
            ]
        })
        .collect();
    out.table("Changes", &["", "resource", "on", "cost", "why"], &rows);
}

fn drift(out: &mut Bounded, plan: &Plan, again: &str) {
    if plan.drift.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = plan
        .drift
        .iter()
        .map(|drift| {
            vec![
                code(&drift.address.to_string()),
                plain(&drift.what),
                fate(drift.fate).to_owned(),
            ]
        })
        .collect();
    out.table(
        "Drift: changed by someone else",
        &["resource", "what", "then"],
        &rows,
    );
    let _ = write!(
        out.text,
        "\nTo accept it: {}\n",
        code(&format!("{again} refresh --accept"))
    );
}

fn strays(out: &mut Bounded, strays: &[Stray], title: &str, then: &str) {
    if strays.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = strays
        .iter()
        .map(|stray| {
            vec![
                code(&stray.target.to_string()),
                code(&stray.name),
                stray.price.as_ref().map(hourly).unwrap_or_default(),
                plain(&stray.reason.to_string()),
            ]
        })
        .collect();
    out.table(title, &["resource", "name", "cost", "why"], &rows);
    let prices = strays.iter().filter_map(|stray| stray.price.as_ref());
    let cost = together(prices).map(|cost| format!(", {cost} together"));
    let _ = write!(
        out.text,
        "\n{}{}. See {}.\n",
        counted(strays.len(), "resource"),
        cost.unwrap_or_default(),
        code(then)
    );
}

fn held(out: &mut Bounded, plan: &Plan) {
    if plan.held.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = plan
        .held
        .iter()
        .map(|held| {
            let count = if held.count > 0 {
                held.count.to_string()
            } else {
                String::new()
            };
            vec![code(&held.about), count, plain(&held.reason.to_string())]
        })
        .collect();
    out.table("Held: not done now", &["about", "machines", "why"], &rows);
}

fn cost(out: &mut Bounded, plan: &Plan) {
    let cost = &plan.cost;
    let months = paired(&cost.before_monthly, &cost.after_monthly);
    let hours = paired(&cost.before_hourly, &cost.after_hourly);
    if hours.is_empty() {
        return;
    }
    let _ = write!(out.text, "\n| cost | before | after |\n|---|---|---|\n");
    for (before, after) in &hours {
        let _ = writeln!(out.text, "| per hour | {} | {} |", hourly(before), hourly(after));
    }
    for (before, after) in &months {
        let _ = writeln!(
            out.text,
            "| per month | {} | {} |",
            monthly(before),
            monthly(after)
        );
    }
}

/// Words of a sentence: nothing in them is markup, a mention or the end of a cell.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A mention of a person or a group, a reference to an issue or a merge request.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '~' | '\\' | '!' | '$' => {
                out.push('\\');
                out.push(letter);
            }
            letter => out.push(letter),
        }
    }
    out
}

/// A span of code: its fence is longer than any run of backticks within; a pipe is escaped, as tables want it.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ").replace('|', "\\|");
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    if longest > 0 {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn a_comment_has_summary_changes_drift_strays_held_and_cost() {
        insta::assert_snapshot!(comment(&fixture::plan(), &[], "runfleet -s prod"), @"
        ### runfleet: stack `prod`

        **Plan: 2 to create, 1 to update, 0 to replace, 1 to delete, 1 to forget, 1 to cordon.**

        **Changes**

        |  | resource | on | cost | why |
        |---|---|---|---|---|
        | `~` update | `firewall/default` |  |  | rules differs from the stack file<br>`rules: +22/tcp` |
        | `+` create | `machine.linux/brave-otter` | hetzner/nbg1 cx33 | 0.0095 EUR/h | 5 queued and 1 running jobs want 3 runners |
        | `+` create | `machine.linux/keen-wolf` | hetzner/nbg1 cx33 | 0.0095 EUR/h | 5 queued and 1 running jobs want 3 runners |
        | `-` retire | `machine.linux/old-crab` | hetzner/nbg1 cx33 | 0.0095 EUR/h | idle, and paid until 01:31:00Z |
        | `!` cordon | `machine.linux/tall-newt` | hetzner/nbg1 cx33 | 0.0095 EUR/h | above max = 3 |
        | `.` forget | `machine.linux/lost-seal` | hetzner/nbg1 cx33 | 0.0095 EUR/h | the cloud does not have it any more |

        **Drift: changed by someone else**

        | resource | what | then |
        |---|---|---|
        | `machine.linux/calm-fox` | type: cx33 → cx43 | left as it is |

        To accept it: `runfleet -s prod refresh --accept`

        **Orphans: of our lineage, without a record**

        | resource | name | cost | why |
        |---|---|---|---|
        | `hetzner machine 99` | `prod-linux-stray` | 0.0095 EUR/h | without a record since 01:30:00Z, deleted if seen again |

        1 resource, 0.0095 EUR/h together. See `runfleet -s prod adopt`.

        **Foreign: our stack's name, another lineage; never touched**

        | resource | name | cost | why |
        |---|---|---|---|
        | `hetzner machine 99` | `prod-linux-other` | 0.0095 EUR/h | 1 resource with our stack's name and another lineage |

        1 resource, 0.0095 EUR/h together. See `runfleet -s prod audit`.

        **Held: not done now**

        | about | machines | why |
        |---|---|---|
        | `linux` | 2 | 5 wanted, max = 3 |
        | `machine.linux/calm-fox` |  | no certain word on whether it runs jobs |

        | cost | before | after |
        |---|---|---|
        | per hour | 0.0190 EUR/h | 0.0285 EUR/h |
        | per month | 13.87 EUR/month | 20.80 EUR/month |

        <sub>serial 12, 2026-03-01 01:30:00Z; good for an apply until 02:30:00Z</sub>
        ");
    }

    #[test]
    fn a_long_table_is_folded_and_a_huge_one_is_cut_and_says_so() {
        let text = comment(&fixture::large(30), &[], "runfleet");
        assert!(
            text.contains("<details><summary>Changes (30)</summary>"),
            "{text}"
        );
        assert!(!text.contains("left out"));
        let text = comment(&fixture::large(10_000), &[], "runfleet");
        assert!(text.len() <= LIMIT, "{}", text.len());
        assert!(text.contains("rows left out"), "{}", &text[text.len() - 900..]);
        assert!(text.contains("| per hour |"), "the end is kept");
    }

    #[test]
    fn nothing_from_outside_ends_a_cell_a_span_or_mentions_anybody() {
        let mut plan = fixture::plan();
        plan.orphans[0].name = "a|b `c` ``d @all <b>\n| x".into();
        plan.drift[0].what = "labels: |@root| `x` #1 !2 ~bug <img src=x>".into();
        let text = comment(&plan, &[], "runfleet");
        for row in text.lines().filter(|line| line.starts_with('|')) {
            let bars = row.replace("\\|", "").matches('|').count();
            assert!((4..=6).contains(&bars), "{row}");
        }
        assert!(
            text.contains("\\|&#64;root\\| \\`x\\` &#35;1 \\!2 \\~bug &lt;img src=x&gt;"),
            "{text}"
        );
        assert!(text.contains("``` a\\|b `c` ``d @all <b> \\| x ```"), "{text}");
    }
}
