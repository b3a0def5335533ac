#!/bin/sh
# Serves this host's metrics by Debian's node_exporter at ADDRESS (127.0.0.1:PORT, [::1]:PORT) until standard input ends.
# Usage: node_exporter.sh ADDRESS ; exits 77 where that package cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

unpack node-exporter prometheus-node-exporter
"$unpacked/usr/bin/prometheus-node-exporter" --web.listen-address="$1" --log.level=error >&2 &
exporter=$!
trap 'kill "$exporter" 2>/dev/null' EXIT
trap 'exit 0' INT TERM
cat >/dev/null
