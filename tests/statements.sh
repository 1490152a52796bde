#!/bin/sh
# The committed Statements.sol and its vectors are what engine/record/statements.def says now.
set -eu
gen=${builddir:-.}/contrib/contracts/gen_statements
src=${srcdir:-.}/contrib/contracts
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$gen" sol > "$tmp/Statements.sol"
"$gen" vectors > "$tmp/statements.json"
for pair in src/Statements.sol vectors/statements.json; do
    cmp "$tmp/${pair##*/}" "$src/$pair" || { echo "run 'make statements' and commit $pair"; exit 1; }
done
