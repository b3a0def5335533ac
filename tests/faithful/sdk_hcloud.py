"""Every operation of the sandbox's Hetzner Cloud by the official SDK. Ends with 0, or with the assertion that failed."""

import warnings
from datetime import datetime, timedelta, timezone

from common import ADDRESSES, CA_FILE, TOKEN, advance, fault, raises
from hcloud import APIException, Client
from hcloud.actions import ActionFailedException
from hcloud.actions.client import BoundAction
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.networks import NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.servers import Server, ServerCreatePublicNetwork

KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbXYjFDtPvjWdjNRWFSTCyi8Vvz4AQlcbv+nDDHE9rT other",
]


def client_of(token=TOKEN):
    # The sandbox's clock is ours: an action is over as soon as it is turned, so nothing needs to wait long.
    return Client(token, api_endpoint=ADDRESSES["hetzner"], poll_interval=0.01, poll_max_retries=500, timeout=10)


client = client_of()


def finish(action):
    """Lets an action end, and waits for it as the SDK's users do."""
    assert action.status in ("running", "success"), action.status
    advance("10s")
    action.wait_until_finished()
    assert action.progress == 100 and action.started <= action.finished
    return action


def catalogue():
    nbg1 = client.locations.get_by_name("nbg1")
    assert client.locations.get_by_id(nbg1.id).network_zone == "eu-central"
    assert {"fsn1", "hel1"} <= {location.name for location in client.locations.get_all()}

    cx33 = client.server_types.get_by_name("cx33")
    assert (cx33.cores, cx33.memory, cx33.disk, cx33.architecture) == (4, 8.0, 80, "x86")
    assert client.server_types.get_by_id(cx33.id).prices == cx33.prices
    price = next(price for price in cx33.prices if price["location"] == "nbg1")
    assert float(price["price_hourly"]["net"]) < float(price["price_hourly"]["gross"])
    assert "nbg1" in {place.location.name for place in cx33.locations}
    assert any(kind.architecture == "arm" for kind in client.server_types.get_all())

    debian = client.images.get_by_name_and_architecture("debian-12", "x86")
    assert client.images.get_by_id(debian.id).os_flavor == "debian"
    assert client.images.get_all(type="snapshot", label_selector="role=runner", sort="created:desc") == []
    assert client.images.get_by_name_and_architecture("windows-3.1", "x86") is None

    # The SDK has no client for the prices; this is how it asks for everything else.
    pricing = client.request("GET", "/pricing")["pricing"]
    assert pricing["currency"] == "EUR" and float(pricing["vat_rate"]) == 19
    assert "cx33" in {kind["name"] for kind in pricing["server_types"]}
    assert {"ipv4", "ipv6"} == {address["type"] for address in pricing["primary_ips"]}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with raises(APIException, code="deprecated_api_endpoint"):
            client.datacenters.get_all()
        with raises(APIException, code="deprecated_api_endpoint"):
            client.datacenters.get_by_id(4)


def ssh_keys():
    ops = client.ssh_keys.create(name="ops", public_key=KEYS[0], labels={"role": "admin"})
    assert ops.fingerprint.count(":") == 15
    with raises(APIException, code="uniqueness_error"):
        client.ssh_keys.create(name="ops", public_key=KEYS[1])
    with raises(APIException, code="uniqueness_error"):
        client.ssh_keys.create(name="again", public_key=KEYS[0])
    with raises(APIException, code="invalid_input"):
        client.ssh_keys.create(name="broken", public_key="not a key")
    other = client.ssh_keys.create(name="other", public_key=KEYS[1])
    assert client.ssh_keys.get_by_fingerprint(ops.fingerprint).id == ops.id
    assert [key.id for key in client.ssh_keys.get_all(label_selector="role=admin")] == [ops.id]
    assert other.update(name="renamed", labels={"role": "none"}).labels == {"role": "none"}
    assert client.ssh_keys.get_by_id(other.id).name == "renamed"
    assert other.delete()
    with raises(APIException, code="not_found"):
        client.ssh_keys.get_by_id(other.id)
    return ops


def firewalls():
    ssh = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["10.0.0.0/8"], description="ssh")
    ping = FirewallRule(direction="in", protocol="icmp", source_ips=["0.0.0.0/0", "::/0"])
    made = client.firewalls.create(name="default", rules=[ssh], labels={"stack": "test"})
    for action in made.actions or []:
        finish(action)
    firewall = made.firewall
    with raises(APIException, code="uniqueness_error"):
        client.firewalls.create(name="default")
    for action in firewall.set_rules([ssh, ping]):
        finish(action)
    read = client.firewalls.get_by_id(firewall.id)
    assert [rule.protocol for rule in read.rules] == ["tcp", "icmp"]
    assert read.rules[0].port == "22" and read.rules[0].source_ips == ["10.0.0.0/8"]
    with raises(APIException, code="invalid_input"):
        firewall.set_rules([FirewallRule(direction="in", protocol="tcp", source_ips=["0.0.0.0/0"])])
    assert client.firewalls.get_by_name("default").id == firewall.id
    assert firewall.update(labels={"stack": "other"}).labels == {"stack": "other"}
    assert [found.id for found in client.firewalls.get_all(label_selector="stack=other")] == [firewall.id]
    assert {action.command for action in firewall.get_actions()} >= {"set_firewall_rules"}
    action = client.firewalls.actions.get_all()[0]
    assert client.firewalls.actions.get_by_id(action.id).command == action.command
    one = client.request("GET", f"/firewalls/{firewall.id}/actions/{action.id}")["action"]
    assert BoundAction(client.actions, one).command == action.command
    return firewall


def create(name, **more):
    given = {"server_type": ServerType(name="cx33"), "image": Image(name="debian-12"), "location": Location(name="nbg1")}
    return client.servers.create(name=name, **(given | more))


def servers(key, firewall):
    made = create("one", ssh_keys=[key], firewalls=[firewall], user_data="#cloud-config\n{}\n", labels={"stack": "test", "pool": "a"})
    assert made.root_password is None, "with a key there is no password"
    server = made.server
    assert server.status in ("initializing", "starting")
    before = client.servers.get_list(name="one").servers
    assert [found.id for found in before] == [server.id]
    for action in [made.action, *made.next_actions]:
        finish(action)
    server.reload()
    assert server.status == "running"
    assert server.created <= datetime.now(timezone.utc) + timedelta(hours=1)
    assert server.location.name == "nbg1" and server.server_type.name == "cx33" and server.image.name == "debian-12"
    assert server.public_net.ipv4.ip and server.public_net.ipv6.ip
    assert [applied.firewall.id for applied in server.public_net.firewalls] == [firewall.id]
    assert client.servers.get_by_name("one").id == server.id
    assert client.servers.get_by_name("nobody") is None
    assert client.firewalls.get_by_id(firewall.id).applied_to[0].server.id == server.id
    with raises(APIException, code="resource_in_use"):
        firewall.delete()

    plain = create("two", public_net=ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=True))
    assert plain.root_password
    assert plain.server.public_net.ipv4 is None
    finish(plain.action)
    assert server.update(labels={"stack": "test", "pool": "b"}).labels["pool"] == "b"
    assert [found.id for found in client.servers.get_all(label_selector="stack=test,pool in (b,c),!gone")] == [server.id]
    assert client.servers.get_all(label_selector="stack=nobody") == []
    assert [found.name for found in client.servers.get_all(status=["running"])] == ["one", "two"]
    return server, plain.server


def power(server):
    for act, status in [
        (server.shutdown, "off"),
        (server.power_on, "running"),
        (server.power_off, "off"),
        (server.power_on, "running"),
        (server.reboot, "running"),
        (server.reset, "running"),
    ]:
        finish(act())
        advance("1m")
        server.reload()
        assert server.status == status, f"{act.__name__}: {server.status}"
    commands = {action.command for action in server.get_actions()}
    assert commands >= {"create_server", "shutdown_server", "start_server", "stop_server", "reboot_server", "reset_server"}, commands
    actions = client.servers.actions.get_all(status=["success"])
    assert len(actions) >= 6
    one = client.servers.actions.get_by_id(actions[0].id)
    assert {"id": server.id, "type": "server"} in one.resources, one.resources
    some = client.request("GET", "/actions", params={"id": [action.id for action in actions[:3]]})["actions"]
    assert [BoundAction(client.actions, found).status for found in some] == ["success"] * 3
    mine = client.request("GET", f"/servers/{server.id}/actions/{server.get_actions()[0].id}")["action"]
    assert BoundAction(client.actions, mine).status == "success"

    finish(server.change_protection(delete=True, rebuild=True))
    with raises(APIException, code="protected"):
        server.delete()
    finish(server.change_protection(delete=False, rebuild=False))


def firewall_of(server, firewall):
    resource = FirewallResource(type=FirewallResource.TYPE_SERVER, server=Server(id=server.id))
    for action in firewall.apply_to_resources([resource]):
        finish(action)
    assert server.id in {found.server.id for found in client.firewalls.get_by_id(firewall.id).applied_to}
    for action in firewall.remove_from_resources([resource]):
        finish(action)
    assert server.id not in {found.server.id for found in client.firewalls.get_by_id(firewall.id).applied_to}


def networks(server):
    """A network and a placement group, and a server that goes into both by hand and leaves them."""
    zone = {"type": "cloud", "network_zone": "eu-central"}
    lan = client.networks.create(
        name="lan", ip_range="10.0.0.0/16", subnets=[NetworkSubnet(ip_range="10.0.0.0/24", **zone)], labels={"stack": "test"}
    )
    assert (lan.ip_range, lan.servers, lan.protection["delete"]) == ("10.0.0.0/16", [], False)
    assert [(part.ip_range, part.gateway) for part in lan.subnets] == [("10.0.0.0/24", "10.0.0.1")]
    with raises(APIException, code="uniqueness_error"):
        client.networks.create(name="lan", ip_range="10.1.0.0/16")
    with raises(APIException, code="invalid_input"):
        client.networks.create(name="public", ip_range="8.8.0.0/16")
    adding = lan.add_subnet(NetworkSubnet(ip_range="10.0.1.0/24", **zone))
    with raises(APIException, code="conflict"):
        lan.add_subnet(NetworkSubnet(ip_range="10.0.2.0/24", **zone))
    finish(adding)
    finish(lan.delete_subnet(NetworkSubnet(ip_range="10.0.1.0/24")))
    assert [part.ip_range for part in client.networks.get_by_id(lan.id).subnets] == ["10.0.0.0/24"]
    assert client.networks.get_by_name("lan").id == lan.id
    assert lan.update(name="wide", labels={"stack": "other"}).name == "wide"
    assert [found.id for found in client.networks.get_all(label_selector="stack=other")] == [lan.id]
    assert [action.command for action in lan.get_actions()] == ["add_subnet", "delete_subnet"]
    action = client.networks.actions.get_all()[0]
    assert client.networks.actions.get_by_id(action.id).command == action.command
    one = client.request("GET", f"/networks/{lan.id}/actions/{action.id}")["action"]
    assert BoundAction(client.actions, one).command == action.command

    group = client.placement_groups.create(name="apart", type="spread", labels={"stack": "test"}).placement_group
    assert (group.type, group.servers) == ("spread", [])
    with raises(APIException, code="uniqueness_error"):
        client.placement_groups.create(name="apart", type="spread")
    assert client.placement_groups.get_by_name("apart").id == group.id
    assert group.update(name="far", labels={"stack": "other"}).labels == {"stack": "other"}
    assert [found.name for found in client.placement_groups.get_all(label_selector="stack=other")] == ["far"]

    made = create("inside", networks=[lan], placement_group=group)
    for action in [made.action, *made.next_actions]:
        finish(action)
    inside = client.servers.get_by_id(made.server.id)
    assert [(net.network.id, net.ip) for net in inside.private_net] == [(lan.id, "10.0.0.2")]
    assert inside.placement_group.id == group.id
    assert client.networks.get_by_id(lan.id).servers[0].id == inside.id
    assert client.placement_groups.get_by_id(group.id).servers == [inside.id]
    with raises(APIException, code="service_error"):
        lan.delete_subnet(NetworkSubnet(ip_range="10.0.0.0/24"))

    with raises(APIException, code="server_not_stopped"):
        server.add_to_placement_group(group)
    finish(server.power_off())
    finish(server.add_to_placement_group(group))
    finish(server.attach_to_network(lan))
    with raises(APIException, code="server_already_attached"):
        server.attach_to_network(lan)
    finish(server.change_type(ServerType(name="cx43"), upgrade_disk=False))
    advance("1m")
    server.reload()
    assert (server.server_type.name, server.status) == ("cx43", "running")
    assert server.placement_group.id == group.id and server.private_net[0].network.id == lan.id
    finish(server.detach_from_network(lan))
    finish(server.remove_from_placement_group())
    server.reload()
    assert server.placement_group is None and server.private_net == []
    for number in range(9):
        create(f"full-{number}", placement_group=group)
    with raises(APIException, code="placement_group_member_limit_reached"):
        create("eleventh", placement_group=group)
    for found in client.servers.get_all():
        if found.name.startswith("full-"):
            finish(found.delete())

    finish(lan.change_protection(delete=True))
    with raises(APIException, code="protected"):
        lan.delete()
    finish(lan.change_protection(delete=False))
    assert lan.delete() and group.delete()
    inside.reload()
    assert inside.private_net == [] and inside.placement_group is None, "both are taken from under their servers"
    assert client.networks.get_all() == [] and client.placement_groups.get_all() == []
    finish(inside.delete())


def addresses():
    every = client.primary_ips.get_all()
    assert {found.type for found in every} == {"ipv4", "ipv6"}
    one = client.primary_ips.get_by_id(every[0].id)
    assert one.ip == every[0].ip and one.assignee_type == "server" and one.auto_delete


def pages():
    for number in range(5):
        create(f"many-{number}", labels={"many": "yes"})
    first = client.servers.get_list(label_selector="many=yes", per_page=2)
    page = first.meta.pagination
    assert (page.page, page.next_page, page.last_page, page.total_entries) == (1, 2, 3, 5)
    last = client.servers.get_list(label_selector="many=yes", per_page=2, page=3)
    assert len(last.servers) == 1 and last.meta.pagination.next_page is None
    everyone = client.servers.get_all(label_selector="many=yes")
    assert len({server.id for server in everyone}) == 5
    for server in everyone:
        finish(server.delete())


def refusals(server):
    with raises(APIException, code="uniqueness_error"):
        create("one")
    with raises(APIException, code="invalid_input"):
        create("under_score")
    with raises(APIException, code="invalid_input"):
        create("big", user_data="x" * (32 * 1024 + 1))
    with raises(APIException, code="not_found"):
        client.servers.get_by_id(4711)
    with raises(APIException, code="unauthorized"):
        client_of("wrong").servers.get_list()
    for kind, code in [("no-capacity", "resource_unavailable"), ("quota", "resource_limit_exceeded")]:
        fault("/hetzner/v1/servers", kind, method="POST")
        with raises(APIException, code=code):
            create("refused")
    fault("/hetzner/v1/servers", "server-error", status=503)
    with raises(APIException, code="unavailable"):
        client.servers.get_list()
    impatient = client_of()
    impatient._client._retry_max_retries = 0
    fault("/hetzner/v1/servers", "rate-limited")
    with raises(APIException, code="rate_limit_exceeded"):
        impatient.servers.get_list()
    fault("/hetzner/v1/servers", "create-then-fails", method="POST")
    failing = create("failing")
    advance("10s")
    with raises(ActionFailedException):
        failing.action.wait_until_finished()
    finish(failing.server.delete())
    assert server.status == "running"


def farewell(key, firewall):
    for server in client.servers.get_all():
        finish(server.delete())
    assert client.servers.get_all() == [] and client.primary_ips.get_all() == []
    assert firewall.delete()
    assert key.delete()
    assert client.firewalls.get_all() == [] and client.ssh_keys.get_all() == []


def main():
    if CA_FILE:
        # Over TLS it is the connection that is checked.
        assert ADDRESSES["hetzner"].startswith("https://")
        catalogue()
        return
    catalogue()
    key = ssh_keys()
    firewall = firewalls()
    one, two = servers(key, firewall)
    power(one)
    firewall_of(two, firewall)
    networks(two)
    addresses()
    pages()
    refusals(one)
    farewell(key, firewall)


main()
