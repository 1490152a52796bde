#!/bin/sh
# Help, manual page, completion, reference and tables agree: each of them names every command, argument and option.
cd "${builddir:-.}" || exit 2
status=0
bad() { echo "$*"; status=1; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
./contrib/gen man | sed 's/\\-/-/g; s/\\e/\\/g; s/\\f[BIR]//g' >"$tmp/man"
./contrib/gen bash >"$tmp/bash"
./contrib/gen reference | sed 's/\\//g' >"$tmp/reference"
./contrib/gen names >"$tmp/names" || exit 2
./loam help >"$tmp/help" || bad "loam help fails"
while IFS='	' read -r kind a b; do
    case $kind in
    command)
        grep -q "^  $a  *" "$tmp/help" || bad "help lacks $a"
        grep -q "^.SS \"$a\"" "$tmp/man" || bad "the manual lacks $a"
        grep -q "^### $a\$" "$tmp/reference" || bad "the reference lacks $a"
        grep -q "\"$a\"\|\"$a \"" "$tmp/bash" || bad "completion lacks $a"
        ./loam help $a >"$tmp/one" || bad "help $a fails"
        ;;
    argument)
        grep -q -- "$b" "$tmp/one" || bad "help $a lacks $b"
        grep -A200 "^.SS \"$a\"" "$tmp/man" | grep -q -- "^.B *\(--\)\?$b\$" || bad "the manual lacks $b of $a"
        grep -- "\"$a\"\|\"$a \"" "$tmp/bash" | grep -q -- "--$b" || bad "completion lacks $b of $a"
        ;;
    option)
        grep -q "^.B $a\$" "$tmp/man" || bad "the manual lacks option $a"
        grep -q "^| \`$a\`" "$tmp/reference" || bad "the reference lacks option $a"
        ;;
    key)
        grep -q "^.B $a\$" "$tmp/man" || bad "the manual lacks the console's action $a"
        grep -q "^| \`$a\`" "$tmp/reference" || bad "the reference lacks the console's action $a"
        ;;
    esac
done <"$tmp/names"
if command -v bash >/dev/null 2>&1; then
    bash -n "$tmp/bash" || bad "completion is no bash"
    got=$(bash -c ". $tmp/bash; COMP_WORDS=(loam key n); COMP_CWORD=2; _loam; echo \${COMPREPLY[*]}")
    [ "$got" = new ] || bad "completion of 'loam key n' gives '$got'"
fi
if command -v groff >/dev/null 2>&1; then
    ./contrib/gen man | groff -man -Tutf8 -ww -z 2>"$tmp/warnings" || bad "groff refuses the manual"
    grep -v "cannot break line\|can't break line\|cannot adjust line" "$tmp/warnings" && bad "groff warns about the manual"
fi
exit $status
