#!/bin/sh
# Bad input, as a user meets it: hostile model files, broken rows, unknown names, a wrong password, an RPC that is down, slow or
# lies, a full disk, too little memory, a socket's place taken, an API client that misbehaves. For each: its own status and
# exit status, a message that names the thing, a remedy; the unaltered input passes; nothing is lost; the node stays up.
# What needs anvil, python3 or curl says so where they are missing. Beside it: node_cli.sh (passwords, ports, two nodes),
# outbox.sh (funds, limits), test_net_liars (all lies of an RPC, each with its code).
src=$(cd "${srcdir:-.}" && pwd)
loam=${LOAM:-$(cd "${builddir:-.}" && pwd)/loam}
model=$src/contrib/models/tiny.gguf
[ -x "$loam" ] || { echo "# skipped: loam is not built"; exit 77; }
[ -f "$model" ] || { echo "# skipped: contrib/models/tiny.gguf is missing"; exit 77; }
work=$(mktemp -d) || exit 2
status=0 pids=
unset LOAM_DATA XDG_DATA_HOME CREDENTIALS_DIRECTORY
HOME=$work/home
export HOME
mkdir "$HOME"
bad() { echo "FAILED: $*"; status=1; }
mounted=
trap 'for p in $pids; do kill -9 $p 2>/dev/null; done; [ -z "$mounted" ] || umount -l "$mounted"; sh "$src/contrib/devnet/devnet" kill "$work/chain" >/dev/null 2>&1; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
data=$work/a
ask() { # words…: JSON of a command in $work/out, or of its error in $work/err; the exit status in $x
    timeout 60 "$loam" --data "$data" --no-start --yes --json --password-file "$work/right" "$@" >"$work/out" 2>"$work/err" </dev/null
    x=$?
}
# refused STATUS EXIT "text" words…: that status in the JSON error, that exit status, the text in the message, a remedy
refused() {
    name=$1 want=$2 text=$3
    shift 3
    ask "$@"
    [ $x = "$want" ] || bad "$*: exit status $x, not $want: $(cat "$work/out" "$work/err" | head -c 300)"
    cat "$work/out" "$work/err" >"$work/both"
    grep -q "\"status\": \"$name\"" "$work/both" || bad "$*: not $name: $(head -c 400 "$work/both")"
    grep -q -- "$text" "$work/both" || bad "$*: does not say '$text': $(head -c 400 "$work/both")"
    grep -q '"remedy": "[a-z`]' "$work/both" || bad "$*: no remedy: $(head -c 400 "$work/both")"
}
taken() { # words…: must work
    ask "$@"
    [ $x = 0 ] || bad "$*: exit status $x: $(cat "$work/out" "$work/err" | head -c 300)"
}
up() { # DIR
    "$loam" --data "$1" node >>"$1.log" 2>&1 &
    last=$!
    pids="$pids $last"
    i=0
    until "$loam" --data "$1" --no-start node status >/dev/null 2>&1; do
        i=$((i + 1))
        kill -0 $last 2>/dev/null && [ $i -lt 600 ] || { bad "the node does not start: $(tail -n 3 "$1.log")"; return 1; }
        sleep 0.1
    done
}
alive() { # the node of this test is still the one that was started
    kill -0 $node 2>/dev/null || { bad "after $1 the node is gone: $(tail -n 5 "$data.log")"; exit 1; }
}

ends() { # PID: SIGTERM; its exit status, 137 where it has to be killed
    kill -TERM $1 2>/dev/null
    (sleep 40; kill -9 $1) >/dev/null 2>&1 &
    watch=$!
    wait $1
    x=$?
    kill $watch 2>/dev/null
    return $x
}

printf right >"$work/right"
port=$((21000 + $$ % 20000))
mkdir -m 700 "$data"
printf 'api.listen = 127.0.0.1:%d\nkey.cost = light\nchain.poll = 0.2\nchain.timeout = 1.5\n' $port >"$data/config"
up "$data" || exit 1
node=$last

# ---- model files
g=$work/g
mkdir "$g"
size=$(wc -c <"$model")
for n in 0 3 20 24 1000 50000 500000 $((size - 1)); do
    head -c $n "$model" >"$g/cut$n.gguf"
    refused LOAM_EPARSE 65 "cut$n.gguf: GGUF" model add "$g/cut$n.gguf"
done
printf 'GGUF\003\0\0\0\377\377\377\377\377\377\377\177\0\0\0\0\0\0\0\0' >"$g/tensors.gguf"
printf 'GGUF\003\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377\377\377\377\177' >"$g/pairs.gguf"
printf 'GGUF\003\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\377\377\377\377\377\377\377\377abc' >"$g/key.gguf"
printf 'GGUF\143\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0' >"$g/version.gguf"
printf 'GGUF\003\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$g/nothing.gguf"
head -c 200000 /dev/zero >"$g/zeros.gguf"
mkfifo "$g/pipe.gguf"
mkdir "$g/folder.gguf"
ln -s loop.gguf "$g/loop.gguf"
refused LOAM_ELIMIT 65 "9223372036854775807 tensors" model add "$g/tensors.gguf"
refused LOAM_ELIMIT 65 "9223372036854775807 pairs" model add "$g/pairs.gguf"
refused LOAM_EPARSE 65 "18446744073709551615 bytes wanted" model add "$g/key.gguf"
refused LOAM_EUNSUPPORTED 69 "version 99" model add "$g/version.gguf"
refused LOAM_EUNSUPPORTED 69 "architecture" model add "$g/nothing.gguf"
refused LOAM_EPARSE 65 "does not begin with" model add "$g/zeros.gguf"
refused LOAM_EINVAL 2 "pipe" model add "$g/pipe.gguf"
refused LOAM_EINVAL 2 "folder" model add "$g/folder.gguf"
refused LOAM_EINVAL 2 "not a regular file" model add /dev/zero
refused LOAM_EIO 74 "symbolic links" model add "$g/loop.gguf"
refused LOAM_ENOTFOUND 66 "not-there.gguf" model add "$g/not-there.gguf"
refused LOAM_ENOTFOUND 66 "no model yet" ask hello
taken model list
[ "$(tr -d ' \n' <"$work/out")" = '[]' ] || grep -q '"list": \[\]' "$work/out" || bad "a refused file is listed: $(head -c 300 "$work/out")"
ls "$data/models" 2>/dev/null | grep -q . && bad "a refused file left something in models/: $(ls "$data/models")"
taken model add "$model" --name tiny
refused LOAM_EEXIST 73 "tiny" model add "$model" --name tiny
# the user's own file is not ours: cut now, the model still works
cp "$model" "$g/own.gguf"
taken model add "$g/own.gguf" --name own
: >"$g/own.gguf"
taken model info own
alive "hostile model files"

# ---- rows
r=$work/r
mkdir "$r"
row() { # NAME STATUS EXIT TEXT (content on standard input)
    cat >"$r/$1.jsonl"
    refused "$2" "$3" "$4" train bad --files "$r/$1.jsonl" --base tiny --epochs 1
    case $1 in empty | blank) grep -q "$1.jsonl: no rows" "$work/both" || bad "$1: the file is not named: $(head -c 300 "$work/both")"; return ;; esac
    grep -q "$1.jsonl:[12]" "$work/both" || bad "$1: file and line are not named: $(head -c 300 "$work/both")"
}
row empty LOAM_EINVAL 2 "no rows" </dev/null
printf '\n\n' | row blank LOAM_EINVAL 2 "no rows"
printf '{"prompt":"a\377\376","completion":"b"}\n' | row utf8 LOAM_EPARSE 65 "not UTF-8 at byte 12"
printf '{"prompt":"a\300\257","completion":"b"}\n' | row overlong LOAM_EPARSE 65 "not UTF-8"
printf '{"prompt":"a"}\n' | row missing LOAM_EPARSE 65 "its keys are none of"
printf '{"prompt":"","completion":""}\n' | row emptyfields LOAM_EPARSE 65 "an empty text"
printf '{"prompt":1,"completion":2}\n' | row types LOAM_EPARSE 65 "expected at byte 10"
printf '{"prompt":"ok","completion":"fine"}\n{"prompt":"bad","completion":\n' | row cutline LOAM_EPARSE 65 "cutline.jsonl:2"
printf 'not json\n' | row notjson LOAM_EPARSE 65 "expected at byte 0"
printf '{"prompt":"a\\u0000b","completion":"c"}\n' | row nul LOAM_EPARSE 65 "U+0000"
printf '{"prompt":"a\\ud800","completion":"c"}\n' | row surrogate LOAM_EPARSE 65 "surrogate"
printf '{"prompt":"a","prompt":"b","completion":"c"}\n' | row twice LOAM_EPARSE 65 "given twice"
printf '{"messages":[{"role":"evil","content":"x"}]}\n' | row role LOAM_EPARSE 65 "a role other than"
{ printf '{"prompt":"a","completion":"'; head -c 70000 /dev/zero | tr '\0' x; printf '"}\n'; } | row longtext LOAM_ELIMIT 65 "longer than 65536"
{ printf '{"prompt":"a","completion":"'; head -c 3000000 /dev/zero | tr '\0' x; printf '"}\n'; } | row longline LOAM_ELIMIT 65 "a line of"
head -c 100000 /dev/zero | tr '\0' '[' | row deep LOAM_EPARSE 65 "expected at byte 0"
refused LOAM_EINVAL 2 "pipe" train bad --files "$g/pipe.gguf" --base tiny --epochs 1
refused LOAM_EEXIST 73 "base model called" train tiny --files "$r/twice.jsonl" --base tiny --epochs 1
printf '\357\273\277{"prompt":"Who is it?","completion":"It is she."}\r\n' >"$r/good.jsonl"
taken train good --files "$r/good.jsonl" --base tiny --epochs 1
taken adapter info good
ls "$data/adapters" 2>/dev/null | grep -q bad && bad "a refused run left an adapter"
alive "broken rows"

# ---- names, numbers, words
refused LOAM_ENOTFOUND 66 'nope' ask --model nope hello
refused LOAM_ENOTFOUND 66 'nope' model info nope
refused LOAM_ENOTFOUND 66 'nope' adapter info nope
refused LOAM_ENOTFOUND 66 'no answer\|answer 999' attribute 999
refused LOAM_ERANGE 2 'not in 1' train x --files "$r/good.jsonl" --epochs 0
refused LOAM_ELIMIT 65 'context' ask --model tiny "$(head -c 4000 /dev/zero | tr '\0' '?')"
taken ask --model tiny --max-tokens 4 hello
taken key new k1
taken key lock k1
printf wrong >"$work/wrong"
timeout 20 "$loam" --data "$data" --no-start --json --password-file "$work/wrong" key unlock k1 >"$work/out" 2>"$work/err" </dev/null
x=$?
[ $x = 77 ] && cat "$work/out" "$work/err" | grep -q LOAM_EPERM && grep -q "key k1: wrong password" "$work/out" "$work/err" || bad "a wrong password: exit status $x: $(cat "$work/err")"
taken key unlock k1
alive "unknown names"

# ---- the API
api=http://127.0.0.1:$port
if command -v curl >/dev/null 2>&1; then
    # reply STATUS TEXT curl's words…: the HTTP status, and an error as OpenAI's clients read it
    reply() {
        want=$1 text=$2
        shift 2
        got=$(curl -s -m 30 -o "$work/body" -w '%{http_code}' "$@")
        [ "$got" = "$want" ] || bad "API $*: HTTP $got, not $want: $(head -c 200 "$work/body")"
        grep -q -- "$text" "$work/body" || bad "API $want: does not say '$text': $(head -c 300 "$work/body")"
        case $want in 2*) return ;; esac
        grep -q '"error":{"message":"..*","type":"[a-z_]*","param":[^,]*,"code":' "$work/body" || bad "API $want: no error as OpenAI has it: $(head -c 300 "$work/body")"
    }
    chat() { # STATUS TEXT BODY
        printf '%s' "$3" >"$work/request"
        reply "$1" "$2" -H 'content-type: application/json' --data-binary "@$work/request" $api/v1/chat/completions
    }
    hi='"messages":[{"role":"user","content":"hi"}],"max_tokens":3'
    reply 200 '"id":"tiny"' $api/v1/models
    chat 200 '"finish_reason":"length"' "{\"model\":\"tiny\",$hi}"
    chat 400 'no JSON object' ''
    chat 400 'no JSON object' '{'
    chat 400 'no JSON object' '[]'
    chat 400 'duplicate' '{"messages":[],"messages":[]}'
    chat 400 'at least one message' '{"model":"tiny"}'
    chat 400 'at least one message' '{"model":"tiny","messages":"x"}'
    chat 400 'messages.0' '{"model":"tiny","messages":[{"content":"x"}]}'
    chat 400 'role' '{"model":"tiny","messages":[{"role":"evil","content":"x"}]}'
    chat 400 'messages.0' '{"model":"tiny","messages":[{"role":"user","content":5}]}'
    chat 400 'unable to decode' "$(printf '{"model":"tiny","messages":[{"role":"user","content":"\377"}]}')"
    chat 400 'model is no string' "{\"model\":5,$hi}"
    chat 404 'model_not_found' "{\"model\":\"nope\",$hi}"
    chat 404 'model_not_found' "{\"model\":\"tiny+nope\",$hi}"
    chat 400 'temperature' "{\"model\":\"tiny\",$hi,\"temperature\":-1}"
    chat 400 'temperature' "{\"model\":\"tiny\",$hi,\"temperature\":\"hot\"}"
    chat 400 'n is not in 1' "{\"model\":\"tiny\",$hi,\"n\":0}"
    chat 400 'n is not in 1' "{\"model\":\"tiny\",$hi,\"n\":1000}"
    chat 400 'frobnicate' "{\"model\":\"tiny\",$hi,\"frobnicate\":1}"
    chat 400 'stream is neither' "{\"model\":\"tiny\",$hi,\"stream\":\"yes\"}"
    chat 400 'context_length_exceeded' "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"$(head -c 9000 /dev/zero | tr '\0' '?')\"}]}"
    chat 400 'depth' "$(head -c 9000 /dev/zero | tr '\0' '[')"
    reply 404 'no such path' $api/v1/nothing
    reply 405 'another method' $api/v1/chat/completions
    reply 404 'model_not_found' $api/v1/models/nope
    reply 431 'head' -H "x: $(head -c 30000 /dev/zero | tr '\0' x)" $api/v1/models
    # a name that another's name server lets point here, and a page of another site: neither is answered
    reply 200 '"id":"tiny"' -H 'Host: localhost' $api/v1/models
    reply 421 'host_not_allowed' -H 'Host: box.example' $api/v1/models
    taken set api.hosts 'other.example, box.example'
    reply 200 '"id":"tiny"' -H 'Host: box.example' $api/v1/models
    taken set api.hosts ''
    reply 421 'option api.hosts' -H 'Host: box.example' $api/v1/models
    reply 403 'origin_not_allowed' -H 'Origin: http://evil.example' $api/v1/models
    reply 200 '"id":"tiny"' -H "Origin: $api" $api/v1/models
    printf '%s' "{\"model\":\"tiny\",$hi}" >"$work/request"
    reply 403 'origin_not_allowed' -H 'Origin: null' -H 'content-type: text/plain' --data-binary "@$work/request" $api/v1/chat/completions
    head -c 5000000 /dev/zero | tr '\0' x >"$work/big"
    reply 413 'larger than 4 MiB' -H 'Expect:' --data-binary "@$work/big" $api/v1/chat/completions
    head -c 40000000 /dev/zero >"$work/big"
    reply 413 'larger than' -H 'Expect:' --data-binary "@$work/big" $api/v1/chat/completions
    # clients that leave in the middle of a stream, and many at once: each gets a whole answer or a clear refusal
    for i in 1 2 3 4; do
        curl -s -m 0.3 -o /dev/null --data-binary "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"go on\"}],\"max_tokens\":400}" $api/v1/chat/completions
    done
    printf '%s' "{\"model\":\"tiny\",$hi}" >"$work/request"
    i=0
    waits=
    while [ $i -lt 24 ]; do
        curl -s -m 50 -o "$work/many$i" -w '%{http_code}\n' --data-binary "@$work/request" $api/v1/chat/completions >"$work/code$i" &
        waits="$waits $!"
        i=$((i + 1))
    done
    wait $waits
    cat "$work"/code* | grep -qv '^200$\|^503$' && bad "24 clients at once: $(sort "$work"/code* | uniq -c | tr '\n' ' ')"
    cat "$work"/code* | grep -q '^200$' || bad "24 clients at once: none was answered"
    chat 200 '"finish_reason":"length"' "{\"model\":\"tiny\",$hi}"
else
    echo "# the API is not tried: curl is not installed"
fi
alive "the API's clients"

# ---- the RPC
if [ -z "${ANVIL:-}" ]; then
    for f in "$src"/contrib/contracts/node_modules/@foundry-rs/anvil-*/bin/anvil; do [ -x "$f" ] && ANVIL=$f; done
    [ -n "${ANVIL:-}" ] || ANVIL=$(command -v anvil)
fi
rpc=$((port + 1)) liar=$((port + 2))
export ANVIL
if [ -z "$ANVIL" ] || ! command -v python3 >/dev/null 2>&1 || ! command -v curl >/dev/null 2>&1; then
    echo "# lies of an RPC are not tried here: anvil, python3 or curl is missing"
elif ! sh "$src/contrib/devnet/devnet" start "$work/chain" --port $rpc >/dev/null 2>"$work/devnet.err"; then
    echo "# lies of an RPC are not tried here: $(head -1 "$work/devnet.err")"
else
    echo honest >"$work/mode"
    python3 "$src/tests/lying_rpc.py" $liar http://127.0.0.1:$rpc "$work/mode" >"$work/ready" 2>"$work/liar.err" &
    pids="$pids $!"
    i=0
    until grep -qs ready "$work/ready" || [ $i = 100 ]; do sleep 0.1; i=$((i + 1)); done
    call() { curl -s -m 5 -H 'content-type: application/json' -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$2}" http://127.0.0.1:$rpc; }
    echo ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 >"$work/key"
    refused LOAM_ENET 69 "port 1: connection refused" chain use http://127.0.0.1:1
    refused LOAM_EINVAL 2 "http" chain use ftp://x
    for how in slow:LOAM_ETIMEOUT:75 cut:LOAM_ECUT:69 junk:LOAM_EJSON:76 status:LOAM_ESTATUS:69 id:LOAM_ERPCID:76 null:LOAM_ENULL:76 huge:LOAM_ELIMIT:65 header:LOAM_EHEADER:76; do
        echo "${how%%:*}" >"$work/mode"
        rest=${how#*:}
        refused "${rest%:*}" "${rest#*:}" "127.0.0.1" chain use http://127.0.0.1:$liar
    done
    echo honest >"$work/mode"
    taken chain use http://127.0.0.1:$liar
    taken key import dev "$work/key"
    taken key new poor
    taken chain send 0x00000000000000000000000000000000000a11ce 1 --from dev
    tx=$(sed -n 's/.*"tx": "\(0x[0-9a-f]*\)".*/\1/p' "$work/out")
    [ -n "$tx" ] || bad "no transaction hash: $(cat "$work/out")"
    poor=$("$loam" --data "$data" --no-start --json key list 2>/dev/null | tr -d '\n' | sed 's/.*"name": "poor"[^}]*"address": "\(0x[0-9a-fA-F]*\)".*/\1/;s/.*"address": "\(0x[0-9a-fA-F]*\)"[^}]*"name": "poor".*/\1/')
    refused LOAM_EFUNDS 76 "needed" chain send 0x00000000000000000000000000000000000a11ce 2.5 --from poor
    grep -qi "$poor" "$work/both" || bad "no funds: the address $poor is not named: $(cat "$work/both")"
    grep -q "2\.5" "$work/both" || bad "no funds: the amount is not named: $(cat "$work/both")"
    refused LOAM_EFUNDS 76 "$poor (key poor) has 0 OPEN, about 0.0[0-9]* are needed" chain deploy --as poor
    # honest, many looks at a chain that stands still are one message of the stream "heads" for each block
    (sleep 0.5; call evm_mine '[]' >/dev/null) &
    python3 - "$data/node.sock" <<'PY' || bad "the stream of heads says a head twice, or misses one"
import json, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"version":"test"}}\n'
          b'{"jsonrpc":"2.0","id":2,"method":"topic.subscribe","params":{"topics":["heads"]}}\n')
end, seen, lines = time.time() + 20, [], s.makefile()
s.settimeout(2.5)
try:
    while time.time() < end:
        m = json.loads(lines.readline())
        if m.get("method") == "topic":
            seen.append(m["params"]["value"]["hash"])
except OSError:
    pass  # nothing new for a while, at five looks a second
sys.exit(0 if seen and len(seen) == len(set(seen)) else print(seen) or 1)
PY
    # lie NAME STATUS EXIT words…: with the lie its own status, without it the same command works
    lie() {
        how=$1 name=$2 want=$3
        shift 3
        call evm_mine '[]' >/dev/null # a block nobody has looked at
        echo "$how" >"$work/mode"
        refused "$name" "$want" "127.0.0.1\|RPC\|block" "$@"
        echo honest >"$work/mode"
        taken "$@"
        alive "lie $how"
    }
    lie proof LOAM_EPROOF 76 chain account dev
    lie value LOAM_EVALUE 76 chain account dev
    from=$(call eth_accounts '[]' | sed 's/.*\["\(0x[0-9a-fA-F]*\)".*/\1/')
    tx=$(call eth_sendTransaction "[{\"from\":\"$from\",\"to\":\"$from\",\"value\":\"0x1\"}]" | sed 's/.*"result":"\(0x[0-9a-f]*\)".*/\1/')
    lie receipt LOAM_ERECEIPT 76 chain tx "$tx"
    # a head that lies is not taken: the light client stays where it was, says why, keeps the evidence, and goes on later
    before=$(taken chain block; sed -n 's/^  "number": \([0-9]*\),*/\1/p' "$work/out")
    echo header >"$work/mode"
    call evm_mine '[]' >/dev/null
    i=0
    until taken chain evidence && grep -q LOAM_EHEADER "$work/out"; do
        i=$((i + 1))
        [ $i -lt 60 ] || { bad "a header's lie is not in the evidence: $(head -c 300 "$work/out")"; break; }
        sleep 0.1
    done
    taken chain block
    [ "$(sed -n 's/^  "number": \([0-9]*\),*/\1/p' "$work/out")" = "$before" ] || bad "a header's lie was taken"
    taken chain status
    grep -q "127.0.0.1:$liar" "$work/out" || bad "chain status does not name the liar: $(head -c 600 "$work/out")"
    echo honest >"$work/mode"
    i=0
    until taken chain block && [ "$(sed -n 's/^  "number": \([0-9]*\),*/\1/p' "$work/out")" -gt "$before" ]; do
        i=$((i + 1))
        [ $i -lt 600 ] || { bad "after the lie the head is not followed again"; break; }
        sleep 0.1
    done
    # an RPC that is behind (a killed development chain has lost its last second) gets a moment; one that never finds a state does not
    echo lost >"$work/mode"
    refused LOAM_ERPC 76 "Resource not found" chain account dev
    refused LOAM_ERPC 76 "Resource not found" chain send 0x00000000000000000000000000000000000a11cf 1 --from dev
    echo honest >"$work/mode"
    taken chain account dev
    echo behind >"$work/mode"
    taken chain send 0x00000000000000000000000000000000000a11cf 1 --from dev
    echo honest >"$work/mode"
    taken chain account 0x00000000000000000000000000000000000a11cf
    grep -q '"balance_wei": "1000000000000000000"' "$work/out" || bad "paid while the RPC was behind: $(head -c 300 "$work/out")"
    alive "an RPC that is behind"
    lie chain LOAM_ECHAIN 76 chain use http://127.0.0.1:$liar
    lie slow LOAM_ETIMEOUT 75 chain account dev
    lie cut LOAM_ECUT 69 chain account dev
    lie junk LOAM_EJSON 76 chain account dev
    # a disk that fills up while there is work and money: each command says so and does nothing, and does it once when there is room
    if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=8m,mode=700 tmpfs "$work/small" 2>/dev/null; then
        mounted=$work/small main=$data mainnode=$node data=$work/small
        printf 'api.listen =\nkey.cost = light\nchain.poll = 0.2\n' >"$data/config"
        head -n 4 "$src/contrib/demo/alice.jsonl" >"$r/few.jsonl"
        up "$data" && node=$last
        call evm_setIntervalMining '[1]' >/dev/null # a contribution waits for blocks
        taken chain use http://127.0.0.1:$rpc
        taken key import dev "$work/key"
        taken chain deploy --as dev
        taken account register dev
        taken datanet create full --as dev
        taken model add "$model" --name tiny
        dd if=/dev/zero of="$data/fill" bs=1k >/dev/null 2>&1
        rich=0x00000000000000000000000000000000000f0001
        for line in "chain send $rich 1 --from dev" "contribute $r/few.jsonl --datanet 1 --as dev" "train few --files $r/few.jsonl --base tiny --epochs 1" \
            "model add $model --name other" "key new other" "set log.level debug"; do
            refused LOAM_ENOSPACE 74 "$data/" $line
        done
        taken doctor
        grep -q '"check": "disk space"' "$work/out" && tr -d '\n' <"$work/out" | grep -q '"check": "disk space"[^}]*"ok": false' || bad "doctor does not see a full disk: $(head -c 600 "$work/out")"
        taken chain account $rich
        grep -q '"balance_wei": "0"' "$work/out" || bad "paid on a full disk: $(cat "$work/out")"
        alive "a full disk with work on it"
        rm "$data/fill"
        taken chain send $rich 1 --from dev
        taken contribute "$r/few.jsonl" --datanet 1 --as dev
        taken train few --files "$r/few.jsonl" --base tiny --epochs 1
        taken chain account $rich
        grep -q '"balance_wei": "1000000000000000000"' "$work/out" || bad "not paid once after a full disk: $(cat "$work/out")"
        taken datanet show 1
        grep -q '"contributions": 1' "$work/out" || bad "not contributed once after a full disk: $(cat "$work/out")"
        ends $node || bad "SIGTERM after a full disk with work on it"
        data=$main node=$mainnode
        umount "$work/small" && mounted=
    else
        echo "# a disk that fills up is not tried: no small file system can be mounted"
    fi
    sh "$src/contrib/devnet/devnet" stop "$work/chain" >/dev/null 2>&1
    refused LOAM_ENET 69 "127.0.0.1" chain send 0x00000000000000000000000000000000000a11ce 1 --from dev
    alive "an RPC that is down"
fi

# ---- what the node says of itself, in the end: no fault of its own, sums that hold
taken doctor
taken disk
total=$(sed -n 's/.*"bytes": \([0-9]*\),\{0,1\} *$/\1/p' "$work/out" | head -1)
used=$(sed -n 's/^  "bytes": \([0-9]*\),*$/\1/p' "$work/out")
parts=$(sed -n 's/^ \{4,\}"bytes": \([0-9]*\),*$/\1/p' "$work/out" | { t=0; while read -r b; do t=$((t + b)); done; echo $t; })
du=$(($(du -s --block-size=1 "$data" | cut -f1)))
[ "${used:-$total}" = "$parts" ] || bad "disk: the parts add up to $parts, the total is ${used:-$total}"
off=$((${used:-$total} - du))
[ ${off#-} -le 65536 ] || bad "disk: ${used:-$total} bytes, du has $du" # the log may have grown in between
ends $node
[ $x = 0 ] || bad "SIGTERM: exit status $x: $(tail -n 3 "$data.log")"

# ---- the disk is full: a limit on file sizes stands in for it, which needs no root
data=$work/full
mkdir -m 700 "$data"
printf 'api.listen =\nkey.cost = light\n' >"$data/config"
(ulimit -f 1200 && exec "$loam" --data "$data" node) >"$data.log" 2>&1 & # in units of 512 bytes or 1 KiB
node=$!
pids="$pids $node"
i=0
until "$loam" --data "$data" --no-start node status >/dev/null 2>&1 || [ $i = 100 ]; do sleep 0.1; i=$((i + 1)); done
cat "$model" "$model" >"$g/big.gguf"
refused LOAM_ENOSPACE 74 "$data/models" model add "$g/big.gguf" --name big
ls -A "$data/models" | grep -q . && bad "a full disk leaves half a file: $(ls -A "$data/models")"
taken key new k1
alive "a full disk"
ends $node || bad "SIGTERM after a full disk"

# ---- too little memory: a limit on the address space; some of these are too little for a training, one may be for the node
if grep -q __asan_init "$loam" || grep -q __tsan_init "$loam"; then
    echo "# too little memory is not tried: sanitizers need an address space of their own"
else
    i=0
    while [ $i -lt 64 ]; do
        printf '{"prompt":"q%d","completion":"%s"}\n' $i "$(head -c 400 /dev/zero | tr '\0' 'w' | sed "s/w\{4\}/w$i /g")"
        i=$((i + 1))
    done >"$r/long.jsonl"
    said=0
    for kib in 300000 340000 380000; do
        data=$work/m$kib
        mkdir -m 700 "$data" "$data/models"
        printf 'api.listen =\nkey.cost = light\ncompute.threads = 2\n' >"$data/config"
        cp "$model" "$data/models/tiny.gguf"
        (ulimit -v $kib && exec "$loam" --data "$data" node) >"$data.log" 2>&1 &
        node=$!
        pids="$pids $node"
        i=0
        until "$loam" --data "$data" --no-start node status >/dev/null 2>&1 || [ $i = 50 ] || ! kill -0 $node 2>/dev/null; do sleep 0.1; i=$((i + 1)); done
        if ! kill -0 $node 2>/dev/null; then
            wait $node
            x=$?
            [ $x = 12 ] || bad "a node without memory: exit status $x, not 12: $(tail -n 2 "$data.log")"
            continue
        fi
        ask train big --files "$r/long.jsonl" --base tiny --epochs 1 --batch 64
        if [ $x != 0 ]; then
            said=$((said + 1))
            [ $x = 12 ] && cat "$work/out" "$work/err" | grep -q '"status": "LOAM_ENOMEM"' || bad "too little memory: exit status $x: $(head -c 300 "$work/out")"
        fi
        alive "too little memory ($kib KiB)"
        ends $node || bad "SIGTERM after too little memory"
    done
    [ $said -gt 0 ] || echo "# all of the limits on memory were enough here"
fi

# ---- a damaged store: named, with what to do (the node that was stopped above left a good one)
data=$work/a
cp -r "$data/store" "$work/store"
damaged() { # EXIT TEXT
    timeout 20 "$loam" --data "$data" node >"$work/out" 2>"$work/err"
    x=$?
    [ $x = "$1" ] || bad "a damaged store: exit status $x, not $1: $(head -c 300 "$work/err")"
    grep -q "data.mdb$2" "$work/err" || bad "a damaged store is not named: $(head -c 300 "$work/err")"
    cp "$work/store/data.mdb" "$data/store/data.mdb"
}
head -c 20000 /dev/zero | tr '\0' x >"$data/store/data.mdb"
damaged 74 " is damaged"
if ! grep -q __asan_init "$loam" && ! grep -q __tsan_init "$loam"; then
    head -c 8192 "$work/store/data.mdb" >"$data/store/data.mdb"
    damaged 74 ""
    grep -q "cut short" "$work/err" || bad "a store that is cut: $(head -c 300 "$work/err")"
fi
up "$data" && node=$last
taken key list
taken model info tiny
ends $node || bad "SIGTERM after the store came back"

# ---- the socket's place is taken
data=$work/taken
mkdir -m 700 "$data" "$data/node.sock"
printf 'api.listen =\n' >"$data/config"
timeout 20 "$loam" --data "$data" node >"$work/out" 2>"$work/err"
x=$?
[ $x = 74 ] && grep -q "$data/node.sock" "$work/err" || bad "a folder in the socket's place: exit status $x: $(cat "$work/err")"
exit $status
