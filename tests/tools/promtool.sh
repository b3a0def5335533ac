#!/bin/sh
# Runs promtool from an unpacked Debian package: installed on this host, the package would start a server.
# Usage: promtool.sh ARGUMENT... ; exits 77 where that package cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

unpack prometheus prometheus
exec "$unpacked/usr/bin/promtool" "$@"
