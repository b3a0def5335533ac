#!/bin/sh
# Runs boto3_look.py where boto3 is. Usage: boto3_look.sh ARGUMENT... ; exits 77 where boto3 cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"
. "$(dirname "$0")/moto_env.sh"

PYTHONDONTWRITEBYTECODE=1 exec "$python" "$(dirname "$0")/boto3_look.py" "$@"
