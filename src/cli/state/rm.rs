//! `state rm`: takes records out. What they are about stays in the cloud, and is left alone from then on.

use super::desk::{self, unknown};
use crate::{
    cli::{args::Approve, context::Context, error::Failure, exit::Exit, show::state as show},
    model::ids::{Address, ResourceKind},
    stack::Stack,
};

pub(super) fn run(context: &Context, addresses: &[Address], approve: Approve) -> Result<Exit, Failure> {
    desk::with(context, "state rm", async |desk| {
        let mut state = desk.state()?.clone();
        let mut removed = Vec::new();
        for address in addresses {
            if is_declared(&desk.loaded.stack, address) {
                let what =
                    format!("{address} is in the stack file: the next tick would want to make another");
                return Err(Failure::new(Exit::Refused, what)
                    .help("take it out of the stack file first; or `state mv` gives it another name"));
            }
            // Named twice, it is gone already.
            if removed.iter().any(|(known, _)| known == address) {
                continue;
            }
            let record = state
                .resources
                .remove(address)
                .ok_or_else(|| unknown(&state, address))?;
            removed.push((address.clone(), record));
        }
        if !context.output.json {
            context.output.text(&show::removal_text(&removed))?;
        }
        let question = format!("Take this off the record of stack {}?", state.stack);
        if !desk.approved(&question, approve).await? {
            return Ok(Exit::Error);
        }
        state
            .released
            .extend(removed.iter().map(|(_, record)| record.target()));
        let serial = desk.save(state).await?;
        if context.output.json {
            context
                .output
                .document(&show::removed(&desk.loaded.stack, serial, &removed))?;
        } else {
            context.output.text(&format!(
                "\nDone: {} off the record (serial {serial}). `state rollback` takes it back.\n",
                removed.len()
            ))?;
        }
        Ok(Exit::Done)
    })
}

fn is_declared(stack: &Stack, address: &Address) -> bool {
    match address.kind {
        ResourceKind::SshKey => stack.ssh_keys.contains_key(&address.name),
        ResourceKind::Firewall => stack.firewalls.contains_key(&address.name),
        ResourceKind::Network => stack.networks.contains_key(&address.name),
        _ => false,
    }
}
