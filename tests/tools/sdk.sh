#!/bin/sh
# Runs a Python script of tests/faithful with the official SDKs, in a virtual environment of their own.
# Usage: sdk.sh SCRIPT ; exits 77 where that environment cannot be made.
set -eu
. "$(dirname "$0")/unpack.sh"

here=$(cd "$(dirname "$0")/.." && pwd)
# New requirements, new environment.
venv="$cache/sdk-$(cksum <"$here/requirements.txt" | tr ' ' '-')"
if [ ! -e "$venv/.complete" ]; then
    command -v python3 >/dev/null || skip "no python3 here"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
    "$venv/bin/pip" -q --retries 1 --timeout 15 install --requirement "$here/requirements.txt" >&2 ||
        skip "the SDKs cannot be downloaded"
    touch "$venv/.complete"
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/faithful/$1"
