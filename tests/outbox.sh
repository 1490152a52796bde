#!/bin/sh
# The outbox on a development chain: a stuck transaction is replaced and only one of the two is mined; one that expires is taken back; a revert, a retry and a
# reorganisation over both pay once; no funds, spend limit,
# locked key, chain mismatch, RPC down; anvil's keys elsewhere.
src=$(cd "${srcdir:-.}" && pwd)
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
PORT=${PORT:-28645}
[ -x "$loam" ] || { echo "# skipped: loam is not built"; exit 77; }
if [ -z "${ANVIL:-}" ]; then
    for f in "$src"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil; do [ -x "$f" ] && ANVIL=$f; done
    [ -n "${ANVIL:-}" ] || ANVIL=$(command -v anvil) || { echo "# skipped: anvil is not installed"; exit 77; }
fi
command -v curl >/dev/null || { echo "# skipped: curl is not installed"; exit 77; }
export ANVIL
work=$(mktemp -d) || exit 2
status=0 node_pid=
bad() { echo "FAILED: $*"; status=1; }
trap '[ -n "$node_pid" ] && kill -9 $node_pid 2>/dev/null; for c in chain other; do sh "$src/contrib/devnet/devnet" kill "$work/$c" >/dev/null 2>&1; done; rm -rf "$work"' EXIT
devnet() { sh "$src/contrib/devnet/devnet" "$@" >/dev/null 2>"$work/devnet.err"; }
rpc() { curl -s -m 5 -H 'content-type: application/json' -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$2}" "http://127.0.0.1:$PORT"; }
run() { "$loam" --data "$data" --no-start --yes "$@"; }
want() { # STATUS TEXT words
    x=$1 text=$2
    shift 2
    run "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ $got = "$x" ] || bad "$*: exit status $got, not $x: $(head -c 300 "$work/err")"
    [ -z "$text" ] || grep -q -- "$text" "$work/out" "$work/err" || bad "$*: does not say '$text': $(cat "$work/out" "$work/err" | head -c 300)"
}
up() {
    "$loam" --data "$data" node >>"$work/node.log" 2>&1 &
    node_pid=$!
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        run node status >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    bad "the node does not start: $(tail -3 "$work/node.log")"
    exit 1
}
down() { run stop; wait $node_pid; node_pid=; }

devnet start "$work/chain" --port "$PORT" || { cat "$work/devnet.err"; exit 77; }
data=$work/data
mkdir -m 700 "$data"
echo pw >"$work/pw"
echo ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 >"$work/key"
printf 'api.listen =\nkey.cost = light\nkey.spend-limit = 5\nchain.poll = 0.2\ntx.replace-after = 5\n' >"$data/config"
up
want 0 "31337" chain use "http://127.0.0.1:$PORT"
want 0 "" --password-file "$work/pw" key import dev "$work/key"
want 0 "" --password-file "$work/pw" key new poor
to=0x00000000000000000000000000000000000a11ce

# locked, then unlocked; what it cannot pay
want 77 "locked" chain send $to 1 --from dev
want 0 "tx:" --password-file "$work/pw" chain send $to 1 --from dev
want 76 "needed with gas" chain send $to 1 --from poor
grep -q "0x" "$work/err" || bad "no funds: the address is not named"
want 77 "spend" chain send $to 4.5 --from dev
want 0 "balance: *1 OPEN" chain account $to

# stuck: no block takes it until its fee was raised
rpc evm_setAutomine '[false]' >/dev/null
run --no-wait chain send $to 0.5 --from dev >"$work/job" 2>&1 || bad "send: $(cat "$work/job")"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q "fee raised" "$work/node.log" && break
    sleep 0.5
done
grep -q "fee raised" "$work/node.log" || bad "the fee was not raised"
want 0 "sent" chain pending
rpc evm_setAutomine '[true]' >/dev/null
rpc evm_mine '[]' >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    run --json job list | grep -q '"state": "running"' || break
    sleep 0.3
done
want 0 "balance: *1.5 OPEN" chain account $to
run --json chain pending | grep -q '"state": "sent"' && bad "the replaced transaction is still listed as out"
n=$(run --json chain account dev | sed -n 's/.*"nonce": \([0-9]*\).*/\1/p')
[ "$n" = 2 ] || bad "dev's nonce is $n, not 2"

# Ctrl-C leaves the job, says how to cancel it; cancelled, the transaction that is out still counts
rpc evm_setAutomine '[false]' >/dev/null
# (A leak checker that is interrupted at the same moment waits for itself forever.)
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 timeout --preserve-status -s INT -k 20 1 "$loam" --data "$data" --no-start --yes chain send $to 0.125 --from dev >"$work/out" 2>"$work/err"
x=$?
[ $x = 130 ] || bad "Ctrl-C: exit status $x"
job=$(sed -n 's/.*loam job cancel \([0-9]*\).*/\1/p' "$work/err")
[ -n "$job" ] || bad "Ctrl-C: does not say how to cancel: $(cat "$work/err")"
run --json job show "$job" | grep -q '"state": "running"' || bad "Ctrl-C ended the job"
want 0 "" job cancel "$job"
sleep 0.5
run --json job show "$job" | grep -q '"state": "cancelled"' || bad "the job was not cancelled"
rpc evm_setAutomine '[true]' >/dev/null
rpc evm_mine '[]' >/dev/null
sleep 1
want 0 "" job resume "$job"
sleep 1
run --json job show "$job" | grep -q '"state": "done"' || bad "resumed: $(run job show "$job")"
want 0 "balance: *1.625 OPEN" chain account $to

# no block takes it: after tx.expire an empty one takes its place, and nothing was paid
want 0 "" set tx.expire 6
rpc evm_setAutomine '[false]' >/dev/null
run chain send 0x000000000000000000000000000000000000e0e0 0.25 --from dev >"$work/out" 2>"$work/err" </dev/null &
client=$!
for i in $(seq 80); do
    grep -q "taken back" "$work/node.log" && break
    sleep 0.25
done
grep -q "no block took it for 6 s" "$work/node.log" || bad "it does not expire: $(run chain pending)"
rpc evm_mine '[]' >/dev/null
wait $client && bad "an expired payment ended well"
grep -q "was taken back by 0x" "$work/err" || bad "expired: does not say so: $(cat "$work/err")"
rpc evm_setAutomine '[true]' >/dev/null
want 0 "" set tx.expire 0
want 0 "balance: *0 OPEN" chain account 0x000000000000000000000000000000000000e0e0
want 0 "tx:" chain send 0x000000000000000000000000000000000000e0e0 0.0625 --from dev
want 0 "balance: *0.0625 OPEN" chain account 0x000000000000000000000000000000000000e0e0

# A transaction that reverted, sent again later, and both lost in a reorganisation: on the new branch the first one executes. Paid once; the
# second is taken back, and its nonce does not stay open.
shop=0x0000000000000000000000000000000000005409
rpc anvil_setCode "[\"$shop\",\"0x00\"]" >/dev/null
rpc evm_mine '[]' >/dev/null
sleep 0.6 # what anvil_setCode changes stands under the next block's root only
rpc evm_setAutomine '[false]' >/dev/null
run --no-wait chain send $shop 0.0625 --from dev >"$work/job" 2>&1 || bad "send to a contract: $(cat "$work/job")"
job=$(run --json job list | tr -d '\n' | sed 's/.*"id": *\([0-9]*\)[^}]*"state": *"running".*/\1/')
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    run --json chain pending | grep -q '"state": "sent"' && break
    sleep 0.2
done
rpc anvil_setCode "[\"$shop\",\"0x60006000fd\"]" >/dev/null # reverts
rpc evm_mine '[]' >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    run --json chain pending | grep -q '"state": "failed"' && break
    sleep 0.2
done
run --json chain pending | grep -q '"state": "failed"' || bad "the call did not revert: $(run chain pending)"
rpc anvil_setCode "[\"$shop\",\"0x00\"]" >/dev/null
rpc evm_mine '[]' >/dev/null
rpc evm_setAutomine '[true]' >/dev/null
sleep 0.6
want 0 "" job resume "$job"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    run --json job list | grep -q '"state": "running"' || break
    sleep 0.2
done
want 0 "balance: *0.0625 OPEN" chain account $shop
n=$(run --json chain account dev | sed -n 's/.*"nonce": \([0-9]*\).*/\1/p')
rpc anvil_reorg '[4, []]' >/dev/null
for i in $(seq 60); do
    grep -q "the one sent after it is taken back" "$work/node.log" && ! run --json chain pending | grep -q '"state": "sent"' && break
    sleep 0.3
done
grep -q "the one sent after it is taken back" "$work/node.log" || bad "reorganised: the first transaction's outcome was not looked for: $(run chain pending)"
want 0 "balance: *0.0625 OPEN" chain account $shop
got=$(run --json chain account dev | sed -n 's/.*"nonce": \([0-9]*\).*/\1/p')
[ "$got" = "$n" ] || bad "reorganised: dev's nonce is $got, not $n: one of the two stayed open"
grep "executed besides" "$work/node.log" && bad "paid twice"

# the RPC goes away and comes back
devnet stop "$work/chain"
want 69 "" chain send $to 0.25 --from dev
want 0 "running" node status
devnet start "$work/chain" --port "$PORT" || bad "the chain does not start again"
sleep 1
want 0 "tx:" chain send $to 0.25 --from dev
want 0 "balance: *1.875 OPEN" chain account $to

# another chain under the same address
down
devnet stop "$work/chain"
devnet start "$work/other" --port "$PORT" --chain-id 4242 || bad "the other chain does not start"
up
sleep 1
want 76 "chain" --password-file "$work/pw" chain send $to 0.25 --from dev
want 76 "4242" chain use "http://127.0.0.1:$PORT"
down

# anvil's keys are refused elsewhere
data=$work/real
mkdir -m 700 "$data" "$data/chains"
printf 'api.listen =\nkey.cost = light\n' >"$data/config"
printf '{"chain_id":10,"profile":"op","urls":["http://127.0.0.1:1"]}\n' >"$data/chains/10.json"
up
want 77 "published" --password-file "$work/pw" key import dev "$work/key"
down
exit $status
