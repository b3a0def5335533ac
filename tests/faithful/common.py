"""What both SDK scripts need: the sandbox's addresses, its controls, and the errors that a call must end in."""

import json
import os
from contextlib import contextmanager

import requests

ADDRESSES = json.loads(os.environ["SANDBOX"])
TOKEN = ADDRESSES["token"]
CA_FILE = ADDRESSES.get("ca_file")

if CA_FILE:
    # What requests, and so both SDKs, trust.
    os.environ["REQUESTS_CA_BUNDLE"] = CA_FILE


def control(method, path, body=None):
    reply = requests.request(method, ADDRESSES["control"] + path, json=body, timeout=10)
    assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
    return reply.json() if reply.content else None


def fault(path, kind, method=None, **args):
    rule = {"path": path, "fault": kind, "count": 1, "args": args}
    control("POST", "/faults", rule | ({"method": method} if method else {}))


def advance(length):
    control("POST", "/clock", {"advance": length})


@contextmanager
def raises(error, **facts):
    """The block must end in this error, with these attributes."""
    try:
        yield
    except error as raised:
        for name, wanted in facts.items():
            found = getattr(raised, name)
            assert found == wanted, f"{name} is {found!r}, not {wanted!r}: {raised}"
    else:
        raise AssertionError(f"no {error.__name__} {facts}")
