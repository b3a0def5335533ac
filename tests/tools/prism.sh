#!/bin/sh
# Runs Prism as a validating proxy on a free port until its standard input ends, so that it never outlives a test.
# Usage: prism.sh DESCRIPTION UPSTREAM ; without arguments only installs; exits 77 where Prism cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

here=$(cd "$(dirname "$0")" && pwd)
folder="$cache/prism-$(cksum <"$here/prism/package-lock.json" | tr ' ' '-')"
if [ ! -e "$folder/.complete" ]; then
    for tool in node npm timeout; do
        command -v "$tool" >/dev/null || skip "no $tool here"
    done
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here/prism/package.json" "$here/prism/package-lock.json" "$folder"
    timeout 300 npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 >&2 ||
        skip "Prism cannot be downloaded"
    touch "$folder/.complete"
fi
[ $# -eq 2 ] || exit 0

# No test takes as long.
timeout 300 node "$folder/node_modules/@stoplight/prism-cli/dist/index.js" proxy "$1" "$2" --port 0 &
proxy=$!
trap 'kill "$proxy" 2>/dev/null; wait "$proxy" 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM
# Its standard output is the proxy's alone: where the proxy dies, the reader sees the end of it.
exec >&-
cat >/dev/null
