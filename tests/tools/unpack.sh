# Sourced by the scripts of this folder: unpacks Debian packages into a cache, installing nothing on this host.
#
#   unpack FOLDER PACKAGE...   sets $unpacked to the folder that holds their files
#
# Exits 77, which the tests read as "cannot be checked here", where there is no Debian archive to take them from.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/runfleet-tools"

skip() {
    echo "$(basename "$0"): skipped: $1" >&2
    exit 77
}

unpack() {
    unpacked="$cache/$1"
    shift
    [ -e "$unpacked/.complete" ] && return
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || skip "no $tool here"
    done
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/unpack.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/debs" "$work/root"
    (cd "$work/debs" && apt-get -q download "$@" >&2) || skip "the packages cannot be downloaded: $*"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb -x "$deb" "$work/root"
    done
    touch "$work/root/.complete"
    # Two at once: the one that comes second throws its own away.
    mv -T "$work/root" "$unpacked" 2>/dev/null || [ -e "$unpacked/.complete" ]
    rm -rf "$work"
    trap - EXIT
}
