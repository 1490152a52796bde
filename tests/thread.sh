#!/bin/sh
# The one thread on the tiny model: the nine steps, from a contributed row to a paid contributor and back, by `loam WORDS…` alone.
# Two nodes (server and validator) with folders, keys and processes of their own, on a development chain of this test's own.
# Skips with a line where anvil or node.js is missing. LOAM=program, LOAM_THREAD_DIR=folder kept afterwards, LOAM_MODEL=gguf.
set -u
srcdir=$(cd "${srcdir:-.}" && pwd)
builddir=$(cd "${builddir:-.}" && pwd)
LOAM=${LOAM:-$builddir/loam}
devnet=$srcdir/contrib/devnet/devnet
model=${LOAM_MODEL:-$srcdir/contrib/models/tiny.gguf}
epochs=${LOAM_EPOCHS:-12}

fail() { echo "FAIL thread: $*" >&2; exit 1; }
skip() { echo "SKIP thread: $*"; exit 77; }
command -v jq >/dev/null 2>&1 || command -v python3 >/dev/null 2>&1 || skip "neither jq nor python3 to read results"
set -- "$srcdir"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil
[ -n "${ANVIL:-}" ] || [ -x "$1" ] || command -v anvil >/dev/null 2>&1 || skip "anvil is missing: contrib/contracts/check install"
[ -f "$model" ] || skip "no model at $model"
command -v curl >/dev/null 2>&1 || skip "curl is missing"

keep=${LOAM_THREAD_DIR:-}
dir=${keep:-$(mktemp -d /tmp/loam-thread.XXXXXX)}
rm -rf "$dir" && mkdir -p "$dir" || fail "cannot make $dir"
port=$((20000 + $$ % 20000))
printf 'thread' >"$dir/password"
A="$LOAM --data $dir/a --password-file $dir/password --yes"
V="$LOAM --data $dir/v --password-file $dir/password --yes"
proxy=
cleanup() {
    [ -z "$proxy" ] || kill "$proxy" 2>/dev/null
    $A stop >/dev/null 2>&1
    $V stop >/dev/null 2>&1
    "$devnet" stop "$dir/chain" >/dev/null 2>&1
    [ -z "${da_pid:-}" ] || kill "$da_pid" 2>/dev/null
    [ -n "$keep" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

step() { echo "== $*"; }
# json FILE EXPRESSION: a field of a result, python's way: json f '["batch"]'
json() { python3 -c 'import json,sys; v=json.load(open(sys.argv[1])); print(eval("v"+sys.argv[2]))' "$1" "$2"; }
# run NAME COMMAND…: its JSON result in $dir/NAME.json
run() {
    name=$1
    shift
    again=${again_max:-0} # while blocks are replaced, what a command rests on may be out just now: it is given again
    while ! "$@" --json >"$dir/$name.json" 2>"$dir/$name.err"; do
        [ $again -gt 0 ] || { cat "$dir/$name.err" >&2; cat "$dir/$name.json" >&2; fail "$name: $*"; }
        echo "   again, $name: $(head -n 2 "$dir/$name.err" | tr '\n' ' ')"
        again=$((again - 1))
        sleep 1
    done
}
refused() {
    name=$1
    shift
    if "$@" --json >"$dir/$name.json" 2>"$dir/$name.err"; then fail "$name was not refused"; fi
}
equal() { [ "$1" = "$2" ] || fail "$3: $1 is not $2"; }

step "1 chain"
"$devnet" start "$dir/chain" --port $port --block-time 1 || fail "devnet"
# anvil's first two published keys
printf 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80' >"$dir/dev.key"
printf '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d' >"$dir/val.key"
# EigenDA, as far as a simulator of its proxy goes: batches are published through it and fetched from it.
da=
if [ -x "$builddir/tests/simnode" ]; then
    "$builddir/tests/simnode" "$dir/da.port" >"$dir/da.log" 2>&1 &
    da_pid=$!
    n=0
    until [ -s "$dir/da.port" ] || [ $n -ge 100 ]; do
        n=$((n + 1))
        sleep 0.1
    done
    [ -s "$dir/da.port" ] && da=http://127.0.0.1:$(cat "$dir/da.port")/da
fi
start() { # NAME PORT
    "$LOAM" --data "$dir/$1" --password-file "$dir/password" --set api.listen=127.0.0.1:$2 --set key.cost=light --set chain.poll=0.25 --set da.proxy="$da" node \
        >>"$dir/$1.log" 2>&1 &
    n=0
    until "$LOAM" --data "$dir/$1" --no-start node status >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 600 ] || fail "node $1 does not answer (its log: $dir/$1.log)"
        sleep 0.1
    done
}
start a $((port + 1))
start v $((port + 2))
run use $A chain use http://127.0.0.1:$port
run dev $A key import dev "$dir/dev.key"
run deploy $A chain deploy --as dev
equal "$(json "$dir/deploy.json" '["deployed"]')" True "deployed"
run again $A chain deploy --as dev
equal "$(json "$dir/again.json" '["deployed"]')" False "a second deployment"
# The validator's folder takes the contracts' addresses from a copy of the chain's file, as a user would.
$V stop >/dev/null 2>&1
mkdir -p "$dir/v/chains" && cp "$dir"/a/chains/*.json "$dir/v/chains/" || fail "no chain file"
start v $((port + 2))
run vkey $V key import val "$dir/val.key"
run vacc $V account register val
val=$(json "$dir/vacc.json" '["account"]')
run stake $V validator stake 2 --total --as val
run stake2 $V validator stake 2 --total --as val
equal "$(json "$dir/stake2.json" '["stake_wei"]')" 2000000000000000000 "stake"
for k in alice bob carol server payer; do
    run "key-$k" $A key new $k
    run "acc-$k" $A account register $k --relay dev
done
for k in server payer; do
    run "fund-$k" $A chain send "$(json "$dir/key-$k.json" '["address"]')" 20 --from dev
done

step "2 contribute"
run net $A datanet create facts --as server
net=$(json "$dir/net.json" '["datanet"]')
for k in alice bob carol; do
    run "con-$k" $A contribute "$srcdir/contrib/demo/$k.jsonl" --datanet "$net" --as $k --relay dev
    run "con2-$k" $A contribute "$srcdir/contrib/demo/$k.jsonl" --datanet "$net" --as $k --relay dev
    equal "$(json "$dir/con-$k.json" '["contribution"]')" "$(json "$dir/con2-$k.json" '["contribution"]')" "contributed again"
done
refused copy $A contribute "$srcdir/contrib/demo/alice.jsonl" --datanet "$net" --as bob --relay dev

step "3 train"
run base $A model add "$model" --name base
run vbase $V model add "$model" --name base
run train $A train facts --datanet "$net" --base base --as server --epochs "$epochs"
run train2 $A train facts --datanet "$net" --base base --as server --epochs "$epochs"
equal "$(json "$dir/train.json" '["adapter_hash"]')" "$(json "$dir/train2.json" '["adapter_hash"]')" "trained again"

step "4 ask, 5 attribute"
i=0
python3 - "$srcdir/contrib/demo" <<'P' >"$dir/questions"
import json, sys
for who in ("alice", "bob", "carol"):
    rows = [json.loads(l) for l in open(f"{sys.argv[1]}/{who}.jsonl")]
    for r in rows[:2]:
        print(r.get("question") or r.get("prompt") or r["messages"][0]["content"])
P
while read -r q; do
    i=$((i + 1))
    run "ask$i" $A ask "$q" --model facts --max-tokens 24 --pay 1 --as payer --server server
    run "att$i" $A attribute "$(json "$dir/ask$i.json" '["id"]')"
done <"$dir/questions"
id() { json "$dir/ask$1.json" '["id"]'; }
peer=http://127.0.0.1:$((port + 1))
# Another node's account asks for pay, over the API. What it signed is kept back once and altered in every part: nothing that is not signed
# and covered is answered.
refused noserver $V ask "Who?" --model facts --pay 1 --as val --peer $peer
run servekey $A set serve.key server
refused dear $V ask "Who?" --model facts --pay 0.5 --as val --peer $peer
grep -q "a call costs 1 OPEN" "$dir/dear.err" "$dir/dear.json" || fail "the price was not told"
python3 "$srcdir/tests/paid_client.py" proxy $((port + 3)) $peer "$dir/question.json" 2>/dev/null &
proxy=$!
n=0
until curl -s -o /dev/null http://127.0.0.1:$((port + 3))/loam/v1/status; do
    n=$((n + 1))
    [ $n -lt 600 ] || fail "the proxy does not answer"
    sleep 0.1
done
refused kept $V ask "$(sed -n 2p "$dir/questions")" --model facts --max-tokens 24 --pay 1 --as val --peer http://127.0.0.1:$((port + 3))
kill $proxy
wait $proxy 2>/dev/null
i=$((i + 1))
python3 "$srcdir/tests/paid_client.py" try $peer "$dir/question.json" >"$dir/paid" || fail "a question that is not paid"
printf '{"id": %s}\n' "$(cat "$dir/paid")" >"$dir/ask$i.json"
run "att$i" $A attribute "$(id $i)"
i=$((i + 1))
run "ask$i" $V ask "$(sed -n 3p "$dir/questions")" --model facts --max-tokens 24 --pay 1 --as val --peer $peer
run "att$i" $A attribute "$(id $i)"

# LOAM_REORG=1 (tests/reorg.sh): the last steps of one batch while blocks are replaced by empty ones, up to 64 deep: what stood in them has to be
# sent again, in an order in which it does not revert. What was done so far lies deeper.
if [ -n "${LOAM_REORG:-}" ]; then
    chain_rpc() { curl -s -m 10 --noproxy '*' -H 'content-type: application/json' -d "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"$1\",\"params\":$2}" http://127.0.0.1:$port; }
    reorg() {
        chain_rpc anvil_reorg "[$1, []]" >"$dir/reorg.out"
        grep -q '"error"' "$dir/reorg.out" && fail "anvil_reorg $1: $(cat "$dir/reorg.out")"
        echo "   $1 blocks replaced"
    }
    quiet() { # until nothing is out on either node
        n=0
        while :; do
            run pend-a $A chain pending
            run pend-v $V chain pending
            grep -q '"state": "sent"\|"state": "signed"' "$dir/pend-a.json" "$dir/pend-v.json" || return 0
            n=$((n + 1))
            [ $n -lt 150 ] || fail "still out after the reorganisation: $($A chain pending; $V chain pending)"
            sleep 0.4
        done
    }
    again_max=25
    chain_rpc anvil_mine '["0x46"]' >/dev/null
    step "6 to 8 while blocks are replaced"
    run rec1 $A record "$(id 1)" "$(id 2)" "$(id 3)" "$(id 7)" "$(id 8)" --as server
    b1=$(json "$dir/rec1.json" '["batch"]')
    reorg 3
    run val1 $V validate "$b1" --peer $peer --as val
    equal "$(json "$dir/val1.json" '["verdict"]')" valid "verdict"
    reorg 64
    (run set1 $A settle "$b1" --as server) &
    settling=$!
    sleep 1.5
    reorg 20
    wait $settling || fail "settle"
    equal "$(json "$dir/set1.json" '["state"]')" settled "the batch"
    reorg 64
    run claims $A claim alice bob carol server 0 1 2 --relay dev
    reorg 64
    sleep 2 # both nodes have seen it
    quiet
    run set1b $A settle "$b1" --as server
    run claims2 $A claim alice bob carol server 0 1 2 --relay dev
    run rew $A rewards show
    python3 - "$dir" "$port" <<'P' || fail "after the reorganisations the accounts are not paid exactly once"
import json, sys, urllib.request
d, port = sys.argv[1:]
load = lambda f: json.load(open(f"{d}/{f}.json"))
lines = {l["account"]: int(l["cumulative"]) for l in load("set1")["payouts"]}
assert sum(lines.values()) == 5 * 10**18, lines
for c in load("claims2"):  # nothing is due any more, and all of it was paid
    assert c["amount_wei"] == "0" and int(c["cumulative_wei"]) == lines.get(c["account"], 0), c
def rpc(m, *p):
    r = urllib.request.Request(f"http://127.0.0.1:{port}", json.dumps({"id": 1, "jsonrpc": "2.0", "method": m, "params": p}).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(r))["result"]
# Every transaction stands on the chain once: the nonce of each key is the number of its entries, and all of them are confirmed.
sent = {}
for node in ("a", "v"):
    for e in load("pend-" + node):
        assert e["state"] == "confirmed", e
        sent.setdefault((node, e["from"]), []).append(e)
address = {"dev": load("dev"), "val": load("vkey"), **{k: load("key-" + k) for k in ("server", "payer")}}
for (node, key), list_ in sent.items():
    if key in address:
        nonce = int(rpc("eth_getTransactionCount", address[key]["address"], "latest"), 16)
        assert nonce == len(list_), (key, nonce, len(list_))
        for e in list_:
            r = rpc("eth_getTransactionReceipt", e["tx"])
            assert r and r["status"] == "0x1" and int(r["blockNumber"], 16) == e["block"], (e, r)
        print(f"   key {key}: {nonce} transactions, each once")
P
    echo "   sent again: $(cat "$dir/a.log" "$dir/v.log" | grep -c 'its block was replaced')"
    echo "PASS thread, reorganised"
    exit 0
fi

step "6 record"
# What EigenDA's proxy may answer, each with its own end: 400 and 403 stop the command; 429 and 500 are tried three times, a passing one is
# survived; then, as after 418 and 503, this node serves the batch, which is said. Nothing is posted: the question after it is declined.
da_says() { curl -s --noproxy '*' -d "{\"id\": 1, \"method\": \"sim_da\", \"params\": [$1]}" "${da%/da}/l2" >/dev/null; }
da_told() { curl -s --noproxy '*' -d '{"id": 1, "method": "sim_info", "params": []}' "${da%/da}/l2" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }
da_code() { # ANSWERS "what the proxy says" REFUSALS TEXT
    da_says "$2"
    if ${A% --yes} record $1 --as server </dev/null >"$dir/da.json" 2>"$dir/da.err"; then fail "da $2: posted without being confirmed"; fi
    grep -q "$4" "$dir/da.err" || fail "da $2: does not say '$4': $(cat "$dir/da.err")"
    n=$(da_told da_refused)
    # A command that kill9_thread.sh kills asks again: not less often.
    if [ -n "${KILL9_STATE:-}" ]; then [ "$n" -ge "$3" ] || fail "refusals of the proxy, $2: $n"; else equal "$n" "$3" "refusals of the proxy, $2"; fi
    da_says 0
}
if [ -n "$da" ]; then
    da_code "$(id 4)" 400 1 "EigenDA proxy: bad request: refused with 400"
    da_code "$(id 4)" 403 1 "EigenDA proxy: this API is not enabled"
    da_code "$(id 4)" 418 1 "not published through EigenDA (EigenDA proxy: drop this batch: its certificate is not valid (3)): this node serves"
    da_code "$(id 5)" '418, 0, "get", 2' 1 "not published through EigenDA (EigenDA proxy: drop this batch: it is not recent (2)): this node serves"
    da_code "$(id 6)" 429 3 "not published through EigenDA (EigenDA proxy: rate limited): this node serves"
    da_code "$(id 7)" 500 3 "not published through EigenDA (EigenDA proxy: HTTP 500: refused with 500 for a test): this node serves"
    da_code "$(id 8)" '500, 2, "put"' 2 "published through EigenDA, [0-9]* bytes: retrieved, hash matched"
    da_code "$(id 4) $(id 5)" '429, 1, "get"' 1 "published through EigenDA, [0-9]* bytes: retrieved, hash matched"
    da_code "$(id 5) $(id 4)" 503 1 "not published through EigenDA (EigenDA proxy: fail over: refused with 503"
fi
run rec1 $A record "$(id 1)" "$(id 2)" "$(id 3)" "$(id 7)" "$(id 8)" --as server
b1=$(json "$dir/rec1.json" '["batch"]')
run rec1b $A record "$(id 1)" "$(id 2)" "$(id 3)" "$(id 7)" "$(id 8)" --as server
equal "$(json "$dir/rec1b.json" '["batch"]')" "$b1" "recorded again"
refused open $A record "$(id 4)" --as server
# What a command said on its way is not said again by one that finds it done: not asked for where kill9_thread.sh kills it in between.
said() { # FILE PATTERN FAULT
    [ -z "$da" ] || [ -n "${KILL9_STATE:-}" ] || grep -q "$2" "$1" || fail "$3: $(cat "$1")"
}
said "$dir/rec1.err" "published through EigenDA.*retrieved, hash matched; KZG and quorum not checked" "not published through EigenDA"

step "7 validate"
run val1 $V validate "$b1" --peer $peer --as val
said "$dir/val1.err" "batch data from EigenDA: retrieved, hash matched; KZG and quorum not checked" "not fetched from EigenDA"
equal "$(json "$dir/val1.json" '["verdict"]')" valid "verdict on an honest batch ($(json "$dir/val1.json" '["reason"]'))"
run set1 $A settle "$b1" --as server
equal "$(json "$dir/set1.json" '["state"]')" settled "honest batch"
# One wei between two contributors: only re-execution shows it.
run rec2 $A record "$(id 4)" "$(id 5)" --as server --fault move-wei
b2=$(json "$dir/rec2.json" '["batch"]')
# The proxy drops it meanwhile: the validator's node says so, and takes it from the poster.
[ -z "$da" ] || da_says '418, 0, "get", 1'
run val2 $V validate "$b2" --peer $peer --as val
[ -z "$da" ] || grep -q "EigenDA proxy: drop this batch: its certificate does not parse (1)" "$dir/val2.err" || fail "418 is not told: $(cat "$dir/val2.err")"
[ -z "$da" ] || da_says 0
equal "$(json "$dir/val2.json" '["verdict"]')" invalid "verdict on a moved wei"
run set2 $A settle "$b2" --as server
equal "$(json "$dir/set2.json" '["state"]')" voided "batch with a moved wei"
echo "   voided: $(json "$dir/val2.json" '["reason"]')"
# Voided once, the same calls may be posted again, rightly.
# EigenDA is down: the poster's own node serves this one.
[ -z "$da" ] || da_says 503
run rec3 $A record "$(id 4)" "$(id 5)" --as server
said "$dir/rec3.err" "not published through EigenDA (EigenDA proxy: fail over" "503 is not told"
[ -z "$da" ] || da_says 0
b3=$(json "$dir/rec3.json" '["batch"]')
# A standing validator sees it posted, and finds the bytes by the locator. The poster is away: it tries again until it is back.
pid=$(sed -n 's/^pid \([0-9]*\),.*/\1/p' "$dir/a/lock")
$A stop >/dev/null 2>&1
n=0
while kill -0 "$pid" 2>/dev/null && [ $n -lt 600 ]; do
    n=$((n + 1))
    sleep 0.1
done
run watch $V validator run --as val --no-wait
n=0
until $V job list 2>/dev/null | grep "validate $b3 " | grep -q "failed.*LOAM_ENET"; do
    n=$((n + 1))
    [ $n -lt 600 ] || fail "the standing validator does not say that the poster is away"
    sleep 0.1
done
start a $((port + 1))
run set3 $A settle "$b3" --as server
equal "$(json "$dir/set3.json" '["state"]')" settled "batch posted again"
equal "$(json "$dir/set3.json" '["verdicts"][0]["verdict"]')" valid "the standing validator's verdict"
run unwatch $V job cancel "$(json "$dir/watch.json" '["job"]')"
# Payouts that do not add up: shown to the contract, bond slashed.
run rec4 $A record "$(id 6)" --as server --fault bad-sum
b4=$(json "$dir/rec4.json" '["batch"]')
run val4 $V validate "$b4" --peer $peer --as val
equal "$(json "$dir/val4.json" '["state"]')" slashed "batch with a false sum"
run set4 $A settle "$b4" --as server
equal "$(json "$dir/set4.json" '["state"]')" slashed "batch with a false sum"
echo "   slashed: $(json "$dir/val4.json" '["reason"]')"

step "8 settle and claim"
run rew $A rewards show
# Every account is paid exactly its line, and the balance rises by that; the fixed parts are 10, 20 and 20 % of 7 OPEN.
run claims $A claim alice bob carol server 0 1 2 --relay dev
python3 - "$dir" <<'P' || fail "the claims do not pay the settled split"
import json, sys
d = sys.argv[1]
claims = json.load(open(d + "/claims.json"))
lines = {l["account"]: int(l["cumulative"]) for l in json.load(open(d + "/set3.json"))["payouts"]}
fee = 7 * 10**18
assert sum(lines.values()) == fee, lines
assert lines[1] == fee // 10 and lines[2] == fee // 5, lines
paid = 0
for c in claims:
    want = lines.get(c["account"], 0)
    assert int(c["amount_wei"]) == want, (c, want)
    paid += want
    if want and c["account"] != 1:  # account 1 is paid to the relay's own address, which pays the gas
        assert int(c["after_wei"]) - int(c["before_wei"]) == want and c["exact"], c
assert paid == fee, (paid, fee)
for a, w in sorted(lines.items()):
    print(f"   account {a}: {w / 1e18:.18f} OPEN")
P
run claims2 $A claim alice bob carol --relay dev
python3 -c 'import json,sys; assert all(c["amount_wei"]=="0" for c in json.load(open(sys.argv[1])))' "$dir/claims2.json" || fail "paid twice"

step "9 trace"
tx=$(python3 - "$dir" <<'P'
import json, sys
c = [c for c in json.load(open(sys.argv[1] + "/claims.json")) if c["account"] > 3 and int(c["amount_wei"]) and c["account"] != json.load(open(sys.argv[1] + "/acc-server.json"))["account"]]
print(max(c, key=lambda c: int(c["amount_wei"]))["tx"])
P
) || fail "no contributor earned"
run trace $A trace "$tx"
$A trace "$tx" >"$dir/trace.txt" && sed -n 1,14p "$dir/trace.txt"
# The validator's node can walk it too, with bytes from the poster's.
run trace-v $V trace "$tx" --peer $peer
echo "PASS thread"
