#!/bin/sh
# Lints ansible/ by ansible-lint in a virtual environment of its own; exits 77 where that cannot be made.
set -eu
. "$(dirname "$0")/unpack.sh"

version=25.9.2
venv="$cache/ansible-lint-$version"
if [ ! -e "$venv/.complete" ]; then
    command -v python3 >/dev/null || skip "no python3 here"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
    "$venv/bin/pip" -q --retries 1 --timeout 15 install "ansible-lint==$version" >&2 || skip "ansible-lint cannot be downloaded"
    touch "$venv/.complete"
fi

cd "$(dirname "$0")/../../ansible"
# Its helpers are found on the path; its cache belongs to the cache folder.
PATH="$venv/bin:$PATH" ANSIBLE_HOME="$cache/ansible" exec "$venv/bin/ansible-lint" --offline --nocolor site.yml
