//! Where it is checked that each operation is as its vendor's, and the page that says so: `docs/sandbox.md`.
//!
//! The tests in `tests/faithful` hold these lists to what the SDKs and runfleet really call.

use std::{fmt::Write as _, sync::OnceLock};

use super::{
    api::{Operation, Party, operations},
    faults::FAULTS,
    settings::Settings,
};

/// What is checked of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub operation: Operation,
    /// The vendor's SDK calls it: by what; or why none does.
    pub sdk: Result<&'static str, &'static str>,
    /// runfleet's calls of it, of DigitalOcean's and Azure DevOps' the SDK's, go through the validating proxy, in both directions without a
    /// violation.
    pub proxy: bool,
}

/// What the official SDKs call each operation by: `hcloud`, `pydo`, `python-gitlab`, `azure-devops`.
#[rustfmt::skip]
static SDKS: &[(Party, &[(&str, &str)])] = &[
    (Party::Hetzner, &[
        ("GET /servers", "servers.get_all, get_list, get_by_name"),
        ("POST /servers", "servers.create"),
        ("GET /servers/actions", "servers.actions.get_all"),
        ("GET /servers/actions/{id}", "servers.actions.get_by_id"),
        ("GET /servers/{id}", "servers.get_by_id, reload"),
        ("PUT /servers/{id}", "update"),
        ("DELETE /servers/{id}", "delete"),
        ("GET /servers/{id}/actions", "get_actions"),
        ("GET /servers/{id}/actions/{action_id}", "request"),
        ("POST /servers/{id}/actions/poweron", "power_on"),
        ("POST /servers/{id}/actions/poweroff", "power_off"),
        ("POST /servers/{id}/actions/shutdown", "shutdown"),
        ("POST /servers/{id}/actions/reboot", "reboot"),
        ("POST /servers/{id}/actions/reset", "reset"),
        ("POST /servers/{id}/actions/change_protection", "change_protection"),
        ("POST /servers/{id}/actions/change_type", "change_type"),
        ("POST /servers/{id}/actions/attach_to_network", "attach_to_network"),
        ("POST /servers/{id}/actions/detach_from_network", "detach_from_network"),
        ("POST /servers/{id}/actions/add_to_placement_group", "add_to_placement_group"),
        ("POST /servers/{id}/actions/remove_from_placement_group", "remove_from_placement_group"),
        ("GET /ssh_keys", "ssh_keys.get_all, get_by_fingerprint"),
        ("POST /ssh_keys", "ssh_keys.create"),
        ("GET /ssh_keys/{id}", "ssh_keys.get_by_id"),
        ("PUT /ssh_keys/{id}", "update"),
        ("DELETE /ssh_keys/{id}", "delete"),
        ("GET /firewalls", "firewalls.get_all, get_by_name"),
        ("POST /firewalls", "firewalls.create"),
        ("GET /firewalls/actions", "firewalls.actions.get_all"),
        ("GET /firewalls/actions/{id}", "firewalls.actions.get_by_id"),
        ("GET /firewalls/{id}", "firewalls.get_by_id"),
        ("PUT /firewalls/{id}", "update"),
        ("DELETE /firewalls/{id}", "delete"),
        ("GET /firewalls/{id}/actions", "get_actions"),
        ("GET /firewalls/{id}/actions/{action_id}", "request"),
        ("POST /firewalls/{id}/actions/set_rules", "set_rules"),
        ("POST /firewalls/{id}/actions/apply_to_resources", "apply_to_resources"),
        ("POST /firewalls/{id}/actions/remove_from_resources", "remove_from_resources"),
        ("GET /networks", "networks.get_all, get_by_name"),
        ("POST /networks", "networks.create"),
        ("GET /networks/actions", "networks.actions.get_all"),
        ("GET /networks/actions/{id}", "networks.actions.get_by_id"),
        ("GET /networks/{id}", "networks.get_by_id"),
        ("PUT /networks/{id}", "update"),
        ("DELETE /networks/{id}", "delete"),
        ("GET /networks/{id}/actions", "get_actions"),
        ("GET /networks/{id}/actions/{action_id}", "request"),
        ("POST /networks/{id}/actions/add_subnet", "add_subnet"),
        ("POST /networks/{id}/actions/delete_subnet", "delete_subnet"),
        ("POST /networks/{id}/actions/change_protection", "change_protection"),
        ("GET /placement_groups", "placement_groups.get_all, get_by_name"),
        ("POST /placement_groups", "placement_groups.create"),
        ("GET /placement_groups/{id}", "placement_groups.get_by_id"),
        ("PUT /placement_groups/{id}", "update"),
        ("DELETE /placement_groups/{id}", "delete"),
        ("GET /server_types", "server_types.get_all, get_by_name"),
        ("GET /server_types/{id}", "server_types.get_by_id"),
        ("GET /locations", "locations.get_all, get_by_name"),
        ("GET /locations/{id}", "locations.get_by_id"),
        ("GET /images", "images.get_all, get_by_name_and_architecture"),
        ("GET /images/{id}", "images.get_by_id"),
        ("GET /pricing", "request"),
        ("GET /actions", "request"),
        ("GET /actions/{id}", "wait_until_finished"),
        ("GET /primary_ips", "primary_ips.get_all"),
        ("GET /primary_ips/{id}", "primary_ips.get_by_id"),
        ("GET /datacenters", "datacenters.get_all"),
        ("GET /datacenters/{id}", "datacenters.get_by_id"),
    ]),
    (Party::Digitalocean, &[
        ("GET /account", "account.get"),
        ("GET /account/keys", "ssh_keys.list"),
        ("POST /account/keys", "ssh_keys.create"),
        ("GET /account/keys/{id}", "ssh_keys.get"),
        ("PUT /account/keys/{id}", "ssh_keys.update"),
        ("DELETE /account/keys/{id}", "ssh_keys.delete"),
        ("GET /actions", "actions.list"),
        ("GET /actions/{id}", "actions.get"),
        ("GET /droplets", "droplets.list"),
        ("POST /droplets", "droplets.create"),
        ("DELETE /droplets", "droplets.destroy_by_tag"),
        ("POST /droplets/actions", "droplet_actions.post_by_tag"),
        ("GET /droplets/{id}", "droplets.get"),
        ("DELETE /droplets/{id}", "droplets.destroy"),
        ("GET /droplets/{id}/actions", "droplet_actions.list"),
        ("POST /droplets/{id}/actions", "droplet_actions.post"),
        ("GET /droplets/{id}/actions/{action_id}", "droplet_actions.get"),
        ("GET /droplets/{id}/firewalls", "droplets.list_firewalls"),
        ("GET /firewalls", "firewalls.list"),
        ("POST /firewalls", "firewalls.create"),
        ("GET /firewalls/{id}", "firewalls.get"),
        ("PUT /firewalls/{id}", "firewalls.update"),
        ("DELETE /firewalls/{id}", "firewalls.delete"),
        ("POST /firewalls/{id}/droplets", "firewalls.assign_droplets"),
        ("DELETE /firewalls/{id}/droplets", "firewalls.delete_droplets"),
        ("POST /firewalls/{id}/tags", "firewalls.add_tags"),
        ("DELETE /firewalls/{id}/tags", "firewalls.delete_tags"),
        ("POST /firewalls/{id}/rules", "firewalls.add_rules"),
        ("DELETE /firewalls/{id}/rules", "firewalls.delete_rules"),
        ("GET /images", "images.list"),
        ("GET /images/{id}", "images.get"),
        ("PUT /images/{id}", "images.update"),
        ("DELETE /images/{id}", "images.delete"),
        ("GET /regions", "regions.list"),
        ("GET /sizes", "sizes.list"),
        ("GET /snapshots", "snapshots.list"),
        ("GET /snapshots/{id}", "snapshots.get"),
        ("DELETE /snapshots/{id}", "snapshots.delete"),
        ("GET /tags", "tags.list"),
        ("POST /tags", "tags.create"),
        ("GET /tags/{name}", "tags.get"),
        ("DELETE /tags/{name}", "tags.delete"),
        ("POST /tags/{name}/resources", "tags.assign_resources"),
        ("DELETE /tags/{name}/resources", "tags.unassign_resources"),
        ("GET /vpcs", "vpcs.list"),
        ("POST /vpcs", "vpcs.create"),
        ("GET /vpcs/{id}", "vpcs.get"),
        ("PUT /vpcs/{id}", "vpcs.update"),
        ("PATCH /vpcs/{id}", "vpcs.patch"),
        ("DELETE /vpcs/{id}", "vpcs.delete"),
        ("GET /vpcs/{id}/members", "vpcs.list_members"),
    ]),
    (Party::Gitlab, &[
        ("GET /api/v4/user", "auth"),
        ("GET /api/v4/personal_access_tokens/self", "personal_access_tokens.get"),
        ("GET /api/v4/version", "version"),
        ("GET /api/v4/metadata", "http_get"),
        ("GET /api/v4/projects", "projects.list"),
        ("GET /api/v4/projects/{id}", "projects.get"),
        ("GET /api/v4/groups/{id}", "groups.get"),
        ("GET /api/v4/groups/{id}/projects", "group.projects.list"),
        ("GET /api/v4/projects/{id}/jobs", "project.jobs.list"),
        ("GET /api/v4/projects/{id}/jobs/{job_id}", "project.jobs.get"),
        ("POST /api/v4/projects/{id}/jobs/{job_id}/cancel", "job.cancel"),
        ("GET /api/v4/projects/{id}/runners", "project.runners.list"),
        ("POST /api/v4/projects/{id}/runners", "project.runners.create"),
        ("DELETE /api/v4/projects/{id}/runners/{runner_id}", "project.runners.delete"),
        ("GET /api/v4/projects/{id}/protected_branches", "project.protectedbranches.list"),
        ("GET /api/v4/projects/{id}/protected_tags", "project.protectedtags.list"),
        ("GET /api/v4/groups/{id}/runners", "group.runners.list"),
        ("GET /api/v4/runners", "runners.list"),
        ("GET /api/v4/runners/all", "runners_all.list"),
        ("GET /api/v4/runners/{id}", "runners.get"),
        ("PUT /api/v4/runners/{id}", "runner.save"),
        ("DELETE /api/v4/runners/{id}", "runners.delete"),
        ("GET /api/v4/runners/{id}/jobs", "runner.jobs.list"),
        ("GET /api/v4/runners/{id}/managers", "http_list"),
        ("GET /api/v4/runners/{id}/projects", "http_list"),
        ("POST /api/v4/runners/{id}/reset_authentication_token", "http_post"),
        ("POST /api/v4/user/runners", "user.runners.create"),
        ("POST /api/v4/runners", "runners.create"),
        ("DELETE /api/v4/runners", "http_delete"),
        ("DELETE /api/v4/runners/managers", "http_delete"),
        ("POST /api/v4/runners/verify", "runners.verify"),
        ("POST /api/v4/jobs/request", "http_post"),
        ("PUT /api/v4/jobs/{id}", "http_put"),
        ("PATCH /api/v4/jobs/{id}/trace", "http_request"),
        ("GET /api/v4/projects/{id}/terraform/state/{name}", "http_get"),
        ("POST /api/v4/projects/{id}/terraform/state/{name}", "http_post"),
        ("DELETE /api/v4/projects/{id}/terraform/state/{name}", "http_delete"),
        ("POST /api/v4/projects/{id}/terraform/state/{name}/lock", "http_post"),
        ("DELETE /api/v4/projects/{id}/terraform/state/{name}/lock", "http_delete"),
        ("GET /api/v4/projects/{id}/terraform/state/{name}/versions/{serial}", "http_get"),
        ("POST /api/graphql", "GraphQL.execute"),
    ]),
    (Party::Azure, &[
        ("OPTIONS /{organization}/_apis", "get_client"),
        ("GET /{organization}/_apis/ResourceAreas", "get_client"),
        ("GET /{organization}/_apis/ResourceAreas/{areaId}", "get_resource_area"),
        ("GET /{organization}/_apis/connectionData", "get_connection_data"),
        ("GET /{organization}/_apis/distributedtask/pools", "get_agent_pools, get_agent_pools_by_ids"),
        ("GET /{organization}/_apis/distributedtask/pools/{poolId}", "get_agent_pool"),
        ("GET /{organization}/_apis/distributedtask/pools/{poolId}/agents", "get_agents"),
        ("POST /{organization}/_apis/distributedtask/pools/{poolId}/agents", "add_agent"),
        ("GET /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}", "get_agent"),
        ("PATCH /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}", "update_agent"),
        ("PUT /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}", "replace_agent"),
        ("DELETE /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}", "delete_agent"),
    ]),
];

/// What runfleet calls, and the vendors describe.
#[rustfmt::skip]
static PROXIED: &[(Party, &[&str])] = &[
    (Party::Hetzner, &[
        "GET /servers",
        "POST /servers",
        "GET /servers/{id}",
        "PUT /servers/{id}",
        "DELETE /servers/{id}",
        "GET /ssh_keys",
        "POST /ssh_keys",
        "GET /ssh_keys/{id}",
        "PUT /ssh_keys/{id}",
        "DELETE /ssh_keys/{id}",
        "GET /firewalls",
        "POST /firewalls",
        "GET /firewalls/{id}",
        "PUT /firewalls/{id}",
        "DELETE /firewalls/{id}",
        "POST /firewalls/{id}/actions/set_rules",
        "GET /networks",
        "POST /networks",
        "GET /networks/{id}",
        "PUT /networks/{id}",
        "DELETE /networks/{id}",
        "POST /networks/{id}/actions/add_subnet",
        "POST /networks/{id}/actions/delete_subnet",
        "GET /placement_groups",
        "POST /placement_groups",
        "GET /placement_groups/{id}",
        "PUT /placement_groups/{id}",
        "DELETE /placement_groups/{id}",
        "GET /server_types",
        "GET /images",
        "GET /images/{id}",
        "GET /pricing",
        "GET /actions",
    ]),
    (Party::Gitlab, &[
        "GET /api/v4/projects/{id}/jobs",
        "GET /api/v4/projects/{id}/runners",
        "POST /api/v4/projects/{id}/runners",
        "GET /api/v4/groups/{id}/runners",
        "GET /api/v4/runners/all",
        "DELETE /api/v4/runners/managers",
        "POST /api/v4/runners/verify",
        "GET /api/v4/runners/{id}",
        "PUT /api/v4/runners/{id}",
        "DELETE /api/v4/runners/{id}",
        "GET /api/v4/runners/{id}/jobs",
        "GET /api/v4/runners/{id}/managers",
        "POST /api/v4/user/runners",
    ]),
    (Party::Azure, &[
        "GET /{organization}/_apis/distributedtask/pools",
        "GET /{organization}/_apis/distributedtask/pools/{poolId}",
        "GET /{organization}/_apis/distributedtask/pools/{poolId}/agents",
        "POST /{organization}/_apis/distributedtask/pools/{poolId}/agents",
        "GET /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "PATCH /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "PUT /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "DELETE /{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
    ]),
];

/// How jobs and machines are put in.
const JOBS: &str = r#"
`POST /control/jobs` queues jobs alike, now or after `at`; a scenario's `[[jobs]]` are the same:

| `ci` | keys besides `name`, `count`, `duration`, `at` |
|---|---|
| `gitlab` | `project`, `tags`, `ref`, `tag`, `child` |
| `drone` | `repo`, `build`, `type`, `os`, `arch`, `variant`, `kernel`, `labels`, `limit`, `throttle`, `depends_on` |
| `circleci` | `resource_class` |
| `azure` | `pool`, `demands` |

A machine registers only with the secret in its own user data. Drone has one, `drone.rpc_secret` of a scenario or
`drone_rpc_secret` of the first line; a resource class of CircleCI has the token that `circleci.resource_classes` of a scenario
gives it, else the sandbox's. A stage of Drone's whose machine is gone stays listed for `drone_give_up`, as in life;
`drone_accept` and `drone_start` stretch the moments between a stage's being handed out, accepted and started.

The organization of Azure DevOps (`azure.organization` of a scenario, without `acme`) has the agent pool `Default`, those of
`azure.agent_pools`, each with agents that are registered there and offline, and one for each name that a job is queued for; tokens
besides the sandbox's are `azure.tokens`, with `scopes`. An agent registers with the name, pool and token that its machine's
`/etc/azure-devops-agent.env` or its container's environment tells (`AZP_URL`, `AZP_TOKEN`, `AZP_POOL`, `AZP_AGENT_NAME`). A
container's environment but for the token, and a machine's `/etc/azure-devops-agent.capabilities`, are among its capabilities. A container's agent ends after one job unless `AZP_ONCE` is `false`, and stays
registered and offline; `AZP_REMOVES` says when it removes itself: `never`, when `asked` to end (without) or whenever it `ends`. A
job waits for `azure_assign`, is assigned to an agent and received by it `azure_receive` later; `POST /control/jobs/ID/cancel` cancels
one. An agent that was disabled may be assigned a job for `azure_disable` yet; one that is cut off is told to be online for
`azure_offline`. Job requests are in no description of Microsoft's: they are as recorded bodies have them, `$top` included.

`POST /control/machines` reports a machine of a cloud outside: `{"id": "i-0abc", "name": …, "user_data": …, "address": …}`, or
`user_data_base64`, which may be gzipped. It boots as a server does, and `GET /control/machines` says of it `booting`,
`running` or `off`, which it also is when it switched itself off; `DELETE /control/machines/ID` ends it. A container is one with
`environment`, an object of variables, in place of user data; it is `off` once its runner has ended.
"#;

/// The cluster.
const KUBERNETES: &str = r#"
## Kubernetes

`kubernetes` of the first line is an API server. kubectl sends its token over TLS alone: with `--set tls=on` the first line names a
`kubeconfig` too, and `KUBECONFIG=… kubectl get jobs` works; `kubectl create job --from` does not, since it sends Kubernetes' binary form.
A Job makes a pod; the pod is placed on a node with room, is `Running` after `boot`, and its first container's variables, those of Secrets
and ConfigMaps too, start a runner in the world: CircleCI's (`CIRCLECI_RUNNER_…`, `LAUNCH_AGENT_…`) or Azure DevOps' (`AZP_…`). When that
ends, the pod is `Succeeded` and the Job `Complete`. A container whose variables start no runner ends with 1, and with 0 if it has a
`command`, which is taken to be done. A CronJob is never started by its schedule.

A scenario's `[kubernetes]` has `nodes` (`name`, `cpu`, `memory`, `pods`, `labels`, `taints`), `namespaces`, `objects` as manifests have them,
and `bad_images`, which cannot be pulled. Nodes, quotas (`ResourceQuota` with `count/jobs.batch` or `pods`) and roles are objects: what
they say holds, and `kubectl create token` gives a service account's token. `POST /control/evict` `{"pod": …}` or `{"selector": …}`, with
`namespace` where it matters, evicts pods as a node without memory does.
"#;

/// What machines tell of themselves.
const METRICS: &str = r#"
## Metrics

Every machine that is up has an exporter at each of its addresses, on the ports 9100 and 9110, at `/metrics` and at `/`. It is
reached through the forward proxy that the first line calls `exporters`: `curl -x EXPORTERS http://ADDRESS:9100/metrics`. The
answer is Prometheus' text, or OpenMetrics where the request accepts that. What is told follows the jobs that the machine runs:
a load of 1 each (`node_load1`, `node_load5`, `node_load15`), a fifth of the memory (`node_memory_MemTotal_bytes`,
`_MemFree_bytes`, `_Cached_bytes`, `_MemAvailable_bytes`), a core (`node_cpu_seconds_total`), and their number
(`runfleet_sandbox_jobs`); `node_filesystem_avail_bytes{mountpoint="/"}` stays. `CONNECT ADDRESS:PORT` opens a tunnel to the ports
9100, 9110, 80 and 22. A machine that is booting, off or gone, or that `never-registers`, answers nothing: 502.

`POST /control/metrics` sets what machines tell: `{"machines": "web", "samples": {"node_load1": 3.5}, "unreachable": false}`.
`machines` is a machine's name, a droplet's tag, a server's label as `KEY=VALUE`, or `*`; a machine that is made later is not meant.
A sample is named as its series is written, `NAME` or `NAME{LABEL="VALUE"}`, and is a number, `"NaN"`, `"+Inf"`, `"-Inf"`, `"absent"`
(it is not told) or null (it follows the jobs again).

`prometheus` of the first line is the root of a Prometheus that scrapes them: `/api/v1/query` takes a number, `METRIC{LABEL="VALUE"}`
with `=` and `!=`, and `avg`, `min`, `max`, `sum` or `count` of that; whatever else is asked is `bad_data`. A series has the labels
`instance`, `job`, `name` (the machine's) and `tag`. A machine with several tags shows them as `,a,b,`, and a matcher of `tag` fits
each of them.
"#;

/// What is checked of every operation, in the order of [`operations`].
pub fn checks() -> &'static [Check] {
    static CHECKS: OnceLock<Vec<Check>> = OnceLock::new();
    CHECKS.get_or_init(|| operations().iter().copied().map(check).collect())
}

fn check(operation: Operation) -> Check {
    let name = format!("{} {}", operation.method, operation.path);
    let sdks = SDKS.iter().filter(|(party, _)| *party == operation.party);
    let by = sdks.flat_map(|(_, all)| *all).find(|(known, _)| *known == name);
    let proxied = PROXIED.iter().filter(|(party, _)| *party == operation.party);
    Check {
        operation,
        sdk: by.map(|(_, by)| *by).ok_or(match operation.party {
            Party::Control => "the sandbox's own",
            Party::Drone => "Drone has none for Python",
            Party::Circleci => "CircleCI has none",
            Party::Prometheus => "Prometheus has none",
            Party::Azure => "`azure-devops` has no call of what is unpublished",
            Party::Kubernetes => "kubectl; own stand-in",
            Party::Hetzner | Party::Digitalocean | Party::Gitlab => "",
        }),
        // Of DigitalOcean, and of Azure DevOps, the SDK goes through the proxy too; of the first, so does every operation.
        proxy: operation.party == Party::Digitalocean
            || proxied.flat_map(|(_, all)| *all).any(|known| *known == name),
    }
}

/// The page, as Markdown: every operation that is served, and where it is checked.
pub fn reference() -> String {
    let mut page = String::from(
        "# The sandbox\n<!-- Generated by `make docs`. -->\n\n\
         `runfleet sandbox` serves these operations on loopback, over one simulated world. Its first line on stdout is \
         JSON with the addresses and the token.\n\n\
         Two things hold them to the vendors' own APIs, both in `tests/faithful`:\n\n\
         - **SDK**: what of the vendor's own SDK for Python, `hcloud`, `pydo`, `python-gitlab` or `azure-devops`, calls it. Where the SDK \
         has nothing of its own for it, its general method does: `request`, `http_get`.\n\
         - **Proxy**: runfleet, or its provider by itself, calls it in the lives of a fleet through Prism, which holds request \
         and answer to the vendor's API description, and finds no violation. GitLab's has no GraphQL, user, token or project. \
         Of DigitalOcean and of Azure DevOps it is the SDK that calls.\n\n\
         Kubernetes is an own stand-in, since no API server can be had where the tests run: the real `kubectl` works with it, in \
         `tests/faithful/kubectl.rs`.\n\n\
         Drone, CircleCI and Prometheus have neither: they follow Drone's source, CircleCI's page of the API and Prometheus' own.\n\n\
         | party | operation | request | SDK | proxy |\n|---|---|---|---|---|\n",
    );
    for Check {
        operation,
        sdk,
        proxy,
    } in checks()
    {
        let sdk = match sdk {
            Ok(by) => format!("`{}`", by.replace(", ", "`, `")),
            Err(why_not) => (*why_not).to_owned(),
        };
        let _ = writeln!(
            page,
            "| {} | {} | `{} {}{}` | {sdk} | {} |",
            operation.party.name(),
            operation.name,
            operation.method,
            operation.party.prefix(),
            operation.path,
            if *proxy { "yes" } else { "" },
        );
    }
    page.push_str(JOBS);
    page.push_str(KUBERNETES);
    page.push_str(METRICS);
    let keys: Vec<String> = Settings::KEYS.iter().map(|key| format!("`{key}`")).collect();
    let _ = writeln!(
        page,
        "\nSettings, each by `--set KEY=VALUE`: {}.",
        keys.join(", ")
    );
    page.push_str(
        "\nFaults, each by `POST /control/faults`, by count or by seeded probability:\n\n| fault | does |\n|---|---|\n",
    );
    for (fault, does) in FAULTS {
        let _ = writeln!(page, "| `{fault}` | {does} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_a_list_is_served_and_stands_there_once() {
        let served = |party: Party, name: &str| {
            let is = |known: &Operation| {
                known.party == party && format!("{} {}", known.method, known.path) == name
            };
            assert_eq!(operations().iter().filter(|known| is(known)).count(), 1, "{name}");
        };
        for (party, all) in SDKS {
            all.iter().for_each(|(name, _)| served(*party, name));
        }
        for (party, all) in PROXIED {
            all.iter().for_each(|name| served(*party, name));
        }
        let listed: usize = SDKS.iter().map(|(_, all)| all.len()).sum();
        assert_eq!(checks().iter().filter(|check| check.sdk.is_ok()).count(), listed);
    }
}
