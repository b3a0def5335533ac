#!/usr/bin/env python3
"""Times the whole program against a sandbox in another process, and prints what docs/performance.md has.

    benches/end_to_end.py [--runfleet PATH] [--sizes 1000,10000,50000] [--only NAME] [--out FILE]

`--out` writes what was measured of the fleets as JSON, which benches/vs-terraform.sh puts beside Terraform's.

The program is that of a release build, which `cargo bench` makes too.

Needs nothing but Python. Nothing is asserted: a shared machine may be slow, and whoever reads the numbers judges.
Peak memory is the kernel's (`ru_maxrss`, as `/usr/bin/time -v` prints it), bytes are those of /proc/PID/io.
"""

import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile, time
import datetime as dt

STACK = """[stack]
name = "bench"
state = "file"
[providers.hetzner]
token = {{ env = "TOKEN" }}
endpoint = "{hetzner}"
concurrency = 50
requests_per_hour = 1000000
[ci.gitlab]
kind = "gitlab"
url = "{gitlab}"
token = {{ env = "TOKEN" }}
projects = ["acme/app"]
settle = "1s"
[pools.linux]
ci = "gitlab"
tags = ["docker", "linux"]
min = {size}
max = {size}
[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1", "fsn1"]
image = "debian-12"
"""


class Ran:
    """A process that has ended: its output, its time, its memory, and what it wrote."""

    def __init__(self, command, environment):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            begun = time.perf_counter()
            child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self.seconds = time.perf_counter() - begun
            io = pathlib.Path(f"/proc/{child.pid}/io").read_text()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            for file in out, err:
                file.seek(0)
            self.stdout, self.stderr = out.read().decode(), err.read().decode()
        self.code = child.returncode
        self.io = {key: int(value) for key, value in (line.split(": ") for line in io.splitlines())}
        self.mebibytes = usage.ru_maxrss / 1024
        self.cpu = usage.ru_utime + usage.ru_stime


class Project:
    """A sandbox, and a folder with a stack that lives in it."""

    def __init__(self, runfleet, settings=()):
        self.runfleet = runfleet
        command = [runfleet, "sandbox", "--listen", "127.0.0.1:0"]
        for setting in ("rate_limit=off", "boot=0s", "action_time=0s", *settings):
            command += ["--set", setting]
        self.sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.at = json.loads(self.sandbox.stdout.readline())
        self.folder = tempfile.TemporaryDirectory()
        self.stacks = pathlib.Path(self.folder.name, "stacks")
        self.stacks.mkdir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sandbox.terminate()
        self.sandbox.wait()
        self.folder.cleanup()

    def size(self, size):
        (self.stacks / "bench.toml").write_text(STACK.format(size=size, **self.at))

    def run(self, *arguments):
        environment = {"PATH": os.environ["PATH"], "TOKEN": self.at["token"]}
        ran = Ran([self.runfleet, "-C", self.folder.name, *arguments], environment)
        if ran.code != 0:
            sys.exit(f"{arguments}: exit {ran.code}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")
        return ran

    def on_disk(self):
        return {path.name: path.stat().st_size for path in self.stacks.iterdir() if path.suffix != ".toml"}


def median(runs, of):
    return statistics.median(of(run) for run in runs)


def say(name, **numbers):
    print(f"{name:<34}" + "  ".join(f"{key} {value}" for key, value in numbers.items()), flush=True)


def start_up(runfleet):
    version = [Ran([runfleet, "--version"], {}) for _ in range(21)]
    say("--version", ms=f"{median(version, lambda run: run.seconds) * 1000:.1f}")
    with Project(runfleet) as project:
        project.size(0)
        plans = [project.run("plan") for _ in range(21)]
        say(
            "plan of an empty stack",
            ms=f"{median(plans, lambda run: run.seconds) * 1000:.1f}",
            MiB=f"{median(plans, lambda run: run.mebibytes):.0f}",
        )


def fleets(runfleet, sizes):
    """Nothing to N machines, nothing to do, one in a hundred more, and all gone; one row of numbers for each size."""
    rows = []
    for size in sizes:
        with Project(runfleet) as project:
            row = {"size": size}
            rows.append(row)

            def note(step, runs, row=row):
                row[step] = {
                    "s": round(median(runs, lambda run: run.seconds), 2),
                    "cpu_s": round(median(runs, lambda run: run.cpu), 2),
                    "MiB": round(median(runs, lambda run: run.mebibytes)),
                    "written_MB": round(median(runs, lambda run: run.io["write_bytes"]) / 1e6, 1),
                }
                say(f"{step} of {size}", **row[step])

            project.size(size)
            note("first plan", [project.run("plan")])
            note("apply", [project.run("scale")])
            row["state_MB"] = round(project.on_disk()["bench.json"] / 1e6, 1)
            plans = [project.run("plan") for _ in range(5)]
            if "No changes" not in plans[-1].stdout:
                sys.exit(f"the plan is not empty:\n{plans[-1].stdout[-2000:]}")
            note("no-op plan", plans)
            project.size(size + size // 100)
            note("plan of 1 % more", [project.run("plan") for _ in range(3)])
            note("apply of 1 % more", [project.run("scale")])
            note("destroy", [project.run("destroy", "--auto-approve")])
            left = project.run("status", "--json")
            if any(pool["runners"] for pool in json.loads(left.stdout)["pools"]):
                sys.exit("destroy left machines behind")
    return rows


def burst(runfleet, times=5):
    lengths = []
    for _ in range(times):
        with Project(runfleet, ["latency=100ms"]) as project:
            project.size(1000)
            made = project.run("scale", "--json")
        lines = [json.loads(line) for line in made.stdout.splitlines()]
        at = {
            kind: [dt.datetime.fromisoformat(line["@timestamp"]) for line in lines if line["type"] == kind]
            for kind in ("apply_start", "apply_complete")
        }
        if len(at["apply_complete"]) != 1000:
            sys.exit(f"{len(at['apply_complete'])} of 1000 were made")
        lengths.append((max(at["apply_complete"]) - min(at["apply_start"])).total_seconds())
    length = statistics.median(lengths)
    say("1000 creates, 100 ms, 50 at once", s=f"{length:.2f}", of_ideal=f"{length / 2:.2f}", cpu_s=f"{made.cpu:.2f}",
        MiB=f"{made.mebibytes:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    parser.add_argument("--runfleet", default=f"{target}/release/runfleet")
    parser.add_argument("--sizes", default="1000,10000,50000")
    parser.add_argument("--out", type=pathlib.Path, help="also write the fleets' numbers as JSON")
    parser.add_argument("--only", choices=["start", "fleets", "burst"])
    given = parser.parse_args()
    runfleet = str(pathlib.Path(given.runfleet).resolve())
    if given.only in (None, "start"):
        start_up(runfleet)
    if given.only in (None, "burst"):
        burst(runfleet)
    if given.only in (None, "fleets"):
        rows = fleets(runfleet, [int(size) for size in given.sizes.split(",")])
        if given.out:
            given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
