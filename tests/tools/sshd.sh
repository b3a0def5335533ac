#!/bin/sh
# Serves SSH on 127.0.0.1 as an ordinary user, from an unpacked Debian package: installed on this host, the package would
# start a server. Its host key is made anew where FOLDER has none.
# Usage: sshd.sh FOLDER PORT PUBLICKEY ; exits 77 where that package cannot be had. Prints the user to log in as, then serves.
set -eu
. "$(dirname "$0")/unpack.sh"

folder=$1 port=$2 key=$3
unpack openssh-server openssh-server libnss-wrapper libwrap0
command -v ssh-keygen >/dev/null || skip "no ssh-keygen here"
command -v ssh >/dev/null || skip "no ssh here"

mkdir -p "$folder"
[ -e "$folder/host" ] || ssh-keygen -q -t ed25519 -N "" -f "$folder/host"
cp "$key" "$folder/authorized"
cat >"$folder/config" <<CONFIG
ListenAddress 127.0.0.1
Port $port
HostKey $folder/host
AuthorizedKeysFile $folder/authorized
StrictModes no
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
CONFIG
# Beside its configuration, since another user may not look into this one's cache.
mkdir -p "$folder/bin"
find "$unpacked" -name sshd -path '*sbin*' -exec cp {} "$folder/bin/" \;
find "$unpacked" \( -name 'libwrap.so.*' -o -name 'libnss_wrapper.so*' \) -exec cp {} "$folder/bin/" \;
export LD_LIBRARY_PATH="$folder/bin"
if [ "$(id -u)" -eq 0 ]; then
    # As root it would want a user, a folder and accounts of the system: it gets an ordinary user that only it knows.
    command -v setpriv >/dev/null || skip "no setpriv here"
    echo "runner:x:12345:12345:runner:$folder:/bin/sh" >"$folder/passwd"
    echo "runner:x:12345:" >"$folder/group"
    chown -R 12345:12345 "$folder"
    echo runner
    exec setpriv --reuid 12345 --regid 12345 --clear-groups env \
        LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD="$folder/passwd" NSS_WRAPPER_GROUP="$folder/group" \
        "$folder/bin/sshd" -D -e -f "$folder/config"
fi
id -un
exec "$folder/bin/sshd" -D -e -f "$folder/config"
