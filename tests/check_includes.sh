#!/bin/sh
# Compares every #include with the house's table (contrib/doc/design.md, section 2): nothing calls upwards. Also: every .c
# outside engine/base includes base/banned.h, and as its last include; no header includes it (but NAME_body.h, which is code
# compiled several times); guards are unique.
# Exit status 0 when all agree.
cd "${srcdir:-.}" || exit 2
find engine gpu net store tui -name '*.[ch]' -o -name '*.cu' -o -name '*.def' -o -name '*.inc' | LC_ALL=C sort | xargs awk '
BEGIN {
    # who may include whom; a room may always include itself
    allow("base", "")
    allow("record", "base")
    allow("gpu", "base")
    allow("lm", "base gpu")
    allow("poa", "base record gpu lm")
    allow("net", "base record")
    allow("store", "base record")      # blobs are named by struct hash32
    allow("node", "base record net store")
    allow("flow", "base record gpu lm poa net store node")
    allow("cmd", "base record node flow")
    allow("tui", "base")               # and node/protocol.h, below
    allow("front", "base record gpu lm poa net store node flow cmd tui front")
}
function allow(room, list,   a, i, n) {
    known[room] = 1
    ok[room, room] = 1
    n = split(list, a, " ")
    for (i = 1; i <= n; i++) ok[room, a[i]] = 1
}
function room_of(path) {
    sub(/^engine\//, "", path)
    if (path !~ /\//) return "front"   # loam.c, client.c: the front door may use every room
    sub(/\/.*/, "", path)
    return path
}
function bad(text) { print FILENAME ":" FNR ": " text; faults++ }
function finish() {
    if (file ~ /\.c$/ && room_of(file) != "base" && last != "base/banned.h" && last !~ /_body\.h$/) {
        print file ": the last #include must be \"base/banned.h\""; faults++
    }
}
FNR == 1 { if (file) finish(); file = FILENAME; last = ""; from = room_of(FILENAME); files++ }
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    line = $0
    quoted = line ~ /include[ \t]*"/
    sub(/^[^"<]*["<]/, "", line); sub(/[">].*/, "", line)
    if (line !~ /\.(def|inc)$/) last = line
    if (line == "base/banned.h" && FILENAME ~ /\.h$/ && FILENAME !~ /_body\.h$/) bad("a header must not include base/banned.h")
    if (!quoted) next
    sub(/^engine\//, "", line)          # generated headers lie in the build folder
    to = line
    if (to ~ /^(config|loam-config)\.h$/) next
    if (to !~ /\//) { if (from == "front") next; bad("\"" to "\": includes name their room"); next }
    sub(/\/.*/, "", to)
    if (from == "tui" && line == "node/protocol.h") next
    if (!(to in known)) { bad("\"" line "\" is of no room"); next }
    if (!((from, to) in ok)) bad("\"" line "\": " from " may not include " to)
    checked++
}
/^#ifndef LOAM_.*_H$/ { if (guard[$2] && guard[$2] != FILENAME) bad("guard " $2 " is also in " guard[$2]); guard[$2] = FILENAME }
END {
    finish()
    printf "%d files, %d includes, %d faults\n", files, checked, faults
    exit faults ? 1 : 0
}'
