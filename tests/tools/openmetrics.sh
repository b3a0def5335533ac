#!/bin/sh
# Serves metrics by Prometheus' own client library for Python, which speaks OpenMetrics to those who ask for it, on 127.0.0.1
# until standard input ends.
# Usage: openmetrics.sh PORT ; exits 77 where that package cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

command -v python3 >/dev/null || skip "no python3 here"
unpack openmetrics python3-prometheus-client
PYTHONPATH="$unpacked/usr/lib/python3/dist-packages" exec python3 -c '
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

registry = CollectorRegistry()
Gauge("load", "The load.", registry=registry).set(0.75)
free = Gauge("free_bytes", "Free.", ["device", "mount"], registry=registry)
free.labels("/dev/a,b={}", "/").set(2 ** 40)
free.labels("say \"hi\" \\ there\nagain", "/home").set(-1.5e-7)
for name, value in (("nan", float("nan")), ("infinite", float("inf"))):
    Gauge(name, "No number.", registry=registry).set(value)
Counter("jobs", "Jobs.", registry=registry).inc(3, exemplar={"trace_id": "a } 1"})
Histogram("wait_seconds", "Waits.", registry=registry, buckets=(1, 10)).observe(4, exemplar={"span": "b"})
Info("build", "What.", registry=registry).info({"version": "1#2"})
start_http_server(int(sys.argv[1]), addr="127.0.0.1", registry=registry)
sys.stdin.read()
' "$1"
