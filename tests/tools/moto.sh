#!/bin/sh
# Serves S3 on 127.0.0.1 until standard input ends. Usage: moto.sh PORT ; exits 77 where moto cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^moto.*==//p' "$here/requirements-moto.txt")
server=moto_server
installed=$(python3 -c 'import moto; print(moto.__version__)' 2>/dev/null || true)
if [ "$installed" != "$version" ] || ! command -v moto_server >/dev/null; then
    venv="$cache/moto-$version"
    if [ ! -e "$venv/.complete" ]; then
        command -v python3 >/dev/null || skip "no python3 here"
        rm -rf "$venv"
        mkdir -p "$cache"
        python3 -m venv "$venv" >&2 || skip "python3 makes no virtual environment here"
        "$venv/bin/pip" -q --retries 1 --timeout 15 install --requirement "$here/requirements-moto.txt" >&2 ||
            skip "moto cannot be downloaded"
        touch "$venv/.complete"
    fi
    server="$venv/bin/moto_server"
fi

"$server" -H 127.0.0.1 -p "$1" >&2 &
moto=$!
trap 'kill "$moto" 2>/dev/null' EXIT
trap 'exit 0' INT TERM
cat >/dev/null
