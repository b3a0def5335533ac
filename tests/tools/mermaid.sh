#!/bin/sh
# Reads a Mermaid diagram from standard input with Mermaid's own parser, and prints its type.
# Exits 1 where it is no diagram, 77 where the parser cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

here=$(cd "$(dirname "$0")" && pwd)
folder="$cache/mermaid-$(cksum <"$here/mermaid/package-lock.json" | tr ' ' '-')"
if [ ! -e "$folder/.complete" ]; then
    for tool in node npm timeout; do
        command -v "$tool" >/dev/null || skip "no $tool here"
    done
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here/mermaid/package.json" "$here/mermaid/package-lock.json" "$folder"
    timeout 300 npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 >&2 ||
        skip "Mermaid cannot be downloaded"
    touch "$folder/.complete"
fi
# Beside its modules, since that is where it looks for them.
cp "$here/mermaid/parse.mjs" "$folder/parse.mjs"
exec timeout 60 node "$folder/parse.mjs"
