#!/bin/sh
# Serves Prometheus, from Debian's package, on 127.0.0.1 until standard input ends; it scrapes TARGET (HOST:PORT) every second.
# Usage: prometheus.sh PORT TARGET ; exits 77 where that package cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

unpack prometheus prometheus
data=$(mktemp -d)
cat > "$data/prometheus.yml" <<EOF
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs: [{ job_name: node, static_configs: [{ targets: ["$2"] }] }]
EOF
"$unpacked/usr/bin/prometheus" --config.file="$data/prometheus.yml" --storage.tsdb.path="$data/tsdb" \
    --web.listen-address="127.0.0.1:$1" --log.level=error >&2 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$data"' EXIT
trap 'exit 0' INT TERM
cat >/dev/null
