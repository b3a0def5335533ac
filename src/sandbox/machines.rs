//! Machines of clouds outside this world, at `/control/machines`: whoever runs such a cloud reports what comes to be and
//! what goes, and is told which machine switched itself off.

#![expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Reply},
    control::bad,
    userdata,
    world::{
        World,
        host::{Machine, Report},
        millis,
    },
};

/// The body of a report.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    /// The machine's id in its cloud.
    id: String,
    /// Its host name; without, its id.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    user_data: Option<String>,
    /// The same in base64, gzipped or not, as EC2 has it.
    #[serde(default)]
    user_data_base64: Option<String>,
    /// What a container's process is started with, in place of user data. One whose runner ended is `off`.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    address: Option<String>,
    /// It boots, and its runner never registers.
    #[serde(default)]
    never_registers: bool,
}

impl Given {
    fn report(self) -> Result<Report, Reply> {
        if self.id.is_empty() {
            return Err(bad("id is empty"));
        }
        let unpacked = self
            .user_data_base64
            .filter(|text| !text.is_empty())
            .map(|text| {
                let packed: String = text.split_whitespace().collect();
                let bytes = STANDARD
                    .decode(packed)
                    .map_err(|error| bad(format!("user_data_base64: {error}")))?;
                userdata::unpack(&bytes).map_err(|problem| bad(format!("user_data_base64: {problem}")))
            })
            .transpose()?;
        Ok(Report {
            name: self.name.unwrap_or_else(|| self.id.clone()),
            address: self.address.unwrap_or_else(|| "127.0.0.1".to_owned()),
            user_data: self.user_data.or(unpacked),
            environment: self.environment,
            never_registers: self.never_registers,
            id: self.id,
        })
    }
}

/// 201; the same again answers the same, with other content 409.
pub(crate) fn add(world: &mut World, call: &Call) -> Answer {
    let given: Given = serde_json::from_value(call.body.clone()).map_err(|error| bad(error.to_string()))?;
    let report = given.report()?;
    let number = match world.outside.find(&report.id) {
        Some((_, known)) if known.report != report => {
            let problem = format!("machine {} is known with other content", report.id);
            return Err(Reply::json(409, &json!({"error": problem})));
        }
        Some((number, _)) => number,
        None => world.report(report),
    };
    let machine = world.outside.machines.get(&number);
    Ok(Reply::json(
        201,
        &machine.map(|machine| shown(world, number, machine)),
    ))
}

/// 204, also for one that is not known: its end may be reported twice.
pub(crate) fn remove(world: &mut World, call: &Call) -> Answer {
    world.unreport(call.param(0));
    Ok(Reply::empty(204))
}

pub(crate) fn list(world: &mut World, _: &Call) -> Answer {
    Ok(Reply::json(200, &json!({"machines": all(world)})))
}

/// Every machine from outside, in the order of their reports.
pub(crate) fn all(world: &World) -> Vec<Value> {
    let machines = world.outside.machines.iter();
    machines
        .map(|(number, machine)| shown(world, *number, machine))
        .collect()
}

fn shown(world: &World, number: u64, machine: &Machine) -> Value {
    json!({
        "id": machine.report.id, "name": machine.report.name, "address": machine.report.address,
        "created": millis(machine.created), "state": machine.host.state(), "registered": world.is_registered(number),
        "running_jobs": world.running_on(number), "problem": machine.host.setup_problem,
    })
}
