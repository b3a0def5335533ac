#!/usr/bin/env bash
# vs-terraform.sh [SIZES]: runfleet beside Terraform on this machine, as one table (default sizes: 100 1000).
#
# Terraform manages SIZES builtin `terraform_data` resources, which call nobody, in its local backend: its figures are
# the engine alone. runfleet makes as many machines at the sandbox in another process, over HTTP: its figures have
# every request in them. The 1 % is a changed input there, and one machine in a hundred more here.
# A step that takes longer than CAP seconds (default 480) is stopped, and the larger sizes after it are left out.
# Needs `terraform` (without it only runfleet is measured, and that is said) and a release build of runfleet.
set -euo pipefail
sizes=${*:-100 1000}
cap=${CAP:-480}
here=$(cd "$(dirname "$0")" && pwd)
runfleet=${RUNFLEET:-${CARGO_TARGET_DIR:-$HOME/.cache/runfleet-target}/release/runfleet}
[ -x "$runfleet" ] || { echo "vs-terraform: $runfleet is not there: cargo build --release, or set RUNFLEET" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if command -v terraform >/dev/null; then
  : >"$work/cli.tfrc"
  export TF_CLI_CONFIG_FILE=$work/cli.tfrc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
else
  echo "vs-terraform: terraform is not installed: only runfleet is measured" >&2
fi

# timed SIZE STEP COMMAND…: runs it, and writes its seconds, peak memory and bytes written to $work/terraform.
timed() {
  python3 - "$cap" "$work/terraform" "$@" <<'PY'
import json, os, pathlib, signal, subprocess, sys, time
cap, out, size, step, *command = sys.argv[1:]
begun = time.perf_counter()
child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
signal.alarm(int(cap))
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
seconds = time.perf_counter() - begun
written = int(pathlib.Path(f"/proc/{child.pid}/io").read_text().split("\nwrite_bytes: ")[1].split("\n")[0])
_, status, usage = os.wait4(child.pid, 0)
code = os.waitstatus_to_exitcode(status)
stopped = code == -signal.SIGKILL
if code and not stopped:
    sys.exit(f"{' '.join(command)}: exit {code}\n{child.stderr.read().decode()}")
row = {"size": int(size), "step": step, "s": round(seconds, 2), "MiB": round(usage.ru_maxrss / 1024),
       "written_MB": round(written / 1e6, 1), "stopped": stopped}
with open(out, "a") as file:
    file.write(json.dumps(row) + "\n")
print(f"terraform {size}: {step}: " + (f"stopped after {cap} s" if stopped else f"{row['s']} s, {row['MiB']} MiB"), file=sys.stderr)
sys.exit(3 if stopped else 0)
PY
}

terraform_at() {
  local size=$1 folder=$work/tf-$1 repeat
  mkdir "$folder" && cd "$folder"
  cat >main.tf <<'TF'
variable "size" { type = number }
variable "changed" {
  type    = number
  default = 0
}
resource "terraform_data" "runner" {
  count            = var.size
  triggers_replace = ["image-1"]
  input = {
    name   = "runner-${count.index}"
    region = "fsn1"
    type   = "cx33"
    image  = "debian-12"
    rev    = count.index < var.changed ? "v2" : "v1"
  }
}
TF
  export TF_VAR_size=$size
  terraform init >/dev/null
  timed "$size" "first plan" terraform plan -out=first &&
    timed "$size" apply terraform apply first || return 0
  cp terraform.tfstate kept && stat -c %s kept >"$work/state-$size"
  for repeat in 1 2 3; do
    timed "$size" "no-op plan" terraform plan || return 0
    [ "$size" -gt 1000 ] && break
  done
  timed "$size" "plan of 1 %" terraform plan -var "changed=$((size / 100))" -out=second || return 0
  timed "$size" "apply of 1 %" terraform apply second || return 0
  timed "$size" destroy terraform destroy -auto-approve || return 0
}

if command -v terraform >/dev/null; then
  for size in $sizes; do
    (terraform_at "$size")
    if grep -q '"stopped": true' "$work/terraform"; then break; fi
  done
fi
"$here/end_to_end.py" --runfleet "$runfleet" --only fleets --sizes "$(tr ' ' ',' <<<"$sizes")" --out "$work/runfleet" >&2

python3 - "$work" $sizes <<'PY'
import json, pathlib, statistics, sys
work, sizes = pathlib.Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]
theirs = {}
if (work / "terraform").exists():
    for line in (work / "terraform").read_text().splitlines():
        row = json.loads(line)
        theirs.setdefault((row["size"], row["step"]), []).append(row)
ours = {row["size"]: row for row in json.loads((work / "runfleet").read_text())}
steps = [("first plan", "first plan"), ("apply", "apply"), ("no-op plan", "no-op plan"),
         ("plan of 1 %", "plan of 1 % more"), ("apply of 1 %", "apply of 1 % more"), ("destroy", "destroy")]
heads = [f"{who}, {size:,}" for who in ("Terraform", "runfleet") for size in sizes]
print("| | " + " | ".join(heads) + " |")
print("|---" * (len(heads) + 1) + "|")
def cell(rows):
    if not rows:
        return ""
    if rows[0].get("stopped"):
        return f"stopped after {round(rows[0]['s'])} s"
    seconds = statistics.median(row["s"] for row in rows)
    return f"{seconds:.2f} s, {round(statistics.median(row['MiB'] for row in rows))} MiB"
for their, our in steps:
    cells = [cell(theirs.get((size, their))) for size in sizes] + [cell([ours[size][our]]) for size in sizes]
    print(f"| {our} | " + " | ".join(cells) + " |")
wrote = [theirs.get((size, "apply")) for size in sizes]
cells = [f"{rows[0]['written_MB']} MB" if rows and not rows[0]["stopped"] else "" for rows in wrote]
print("| written by apply | " + " | ".join(cells + [f"{ours[size]['apply']['written_MB']} MB" for size in sizes]) + " |")
state = [work / f"state-{size}" for size in sizes]
cells = [f"{int(file.read_text()) / 1e6:.2f} MB" if file.exists() else "" for file in state]
print("| state file | " + " | ".join(cells + [f"{ours[size]['state_MB']} MB" for size in sizes]) + " |")
PY
