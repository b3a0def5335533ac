#!/bin/sh
# Draws the graph on standard input as SVG on standard output, by the dot of this host or of unpacked Debian packages.
# Exits 77 where there is none.
set -eu
. "$(dirname "$0")/unpack.sh"

if command -v dot >/dev/null; then
    exec timeout 60 dot -Tsvg
fi
unpack graphviz graphviz libgvc6 libcgraph6 libcdt5 libpathplan4 libxdot4 libltdl7 libann0 libgts-0.7-5
libraries=$(dirname "$(find "$unpacked/usr/lib" -name 'libgvc.so.6' | head -1)")
[ -n "$libraries" ] || skip "the packages of this host have no libgvc.so.6"
# Only the plug-ins that lay out and write SVG; those for other formats want libraries that are not here.
plugins="$unpacked/plugins"
if [ ! -e "$plugins/config6" ]; then
    work=$(mktemp -d "$unpacked/plugins.XXXXXX")
    cp "$libraries"/graphviz/libgvplugin_core.so.6 "$libraries"/graphviz/libgvplugin_dot_layout.so.6 "$work"
    LD_LIBRARY_PATH="$libraries" GVBINDIR="$work" "$unpacked/usr/bin/dot" -c >&2 || skip "dot does not run here"
    mv -T "$work" "$plugins" 2>/dev/null || rm -rf "$work"
fi
export LD_LIBRARY_PATH="$libraries" GVBINDIR="$plugins"
exec timeout 60 "$unpacked/usr/bin/dot" -Tsvg
