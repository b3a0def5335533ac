"""Every operation of the sandbox's DigitalOcean by the official SDK. Ends with 0, or with the assertion that failed."""

import os

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy
from common import ADDRESSES, CA_FILE, TOKEN, advance, control, fault, raises
from pydo import Client

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops"
# Whether what stands between holds the requests to the description.
ONLY_VALID = bool(os.environ.get("ONLY_VALID"))
ROOT = ADDRESSES["digitalocean"].removesuffix("/v2")


def client_of(token=TOKEN):
    # The SDK's own way to say who it is sends a token over TLS alone.
    bare = HeadersPolicy({"Authorization": f"Bearer {token}"})
    trust = {"connection_verify": CA_FILE} if CA_FILE else {"authentication_policy": bare}
    return Client(token, endpoint=ROOT, retry_total=0, timeout=10, **trust)


client = client_of()


def wanted(**more):
    return {"region": "nyc3", "size": "s-2vcpu-4gb", "image": "debian-12-x64"} | more


def create(**more):
    """A droplet, once its action has ended."""
    made = client.droplets.create(body=wanted(**more))
    action = made["links"]["actions"][0]["id"]
    assert client.actions.get(action)["action"]["status"] == "in-progress"
    advance("10s")
    assert client.actions.get(action)["action"]["status"] == "completed"
    return made["droplet"]["id"]


def is_missing(answer):
    # The SDK gives the body of a 404 back, as it is described.
    return answer["id"] == "not_found"


def everything(method, key, **query):
    """All entries of a list, page by page as the API links them."""
    found, page = [], 1
    while True:
        told = method(per_page=2, page=page, **query)
        found += told[key]
        if "next" not in told["links"].get("pages", {}):
            assert told["meta"]["total"] == len(found)
            return found
        assert f"page={page + 1}&per_page=2" in told["links"]["pages"]["next"]
        page += 1


def catalogue():
    account = client.account.get()["account"]
    assert account["status"] == "active" and account["droplet_limit"] > 0
    sizes = everything(client.sizes.list, "sizes")
    size = next(size for size in sizes if size["slug"] == "s-2vcpu-4gb")
    assert (size["vcpus"], size["memory"], size["price_monthly"], size["available"]) == (2, 4096, 24, True)
    assert 0.03 < size["price_hourly"] < 0.04 and "nyc3" in size["regions"]
    regions = everything(client.regions.list, "regions")
    assert "s-2vcpu-4gb" in next(region for region in regions if region["slug"] == "nyc3")["sizes"]
    images = everything(client.images.list, "images", type="distribution")
    debian = next(image for image in images if image["slug"] == "debian-12-x64")
    assert client.images.get("debian-12-x64")["image"] == client.images.get(debian["id"])["image"] == debian
    assert client.images.list(private=True)["images"] == []
    assert is_missing(client.images.get("windows-3-1"))


def ssh_keys():
    key = client.ssh_keys.create(body={"name": "ops", "public_key": KEY})["ssh_key"]
    assert key["fingerprint"].count(":") == 15
    with raises(HttpResponseError, status_code=422):
        client.ssh_keys.create(body={"name": "again", "public_key": KEY})
    assert client.ssh_keys.get(key["id"])["ssh_key"] == client.ssh_keys.get(key["fingerprint"])["ssh_key"] == key
    assert client.ssh_keys.update(key["id"], body={"name": "new"})["ssh_key"]["name"] == "new"
    assert [known["id"] for known in client.ssh_keys.list()["ssh_keys"]] == [key["id"]]
    return key


def droplets(key):
    data = "#cloud-config\nruncmd: [true]\n"
    tags = ["runfleet-stack:prod", "web"]
    one = create(name="one", ssh_keys=[key["id"]], tags=tags, user_data=data, monitoring=True, ipv6=True, backups=False)
    read = client.droplets.get(one)["droplet"]
    assert (read["status"], sorted(read["tags"]), read["locked"]) == ("active", tags, False)
    assert {net["type"] for net in read["networks"]["v4"]} == {"public", "private"}
    assert client.vpcs.get(read["vpc_uuid"])["vpc"]["default"]
    many = client.droplets.create(body=wanted(names=["two", "three"], tags=["web"], ssh_keys=[key["fingerprint"]]))
    assert [droplet["name"] for droplet in many["droplets"]] == ["two", "three"]
    assert len(many["links"]["actions"]) == 2
    advance("10s")
    assert len(everything(client.droplets.list, "droplets", tag_name="web")) == 3
    assert [droplet["id"] for droplet in client.droplets.list(name="one")["droplets"]] == [one]
    with raises(HttpResponseError, status_code=422):
        client.droplets.create(body=wanted(name="four", size="huge"))
    assert is_missing(client.droplets.get(1))
    assert is_missing(client.droplets.destroy(1))
    return one


def act(droplet, **body):
    action = client.droplet_actions.post(droplet, body=body)["action"]
    assert action["status"] == "in-progress"
    with raises(HttpResponseError, status_code=422):
        client.droplet_actions.post(droplet, body=body)
    advance("2m")
    told = client.droplet_actions.get(droplet, action["id"])["action"]
    assert (told["status"], told["type"], told["resource_id"]) == ("completed", body["type"], droplet)
    return client.droplets.get(droplet)["droplet"]


def actions(droplet):
    assert act(droplet, type="shutdown")["status"] == "off"
    assert act(droplet, type="power_on")["status"] == "active"
    assert act(droplet, type="reboot")["status"] == "active"
    assert act(droplet, type="power_cycle")["status"] == "active"
    assert act(droplet, type="power_off")["status"] == "off"
    assert act(droplet, type="rename", name="uno")["name"] == "uno"
    assert len(act(droplet, type="snapshot", name="runner-1")["snapshot_ids"]) == 1
    all_of_it = everything(lambda **query: client.droplet_actions.list(droplet, **query), "actions")
    assert all_of_it[-1]["type"] == "create" and len(all_of_it) == 8
    assert client.actions.list()["meta"]["total"] >= 8
    done = client.droplet_actions.post_by_tag(body={"type": "power_on"}, tag_name="web")["actions"]
    assert len(done) == 3
    advance("10s")


def snapshots(droplet):
    (snapshot,) = client.snapshots.list(resource_type="droplet")["snapshots"]
    assert client.snapshots.get(snapshot["id"])["snapshot"] == snapshot
    assert snapshot["resource_id"] == str(droplet)
    image = client.images.get(int(snapshot["id"]))["image"]
    assert (image["type"], image["public"], image["slug"]) == ("snapshot", False, None)
    renamed = client.images.update(image["id"], body={"name": "runner-2", "description": "for runners"})
    assert renamed["image"]["name"] == "runner-2"
    resources = [{"resource_id": str(image["id"]), "resource_type": "image"}]
    client.tags.create(body={"name": "image:runner"})
    client.tags.assign_resources("image:runner", body={"resources": resources})
    assert [found["id"] for found in client.images.list(tag_name="image:runner")["images"]] == [image["id"]]
    assert client.snapshots.delete(snapshot["id"]) is None
    assert is_missing(client.snapshots.get(snapshot["id"]))
    act(droplet, type="snapshot", name="runner-3")
    (other,) = client.images.list(private=True)["images"]
    client.images.delete(other["id"])
    assert is_missing(client.images.get(other["id"]))


def tags(droplet):
    assert client.tags.create(body={"name": "extra"})["tag"]["resources"]["count"] == 0
    assert client.tags.create(body={"name": "extra"})["tag"]["name"] == "extra"
    if not ONLY_VALID:
        # The description has a body of its own for what is wrong with a name, and the SDK gives it back.
        assert "invalid characters" in client.tags.create(body={"name": "a b"})["error"]
    body = {"resources": [{"resource_id": str(droplet), "resource_type": "droplet"}]}
    assert client.tags.assign_resources("extra", body=body) is None
    told = client.tags.get("extra")["tag"]["resources"]
    assert told["droplets"]["count"] == 1 and told["last_tagged_uri"].endswith(f"/droplets/{droplet}")
    assert "extra" in client.droplets.get(droplet)["droplet"]["tags"]
    client.tags.unassign_resources("extra", body=body)
    assert client.tags.get("extra")["tag"]["resources"]["count"] == 0
    client.tags.assign_resources("extra", body=body)
    client.tags.delete("extra")
    assert is_missing(client.tags.get("extra"))
    assert "extra" not in client.droplets.get(droplet)["droplet"]["tags"]
    assert "web" in {tag["name"] for tag in everything(client.tags.list, "tags")}


def firewalls(droplet):
    ssh = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}}
    out = {"protocol": "udp", "ports": "all", "destinations": {"addresses": ["0.0.0.0/0"]}}
    body = {"name": "prod.default", "inbound_rules": [ssh], "outbound_rules": [out], "tags": ["web"], "droplet_ids": [droplet]}
    wall = client.firewalls.create(body=body)["firewall"]
    assert (wall["status"], wall["pending_changes"][0]["droplet_id"]) == ("waiting", droplet)
    advance("10s")
    wall = client.firewalls.get(wall["id"])["firewall"]
    assert (wall["status"], wall["outbound_rules"][0]["ports"], wall["tags"]) == ("succeeded", "0", ["web"])
    with raises(HttpResponseError, status_code=409):
        client.firewalls.create(body=body)
    assert [found["id"] for found in client.droplets.list_firewalls(droplet)["firewalls"]] == [wall["id"]]
    client.firewalls.delete_droplets(wall["id"], body={"droplet_ids": [droplet]})
    client.firewalls.delete_tags(wall["id"], body={"tags": ["web"]})
    assert client.droplets.list_firewalls(droplet)["firewalls"] == []
    client.firewalls.assign_droplets(wall["id"], body={"droplet_ids": [droplet]})
    client.firewalls.add_tags(wall["id"], body={"tags": ["web"]})
    icmp = {"protocol": "icmp", "ports": "0", "sources": {"tags": ["web"]}}
    client.firewalls.add_rules(wall["id"], body={"inbound_rules": [icmp]})
    assert client.firewalls.get(wall["id"])["firewall"]["inbound_rules"] == [ssh, icmp]
    client.firewalls.delete_rules(wall["id"], body={"inbound_rules": [icmp]})
    renamed = client.firewalls.update(wall["id"], body={"name": "prod.other", "inbound_rules": [ssh]})["firewall"]
    assert (renamed["name"], renamed["tags"], renamed["outbound_rules"]) == ("prod.other", [], [])
    assert len(client.firewalls.list()["firewalls"]) == 1
    client.firewalls.delete(wall["id"])
    assert is_missing(client.firewalls.get(wall["id"]))


def vpcs():
    body = {"name": "prod-lan", "description": "runners", "region": "fra1", "ip_range": "10.8.0.0/24"}
    lan = client.vpcs.create(body=body)["vpc"]
    assert lan["urn"] == f"do:vpc:{lan['id']}" and not lan["default"]
    with raises(HttpResponseError, status_code=422):
        client.vpcs.create(body=body | {"name": "other"})
    inside = create(name="inside", region="fra1", vpc_uuid=lan["id"])
    private = [net for net in client.droplets.get(inside)["droplet"]["networks"]["v4"] if net["type"] == "private"]
    assert private[0]["ip_address"].startswith("10.8.0.")
    assert client.vpcs.list_members(lan["id"])["members"][0]["urn"] == f"do:droplet:{inside}"
    with raises(HttpResponseError, status_code=403):
        client.vpcs.delete(lan["id"])
    assert client.vpcs.patch(lan["id"], body={"description": "d"})["vpc"]["name"] == "prod-lan"
    assert client.vpcs.update(lan["id"], body={"name": "prod-net"})["vpc"]["description"] == ""
    assert {"prod-net", "default-nyc3"} <= {vpc["name"] for vpc in everything(client.vpcs.list, "vpcs")}
    client.droplets.destroy(inside)
    client.vpcs.delete(lan["id"])
    assert is_missing(client.vpcs.get(lan["id"]))


def troubles():
    with raises(ClientAuthenticationError, status_code=401):
        client_of("another token").account.get()
    fault("/droplets", "no-capacity")
    with raises(HttpResponseError, status_code=422):
        client.droplets.create(body=wanted(name="none"))
    fault("/droplets", "rate-limited", retry_after=7)
    with raises(HttpResponseError, status_code=429):
        client.droplets.list()
    fault("/droplets", "server-error", status=500)
    with raises(HttpResponseError, status_code=500):
        client.droplets.list()
    # Accepted, and gone with its action.
    fault("/droplets", "create-then-fails")
    made = client.droplets.create(body=wanted(name="doomed"))
    advance("10s")
    assert client.actions.get(made["links"]["actions"][0]["id"])["action"]["status"] == "errored"
    assert is_missing(client.droplets.get(made["droplet"]["id"]))


def the_end(droplet, key):
    assert client.droplets.destroy(droplet) is None
    assert client.droplets.destroy_by_tag(tag_name="web") is None
    assert client.droplets.list()["droplets"] == []
    client.ssh_keys.delete(key["id"])
    assert is_missing(client.ssh_keys.get(key["id"]))
    assert control("GET", "/world")["servers"] == []


catalogue()
key = ssh_keys()
droplet = droplets(key)
actions(droplet)
snapshots(droplet)
tags(droplet)
firewalls(droplet)
vpcs()
troubles()
the_end(droplet, key)
