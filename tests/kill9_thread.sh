#!/bin/sh
# The whole thread (tests/thread.sh) with kill -9 of its nodes at seeded random instants of every command that changes
# something. The thread's own checks then say that nothing was lost, done or paid twice: its commands are run through this
# file in the place of loam: each is begun, its node killed, the node started again, what it resumes waited for, and the
# command given again, which must answer as if nothing had happened.
#
#   KILLS=2 SEED=1 tests/kill9_thread.sh      KILLS: most kills of one command (default 1)
if [ "${KILL9_REAL:-}" = "" ]; then
    src=$(cd "${srcdir:-.}" && pwd)
    KILL9_REAL=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
    [ -x "$KILL9_REAL" ] || { echo "# skipped: loam is not built"; exit 77; }
    KILL9_STATE=$(mktemp -d) || exit 2
    trap 'rm -rf "$KILL9_STATE"' EXIT
    echo 0 >"$KILL9_STATE/count"
    : >"$KILL9_STATE/log"
    export KILL9_REAL KILL9_STATE
    export KILLS=${KILLS:-1} SEED=${SEED:-1}
    LOAM=$src/tests/kill9_thread.sh srcdir=$src sh "$src/tests/thread.sh"
    status=$?
    awk '{ n[$1]++ } END { for (w in n) t += n[w]; printf "kill9: %d kills:", t; for (w in n) printf " %s %d", w, n[w]; print "" }' "$KILL9_STATE/log"
    exit $status
fi

# ---- in loam's place ----
data=
prev=
word=
for a in "$@"; do
    if [ "$prev" = --data ]; then data=$a; fi
    case $prev in
    --data | --password-file | --set) ;;
    *) case $a in --*) ;; *) [ -n "$word" ] || word=$a ;; esac ;;
    esac
    prev=$a
done
case " $* " in *" node status "*) exec "$KILL9_REAL" --no-start "$@" ;; esac
if [ "$word" = node ]; then
    for a in "$@"; do printf '%s\n' "$a"; done >"$data.args"
    exec "$KILL9_REAL" "$@"
fi
# longest wait before the kill, in seconds: about as long as the command takes
case " $* " in
*" chain send "* | *" account register "* | *" datanet create "* | *" validator stake "*) most=0.15 ;;
*" chain deploy "*) most=2 ;;
*" contribute "*) most=3 ;;
*" train "*) most=${KILL9_TRAIN:-8} ;;
*" attribute "*) most=2 ;;
*" record "* | *" claim "*) most=1 ;;
*" validate "* | *" settle "*) most=2 ;;
*) exec "$KILL9_REAL" --no-start "$@" ;;
esac
again() { # the node of $data, as it was started
    set --
    while IFS= read -r a; do set -- "$@" "$a"; done <"$data.args"
    "$KILL9_REAL" "$@" >>"$data.log" 2>&1 &
    i=0
    until "$KILL9_REAL" --data "$data" --no-start node status >/dev/null 2>&1; do
        i=$((i + 1))
        [ $i -lt 300 ] || { echo "kill9: the node of $data does not start again" >&2; exit 1; }
        sleep 0.1
    done
}
running() { "$KILL9_REAL" --data "$data" --no-start --json job list 2>/dev/null | grep -q '"state": "running"'; }
# what a command of this kind took where it was quicker than its kill: the next one is killed sooner
learnt=$KILL9_STATE/most-$(echo "$word" | tr -dc a-z)-$most
[ -s "$learnt" ] && most=$(cat "$learnt")
newest() { "$KILL9_REAL" --data "$data" --no-start --json job list 2>/dev/null | sed -n 's/^ *"id": \([0-9]*\),.*/\1/p' | sort -n | tail -1; }
before=$(newest)
take() { # the result of this command's job, which stands for the command's: a node keeps it as long as it runs
    job=$(newest)
    [ "${job:-0}" -gt "${before:-0}" ] && "$KILL9_REAL" --data "$data" --no-start --json job show "$job" >"$KILL9_STATE/show" 2>/dev/null &&
        python3 -c 'import json,sys; j = json.load(open(sys.argv[1])); r = j.get("result"); j.get("status") == "LOAM_OK" and r is not None and print(json.dumps(r))' \
            "$KILL9_STATE/show" >"$KILL9_STATE/done"
}
round=0
resumed=
: >"$KILL9_STATE/done"
while [ $round -lt "$KILLS" ] && [ ! -s "$KILL9_STATE/done" ]; do
    round=$((round + 1))
    count=$(($(cat "$KILL9_STATE/count") + 1))
    echo $count >"$KILL9_STATE/count"
    at=$(awk -v s="$SEED" -v c="$count" -v m="$most" 'BEGIN { srand(s * 7919 + c); rand(); printf "%.3f", rand() * m }')
    client=
    if [ -z "$resumed" ]; then
        rm -f "$KILL9_STATE/first.rc"
        began=$(date +%s%N)
        { "$KILL9_REAL" --no-start "$@" >"$KILL9_STATE/first" 2>/dev/null; x=$?; date +%s%N >"$KILL9_STATE/ended"; echo $x >"$KILL9_STATE/first.rc"; } &
        client=$!
    fi
    sleep "$at"
    if [ -n "$resumed" ]; then
        if running; then echo "resumed at $at, $word" >>"$KILL9_STATE/log"; else take; fi
    elif [ ! -s "$KILL9_STATE/first.rc" ]; then
        echo "$word at $at" >>"$KILL9_STATE/log"
    else
        echo $(($(cat "$KILL9_STATE/ended") - began)) | awk '{ printf "%.3f", $1 / 1e9 }' >"$learnt"
    fi
    pid=$(sed -n 's/^pid \([0-9]*\),.*/\1/p' "$data/lock")
    kill -9 "$pid"
    if [ -n "$client" ]; then
        wait $client
        [ "$(cat "$KILL9_STATE/first.rc")" = 0 ] && cp "$KILL9_STATE/first" "$KILL9_STATE/done" # it was quicker
    fi
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    again
    # what it resumed is killed too, as long as kills are left; then its end is waited for, and its result taken, since a claim
    # given again has nothing left to claim
    resumed=
    running && resumed=1
    [ -n "$resumed" ] && [ $round -lt "$KILLS" ] && [ ! -s "$KILL9_STATE/done" ] && continue
    resumed=
    i=0
    while running; do
        i=$((i + 1))
        [ $i -lt 1800 ] || { echo "kill9: a job of $data does not end" >&2; exit 1; }
        sleep 0.1
    done
    [ -s "$KILL9_STATE/done" ] && continue
    take
done
"$KILL9_REAL" --no-start "$@" >"$KILL9_STATE/out" 2>"$KILL9_STATE/err"
status=$?
cat "$KILL9_STATE/err" >&2
if [ $status = 0 ] && [ -s "$KILL9_STATE/done" ]; then cat "$KILL9_STATE/done"; else cat "$KILL9_STATE/out"; fi
exit $status
