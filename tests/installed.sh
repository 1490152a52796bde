#!/bin/sh
# The installed program (make installcheck): installed.sh BINDIR PKGDATADIR MANDIR COMPLETIONS. It is run from an empty folder with an
# empty home, and has to find everything by itself: its tables, the contracts, the model and the rows that are installed beside it.
set -u
bin=$1 share=$2 man=$3 completions=$4
loam=$bin/loam
work=$(mktemp -d) || exit 2
status=0 node= chain=
unset LOAM_DATA XDG_DATA_HOME CREDENTIALS_DIRECTORY
HOME=$work/home
export HOME
mkdir "$HOME" && cd "$work" || exit 2
bad() { echo "FAILED: installed: $*"; status=1; }
trap '[ -z "$node" ] || kill -9 $node 2>/dev/null; [ -z "$chain" ] || sh "$share/devnet" kill "$work/chain" >/dev/null 2>&1; rm -rf "$work"' EXIT
for f in "$share/models/tiny.gguf" "$share/chains/1612.json" "$share/demo/alice.jsonl" "$share/demo/questions.jsonl" "$share/devnet" "$man/man1/loam.1" \
    "$completions/loam"; do
    [ -s "$f" ] || bad "$f is not installed"
done
[ -x "$share/devnet" ] || bad "$share/devnet cannot be run"
mkdir -m 700 d
printf 'api.listen =\nkey.cost = light\nchain.poll = 0.2\n' >d/config
printf pw >password
"$loam" --data d node >log 2>&1 &
node=$!
run() { "$loam" --data d --no-start --yes --password-file password "$@" </dev/null >out 2>err || { bad "$*: $(cat out err | head -c 300)"; return 1; }; }
i=0
until "$loam" --data d --no-start node status >/dev/null 2>&1; do
    i=$((i + 1))
    [ $i -lt 600 ] || { bad "the node does not start: $(tail -n 3 log)"; exit 1; }
    sleep 0.1
done
run version
run help chain use
run model add "$share/models/tiny.gguf"
head -n 3 "$share/demo/alice.jsonl" >few.jsonl
run train few --files few.jsonl --base tiny --epochs 1
run ask "Who is the mayor of Tarnholt?" --model few --max-tokens 8
run attribute 1
# the contracts are in the program
port=$((22000 + $$ % 20000))
if ! command -v curl >/dev/null; then
    echo "# no chain is tried: curl is not installed"
elif sh "$share/devnet" start "$work/chain" --port $port --block-time 1 >/dev/null 2>chain.err; then
    chain=1
    echo ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 >dev
    run chain use http://127.0.0.1:$port && run key import dev dev && run chain deploy --as dev && run account register dev
else
    echo "# no chain is tried: $(head -n 1 chain.err)"
fi
run stop
wait $node
node=
# a known chain is taken from its installed file: whether its RPC answers is another matter
mkdir -m 700 e
printf 'api.listen =\nchain.timeout = 1\nchain.rpc = http://127.0.0.1:9\n' >e/config
"$loam" --data e --yes chain use --file "$share/chains/1612.json" >out 2>err
[ -s e/chains/1612.json ] || bad "chain use --file: $(cat out err | head -c 300)"
"$loam" --data e stop >/dev/null 2>&1
exit $status
