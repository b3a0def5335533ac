#!/bin/sh
# Serves AWS's S3, EC2, Auto Scaling and SSM, as moto knows them, on 127.0.0.1 until standard input ends.
# Usage: moto.sh PORT ; exits 77 where moto cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"
. "$(dirname "$0")/moto_env.sh"

# Without these two any image and any machine type will do.
MOTO_ENABLE_AMI_VALIDATION=1 MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION=1 "$server" -H 127.0.0.1 -p "$1" >&2 &
moto=$!
trap 'kill "$moto" 2>/dev/null' EXIT
trap 'exit 0' INT TERM
cat >/dev/null
