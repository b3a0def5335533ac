#!/bin/sh
# Runs shellcheck from an unpacked Debian package. Usage: shellcheck.sh FILE... ; exits 77 where it cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

unpack shellcheck shellcheck
exec "$unpacked/usr/bin/shellcheck" "$@"
