#!/bin/sh
# The example of every command's help, typed as it stands, on a folder with keys, the tiny model under the names the examples
# use, and no chain: what needs no chain must succeed, what needs one must say so, and none may be refused as wrong use.
# (With a chain the same commands run in thread.sh.)
src=$(cd "${srcdir:-.}" && pwd)
build=$(cd "${builddir:-.}" && pwd)
loam=${LOAM:-$build/loam}
model=$src/contrib/models/tiny.gguf
[ -x "$loam" ] && [ -x "$build/contrib/gen" ] || { echo "# skipped: loam is not built"; exit 77; }
work=$(mktemp -d) || exit 2
status=0 node=
unset LOAM_DATA XDG_DATA_HOME CREDENTIALS_DIRECTORY
HOME=$work/home
export HOME
mkdir -m 700 "$HOME" "$work/data" "$work/data/models"
bad() { echo "FAILED: $*"; status=1; }
trap '[ -n "$node" ] && kill -9 $node 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 2
printf 'api.listen =\nkey.cost = light\n' >data/config
printf pw >password
cp "$model" data/models/SmolLM2-135M-Instruct.Q4_1.gguf
cp "$model" SmolLM2-135M-Instruct.Q4_1.gguf
head -n 4 "$src/contrib/demo/alice.jsonl" >facts.jsonl
head -n 2 "$src/contrib/demo/questions.jsonl" >questions.jsonl
echo "The rain falls on the hills, and the river carries it to the sea." >text.txt
echo "version" >setup.loam
"$loam" --data data node >log 2>&1 &
node=$!
run() { timeout 60 "$loam" --data data --no-start --yes --password-file password "$@" </dev/null >said 2>err; }
i=0
until run node status; do
    i=$((i + 1))
    [ $i -lt 600 ] || { bad "the node does not start: $(tail -n 3 log)"; exit 1; }
    sleep 0.1
done
for k in alice bob carol dev server customer trainer val; do run key new $k || bad "key new $k: $(cat err)"; done
run key backup carol key.json || bad "key backup: $(cat err)" # what `key import alice key.json` takes
run train facts --files facts.jsonl --epochs 1 || bad "train: $(cat err)"
count=0 passed=0
"$build/contrib/gen" reference | sed -n 's/^    loam //p' >examples
while read -r line; do
    count=$((count + 1))
    # what this folder must be able to do; everything else may lack the chain, the job, the answer or the row it names
    must=1
    case $line in
    node | stop) continue ;; # the front door's own; the node runs, and is stopped at the end
    "adapter "* | "job list" | "key list" | "key export"* | "key backup"* | "key unlock"* | "key lock"* | "log "* | "model info"* | "model list" | \
        "model perplexity"* | "node status" | "option "* | "set "* | "source "* | disk | doctor | "gpu list" | "help "* | version | "ask "*) must=0 ;;
    "key new"* | "key import"*) must=73 ;; # there already
    "model add"*) must=73 ;;
    esac
    eval "set -- $line"
    timeout 60 "$loam" --data data --no-start --yes --password-file password "$@" </dev/null >stdout 2>stderr
    x=$?
    case $must:$x in
    0:0 | 73:73) passed=$((passed + 1)) ;;
    1:0 | 1:66 | 1:69 | 1:75) ;;
    *) bad "the example \`$line\`: exit status $x: $(head -c 200 stderr)" ;;
    esac
done <examples
[ $count -gt 60 ] || bad "only $count examples were found"
[ $passed -gt 24 ] || bad "only $passed examples did their work"
kill -TERM $node
wait $node || bad "the node ends with a fault: $(tail -n 3 log)"
node=
echo "# $count examples, $passed of them did their work without a chain"
exit $status
