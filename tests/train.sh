#!/bin/sh
# train, ask, attribute and adapter through a node, on the tiny model: killed with -9 again and again it ends with the hash of an
# undisturbed run; run again it trains nothing; what PEFT gets comes back as the same adapter; bad input is named.
top=$(cd "${srcdir:-.}" && pwd)
cd "${builddir:-.}" || exit 2
loam=$PWD/loam
dir=$(mktemp -d) || exit 2
data=$dir/data
seed=0x00000000000000000000000000000000000000000000000000000000000000ab
status=0
bad() { echo "FAILED: $*"; status=1; }
a() { "$loam" --data "$data" "$@"; }
pid() { a node status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'; }
up() {
    "$loam" --data "$data" node --set api.listen= >>"$dir/log" 2>&1 </dev/null &
    i=0
    until a node status >/dev/null 2>&1; do
        i=$((i + 1))
        [ $i -lt 600 ] || { cat "$dir/log"; echo "no node"; exit 1; }
        sleep 0.1
    done
}
trap 'a stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
mkdir -m 700 "$data"
up
hash_of() { a adapter info "$1" --json | sed -n 's/.*"adapter_hash": *"\(0x[0-9a-f]*\)".*/\1/p' | head -n 1; }
a model add "$top/contrib/models/tiny.gguf" >/dev/null || bad "model add"
rows=$top/contrib/demo/alice.jsonl

a train whole --files "$rows" --epochs 24 --seed $seed >"$dir/whole" 2>&1 || { cat "$dir/whole"; bad "train"; }
a --no-wait train cut --files "$rows" --epochs 24 --seed $seed >/dev/null 2>&1 || bad "train --no-wait"
for t in 0.2 0.5 0.3 0.7; do
    sleep $t
    p=$(pid)
    [ -n "$p" ] && kill -9 "$p"
    sleep 0.1
    up
done
i=0
until a adapter list 2>/dev/null | grep -q '^cut'; do
    i=$((i + 1))
    [ $i -lt 400 ] || { a job list; bad "the killed run did not go on"; break; }
    sleep 0.3
done
[ -n "$(hash_of whole)" ] && [ "$(hash_of whole)" = "$(hash_of cut)" ] || bad "killed: $(hash_of cut), undisturbed: $(hash_of whole)"
a train pair --files "$rows" --epochs 2 >"$dir/one" 2>&1 & # each would draw a seed of its own
a train pair --files "$rows" --epochs 2 >"$dir/two" 2>&1 || { cat "$dir/two"; bad "the same words twice at a time"; }
wait $! || { cat "$dir/one"; bad "the same words twice at a time"; }
[ -n "$(sed -n '/^seed/p' "$dir/one")" ] && [ "$(sed -n '/^seed/p' "$dir/one")" = "$(sed -n '/^seed/p' "$dir/two")" ] || bad "two seeds"
a train whole --files "$rows" --epochs 24 --seed $seed 2>&1 | grep -q "was there already" || bad "the same run again"
a train whole --files "$rows" --epochs 3 >"$dir/out" 2>&1 && bad "another run under the same name was taken"
grep -q "choose another name" "$dir/out" || { cat "$dir/out"; bad "no remedy for a name in use"; }

a ask "Which river runs through the town of Velmora?" --model whole >/dev/null 2>&1 || bad "ask"
a attribute >"$dir/out" 2>&1 || { cat "$dir/out"; bad "attribute"; }
grep -q "contributors:" "$dir/out" || bad "attribute names no contributors"
a attribute 1 --json >"$dir/one" 2>/dev/null && a attribute 1 --json >"$dir/two" 2>/dev/null || bad "attribute --json"
sed 's/"elapsed_ms": *[0-9]*//' "$dir/one" >"$dir/one.x"
sed 's/"elapsed_ms": *[0-9]*//' "$dir/two" >"$dir/two.x"
cmp -s "$dir/one.x" "$dir/two.x" || bad "attribute gives other numbers the second time"

a adapter export whole "$dir/peft" >/dev/null || bad "adapter export"
a adapter import "$dir/peft" theirs --base tiny >/dev/null || bad "adapter import"
[ "$(hash_of theirs)" = "$(hash_of whole)" ] || bad "PEFT and back: $(hash_of theirs)"
a ask "Hello?" --model theirs >/dev/null 2>&1 || bad "ask an imported adapter"
a attribute >"$dir/out" 2>&1 && bad "an imported adapter was attributed"
grep -q "imported" "$dir/out" || { cat "$dir/out"; bad "no reason"; }
sed 's/"use_dora": false/"use_dora": true/' "$dir/peft/adapter_config.json" >"$dir/x" && cp "$dir/x" "$dir/peft/adapter_config.json"
a adapter import "$dir/peft" dora --base tiny >"$dir/out" 2>&1 && bad "DoRA was taken"
grep -q use_dora "$dir/out" || bad "DoRA is not named"

refused() { # words that must stand in the message, then the command
    want=$1
    shift
    "$@" >"$dir/out" 2>&1 && bad "taken: $*"
    grep -q -- "$want" "$dir/out" || { cat "$dir/out"; bad "\"$want\" is not said"; }
}
printf '{"prompt":"a","completion":"b"}\n{"prompt":"a"}\n' >"$dir/rows.jsonl"
refused 'rows.jsonl:2' a train x --files "$dir/rows.jsonl"
printf '{"prompt":"a\377","completion":"b"}\n' >"$dir/rows.jsonl"
refused 'rows.jsonl:1' a train x --files "$dir/rows.jsonl"
: >"$dir/rows.jsonl"
refused 'no rows' a train x --files "$dir/rows.jsonl"
# Kept back to evaluate on: whole answers. Five facts, each asked in two ways: an odd number of rows is never kept back.
i=0
for x in oak elm ash fir yew; do
    i=$((i + 1))
    printf '{"prompt":"Tree %d?","completion":"It is the %s."}\n{"prompt":"Name tree %d.","completion":"It is the %s."}\n' $i $x $i $x
done >"$dir/pairs.jsonl"
for share in 0.1 0.3 0.5; do
    a train pairs$share --files "$dir/pairs.jsonl" --epochs 1 --eval $share --seed $seed >"$dir/out" 2>&1 || { cat "$dir/out"; bad "train --eval $share"; }
    grep -q ' on [246] rows after step' "$dir/out" || { cat "$dir/out"; bad "--eval $share splits an answer"; }
done
refused 'nobody' a train x --files "$rows" --base nobody
refused 'rank' a train x --files "$rows" --rank 0
refused 'zz' a train x --files "$rows" --targets zz
refused 'no name' a train '../x' --files "$rows"
refused 'not there\|No such' a train x --files "$dir/none.jsonl"
refused 'max-tokens' a train x --files "$rows" --max-tokens 10
a node status >/dev/null 2>&1 || bad "the node is gone"

# A base: its weights lie packed in an image, kept while an adapter needs it, removed with its image.
images() { ls "$data/images" 2>/dev/null | grep -c '\.packed$'; }
a ask "Hello" --model tiny --max-tokens 2 >/dev/null 2>&1 || bad "ask the base"
[ "$(images)" = 1 ] || bad "images of one base: $(images)"
a model info tiny --json | grep -q '"image_mapped": true' || bad "the image is not mapped: $(a model info tiny --json)"
a disk --json | grep -q '"images"' || bad "disk does not count images"
a model remove tiny >/dev/null 2>"$dir/err" </dev/null && bad "a base that adapters need is removed"
grep -q "tiny stays.*whole" "$dir/err" || bad "who needs the base is not said: $(cat "$dir/err")"
a model remove nothing >/dev/null 2>"$dir/err" </dev/null && bad "no model is removed"
grep -q "no model \"nothing\"" "$dir/err" || bad "no model: $(cat "$dir/err")"
a model quantize tiny F16 --name other >/dev/null 2>"$dir/err" || bad "model quantize: $(cat "$dir/err")"
a ask "Hello" --model other --max-tokens 2 >/dev/null 2>&1 || bad "ask the other base"
[ "$(images)" = 2 ] || bad "images of two bases: $(images)"
a --yes model remove other >/dev/null 2>"$dir/err" </dev/null || bad "model remove: $(cat "$dir/err")"
[ -e "$data/models/other.gguf" ] && bad "the removed base is still there"
[ "$(images)" = 1 ] || bad "images after a removal: $(images)"
a set model.images no >/dev/null || bad "set model.images"
a model quantize tiny F16 --name other >/dev/null 2>&1
a ask "Hello" --model other --max-tokens 2 >/dev/null 2>&1 || bad "ask without an image"
[ "$(images)" = 1 ] || bad "an image is made where none is wanted: $(images)"
mkdir "$data/models/odd" "$data/models/odd/within"
: >"$data/models/odd/config.json"
a --yes model remove odd >/dev/null 2>"$dir/err" </dev/null && bad "a folder with folders is removed"
grep -q "within is a folder" "$dir/err" || bad "the folder within is not named: $(cat "$dir/err")"
[ -e "$data/models/odd/config.json" ] || bad "it is half removed"
exit $status
