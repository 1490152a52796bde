#!/bin/sh
# Keys and Foundry's cast: what one writes the other opens. CAST=program, else the one of contrib/contracts, else PATH.
src=$(cd "${srcdir:-.}" && pwd)
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
[ -x "$loam" ] || { echo "# skipped: loam is not built"; exit 77; }
if [ -z "${CAST:-}" ]; then
    for f in "$src"/contrib/contracts/node_modules/@foundry-rs/cast-*/bin/cast; do [ -x "$f" ] && CAST=$f; done
    [ -n "${CAST:-}" ] || CAST=$(command -v cast) || { echo "# skipped: cast is not installed"; exit 77; }
fi
work=$(mktemp -d) || exit 2
status=0 node=
unset LOAM_DATA XDG_DATA_HOME CREDENTIALS_DIRECTORY
HOME=$work/home
export HOME
mkdir -m 700 "$HOME" "$work/data" "$work/cast"
bad() { echo "FAILED: $*"; status=1; }
trap '[ -n "$node" ] && kill -9 $node 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
printf 'api.listen =\nkey.cost = light\n' >"$work/data/config"
printf 'open sesame' >"$work/password"
"$loam" --data "$work/data" node >"$work/log" 2>&1 &
node=$!
run() { "$loam" --data "$work/data" --no-start --yes --password-file "$work/password" "$@" </dev/null; }
i=0
until run node status >/dev/null 2>&1; do
    i=$((i + 1))
    [ $i -lt 600 ] || { bad "the node does not start: $(tail -n 3 "$work/log")"; exit 1; }
    sleep 0.1
done
field() { sed -n "s/^$1: *//p"; }

# ours, opened by cast: the file in the data folder and its backup
address=$(run key new ours 2>/dev/null | field address)
secret=$(run key export ours 2>/dev/null | field secret)
run key backup ours "$work/cast/backup" >/dev/null || bad "key backup"
for f in "$work/data/keys/ours.json" "$work/cast/backup"; do
    got=$("$CAST" wallet address --keystore "$f" --password-file "$work/password" 2>&1)
    [ "$got" = "$address" ] || bad "cast opens ${f##*/} as '$got', not $address"
done
"$CAST" wallet decrypt-keystore --keystore-dir "$work/cast" --unsafe-password 'open sesame' backup 2>&1 | grep -qi "$secret" ||
    bad "cast reads another secret out of the backup"
"$CAST" wallet address --keystore "$work/cast/backup" --password-file /dev/null >/dev/null 2>&1 && bad "cast opens it without the password"

# cast's, opened by us
theirs=$("$CAST" wallet new "$work/cast" theirs --unsafe-password 'open sesame' 2>&1 | sed -n 's/^Address: *//p')
[ -f "$work/cast/theirs" ] || bad "cast wallet new: no file"
got=$(run key import theirs "$work/cast/theirs" 2>"$work/err" | field address)
[ -n "$theirs" ] && [ "$got" = "$theirs" ] || bad "cast's key is imported as '$got', not '$theirs': $(cat "$work/err")"
printf 'wrong' >"$work/password"
run key import again "$work/cast/theirs" >"$work/out" 2>&1 && bad "cast's key opens with a wrong password"
kill -TERM $node
wait $node || bad "the node ends with a fault"
node=
exit $status
