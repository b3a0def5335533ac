"""Every operation of the sandbox's GitLab by the official SDK. Ends with 0, or with the assertion that failed.

The SDK has no runner in it: what only gitlab-runner calls goes through the SDK's `http_*` methods.
"""

from common import ADDRESSES, CA_FILE, TOKEN, advance, control, raises
from gitlab import Gitlab, GraphQL
from gitlab.exceptions import (
    GitlabAuthenticationError,
    GitlabCreateError,
    GitlabGetError,
    GitlabHttpError,
    GitlabListError,
    GitlabVerifyError,
)

gl = Gitlab(ADDRESSES["gitlab"], private_token=TOKEN, timeout=10)


def token_and_server():
    gl.auth()
    assert gl.user.username == "root" and gl.user.state == "active"
    assert "api" in gl.personal_access_tokens.get("self").scopes
    version, revision = gl.version()
    assert int(version.split(".")[0]) >= 18 and revision != "unknown"
    assert gl.http_get("/metadata")["version"] == version
    with raises(GitlabAuthenticationError, response_code=401):
        Gitlab(ADDRESSES["gitlab"], private_token="wrong").auth()


def projects():
    project = gl.projects.get("acme/app")
    assert project.path_with_namespace == "acme/app" and project.id
    assert [found.id for found in gl.projects.list(search="acme/app", get_all=True)] == [project.id]
    assert project.id in {found.id for found in gl.groups.get("acme", lazy=True).projects.list(get_all=True)}
    group = gl.groups.get("acme")
    assert group.full_path == "acme" and group.parent_id is None
    with raises(GitlabGetError, response_code=404):
        gl.groups.get("nobody")
    assert {found.path_with_namespace for found in group.projects.list(include_subgroups=True, get_all=True)} >= {"acme/app"}
    assert [branch.name for branch in project.protectedbranches.list(get_all=True)] == ["main"]
    assert project.protectedtags.list(get_all=True) == []
    with raises(GitlabGetError, response_code=404):
        gl.projects.get("acme/nothing")
    return project


def queued_jobs(project):
    control("POST", "/jobs", {"tags": ["linux"], "count": 7, "duration": "5m"})
    page = project.jobs.list(scope=["pending"], pagination="keyset", order_by="id", sort="desc", per_page=3, iterator=True)
    jobs = list(page)
    ids = [job.id for job in jobs]
    assert len(ids) == 7 and ids == sorted(ids, reverse=True), "three pages by their links"
    assert all(job.status == "pending" and job.tag_list == ["linux"] for job in jobs)
    assert project.jobs.list(scope=["running", "success"], get_all=True) == []
    job = project.jobs.get(ids[-1])
    assert job.queued_duration >= 0 and job.runner is None
    assert project.jobs.get(ids[0]).cancel()["status"] == "canceled"
    with raises(GitlabListError, response_code=400):
        project.jobs.list(scope=["sleeping"], get_all=True)
    with raises(GitlabGetError, response_code=404):
        project.jobs.get(4711)


def pending_by_graphql():
    with GraphQL(ADDRESSES["gitlab"], token=TOKEN, ssl_verify=CA_FILE or True) as graphql:
        answer = graphql.execute("{ jobs(statuses: [PENDING], first: 100) { nodes { id tags } pageInfo { hasNextPage endCursor } } }")
        group = graphql.execute(
            """{ group(fullPath: "acme") { maxAccessLevel { integerValue } projects(includeSubgroups: true, first: 100) { count nodes {
                fullPath live: pipelines(status: PENDING, first: 1) { nodes { id } } } } } }"""
        )["group"]
    assert len(answer["jobs"]["nodes"]) == 6, answer
    assert answer["jobs"]["nodes"][0]["id"].startswith("gid://gitlab/Ci::")
    assert group["projects"]["count"] == 2
    assert {node["fullPath"]: len(node["live"]["nodes"]) for node in group["projects"]["nodes"]} == {"acme/app": 1, "acme/lib": 0}


def runner(project):
    made = gl.user.runners.create(
        {"runner_type": "project_type", "project_id": project.id, "tag_list": ["linux"], "run_untagged": False, "description": "one"}
    )
    assert made.token.startswith("glrt-") and made.token_expires_at is None
    with raises(GitlabCreateError, response_code=400):
        gl.user.runners.create({"runner_type": "round_type"})
    one = gl.runners.get(made.id)
    assert (one.description, one.paused, one.runner_type, one.status) == ("one", False, "project_type", "never_contacted")
    assert one.tag_list == ["linux"] and [found["id"] for found in one.projects] == [project.id]
    for listing in (gl.runners, gl.runners_all, project.runners):
        assert made.id in {found.id for found in listing.list(get_all=True, tag_list=["linux"])}
    group = gl.groups.get("acme", lazy=True)
    grouped = gl.user.runners.create({"runner_type": "group_type", "group_id": 1, "tag_list": ["any"]})
    assert grouped.id in {found.id for found in group.runners.list(get_all=True)}
    other = gl.projects.get("acme/lib")
    other.runners.create({"runner_id": made.id})
    assert {found["id"] for found in gl.http_list(f"/runners/{made.id}/projects")} == {project.id, other.id}
    other.runners.delete(made.id)
    assert [found["id"] for found in gl.http_list(f"/runners/{made.id}/projects")] == [project.id]
    gl.runners.delete(grouped.id)
    with raises(GitlabGetError, response_code=404):
        gl.runners.get(grouped.id)
    return made


def run(made):
    gl.runners.verify(token=made.token)
    with raises(GitlabVerifyError, response_code=403):
        gl.runners.verify(token="glrt-wrong")
    asked = {"token": made.token, "system_id": "s_1", "info": {"name": "gitlab-runner", "version": "18.6.0"}}
    job = gl.http_post("/jobs/request", post_data=asked)
    assert job["id"] and job["token"] and job["git_info"]["repo_url"].endswith("acme/app.git")
    runner = gl.runners.get(made.id)
    assert runner.status == "online"
    assert [found.id for found in runner.jobs.list(status="running", get_all=True)] == [job["id"]]
    managers = gl.http_list(f"/runners/{made.id}/managers")
    assert [manager["system_id"] for manager in managers] == ["s_1"]
    update = {"token": job["token"], "state": "running"}
    gl.http_put(f"/jobs/{job['id']}", post_data=update)
    as_job = Gitlab(ADDRESSES["gitlab"], job_token=job["token"], timeout=10)
    reply = as_job.http_request("patch", f"/jobs/{job['id']}/trace", raw=True, post_data=b"hello\n")
    assert reply.status_code == 202 and reply.headers["Job-Status"] == "running"
    gl.http_put(f"/jobs/{job['id']}", post_data=update | {"state": "success"})
    with raises(GitlabHttpError, response_code=403):
        gl.http_put(f"/jobs/{job['id']}", post_data=update)
    done = gl.projects.get("acme/app").jobs.get(job["id"])
    assert done.status == "success" and done.runner["id"] == made.id and done.finished_at >= done.started_at

    runner.paused = True
    runner.save()
    assert gl.runners.get(made.id).paused
    assert made.id in {found.id for found in gl.runners.list(paused=True, get_all=True)}
    assert gl.http_post("/jobs/request", post_data=asked).status_code == 204, "a paused runner gets none"
    advance("3h")
    assert gl.runners.get(made.id).status == "offline"


def leave(made):
    gl.http_delete("/runners/managers", query_data={"token": made.token, "system_id": "s_1"})
    assert gl.http_list(f"/runners/{made.id}/managers") == []
    token = gl.http_post(f"/runners/{made.id}/reset_authentication_token")["token"]
    assert token != made.token
    gl.http_delete("/runners", query_data={"token": token})
    with raises(GitlabGetError, response_code=404):
        gl.runners.get(made.id)
    with raises(GitlabCreateError, response_code=410):
        gl.runners.create({"token": "GR1348941"})


def terraform_state(project):
    at = f"/projects/{project.id}/terraform/state/prod"
    lock = dict.fromkeys(["Operation", "Info", "Who", "Version", "Created", "Path"], "") | {"ID": "a"}
    with raises(GitlabHttpError, response_code=404):
        gl.http_get(at)
    gl.http_post(f"{at}/lock", post_data=lock)
    with raises(GitlabHttpError, response_code=409):
        gl.http_post(f"{at}/lock", post_data=lock | {"ID": "b"})
    with raises(GitlabHttpError, response_code=409):
        gl.http_post(at, query_data={"ID": "b"}, post_data={"version": 4, "serial": 1})
    gl.http_post(at, query_data={"ID": "a"}, post_data={"version": 4, "serial": 1})
    with raises(GitlabHttpError, response_code=422):
        gl.http_post(at, query_data={"ID": "a"}, post_data={"version": 4, "serial": 1})
    assert gl.http_get(at)["serial"] == 1
    assert gl.http_get(f"{at}/versions/1")["serial"] == 1
    gl.http_delete(f"{at}/lock", query_data={"ID": "a"})
    gl.http_delete(at)


def main():
    token_and_server()
    project = projects()
    if CA_FILE:
        # Over TLS it is the connection that is checked.
        assert ADDRESSES["gitlab"].startswith("https://")
        return
    terraform_state(project)
    queued_jobs(project)
    pending_by_graphql()
    made = runner(project)
    run(made)
    leave(made)


main()
