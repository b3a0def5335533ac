"""Every operation of the sandbox's Azure DevOps by the official package. Ends with 0, or with the assertion that failed."""

import os
import tempfile

# The package keeps what it was told of resources below the home folder, and believes it for a day.
os.environ["HOME"] = tempfile.mkdtemp()
os.environ["AZURE_DEVOPS_CACHE_DIR"] = os.environ["HOME"]

from azure.devops.connection import Connection
from azure.devops.exceptions import AzureDevOpsAuthenticationError, AzureDevOpsServiceError
from azure.devops.v7_1.task_agent.models import TaskAgent
from common import ADDRESSES, TOKEN, advance, control, fault, raises
from msrest.authentication import BasicAuthentication, BasicTokenAuthentication

# Whether what stands between holds the requests to the description.
ONLY_VALID = bool(os.environ.get("ONLY_VALID"))
ROOT = ADDRESSES["azure"]
TASK_AREA = "a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd"


def connection(token=TOKEN):
    return Connection(base_url=ROOT, creds=BasicAuthentication("", token))


def task_agents(to):
    return to.get_client("azure.devops.v7_1.task_agent.task_agent_client.TaskAgentClient")


def container(name, **variables):
    told = {"AZP_URL": ADDRESSES.get("azure_direct", ROOT), "AZP_TOKEN": TOKEN} | variables
    control("POST", "/machines", {"id": name, "name": name, "environment": told})
    advance("20s")


def everything(to):
    return {"include_capabilities": True, "include_assigned_request": True, "include_last_completed_request": True} | to


def refused(key, call, *arguments):
    # Microsoft describes no refusal.
    if not ONLY_VALID:
        with raises(AzureDevOpsServiceError, type_key=key):
            call(*arguments)


def who():
    location = connection().get_client("azure.devops.v7_1.location.location_client.LocationClient")
    assert location.get_connection_data().authenticated_user.is_active
    assert location.get_resource_area(TASK_AREA).location_url.endswith("/azure/acme")


def pools(client):
    names = [pool.name for pool in client.get_agent_pools()]
    assert names == ["Default"], names
    (default,) = client.get_agent_pools(pool_name="Default")
    assert default.pool_type == "automation" and not default.is_hosted and default.size == 0
    assert client.get_agent_pools(pool_name="nobody's") == []
    assert [pool.id for pool in client.get_agent_pools_by_ids([default.id])] == [default.id]
    assert client.get_agent_pool(default.id).created_on == default.created_on
    refused("TaskAgentPoolNotFoundException", client.get_agent_pool, 77)
    return default.id


def a_life(client, pool):
    control("POST", "/jobs", {"ci": "azure", "count": 2, "duration": "60s", "demands": ["java"]})
    container("one", java="17")
    (agent,) = client.get_agents(pool, **everything({}))
    assert (agent.name, agent.status, agent.enabled) == ("one", "online", True)
    assert agent.system_capabilities["java"] == "17" and "AZP_TOKEN" not in agent.system_capabilities
    request = agent.assigned_request
    assert request.receive_time >= request.assign_time >= request.queue_time
    assert request.reserved_agent.id == agent.id and request.demands[0] == "java"
    refused("TaskAgentJobStillRunningException", client.delete_agent, pool, agent.id)
    advance("60s")
    advance("5s")
    agent = client.get_agent(pool, agent.id, **everything({}))
    assert agent.status == "offline" and agent.assigned_request is None
    assert agent.last_completed_request.result == "succeeded"
    client.delete_agent(pool, agent.id)
    refused("TaskAgentNotFoundException", client.delete_agent, pool, agent.id)
    assert client.get_agents(pool) == []


def a_pause(client, pool):
    # Disabled, it is assigned nothing; enabled, it is.
    container("two", AZP_ONCE="false", java="17")
    (agent,) = client.get_agents(pool, agent_name="two", include_assigned_request=True)
    assert agent.assigned_request is not None
    client.update_agent(TaskAgent(id=agent.id, enabled=False), pool, agent.id)
    advance("60s")
    control("POST", "/jobs", {"ci": "azure", "duration": "60s"})
    agent = client.get_agent(pool, agent.id, include_assigned_request=True)
    assert not agent.enabled and agent.assigned_request is None
    assert client.update_agent(TaskAgent(id=agent.id, enabled=True), pool, agent.id).enabled
    agent = client.get_agent(pool, agent.id, include_assigned_request=True)
    assert agent.assigned_request is not None
    advance("60s")
    client.delete_agent(pool, agent.id)
    assert [job["status"] for job in control("GET", "/world")["jobs"]] == ["success"] * 3


def by_hand(client, pool):
    made = client.add_agent(TaskAgent(name="template", version="4.261.0", system_capabilities={"cmake": "3"}), pool)
    assert made.status == "offline"
    refused("TaskAgentExistsException", client.add_agent, TaskAgent(name="template", version="4.261.0"), pool)
    replaced = TaskAgent(id=made.id, name="other", version="4.261.0", enabled=False)
    assert not client.replace_agent(replaced, pool, made.id).enabled
    assert [agent.name for agent in client.get_agents(pool, demands=["cmake"])] == ["other"]
    assert client.get_agents(pool, demands=["cmake", "java"]) == []
    client.delete_agent(pool, made.id)


def what_goes_wrong(client, pool):
    with raises(AzureDevOpsAuthenticationError):
        task_agents(connection("wrong")).get_agent_pools()
    bearer = Connection(base_url=ROOT, creds=BasicTokenAuthentication({"access_token": TOKEN}))
    assert task_agents(bearer).get_agent_pool(pool).id == pool
    # It is told when to ask again, and does.
    fault(f"/acme/_apis/distributedtask/pools/{pool}/agents", "rate-limited", retry_after=1)
    assert client.get_agents(pool) == [] and control("GET", "/faults")["faults"] == []
    fault(f"/acme/_apis/distributedtask/pools/{pool}/agents", "error", status=400, code="VssServiceException")
    refused("VssServiceException", client.get_agents, pool)


client = task_agents(connection())
pool = pools(client)
who()
a_life(client, pool)
a_pause(client, pool)
by_hand(client, pool)
if not ONLY_VALID:
    what_goes_wrong(client, pool)
assert control("GET", "/world")["jobs_killed"] == 0
