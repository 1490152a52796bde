#!/bin/sh
# kill -9 at seeded random instants of the flow: the node dies, starts again, goes on; at the end everything was done once.
# LOAM_KILLS=number (default 10; the full test is 100), LOAM_SEED=number, otherwise as thread.sh.
set -u
srcdir=$(cd "${srcdir:-.}" && pwd)
builddir=$(cd "${builddir:-.}" && pwd)
LOAM=${LOAM:-$builddir/loam}
devnet=$srcdir/contrib/devnet/devnet
model=${LOAM_MODEL:-$srcdir/contrib/models/tiny.gguf}
kills=${LOAM_KILLS:-10}
seed=${LOAM_SEED:-1}

fail() { echo "FAIL kill: $*" >&2; exit 1; }
skip() { echo "SKIP kill: $*"; exit 77; }
command -v python3 >/dev/null 2>&1 || skip "python3 is missing"
command -v curl >/dev/null 2>&1 || skip "curl is missing"
set -- "$srcdir"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil
[ -n "${ANVIL:-}" ] || [ -x "$1" ] || command -v anvil >/dev/null 2>&1 || skip "anvil is missing: contrib/contracts/check install"
[ -f "$model" ] || skip "no model at $model"

keep=${LOAM_KILL_DIR:-}
dir=${keep:-$(mktemp -d /tmp/loam-kill.XXXXXX)}
rm -rf "$dir" && mkdir -p "$dir" || fail "cannot make $dir"
port=$((30000 + $$ % 20000))
printf 'kill' >"$dir/password"
A="$LOAM --data $dir/a --password-file $dir/password --yes"
pid=
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
    "$devnet" stop "$dir/chain" >/dev/null 2>&1
    [ -n "$keep" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# random LOW HIGH, in milliseconds, printed as seconds; the same sequence for the same seed
random() {
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    ms=$(($1 + seed / 65536 % ($2 - $1)))
    printf '%d.%03d\n' $((ms / 1000)) $((ms % 1000)) >"$dir/random"
    wait_s=$(cat "$dir/random")
}
json() { python3 -c 'import json,sys; v=json.load(open(sys.argv[1])); print(eval("v"+sys.argv[2]))' "$1" "$2"; }
start() {
    "$LOAM" --data "$dir/a" --password-file "$dir/password" --set api.listen= --set key.cost=light --set chain.poll=0.25 \
        --set key.password-file="$dir/password" node >>"$dir/a.log" 2>&1 &
    pid=$!
    n=0
    until "$LOAM" --data "$dir/a" node status >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 150 ] || fail "the node does not answer (its log: $dir/a.log)"
        kill -0 "$pid" 2>/dev/null || fail "the node did not start again (its log: $dir/a.log)"
        sleep 0.1
    done
}
died=0
# Runs a command, killing the node at random instants while it runs, then to its end.
hurt() {
    name=$1
    budget=$2
    shift 2
    while [ "$budget" -gt 0 ] && [ $died -lt "$kills" ]; do
        "$@" --json >"$dir/$name.json" 2>"$dir/$name.err" &
        client=$!
        random 10 900
        sleep "$wait_s"
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        wait "$client" 2>/dev/null && done_early=yes || done_early=no
        died=$((died + 1))
        budget=$((budget - 1))
        start
        [ $done_early = yes ] && break # nothing left to interrupt
    done
    # What the node took up again by itself has to end before the command is given once more.
    n=0
    while "$A_BIN" job list --json 2>/dev/null | python3 -c 'import json,sys; sys.exit(0 if any(j["state"]=="running" for j in json.load(sys.stdin)) else 1)'; do
        n=$((n + 1))
        [ $n -lt 600 ] || fail "$name: a job does not end"
        sleep 0.2
    done
    "$@" --json >"$dir/$name.json" 2>"$dir/$name.err" || { cat "$dir/$name.err" >&2; fail "$name after $died kills"; }
}
# job list with its options as one word for the pipe above
A_BIN=$dir/list
printf '#!/bin/sh\nexec %s "$@"\n' "$A" >"$A_BIN" && chmod +x "$A_BIN"
each=$((kills / 10 + 1))

"$devnet" start "$dir/chain" --port $port --block-time 1 || fail "devnet"
printf 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80' >"$dir/dev.key"
start
$A chain use http://127.0.0.1:$port >/dev/null || fail "chain use"
$A key import dev "$dir/dev.key" >/dev/null || fail "key import"
for k in alice bob server; do $A key new $k >/dev/null || fail "key new"; done
echo "== deploy";     hurt deploy $each $A chain deploy --as dev --challenge-window 3
echo "== register";   for k in alice bob server; do hurt "acc-$k" $each $A account register $k --relay dev; done
hurt net $each $A datanet create facts --as server --relay dev
$A chain send server 10 --from dev >/dev/null || fail "chain send"
echo "== contribute"; for k in alice bob; do hurt "con-$k" $each $A contribute "$srcdir/contrib/demo/$k.jsonl" --as $k --relay dev; done
echo "== train";      $A model add "$model" --name base >/dev/null || fail "model add"
hurt train $((each * 2)) $A train facts --base base --as server --epochs 12
echo "== ask, attribute"
$A ask "Which river runs through the town of Velmora?" --model facts --max-tokens 16 --json >"$dir/ask.json" 2>/dev/null || fail ask
id=$(json "$dir/ask.json" '["id"]')
$A attribute "$id" --json >"$dir/att.json" 2>/dev/null || fail attribute
echo "== record";     hurt record $((each * 2)) $A record "$id" --as server
batch=$(json "$dir/record.json" '["batch"]')
echo "== settle";     hurt settle $((each * 2)) $A settle "$batch" --as server
echo "== claim";      hurt claim $((each * 2)) $A claim alice bob server 0 1 2 --relay dev

# Everything once: accounts, contributions, models, batches; the pot paid out whole; the nonce of each key is the count of its transactions.
$A rewards show --json >"$dir/rewards.json" 2>/dev/null || fail "rewards show"
$A datanet list --json >"$dir/nets.json" 2>/dev/null || fail "datanet list"
$A chain pending --json >"$dir/pending.json" 2>/dev/null || fail "chain pending"
python3 - "$dir" <<'P' || fail "something was done twice or lost"
import json, sys
d = sys.argv[1]
load = lambda n: json.load(open(f"{d}/{n}.json"))
assert load("settle")["state"] == "settled", load("settle")
assert load("record")["batch"] == 1
nets = load("nets")
assert len(nets) == 1 and nets[0]["contributions"] == 2, nets
assert [load(f"acc-{k}")["account"] for k in ("alice", "bob", "server")] == [3, 4, 5]
pots = load("rewards")
assert len(pots) == 1 and pots[0]["settled_wei"] == str(10**18) == pots[0]["claimed_wei"], pots
P
count=$(curl -s -H 'content-type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"eth_getTransactionCount","params":["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266","latest"]}' http://127.0.0.1:$port)
lines=$(json "$dir/rewards.json" '[0]["lines"].__len__()')
# dev sent: 7 contracts, 3 registrations, 1 datanet, 1 payment, 2 × (commitment, reveal), and one claim a line
want=$(printf '"0x%x"' $((7 + 3 + 1 + 1 + 4 + lines)))
case $count in *"$want"*) ;; *) fail "dev's nonce is $count, not $want: a transaction was sent twice" ;; esac
echo "PASS kill: $died kills, each thing done once"
