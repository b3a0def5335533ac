#!/bin/sh
# Checks user data by the real `cloud-init schema`, from an unpacked Debian package: installed on this host it would
# enable its boot services. Usage: cloud-init-schema.sh FILE... ; exits 77 where that package cannot be had.
set -eu
. "$(dirname "$0")/unpack.sh"

unpack cloud-init cloud-init python3-yaml python3-jsonschema python3-attr python3-pyrsistent python3-configobj \
    python3-jinja2 python3-markupsafe python3-oauthlib python3-requests python3-urllib3 python3-certifi \
    python3-charset-normalizer python3-chardet python3-idna python3-six python3-jsonpatch python3-json-pointer \
    python3-serial python3-netifaces

# Debian's Python is the one that its compiled modules are for.
python=/usr/bin/python3
[ -x "$python" ] || skip "no $python"
export PYTHONPATH="$unpacked/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1

for file; do
    "$python" -m cloudinit.cmd.main schema --config-file "$file"
done
