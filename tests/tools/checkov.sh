#!/bin/sh
# Runs checkov, in a virtual environment of its own, on a file of Terraform's plan JSON, and prints what it found as JSON.
# Usage: checkov.sh ARGUMENT... ; exits 77 where that environment cannot be made.
set -eu
. "$(dirname "$0")/unpack.sh"

version=3.3.30
venv="$cache/checkov-$version"
if [ ! -e "$venv/.complete" ]; then
    command -v python3 >/dev/null || skip "no python3 here"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
    timeout 400 "$venv/bin/pip" -q --retries 1 --timeout 15 install "checkov==$version" >&2 ||
        skip "checkov cannot be downloaded"
    touch "$venv/.complete"
fi

# It asks nobody: no platform, no download of guidelines, no look for a newer version.
BC_SKIP_MAPPING=TRUE CHECKOV_RUN_SCA_PACKAGE_SCAN_V2=false LOG_LEVEL=ERROR PYTHONDONTWRITEBYTECODE=1 \
    exec timeout 120 "$venv/bin/checkov" "$@"
