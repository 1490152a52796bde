#!/bin/sh
# The whole node against a simulated OP chain and its L1: heads and how each is known, feeds, evidence, logs, proofs of old blocks,
# what goes by L1 (force, bridge), export. No development chain is needed.
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
sim=$(cd "${builddir:-.}" && pwd)/tests/simnode
[ -x "$loam" ] && [ -x "$sim" ] || { echo "# skipped: loam or tests/simnode is not built"; exit 77; }
command -v curl >/dev/null || { echo "# skipped: curl is not installed"; exit 77; }
work=$(mktemp -d) || exit 2
status=0 node_pid= sim_pid=
bad() { echo "FAILED: $*"; status=1; }
trap '[ -n "$node_pid" ] && kill -9 $node_pid 2>/dev/null; [ -n "$sim_pid" ] && kill -9 $sim_pid 2>/dev/null; rm -rf "$work"' EXIT
rpc() { curl -s -m 60 --noproxy '*' -H 'content-type: application/json' -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$2}" "$url/l2"; }
run() { "$loam" --data "$data" --no-start --yes --password-file "$work/pw" "$@"; }
want() { # STATUS TEXT words
    x=$1 text=$2
    shift 2
    run "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ $got = "$x" ] || bad "$*: exit status $got, not $x: $(head -c 300 "$work/err")"
    [ -z "$text" ] || grep -q -- "$text" "$work/out" "$work/err" || bad "$*: does not say '$text': $(cat "$work/out" "$work/err" | head -c 400)"
}
soon() { # TEXT words: until it says so
    text=$1
    shift
    i=0
    while ! run "$@" 2>&1 </dev/null | tr -d '\n' | tr -s ' ' | grep -q -- "$text"; do
        i=$((i + 1))
        [ $i -lt 150 ] || { bad "$*: never says '$text': $(run "$@" 2>&1 | head -c 600)"; return; }
        sleep 0.2
    done
}
sim_up() {
    rm -f "$work/port"
    "$sim" "$work/port" "$@" >"$work/sim.log" 2>&1 &
    sim_pid=$!
    i=0
    while [ ! -s "$work/port" ]; do
        i=$((i + 1))
        [ $i -lt 300 ] || { cat "$work/sim.log"; bad "the simulator does not start"; exit 1; }
        sleep 0.1
    done
    url=http://127.0.0.1:$(cat "$work/port")
    info=$(rpc sim_info '[]')
    field() { echo "$info" | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }
    cat >"$work/chain.json" <<EOF
{"chain_id": 1612, "name": "simulated", "profile": "op", "block_time": 2, "urls": ["$url/l2"], "proof_urls": ["$url/old"],
 "forks": {"canyon": 0, "ecotone": 0, "fjord": 0, "granite": 0, "holocene": 0, "isthmus": 0, "jovian": null},
 "feed": ["$url/feed", "$url/gossip"], "faucet": "https://faucet.example.org",
 "l1": {"urls": ["$url/l1"], "chain_id": 900, "system_config": "$(field system_config)", "registry": "$(field registry)", "signer": true, "period_s": 1}}
EOF
}
node_up() {
    mkdir -p -m 700 "$data"
    printf 'api.listen =\nkey.cost = light\nkey.spend-limit = 50\nchain.poll = 0.2\ntx.replace-after = 60\n' >"$data/config"
    "$loam" --data "$data" node >>"$work/node.log" 2>&1 &
    node_pid=$!
    i=0
    while ! run node status >/dev/null 2>&1; do
        i=$((i + 1))
        [ $i -lt 300 ] || { bad "the node does not start: $(tail -3 "$work/node.log")"; exit 1; }
        sleep 0.1
    done
}
down() { run stop >/dev/null 2>&1; wait $node_pid; node_pid=; }
address() { run --json chain account "$1" | sed -n 's/.*"address": *"\([^"]*\)".*/\1/p'; }
balance() { run --json chain account "$1" | tr -d '\n' | sed -n 's/.*"balance_wei": *"\([0-9]*\)".*/\1/p'; }

echo pw >"$work/pw"
data=$work/data
sim_up
node_up
want 66 "no transaction is out" chain force
want 0 "1612" chain use --file "$work/chain.json"
want 0 "" key new alice
alice=$(run --json chain account alice | tr -d '\n' | sed -n 's/.*"address": *"\([^"]*\)".*/\1/p')
[ ${#alice} = 42 ] || bad "no address of alice: $alice"
rpc sim_fund "[\"$alice\", \"0x8ac7230489e80000\"]" >/dev/null # 10

# heads: signed by the feeds (its key learnt from the SystemConfig), anchored through game and registry, L1 origins checked
soon '"name": "signed"' --json chain heads
soon '"name": "proposed", "number": 9' --json chain heads
soon '"name": "resolved", "number": 5' --json chain heads
soon '"origins_checked": [1-9]' --json chain status
want 0 "gossip\|feed" chain peers
run --json chain peers | tr -d '\n' | grep -q '"kind": "feed".*"kind": "feed".*"kind": "archive".*"kind": "l1"' || bad "peers: $(run --json chain peers | head -c 900)"
want 0 "state root" chain block 9
want 0 "tx" chain block latest
want 0 "data" chain logs 0x1ed6e50000000000000000000000000000000001 --from 1 --to 12
[ "$(run --json chain logs 0x1ed6e50000000000000000000000000000000001 --from 1 --to 12 | grep -c '"tx"')" = 4 ] || bad "logs: not the four that are there"
want 0 "0x3e8\|03e8\|3f1\|value" chain storage 0x1ed6e50000000000000000000000000000000001 5
want 0 "signed\|linked\|agreed" chain watch --count 1

# an old block's state: from the archive; without one, unavailable
want 0 '"at_block": 3' --json chain account alice --block 3
rpc sim_oldproofs '[false]' >/dev/null
want 0 '"at_block": 4' --json chain storage 0x1ed6e50000000000000000000000000000000001 0 --block 4

# a payment, then one that the sequencer leaves out, forced through L1
want 0 "tx:" chain send 0x00000000000000000000000000000000000a11ce 1 --from alice
rpc sim_censor '[true]' >/dev/null
run --no-wait chain send 0x00000000000000000000000000000000000b0b00 0.5 --from alice >/dev/null 2>&1 || bad "send without waiting"
soon '"state": "sent"' --json chain pending
before=$(balance 0x00000000000000000000000000000000000b0b00)
[ "$before" = 0 ] || bad "the sequencer did not leave it out"
want 0 "the deposit" chain force
got=$(balance 0x00000000000000000000000000000000000b0b00)
[ "$got" = 500000000000000000 ] || bad "forced: $got wei there"
soon 'confirmed' --json chain pending
run --json chain pending | grep -q '"state": "sent"' && bad "still out after it was forced: $(run chain pending)"
want 66 "no transaction is out" chain force
# the sequencer includes it after all, just before the deposit: paid once all the same
run --no-wait chain send 0x00000000000000000000000000000000000b0b01 0.5 --from alice >/dev/null 2>&1 || bad "send without waiting"
soon '"state": "sent"' --json chain pending
rpc sim_late '[]' >/dev/null
want 0 "the sequencer after all" chain force
[ "$(balance 0x00000000000000000000000000000000000b0b01)" = 500000000000000000 ] || bad "included late: $(balance 0x00000000000000000000000000000000000b0b01) wei there"
# two are out: in their order; the second gets another nonce when the first's deposits use up its own
run --no-wait chain send 0x00000000000000000000000000000000000b0b02 0.125 --from alice >/dev/null 2>&1 || bad "send without waiting"
soon '"state": "sent"' --json chain pending
run --no-wait chain send 0x00000000000000000000000000000000000b0b03 0.25 --from alice >/dev/null 2>&1 || bad "send without waiting"
soon '"state": "sent".*"state": "sent"' --json chain pending
second=$(run --json chain pending | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' | head -1)
want 75 "comes before it" chain force "$second"
want 0 "the deposit" chain force
want 0 "the deposit" chain force
[ "$(balance 0x00000000000000000000000000000000000b0b02)" = 125000000000000000 ] || bad "the first of two: $(balance 0x00000000000000000000000000000000000b0b02) wei there"
[ "$(balance 0x00000000000000000000000000000000000b0b03)" = 250000000000000000 ] || bad "the second of two: $(balance 0x00000000000000000000000000000000000b0b03) wei there"
run --json chain pending | grep -q '"state": "sent"' && bad "still out after both were forced: $(run chain pending)"
rpc sim_censor '[false]' >/dev/null
want 0 "tx:" chain send 0x00000000000000000000000000000000000b0b00 0.25 --from alice
[ "$(balance 0x00000000000000000000000000000000000b0b00)" = 750000000000000000 ] || bad "not paid exactly once"

# over the bridge: L1's coin
want 0 "L1's coin" chain bridge 2 --from alice --to 0x00000000000000000000000000000000000c0c00
[ "$(balance 0x00000000000000000000000000000000000c0c00)" = 2000000000000000000 ] || bad "the bridge brought $(balance 0x00000000000000000000000000000000000c0c00)"
want 76 "ether on L1" chain bridge 49 --from alice
want 0 "faucet.example.org" chain fund alice

# the sequencer signs two blocks of one height: evidence, with both signatures
rpc sim_twice '[]' >/dev/null
soon 'EEQUIVOCATION.*"blocks": \[ *{.*"signature".*{.*"signature"' --json chain evidence

# a reorganisation 64 blocks deep while a payment rests on the lost blocks: undone in the store, sent again once, found again
want 0 "tx:" chain send 0x00000000000000000000000000000000000d0d00 0.125 --from alice
[ "$(balance 0x00000000000000000000000000000000000d0d00)" = 125000000000000000 ] || bad "not paid before the reorganisation"
rpc sim_mine '[63]' >/dev/null
head=$(rpc sim_info '[]' | sed -n 's/.*"head": *\([0-9]*\).*/\1/p')
soon "\"name\": \"latest\", \"number\": $head" --json chain heads
rpc sim_reorg '[64]' >/dev/null
soon '"reorgs": 1' --json chain status
grep -q "its block was replaced; it is sent again" "$work/node.log" || bad "the lost payment was not undone"
soon '"balance_wei": "125000000000000000"' --json chain account 0x00000000000000000000000000000000000d0d00
soon '0x00000000000000000000000000000000000d0d00\|"state": "confirmed"' --json chain pending

# restart: goes on where it was
down
node_up
soon '"reorgs": 0' --json chain status
soon '"name": "resolved", "number": 5' --json chain heads

# the file for another node, which begins at our head
want 0 "chain 1612" chain export "$work/out.json" --anchor
grep -q '"anchor"' "$work/out.json" || bad "export: no anchor"
want 0 '"profile": "op"' chain export
down
data=$work/other
node_up
want 0 "1612" chain use --file "$work/out.json"
soon '"name": "latest"' --json chain heads
want 2 "a number, a hash, or latest" chain account 0x00000000000000000000000000000000000c0c00 --block x
down
kill -9 $sim_pid 2>/dev/null

# a chain whose gas is a token of L1: approve, then deposit
data=$work/token
sim_up token
node_up
want 0 "1612" chain use --file "$work/chain.json"
want 0 "" key new alice
alice=$(run --json chain account alice | tr -d '\n' | sed -n 's/.*"address": *"\([^"]*\)".*/\1/p')
rpc sim_fund "[\"$alice\", \"0x8ac7230489e80000\"]" >/dev/null
want 0 "0x7000000000000000000000000000000000000009" chain bridge 3 --to 0x00000000000000000000000000000000000c0c00
[ "$(balance 0x00000000000000000000000000000000000c0c00)" = 3000000000000000000 ] || bad "the token bridge brought $(balance 0x00000000000000000000000000000000000c0c00)"
down
kill -9 $sim_pid 2>/dev/null
sim_pid=
exit $status
