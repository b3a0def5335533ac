//! EC2's own judgement where moto has none: limits of listings, filters, counts, user data, capacity, machines unknown.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    errors::{Body, Refusal},
    flow::{Inner, Turn},
    market,
    state::State,
    wire::Asked,
    xml::Element,
};

/// The filters of DescribeInstances that moto does.
const MOTOS: [&str; 21] = [
    "architecture",
    "availability-zone",
    "dns-name",
    "group-id",
    "image-id",
    "instance-id",
    "instance-type",
    "instance.group-id",
    "instance.group-name",
    "ip-address",
    "key-name",
    "network-interface.private-dns-name",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "product-code",
    "source-dest-check",
    "subnet-id",
    "tag-key",
    "tag-value",
    "vpc-id",
];

/// Those that the layer does, on moto's answer: the filter, and where its value stands in an instance.
pub const OURS: [(&str, &str); 7] = [
    ("client-token", "clientToken"),
    ("instance-lifecycle", "instanceLifecycle"),
    ("instance-state-code", "instanceState/code"),
    ("instance-state-name", "instanceState/name"),
    ("metadata-options.http-tokens", "metadataOptions/httpTokens"),
    ("state-reason-code", "stateReason/code"),
    ("state-reason-message", "stateReason/message"),
];

/// User data in bytes, before encoding.
const USER_DATA_MAX: usize = 16_384;

/// What EC2 would say, or that moto may speak.
pub(super) async fn judge(inner: &Inner, asked: &mut Asked, request: &str) -> Turn {
    if let Some(refusal) = unknown(&inner.state(), asked) {
        return Turn::Refuse(refusal);
    }
    match asked.action.as_str() {
        "DescribeSpotPriceHistory" => Turn::Say(market::spot_history(&inner.state(), asked, request)),
        "DescribeInstances" => listing(asked),
        "RunInstances" => run(&inner.state(), asked),
        "TerminateInstances" => {
            let ids: Vec<String> = asked
                .list("InstanceId")
                .iter()
                .map(|id| (*id).to_owned())
                .collect();
            // moto fails on the network interface that went with it; EC2 says once more what it is.
            let is_dead = |id: &String| {
                inner
                    .state()
                    .machines
                    .get(id)
                    .is_some_and(|one| one.died.is_some())
            };
            if !ids.is_empty() && ids.iter().all(is_dead) {
                return Turn::Say(terminated(&ids, request));
            }
            for id in ids {
                inner.leave_blocked_group(&id).await;
            }
            Turn::Forward
        }
        _ => Turn::Forward,
    }
}

/// The answer to TerminateInstances for machines that are terminated.
fn terminated(ids: &[String], request: &str) -> Body {
    let state = |name: &str| {
        Element::node(
            name,
            vec![Element::leaf("code", "48"), Element::leaf("name", "terminated")],
        )
    };
    let items = ids.iter().map(|id| {
        let of = vec![
            Element::leaf("instanceId", id),
            state("currentState"),
            state("previousState"),
        ];
        Element::node("item", of)
    });
    let mut root = Element::node(
        "TerminateInstancesResponse",
        vec![
            Element::leaf("requestId", request),
            Element::node("instancesSet", items.collect()),
        ],
    );
    root.namespace = Some("http://ec2.amazonaws.com/doc/2016-11-15/".to_owned());
    Body {
        status: 200,
        content_type: "text/xml;charset=UTF-8",
        text: root.document(),
    }
}

/// Machines that AWS does not know, or not yet.
fn unknown(state: &State, asked: &Asked) -> Option<Refusal> {
    let named = asked.list("InstanceId");
    let single = asked.param("InstanceId");
    let tagged = asked.list("ResourceId");
    let gone = |id: &&str| match state.machines.get(*id) {
        Some(machine) => state.now < machine.hidden_until || state.forgot(machine),
        // moto itself refuses an unknown machine, except one that is to be tagged.
        None => tagged.contains(id),
    };
    let gone: Vec<&str> = named
        .into_iter()
        .chain((!single.is_empty()).then_some(single))
        .chain(tagged.iter().copied().filter(|id| id.starts_with("i-")))
        .filter(gone)
        .collect();
    (!gone.is_empty()).then(|| Refusal::no_instance(&gone))
}

fn listing(asked: &mut Asked) -> Turn {
    if let Some(size) = asked.number("MaxResults") {
        // The words say "greater than", and 5 is taken.
        if size < 5 {
            return Turn::Refuse(Refusal::invalid_value(format!(
                "Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than 5."
            )));
        }
        if size > 1000 {
            return Turn::Refuse(Refusal::invalid_value(format!(
                "Value ( {size} ) for parameter maxResults is invalid. Expecting a value smaller than 1000."
            )));
        }
    }
    let filters = asked.filters();
    let ours = |name: &str| OURS.iter().any(|(filter, _)| *filter == name);
    for (name, _) in &filters {
        let known = MOTOS.contains(&name.as_str()) || name.starts_with("tag:") || ours(name);
        if !known {
            return Turn::Refuse(Refusal::invalid_value(format!("The filter '{name}' is invalid")));
        }
    }
    if filters.iter().any(|(name, _)| ours(name)) {
        let motos: Vec<_> = filters.into_iter().filter(|(name, _)| !ours(name)).collect();
        asked.set_filters(&motos);
    }
    Turn::Forward
}

fn run(state: &State, asked: &mut Asked) -> Turn {
    let least = asked.number("MinCount").unwrap_or(1);
    let most = asked.number("MaxCount").unwrap_or(least);
    if least < 1 || most < least {
        return Turn::Refuse(Refusal::invalid_value(format!(
            "Value ({least}) for parameter minCount is invalid. MinCount must be at least 1 and not more than MaxCount."
        )));
    }
    let user_data = STANDARD.decode(asked.param("UserData"));
    if user_data.is_ok_and(|data| data.len() > USER_DATA_MAX) {
        return Turn::Refuse(Refusal::invalid_value("User data is limited to 16384 bytes"));
    }
    let instance_type = asked.facet("type").to_owned();
    let zone = match asked.facet("zone") {
        "" => asked.facet("subnet"),
        zone => zone,
    };
    let left = state
        .capacity
        .get(&instance_type)
        .copied()
        .unwrap_or(i64::MAX)
        .max(0);
    if left < least {
        return Turn::Refuse(Refusal::insufficient_capacity(&instance_type, zone));
    }
    let count = most.min(left);
    // moto launches the least; AWS as many as there is room for.
    asked.set("MinCount", count.to_string());
    asked.set("MaxCount", count.to_string());
    Turn::Forward
}
