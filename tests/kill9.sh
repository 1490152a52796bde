#!/bin/sh
# kill -9 of the node at seeded random instants of the flow; after each restart it goes on. In the end nothing is lost, done
# or paid twice:
#   - every payment that was acknowledged is on the chain exactly once, and no recipient has more than one payment;
#   - every datanet that was made has exactly one contribution of each contributor that was asked to give one;
#   - for every key, the chain's nonce equals the number of transactions in the outbox, each confirmed, none twice;
#   - no job is left unfinished.
# KILLS=100 SEED=7 tests/kill9.sh      (default: 8 kills, seed 1; skipped where anvil is not installed)
# With ROLLBACK=1 the chain is killed as well now and then, so that its last second is lost and blocks are replaced.
src=$(cd "${srcdir:-.}" && pwd)
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
KILLS=${KILLS:-8} SEED=${SEED:-1} PORT=${PORT:-28545} ROLLBACK=${ROLLBACK:-0}
[ -x "$loam" ] || { echo "# skipped: loam is not built"; exit 77; }
if [ -z "${ANVIL:-}" ]; then
    for f in "$src"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil; do [ -x "$f" ] && ANVIL=$f; done
    [ -n "${ANVIL:-}" ] || ANVIL=$(command -v anvil) || { echo "# skipped: anvil is not installed"; exit 77; }
fi
command -v curl >/dev/null || { echo "# skipped: curl is not installed"; exit 77; }
export ANVIL
work=$(mktemp -d) || exit 2
data=$work/data
node_pid=
status=0
say() { echo "kill9: $*"; }
fail() { say "FAILED: $*"; status=1; }
finish() {
    [ -n "$node_pid" ] && kill -9 "$node_pid" 2>/dev/null
    sh "$src/contrib/devnet/devnet" kill "$work/chain" >/dev/null 2>&1
    if [ $status -ne 0 ]; then
        say "seed $SEED; the node's log:"
        tail -40 "$work/node.log" | sed 's/^/    /'
        [ -n "${KEEP:-}" ] && { say "kept: $work"; return; }
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'status=1; exit 1' INT TERM

chain_start() { sh "$src/contrib/devnet/devnet" start "$work/chain" --port "$PORT" --block-time 1 >/dev/null 2>"$work/devnet.err"; }
chain_start || { cat "$work/devnet.err"; echo "# skipped: the development chain does not start"; exit 77; }
mkdir -m 700 "$data"
echo secret >"$work/password"
echo ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 >"$work/key" # anvil's first, public
printf 'api.listen = \nkey.cost = light\nkey.password-file = %s\nkey.spend-limit = 1000\nchain.poll = 0.2\n' "$work/password" >"$data/config"

node_start() {
    "$loam" --data "$data" node >>"$work/node.log" 2>&1 &
    node_pid=$!
    tries=0
    until "$loam" --data "$data" --no-start node status >/dev/null 2>&1; do
        tries=$((tries + 1))
        kill -0 "$node_pid" 2>/dev/null || { fail "the node does not start again"; exit 1; }
        [ $tries -gt 300 ] && { fail "the node does not answer"; exit 1; }
        sleep 0.05
    done
}
node_kill() {
    kill -9 "$node_pid" 2>/dev/null
    wait "$node_pid" 2>/dev/null
    node_pid=
}
run() { "$loam" --data "$data" --no-start --yes --password-file "$work/password" "$@"; }
# every job has ended
settle() {
    tries=0
    while run --json job list 2>/dev/null | grep -q '"state": "running"'; do
        tries=$((tries + 1))
        [ $tries -gt 600 ] && { fail "a job does not end:"; run job list; exit 1; }
        sleep 0.1
    done
}

# Seeded: kind of each step, and the instants.
awk -v n="$KILLS" -v seed="$SEED" 'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%d %.3f %d\n", int(rand() * 10), rand(), int(rand() * 3) }' >"$work/plan"

node_start
run chain use "http://127.0.0.1:$PORT" >/dev/null || { fail "chain use"; exit 1; }
run key import dev "$work/key" >/dev/null || { fail "key import"; exit 1; }
for k in alice bob carol; do run key new $k >/dev/null 2>&1 || fail "key new"; done
# the deployment itself, killed in its middle
run chain deploy --as dev >/dev/null 2>&1 &
client=$!
sleep "$(awk -v s="$SEED" 'BEGIN { srand(s); printf "%.3f", rand() * 0.5 }')"
node_kill
wait $client
node_start
settle
run chain deploy --as dev >/dev/null 2>&1 || { fail "chain deploy"; exit 1; }
for k in alice bob carol; do run account register $k --relay dev >/dev/null 2>&1 || fail "account register $k"; done
say "$KILLS kills, seed $SEED"

i=0
nets=0
: >"$work/sent"
: >"$work/given"
while read -r kind at who; do
    i=$((i + 1))
    if [ "$kind" -lt 6 ]; then
        # A payment; recipients are fresh, so that a second one shows. It takes about a tenth of a second (a block at once).
        to=0x$(printf '%040x' $((SEED * 100000 + i)))
        run --no-wait chain send "$to" 0.25 --from dev >"$work/out" 2>"$work/err" &
        client=$!
        sleep "$(awk -v a="$at" 'BEGIN { printf "%.3f", a * a * 0.25 }')"
        node_kill
        wait $client
        if [ $? -eq 0 ]; then echo "$to 1" >>"$work/sent"; else echo "$to ?" >>"$work/sent"; fi
        node_start
        settle
    else
        # A new datanet and a contribution to it; killed until it stands. A contribution takes two to three seconds.
        nets=$((nets + 1))
        name=net-$i
        file=$(echo alice bob carol | cut -d' ' -f$((who + 1)))
        run datanet create "$name" --as alice --relay dev >"$work/out" 2>"$work/err" &
        client=$!
        sleep "$(awk -v a="$at" 'BEGIN { printf "%.3f", a * 0.6 }')"
        node_kill
        wait $client
        node_start
        settle
        id=$(run --json datanet create "$name" --as alice --relay dev 2>"$work/err" | sed -n 's/.*"datanet": \([0-9]*\).*/\1/p')
        [ -n "$id" ] || { fail "datanet create $name: $(cat "$work/err")"; exit 1; }
        # rows of its own: a row counts for whoever gave it first
        awk -v i="$i" -v seed="$SEED" 'BEGIN { for (r = 0; r < 5; r++) printf "{\"question\":\"Which mark has stone %d of field %d-%d?\",\"answer\":\"It bears the number %d.\"}\n", r, seed, i, seed * 1000 + i * 10 + r }' >"$work/rows.jsonl"
        run contribute "$work/rows.jsonl" --datanet "$id" --as "$file" --relay dev >"$work/out" 2>"$work/err" &
        client=$!
        sleep "$(awk -v a="$at" 'BEGIN { printf "%.3f", a * 3 }')"
        node_kill
        wait $client
        if [ "$ROLLBACK" = 1 ] && [ "$kind" -eq 9 ]; then
            sh "$src/contrib/devnet/devnet" kill "$work/chain" >/dev/null 2>&1
            chain_start || { fail "the chain does not start again"; exit 1; }
        fi
        node_start
        settle
        # where the chain lost the block of the datanet, its transaction is sent again first; until it is mined the command says what it lacks
        tries=0
        until run contribute "$work/rows.jsonl" --datanet "$id" --as "$file" --relay dev >"$work/out" 2>"$work/err"; do
            [ $? = 66 ] && [ "$ROLLBACK" = 1 ] && [ $tries -lt 10 ] || { fail "contribute to $id: $(cat "$work/err")"; exit 1; }
            tries=$((tries + 1))
            sleep 0.5
        done
        echo "$id $file" >>"$work/given"
    fi
    [ $((i % 10)) -eq 0 ] && say "$i done"
done <"$work/plan"

# ---- what stands ----
settle
sleep 1.5
run --json job list | grep -q '"state": "\(running\|waiting\|failed\)"' && { fail "jobs that did not end well"; run job list; }
paid=0 unsure=0
while read -r to sure; do
    have=$(run --json chain account "$to" | sed -n 's/.*"balance_wei": "\([0-9]*\)".*/\1/p')
    case "$sure $have" in
    "1 250000000000000000") paid=$((paid + 1)) ;;
    "? 250000000000000000" | "? 0") unsure=$((unsure + 1)) ;;
    *) fail "$to has $have wei ($sure)" ;;
    esac
done <"$work/sent"
while read -r id file; do
    count=$(run --json datanet show "$id" | sed -n 's/.*"contributions": \([0-9]*\).*/\1/p')
    [ "$count" = 1 ] || fail "datanet $id has $count contributions, not 1"
done <"$work/given"
run --json chain pending >"$work/outbox"
grep -o '"state": "[a-z]*"' "$work/outbox" | sort | uniq -c | grep -v confirmed && fail "transactions that are not confirmed"
for k in dev alice bob carol; do
    # objects are printed with one field a line, keys in the order of the table: from, nonce
    sent=$(grep -c "\"from\": \"$k\"" "$work/outbox")
    nonces=$(grep -A1 "\"from\": \"$k\"" "$work/outbox" | grep -c '"nonce"')
    distinct=$(grep -A1 "\"from\": \"$k\"" "$work/outbox" | sed -n 's/.*"nonce": \([0-9]*\).*/\1/p' | sort -un | wc -l)
    chain=$(run --json chain account $k | sed -n 's/.*"nonce": \([0-9]*\).*/\1/p')
    [ "$sent" = "$nonces" ] && [ "$sent" = "$distinct" ] && [ "$sent" = "$chain" ] || fail "key $k: $sent in the outbox, $distinct nonces, $chain on the chain"
done
run stop 2>/dev/null
say "$i kills: $paid payments acknowledged and paid once, $unsure not acknowledged (paid once or not at all), $(wc -l <"$work/given") contributions, $(grep -c '"key"' "$work/outbox") transactions"
exit $status
