# Sourced by the scripts of this folder after unpack.sh: sets $python and $server, of this host or of a virtual environment
# in the cache, where moto and boto3 are of the versions of requirements-moto.txt.
#
# Exits 77 where they cannot be had.

requirements="$(cd "$(dirname "$0")/.." && pwd)/requirements-moto.txt"

# Whether that Python has what the requirements name, with the parts that the services need.
has_moto() {
    "$1" - "$requirements" >/dev/null 2>&1 <<'PYTHON'
import re
import sys
from importlib.metadata import version

import boto3, moto.autoscaling.models, moto.ec2.models, moto.ecs.models, moto.s3.models, moto.server, moto.ssm.models

for line in open(sys.argv[1]):
    pin = re.fullmatch(r"(\w+)(?:\[[\w,]+\])?==(\S+)", line.strip())
    assert not pin or version(pin[1]) == pin[2]
PYTHON
}

python=$(command -v python3) || skip "no python3 here"
server=$(command -v moto_server || true)
if [ -z "$server" ] || ! has_moto "$python"; then
    # New requirements, new environment.
    venv="${cache:?unpack.sh comes first}/moto-$(cksum <"$requirements" | tr ' ' '-')"
    if [ ! -e "$venv/.complete" ]; then
        rm -rf "$venv"
        mkdir -p "$cache"
        "$python" -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
        "$venv/bin/pip" -q --retries 1 --timeout 15 install --requirement "$requirements" >&2 ||
            skip "moto cannot be downloaded"
        touch "$venv/.complete"
    fi
    python="$venv/bin/python"
    server="$venv/bin/moto_server"
fi
