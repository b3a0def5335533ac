#!/bin/sh
# Helm's own engine, from a package that brings it as a library, in a virtual environment of its own.
# Usage: helm.sh lint|template CHART RELEASE NAMESPACE ; values as JSON on standard input; exits 77 where it cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

here=$(cd "$(dirname "$0")" && pwd)
version=0.2.2
venv="$cache/helm-$version"
if [ ! -e "$venv/.complete" ]; then
    command -v python3 >/dev/null || skip "no python3 here"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
    timeout 300 "$venv/bin/pip" -q --retries 1 --timeout 15 install --only-binary :all: "helm-python-sdk==$version" >&2 ||
        skip "Helm cannot be downloaded"
    touch "$venv/.complete"
fi

PYTHONDONTWRITEBYTECODE=1 exec timeout 120 "$venv/bin/python" "$here/helm.py" "$@"
