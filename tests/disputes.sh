#!/bin/sh
# Money and disputes on a development chain, through the real contracts and `loam WORDS…`, with answers whose scores are known
# (tests/seed_calls.c; no model runs):
#   the golden case of the protocol (fee 1 OPEN, a quarter of the influence: 0.125 OPEN);
#   a bad root of one poster does not touch another's pot;
#   every dispute that the contracts offer, each on a batch that is false in that way;
#   demanded leaves: shown, shown by settle, and not shown.
# Skips with a line where anvil is missing.
set -u
srcdir=$(cd "${srcdir:-.}" && pwd)
builddir=$(cd "${builddir:-.}" && pwd)
LOAM=${LOAM:-$builddir/loam}
devnet=$srcdir/contrib/devnet/devnet

fail() { echo "FAIL disputes: $*" >&2; exit 1; }
skip() { echo "SKIP disputes: $*"; exit 77; }
command -v python3 >/dev/null 2>&1 || skip "no python3 to read results"
command -v curl >/dev/null 2>&1 || skip "curl is missing"
set -- "$srcdir"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil
[ -n "${ANVIL:-}" ] || [ -x "$1" ] || command -v anvil >/dev/null 2>&1 || skip "anvil is missing: contrib/contracts/check install"

keep=${LOAM_THREAD_DIR:-}
dir=${keep:-$(mktemp -d /tmp/loam-disputes.XXXXXX)}
rm -rf "$dir" && mkdir -p "$dir" || fail "cannot make $dir"
port=$((20000 + $$ % 20000))
printf 'disputes' >"$dir/password"
A="$LOAM --data $dir/a --password-file $dir/password --yes"
cleanup() {
    $A stop >/dev/null 2>&1
    "$devnet" stop "$dir/chain" >/dev/null 2>&1
    [ -n "$keep" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

step() { echo "== $*"; }
json() { python3 -c 'import json,sys; v=json.load(open(sys.argv[1])); print(eval("v"+sys.argv[2]))' "$1" "$2"; }
run() {
    name=$1
    shift
    "$@" --json >"$dir/$name.json" 2>"$dir/$name.err" || { cat "$dir/$name.err" >&2; cat "$dir/$name.json" >&2; fail "$name: $*"; }
}
# refused NAME PATTERN COMMAND…: must fail and say so
refused() {
    name=$1 pattern=$2
    shift 2
    if "$@" --json >"$dir/$name.json" 2>"$dir/$name.err"; then fail "$name was not refused"; fi
    cat "$dir/$name.json" "$dir/$name.err" | grep -q "$pattern" || { cat "$dir/$name.json" "$dir/$name.err" >&2; fail "$name: not refused with \"$pattern\""; }
}
rpc() { curl -s -m 20 -H 'content-type: application/json' -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":[${2:-}]}" http://127.0.0.1:$port; }
# The windows are far longer than the commands take on any machine; the chain's clock is put forward instead of waiting for them.
later() {
    rpc evm_increaseTime "$1" >/dev/null && rpc evm_mine >/dev/null || fail "the chain's clock"
}
equal() { [ "$1" = "$2" ] || fail "$3: $1 is not $2"; }

# What the contracts can answer is known by name.
grep -hoE "^ *error [A-Za-z]+\([^)]*\)" "$srcdir"/contrib/contracts/src/*.sol | sed 's/^ *error //; s/State state/uint8 state/' | sort -u >"$dir/errors"
sed -n 's/^E("\(.*\)")$/\1/p' "$srcdir/engine/flow/errors.def" | sort -u | cmp -s - "$dir/errors" || fail "engine/flow/errors.def is not what the contracts declare"

# Accounts are numbered as they are registered: 3 server, 4 mallory, 5 alice, 6 bob, 7 carol. The answers must be there before the node runs.
"$builddir/tests/seed_calls" "$dir/a" 41 3 5 6 7 || fail "seed_calls"
"$devnet" start "$dir/chain" --port $port --block-time 1 || fail "devnet"
printf 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80' >"$dir/dev.key"
"$LOAM" --data "$dir/a" --password-file "$dir/password" --set api.listen=127.0.0.1:$((port + 1)) --set key.cost=light --set chain.poll=0.1 node >>"$dir/a.log" 2>&1 &
n=0
until "$LOAM" --data "$dir/a" --no-start node status >/dev/null 2>&1; do
    n=$((n + 1))
    [ $n -lt 600 ] || fail "the node does not answer"
    sleep 0.1
done
run use $A chain use http://127.0.0.1:$port
run dev $A key import dev "$dir/dev.key"
run deploy $A chain deploy --as dev --challenge-window 600 --demand-window 300
i=3
for k in server mallory alice bob carol; do
    run "key-$k" $A key new $k
    run "acc-$k" $A account register $k --relay dev
    equal "$(json "$dir/acc-$k.json" '["account"]')" $i "account of $k"
    i=$((i + 1))
done
run fund $A chain send server 60 --from dev
run fund2 $A chain send mallory 5 --from dev

step "the golden case: fee 1 OPEN, a quarter of the influence"
refused fast "computed in fast-bf16, which nobody can compute again" $A record 41 --as server
run gold $A record 1 --as server --fee 1
later 601
run goldset $A settle "$(json "$dir/gold.json" '["batch"]')" --as dev
equal "$(json "$dir/goldset.json" '["state"]')" settled "the golden batch"

step "a bad root of one poster does not touch another's pot"
# mallory's table gives 1000 OPEN that nobody paid; no validator has a stake, so it settles unchallenged.
run bad $A record 2 --as mallory --fee 1 --fault bad-end
later 601
run badset $A settle "$(json "$dir/bad.json" '["batch"]')" --as dev
equal "$(json "$dir/badset.json" '["state"]')" settled "the unchallenged false batch"
refused drain PotEmpty $A claim alice --poster mallory --relay dev
# What mallory's pot holds can be had, no more; and the server's pays what it owes to the last wei.
run other $A claim bob --poster mallory --relay dev
run gclaim $A claim 0 1 2 server alice bob carol --poster server --relay dev
run pots $A rewards show
python3 - "$dir" <<'P' || fail "the pots"
import json, sys
d = sys.argv[1]
claims = {c["account"]: c for c in json.load(open(d + "/gclaim.json"))}
open_ = 10**18
# platform, stakers, server 10, 20, 20 %; contributors' half: alice a quarter, bob half, carol a quarter; nothing to burn
want = {0: 0, 1: open_ // 10, 2: open_ // 5, 3: open_ // 5, 5: 125 * 10**15, 6: 250 * 10**15, 7: 125 * 10**15}
for account, wei in want.items():
    c = claims[account]
    assert int(c["amount_wei"]) == wei, c
    if wei and account != 1:  # account 1 is paid to the relay's own address, which pays the gas
        assert c["exact"] and int(c["after_wei"]) - int(c["before_wei"]) == wei, c
pots = {p["poster"]: p for p in json.load(open(d + "/pots.json"))}
assert int(pots[3]["settled_wei"]) == int(pots[3]["claimed_wei"]) == open_, pots[3]
assert int(pots[4]["settled_wei"]) == open_ and int(pots[4]["claimed_wei"]) == 250 * 10**15, pots[4]
print("   alice was paid 0.125 OPEN; the server's pot is claimed to the last wei, mallory's holds its 0.75")
P

step "disputes"
n=3
for f in bad-sum bad-end decrease missing missing-end sequence fee link count claim; do
    run "rec-$f" $A record $n $((n + 1)) --as server --fee 1 --fault $f
    b=$(json "$dir/rec-$f.json" '["batch"]')
    run "look-$f" $A dispute "$b" --look
    equal "$(json "$dir/look-$f.json" '["provable"]')" True "$f is seen"
    run "dis-$f" $A dispute "$b" --as dev
    equal "$(json "$dir/dis-$f.json" '["state"]')" slashed "$f"
    case $f in bad-*) want=${f#bad-} ;; missing-end) want=missing ;; *) want=$f ;; esac
    equal "$(json "$dir/dis-$f.json" '["proof"]')" $want "the proof of $f"
    equal "$(json "$dir/dis-$f.json" '["reward_wei"]')" 500000000000000000 "half of the bond"
    echo "   $f: $(json "$dir/dis-$f.json" '["reason"]')"
    n=$((n + 2))
done
# What only re-execution shows, and what is true, no contract is shown.
run wei $A record $n --as server --fee 1 --fault move-wei
refused wei-dispute "validators void it" $A dispute "$(json "$dir/wei.json" '["batch"]')" --as dev
refused two "still open" $A record $((n + 1)) --as server

step "demands"
b=$(json "$dir/wei.json" '["batch"]')
run ask-leaf $A demand leaf "$b" --tree inferences --index 0 --as dev
equal "$(json "$dir/ask-leaf.json" '["open"]')" True "the demand"
refused early "may still answer" $A demand silence "$b" --as dev
run answer $A demand answer "$b" --as server
equal "$(json "$dir/answer.json" '["open"]')" False "the demand that was answered"
refused range "counted from 0" $A demand leaf "$b" --tree payouts --index 99 --as dev
run ask-line $A demand leaf "$b" --tree payouts --index 1 --as dev
last=$((n + 1)) # an answer that is in no batch yet
# settle shows the leaf by itself, and then waits for the window
$A settle "$b" --as server --json >"$dir/weiset.json" 2>"$dir/weiset.err" &
settle=$!
n=0
until run shown $A demand show "$b" && [ "$(json "$dir/shown.json" '["open"]')" = False ]; do
    n=$((n + 1))
    [ $n -lt 150 ] || fail "settle does not show the demanded leaf"
    sleep 0.2
done
later 601
wait $settle || { cat "$dir/weiset.err" >&2; fail "settle after a demand"; }
equal "$(json "$dir/weiset.json" '["state"]')" settled "a batch whose leaves were shown"
run mute $A record $last --as server --fee 1
b=$(json "$dir/mute.json" '["batch"]')
run ask-mute $A demand leaf "$b" --tree requests --as dev
refused early2 "may still answer" $A demand silence "$b" --as dev
later 301
n=0
until $A demand silence "$b" --as dev --json >"$dir/silence.json" 2>"$dir/silence.err"; do # its head may be a block behind
    n=$((n + 1))
    [ $n -lt 600 ] || { cat "$dir/silence.err" >&2; fail "silence"; }
    sleep 0.2
done
equal "$(json "$dir/silence.json" '["state"]')" slashed "a silent poster"
step "a reverted transaction can be sent again under its key"
# Validators is replaced by code that reverts while the stake is out, so that it passes the estimate and reverts in its block.
validators=$(json "$dir/deploy.json" '["contracts"]["Validators"]["address"]')
rpc eth_getCode "\"$validators\", \"latest\"" >"$dir/code.json"
rpc evm_setAutomine false >/dev/null && rpc evm_setIntervalMining 0 >/dev/null || fail "mining"
$A validator stake 1 --total --as dev --json >"$dir/stake.json" 2>"$dir/stake.err" &
client=$!
n=0
until rpc txpool_status "" | grep -q '"pending":"0x1"'; do
    n=$((n + 1))
    [ $n -lt 1200 ] || fail "the stake does not go out"
    sleep 0.1
done
rpc anvil_setCode "\"$validators\", \"0x60006000fd\"" >/dev/null
rpc evm_mine "" >/dev/null
wait $client && fail "a reverted stake is called done"
grep -q "reverted" "$dir/stake.json" "$dir/stake.err" || fail "the revert is not told"
refused still "reverted" $A validator stake 1 --total --as dev # it would revert again: not sent
rpc anvil_setCode "\"$validators\", \"$(json "$dir/code.json" '["result"]')\"" >/dev/null
rpc evm_setAutomine true >/dev/null && rpc evm_setIntervalMining 1 >/dev/null || fail "mining"
rpc evm_mine "" >/dev/null # what was set stands in no block yet
n=0
until $A validator stake 1 --total --as dev --json >"$dir/stake.json" 2>"$dir/stake.err"; do # its head may be a block behind
    n=$((n + 1))
    [ $n -lt 600 ] || { cat "$dir/stake.err" >&2; fail "the stake at the second try"; }
    sleep 0.2
done
equal "$(json "$dir/stake.json" '["stake_wei"]')" 1000000000000000000 "the stake at the second try"
run stake2 $A validator stake 1 --total --as dev
equal "$(json "$dir/stake2.json" '["stake_wei"]')" 1000000000000000000 "staked twice"
step "two attestations of one validator"
"$builddir/tests/seed_calls" attest "$(cat "$dir/dev.key")" 31337 "$(json "$dir/deploy.json" '["contracts"]["Ledger"]["address"]')" 1 1 >"$dir/two.json" || fail "seed_calls attest"
sed 's/"verdict": 2/"verdict": 1/' "$dir/two.json" >"$dir/one-forged.json"
refused forged "LOAM_EINVAL\|LOAM_ESIG" $A validator accuse "$dir/one-forged.json" --as dev
run accuse $A validator accuse "$dir/two.json" --as dev
equal "$(json "$dir/accuse.json" '["stake_wei"]')" 500000000000000000 "the stake after two attestations"
echo "PASS disputes"
