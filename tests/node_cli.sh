#!/bin/sh
# The program from outside: nodes, folders, exit statuses, bad input. No chain is needed.
src=$(cd "${srcdir:-.}" && pwd)
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
[ -x "$loam" ] || { echo "# skipped: loam is not built"; exit 77; }
work=$(mktemp -d) || exit 2
status=0 pids=
unset LOAM_DATA XDG_DATA_HOME CREDENTIALS_DIRECTORY
HOME=$work/home
export HOME
mkdir "$HOME"
bad() { echo "FAILED: $*"; status=1; }
trap 'for p in $pids; do kill -9 $p 2>/dev/null; done; "$loam" stop >/dev/null 2>&1; chmod -R u+w "$work"; rm -rf "$work"' EXIT
# want STATUS "text on stderr or stdout" words…
want() {
    x=$1 text=$2
    shift 2
    "$loam" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ $got = "$x" ] || bad "loam $*: exit status $got, not $x: $(head -c 300 "$work/err")"
    [ -z "$text" ] || grep -q -- "$text" "$work/out" "$work/err" || bad "loam $*: does not say '$text': $(cat "$work/out" "$work/err" | head -c 300)"
}
up() { # DIR: a node in the foreground there
    mkdir -p -m 700 "$1"
    [ -f "$1/config" ] || printf 'api.listen =\nkey.cost = light\n' >"$1/config"
    "$loam" --data "$1" node >"$1.log" 2>&1 &
    last=$!
    pids="$pids $last"
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        [ -S "$1/node.sock" ] && "$loam" --data "$1" --no-start node status >/dev/null 2>&1 && return 0
        kill -0 $last 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# without a node
want 0 "commands:" help
want 0 "not echo" help key new
want 66 "no command" help nothing
want 2 "usage" --nothing
want 69 "no node runs" stop
want 69 "no node runs" --no-start key list
want 69 "no node runs" --data "$work/none" stop
[ -e "$work/none" ] && bad "stop made a folder"

# one node a folder
up "$work/a" || bad "the node does not start: $(cat "$work/a.log")"
a=$last
want 75 "another node holds" --data "$work/a" node
grep -q "pid $a" "$work/err" || bad "the holder's pid is not named"
want 0 "pid:  *$a" --data "$work/a" node status
[ "$(stat -c %a "$work/a")" = 700 ] || bad "data folder: mode $(stat -c %a "$work/a")"
[ "$(stat -c %a "$work/a/node.sock")" = 600 ] || bad "socket: mode $(stat -c %a "$work/a/node.sock")"

# exit statuses and messages
want 66 "do you mean \"key new\"" --data "$work/a" key nwe
want 66 "no job 99" --data "$work/a" job show 99
want 2 "no whole number" --data "$work/a" job show x
want 2 "needs name" --data "$work/a" key new
want 2 "neither yes nor no" --data "$work/a" set console.mouse perhaps
want 2 "is not in" --data "$work/a" set compute.threads 5000
want 75 "no chain is configured" --data "$work/a" chain block
want 69 "127.0.0.1 port 1: connection refused" --data "$work/a" chain use http://127.0.0.1:1
want 2 "http" --data "$work/a" chain use ftp://x
want 2 "not from both" --data "$work/a" chain use http://127.0.0.1:1 --file "$work/none.json"
"$loam" --data "$work/a" --json job show 99 2>/dev/null | grep -q '"status": "LOAM_ENOTFOUND"' || bad "errors as JSON"

# keys: no password without a terminal, a file, wrong ones
echo right >"$work/right"
echo wrong >"$work/wrong"
: >"$work/empty"
want 77 "nobody can be asked\|refused" --data "$work/a" key new k1
want 0 "address:" --data "$work/a" --password-file "$work/right" key new k1
want 73 "already" --data "$work/a" --password-file "$work/right" key new k1
want 2 "empty password" --data "$work/a" --password-file "$work/empty" key new k2
want 2 "name" --data "$work/a" --password-file "$work/right" key new ../evil
want 0 "" --data "$work/a" key lock k1
want 77 "assword" --data "$work/a" --password-file "$work/wrong" key unlock k1
want 0 "" --data "$work/a" --password-file "$work/right" key unlock k1
want 77 "assword" --data "$work/a" --yes --password-file "$work/wrong" key export k1
want 0 "secret:" --data "$work/a" --yes --password-file "$work/right" key export k1
secret=$(sed -n 's/^secret: *//p' "$work/out")
echo "$secret" >"$work/secret"
want 73 "" --data "$work/a" --password-file "$work/right" key import k3 "$work/secret"
want 0 "file:" --data "$work/a" key backup k1 "$work/backup.json"
want 73 "exists" --data "$work/a" key backup k1 "$work/backup.json"
grep -q '"scrypt"' "$work/backup.json" || bad "backup is no keystore file"
echo nonsense >"$work/nonsense"
want 65 "neither a keystore" --data "$work/a" --password-file "$work/right" key import k4 "$work/nonsense"
want 66 "not-there" --data "$work/a" --password-file "$work/right" key import k4 "$work/not-there"
grep -rq "$secret" "$work/a" "$work/a.log" && bad "the secret lies in the data folder or the log"
grep -rq "right" "$work/a/log" "$work/a.log" "$work/a/jobs" 2>/dev/null && bad "the password lies in the log or a job's record"
[ "$(stat -c %a "$work/a/keys/k1.json")" = 600 ] || bad "key file: mode $(stat -c %a "$work/a/keys/k1.json")"

# scripts
printf 'version # a comment\n\njob list\nnot a command\nversion\n' >"$work/script"
want 66 "script:4" --data "$work/a" source "$work/script"
"$loam" --data "$work/a" - <"$work/script" >"$work/out" 2>"$work/err"
[ $? = 66 ] || bad "standard input: exit status"
grep -q "line 4" "$work/err" || bad "standard input: the line is not named"
[ "$(grep -c '^loam:' "$work/out")" = 1 ] || bad "standard input goes on after a failure"
printf 'log "5\n' >"$work/open"
want 65 "open:1.*not closed" --data "$work/a" source "$work/open"
"$loam" --data "$work/a" source "$work/not-there" >/dev/null 2>&1 && bad "a missing script succeeds"

# another version's client is refused by name
if command -v python3 >/dev/null 2>&1; then
    python3 - "$work/a/node.sock" <<'PY' || bad "hello of another version"
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":77,"version":"7.7"}}\n')
m = json.loads(s.makefile().readline())["error"]
sys.exit(0 if "7.7" in m["message"] and m["data"]["status"] == "LOAM_EVERSION" else 1)
PY
fi

# a client that only looks: the node itself lets nothing else through, whatever the client sends
if command -v python3 >/dev/null 2>&1; then
    python3 - "$work/a/node.sock" <<'PY' || bad "a client that only looks"
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile()
def ask(n, method, **params):
    s.sendall((json.dumps({"jsonrpc": "2.0", "id": n, "method": method, "params": params}) + "\n").encode())
    while True:
        m = json.loads(f.readline())
        if m.get("id") == n:
            return m
def denied(m):
    assert m.get("error", {}).get("data", {}).get("status") == "LOAM_EPERM", m
assert "result" in ask(1, "hello", protocol=1, version="t", readonly=True)
assert "result" in ask(2, "job.list")
assert "result" in ask(3, "command.run", line="job list")
assert "result" in ask(4, "command.run", line="option get log.level")
denied(ask(5, "command.run", line="key new thief"))
denied(ask(6, "command.run", line="set log.level debug"))
denied(ask(7, "option.set", name="log.level", value="debug"))
denied(ask(8, "node.stop"))
assert "result" in ask(9, "hello", protocol=1, version="t", readonly=False)
denied(ask(10, "node.stop"))
PY
fi

# a port in use: said, and the node works on
printf 'api.listen = 127.0.0.1:38571\nkey.cost = light\n' >"$work/b.config"
mkdir -m 700 "$work/b" "$work/c"
cp "$work/b.config" "$work/b/config"
cp "$work/b.config" "$work/c/config"
up "$work/b" || bad "b does not start: $(cat "$work/b.log")"
up "$work/c" || bad "c does not start: $(cat "$work/c.log")"
grep -q "38571.*api.listen" "$work/c.log" || bad "a port in use is not named: $(cat "$work/c.log")"

# a read-only folder, a file in the way, a broken configuration, an older socket
printf 'log.level = loud\n' >"$work/d.config"
mkdir -m 700 "$work/d"
cp "$work/d.config" "$work/d/config"
want 2 "config:1" --data "$work/d" node
want 69 "config:1" --data "$work/d" node status # the started node's own words
echo x >"$work/file"
"$loam" --data "$work/file" node >/dev/null 2>&1 && bad "a file as data folder"
kill -9 $a
wait $a 2>/dev/null
mkdir -p "$work/a/models"
printf 5000 >"$work/a/jobs/last"
printf '{"id":7,"flow":"old-7","title":"old","state":"failed","started_ms":1,"record":{"line":"version"}}' >"$work/a/jobs/7.json"
printf '{"id":4900,"flow":"new-4900","title":"late","state":"failed","started_ms":1,"record":{"line":"version"}}' >"$work/a/jobs/4900.json"
printf 'no record' >"$work/a/jobs/4901.json"
: >"$work/a/models/x.gguf.tmp-1-2"
: >"$work/a/models/x.tmp-keep.gguf"
up "$work/a" || bad "the node does not start over a dead one's socket: $(cat "$work/a.log")"
a=$last

[ -e "$work/a/models/x.gguf.tmp-1-2" ] && bad "what a killed node left half written stays"
[ -e "$work/a/models/x.tmp-keep.gguf" ] || bad "a file of the user's is swept away"
rm -f "$work/a/models/x.tmp-keep.gguf"

want 66 "no job 7" --data "$work/a" job show 7
[ -e "$work/a/jobs/7.json" ] && bad "the record of a job long ago stays"
want 0 "late" --data "$work/a" job show 4900
grep -q "4901.json" "$work/a.log" || bad "a record that cannot be read is not said: $(cat "$work/a.log")"

# passwords without asking: systemd's credentials, the option, --password-file of the node; a wrong one is named
want 77 "locked\|asked" --data "$work/a" key unlock k1
kill -TERM $a
wait $a
mkdir "$work/credentials"
cp "$work/right" "$work/credentials/loam-password"
CREDENTIALS_DIRECTORY=$work/credentials
export CREDENTIALS_DIRECTORY
up "$work/a" || bad "the node does not start with credentials"
a=$last
unset CREDENTIALS_DIRECTORY
want 0 "" --data "$work/a" key unlock k1
want 0 "" --data "$work/a" set key.password-file "$work/wrong"
want 0 "" --data "$work/a" key lock
want 77 "$work/wrong" --data "$work/a" key unlock k1
want 0 "" --data "$work/a" set key.password-file "$work/right"
want 0 "" --data "$work/a" key unlock k1
grep -rq "^right" "$work/a/config" && bad "the password lies in the configuration"

# SIGTERM: gone, socket removed, exit status 0
kill -TERM $a
wait $a
[ $? = 0 ] || bad "SIGTERM: exit status"
[ -e "$work/a/node.sock" ] && bad "SIGTERM leaves the socket"
want 0 "" --data "$work/b" stop

# a node that a command started ends by itself
mkdir -m 700 "$work/e"
printf 'api.listen =\nnode.idle = 0\n' >"$work/e/config"
want 0 "started by console: yes" --data "$work/e" node status
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ -S "$work/e/node.sock" ] || break
    sleep 0.1
done
[ -S "$work/e/node.sock" ] && bad "the started node does not end"

# a full disk: where a small file system can be mounted
if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=1m,mode=700 tmpfs "$work/small" 2>/dev/null; then
    printf 'api.listen =\nkey.cost = light\n' >"$work/small/config"
    if up "$work/small"; then
        dd if=/dev/zero of="$work/small/fill" bs=1k >/dev/null 2>&1
        want 74 "" --data "$work/small" --password-file "$work/right" key new full
        grep -qi "space\|full" "$work/err" || bad "a full disk is not named: $(cat "$work/err")"
        want 0 "running" --data "$work/small" node status
        rm "$work/small/fill"
        want 0 "address" --data "$work/small" --password-file "$work/right" key new room
        "$loam" --data "$work/small" stop
    else
        grep -qi "space\|full" "$work/small.log" || bad "a small disk: $(cat "$work/small.log")"
    fi
    umount "$work/small"
else
    echo "# a full disk is not tried: no small file system can be mounted"
fi
exit $status
