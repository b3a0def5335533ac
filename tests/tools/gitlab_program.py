#!/usr/bin/env python3
"""GitLab as a CI of one's own: gitlab_program.py ROOT PROJECT, the request on the input, the answer on the output."""

import email.utils
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

API = sys.argv[1] + "/api/v4"
PROJECT = "/projects/" + urllib.parse.quote(sys.argv[2], safe="")
STATES = {"pending": "queued", "running": "running"}
PAGES = 4
now = None


def call(method, path, body=None):
    """The answer's body; ends the program where nothing was answered that could be of use."""
    global now
    headers = {"PRIVATE-TOKEN": os.environ["RUNFLEET_TOKEN"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        now = email.utils.parsedate_to_datetime(answer.headers["Date"]).isoformat()
        text = answer.read()
        more = answer.headers.get("X-Next-Page") or 'rel="next"' in (answer.headers.get("Link") or "")
        return (json.loads(text) if text else None), bool(more)


def pages(path):
    """All entries, and whether these are all."""
    found = []
    for page in range(1, PAGES + 1):
        entries, more = call("GET", f"{path}{'&' if '?' in path else '?'}per_page=100&page={page}")
        found += entries
        if not more:
            return found, True
    return found, False


def demand(request):
    try:
        listed, whole = pages(f"{PROJECT}/runners?type=project_type")
        details = [call("GET", f"/runners/{runner['id']}")[0] for runner in listed]
        why = None if whole else "more pages of runners than are read"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 429):
            raise
        details, why = [], f"runners: {error}"
    jobs, whole = pages(f"{PROJECT}/jobs?scope[]=pending&scope[]=running")
    ended, _ = call("GET", f"{PROJECT}/jobs?scope[]=success&scope[]=failed&scope[]=canceled&per_page=100")
    since = request.get("cursor", "")
    ended = [job for job in ended if (job["finished_at"] or "") > since]
    cursor = max([job["finished_at"] or "" for job in ended], default=since)
    answer = {
        "format_version": 1,
        "complete": why is None and whole,
        "why": why or "more pages of jobs than are read",
        "now": now,
        "jobs": [
            {
                "id": job["id"],
                "name": job["name"],
                "project": sys.argv[2],
                "tags": job["tag_list"],
                "state": STATES.get(job["status"], "finished"),
                "queued_at": job["created_at"],
                "started_at": job["started_at"],
                "finished_at": job["finished_at"],
                "runner": (job["runner"] or {}).get("id"),
            }
            for job in jobs + ended
        ],
        "runners": [
            {
                "id": runner["id"],
                "name": runner["description"],
                "online": runner["online"] is True,
                "paused": runner["paused"],
                "last_contact": runner["contacted_at"],
            }
            for runner in details
        ],
    }
    if cursor:
        answer["cursor"] = cursor
    return answer


def register(request):
    project, _ = call("GET", PROJECT)
    body = {
        "runner_type": "project_type",
        "project_id": project["id"],
        "description": request["description"],
        "tag_list": request["pool"]["tags"],
        "run_untagged": request["pool"]["run_untagged"],
    }
    made, _ = call("POST", "/user/runners", body)
    return {"id": made["id"], "token": made["token"]}


def change(request):
    """Pauses, resumes or removes."""
    path = f"/runners/{request['runner']}"
    try:
        if request["request"] == "forget":
            call("DELETE", path)
        else:
            call("PUT", path, {"paused": request["request"] == "cordon"})
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        if request["request"] == "uncordon":
            sys.exit(65)
        call("GET", "/version")
    return {"now": now}


def main():
    request = json.load(sys.stdin)
    try:
        act = {"demand": demand, "register": register}.get(request["request"], change)
        print(json.dumps(act(request)))
    except urllib.error.HTTPError as error:
        print(error, file=sys.stderr)
        sys.exit({401: 77, 403: 77, 429: 75}.get(error.code, 1))


main()
