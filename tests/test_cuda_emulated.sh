#!/bin/sh
# The kernels of gpu/cuda_ref.cu on an emulated device (tests/cuda_emu), against the reference, bit for bit. Proves the
# kernels' arithmetic and indexing, not nvcc's code: that is `make gpu-check` on a machine with a device.
set -eu
cxx=${CXX:-g++}
command -v "$cxx" >/dev/null || { echo "skipped: no C++ compiler"; exit 77; }
[ -x "$builddir/tests/test_gpu" ] || { echo "skipped: tests/test_gpu is not built"; exit 77; }
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
flags="-O2 -ffp-contract=off -fPIC -fvisibility=hidden -D_GNU_SOURCE -I$srcdir -I$srcdir/engine"
if [ "$(uname -m)" = x86_64 ] && grep -qw fma /proc/cpuinfo 2>/dev/null; then flags="$flags -mfma"; fi
for f in gpu/types gpu/check engine/base/status engine/base/mem; do
  ${CC:-cc} -std=gnu11 $flags -c "$srcdir/$f.c" -o "$t/$(basename $f).o"
done
for f in ref fast; do
  "$cxx" -std=c++17 $flags -U_FORTIFY_SOURCE -w -I"$srcdir/tests/cuda_emu" -x c++ -c "$srcdir/gpu/cuda_$f.cu" -o "$t/cuda_$f.o"
done
"$cxx" -shared -o "$t/loam-cuda.so" "$t"/*.o
# (Not under sanitizers: the emulated device takes minutes for these, and its own code is not the sanitizers'. What follows runs there.)
kernels() {
  LOAM_CUDA_MODULE="$t/loam-cuda.so" LOAM_GPU_CUDA=cuda LOAM_GPU_JSON="$t/gpu.json" "$builddir/tests/test_gpu" >"$t/out" 2>&1 || { tail -60 "$t/out"; exit 1; }
  grep -E 'cuda|equal' "$t/out"

  # The fast mode's kernels, with cuBLASLt replaced by a plain product: errors within their bounds.
  [ ! -x "$builddir/tests/test_fast" ] || LOAM_CUDA_MODULE="$t/loam-cuda.so" LOAM_GPU_CUDA=cuda LOAM_GPU_SMALL=1 "$builddir/tests/test_fast" >"$t/out" 2>&1 || { tail -60 "$t/out"; exit 1; }
  grep -E 'NMSE|within' "$t/out"
  # The fast mode behind engine/lm: a session's logits near the CPU's, mixed adapters, weight formats.
  [ ! -x "$builddir/tests/test_fast_lm" ] || LOAM_CUDA_MODULE="$t/loam-cuda.so" LOAM_GPU_CUDA=cuda "$builddir/tests/test_fast_lm" >"$t/out" 2>&1 || { tail -60 "$t/out"; exit 1; }
  grep -E 'NMSE' "$t/out" || true
  # The whole of a LoRA step made of them: it learns, and its gradient is the loss's slope.
  bench=$builddir/contrib/bench/bench_cuda
  [ ! -x "$bench" ] || ASAN_OPTIONS=detect_leaks=0 LOAM_CUDA_MODULE="$t/loam-cuda.so" "$bench" --trains || { echo "FAILED: the fast mode does not train"; exit 1; }
}
[ -n "${LOAM_SANITIZED:-}" ] || kernels

# What people see when a device is missing, busy, full or lost: through a node whose device is the emulated one.
loam=$builddir/loam
[ -x "$loam" ] || exit 0
LOAM_CUDA_MODULE="$t/loam-cuda.so"
export LOAM_CUDA_MODULE
status=0
bad() { echo "FAILED: $*"; status=1; }
data=$t/data
up() { # FAULT AFTER
    LOAM_EMU_PAGEABLE=1 LOAM_EMU_FAULT=$1 LOAM_EMU_AFTER=$2 "$loam" --data "$data" node --set api.listen= >"$t/log" 2>&1 </dev/null &
    i=0
    until "$loam" --data "$data" --no-start node status >/dev/null 2>&1; do
        i=$((i + 1))
        [ $i -lt 600 ] || { cat "$t/log"; echo "no node"; exit 1; }
        sleep 0.1
    done
}
a() { "$loam" --data "$data" --no-start "$@"; }
down() { a stop >/dev/null 2>&1 || true; wait; }
trap 'down; rm -rf "$t"' EXIT
mkdir -m 700 "$data"
said() { # words that must stand in what the command says, whether it ends well (yes, no), the command
    words=$1 well=$2
    shift 2
    if "$@" >"$t/out" 2>&1; then got=yes; else got=no; fi
    [ $got = "$well" ] || { cat "$t/out"; bad "ends well: $got: $*"; }
    grep -q -- "$words" "$t/out" || { cat "$t/out"; bad "\"$words\" is not said: $*"; }
}
up none 0
said 'cuda .*emulated on the CPU' yes a gpu list
said 'cuda' yes a gpu use cuda
said 'computes    cuda' yes a gpu list
said 'only\|no such\|device 3 of 1' no a gpu use cuda:3
a model add "$srcdir/contrib/models/tiny.gguf" >/dev/null || bad "model add"
a gpu use cpu >/dev/null 2>&1 || bad "gpu use cpu"
seed=0x00000000000000000000000000000000000000000000000000000000000000cd
head -n 2 "$srcdir/contrib/demo/alice.jsonl" >"$t/rows.jsonl"
run="--files $t/rows.jsonl --epochs 2 --rank 2 --batch 1 --targets q,v --seed $seed"
a train cpu $run >/dev/null 2>&1 || bad "train on the CPU"
hash_of() { a adapter info "$1" --json | sed -n 's/.*"adapter_hash": *"\(0x[0-9a-f]*\)".*/\1/p' | head -n 1; }
want=$(hash_of cpu)
[ -n "$want" ] || bad "no hash"
# The same training on the device: the same adapter.
a gpu use cuda >/dev/null 2>&1 || bad "gpu use cuda"
a train device $run >"$t/out" 2>&1 || { cat "$t/out"; bad "train on the device"; }
[ "$(hash_of device)" = "$want" ] || bad "the device's adapter is $(hash_of device), the CPU's $want"
# An answer and its attribution: every number but the clock's.
answer() {
    a ask "Hello there" --model device --max-tokens 3 --act q8 --json 2>/dev/null | sed -n '/output_ids/,/"text"/p' >"$t/$1" || bad "ask"
    a attribute --json 2>/dev/null | grep -v '"elapsed_ms"\|"answer"' >>"$t/$1" || bad "attribute"
}
answer on-device
a gpu use cpu >/dev/null 2>&1
down
up none 0
answer on-cpu
grep -q '"text"' "$t/on-cpu" && grep -q '"method"' "$t/on-cpu" || { cat "$t/on-cpu"; bad "no answer, or no attribution"; }
cmp -s "$t/on-device" "$t/on-cpu" || { diff "$t/on-device" "$t/on-cpu"; bad "the device's answer or attribution is another than the CPU's"; }
a gpu use cuda >/dev/null 2>&1 || bad "gpu use cuda, again"
down
# Each fault by its message; the option keeps cuda.
for f in 'no-driver:no NVIDIA driver' 'old-driver:driver supports CUDA 11.4' 'no-device:finds no device' 'busy:has the device for itself' \
         'no-code:no code for the device'; do
    up ${f%%:*} 0
    said "${f#*:}" no a train x $run
    said "${f#*:}" no a gpu use cuda
    down
done
up no-driver 0
said 'no device .*no NVIDIA driver' yes a gpu list
down
up little-memory 0
said 'training needs at least' no a train x $run
down
# Lost, and filled up, in the middle: the state is kept, and the CPU goes on where it may.
up lost 400
said 'device is lost to this process' no a train lost $run
down
up full 4
said 'another program may hold' no a train full $run
a gpu use cpu >/dev/null 2>&1
for n in lost full; do
    a train $n $run >"$t/out" 2>&1 || { cat "$t/out"; bad "going on after $n"; }
    [ "$(hash_of $n)" = "$want" ] || bad "after $n: $(hash_of $n), the CPU's $want"
done
down
up none 0
a gpu use cuda --fallback >/dev/null 2>&1 || bad "gpu use --fallback"
down
up lost 400
a train fell $run >"$t/out" 2>&1 || { cat "$t/out"; bad "falling back in the middle"; }
grep -q 'the CPU goes on' "$t/out" || { cat "$t/out"; bad "falling back is not said"; }
[ "$(hash_of fell)" = "$want" ] || bad "fallen back: $(hash_of fell), the CPU's $want"
down
up no-device 0
a train none $run >"$t/out" 2>&1 || { cat "$t/out"; bad "falling back at the start"; }
[ "$(hash_of none)" = "$want" ] || bad "without a device: $(hash_of none), the CPU's $want"
down
[ -z "${LOAM_SANITIZED:-}" ] || exit $status
# A device lost while it answers: its engine is closed. The same node answers on the CPU, by itself where it may.
ask() { a ask "Hello there" --model device --max-tokens 3 --json; }
up none 0
a gpu use cuda >/dev/null 2>&1 || bad "gpu use cuda, without falling back"
down
up lost 40
said 'device' no ask
a gpu use cpu >/dev/null 2>&1
said 'arith-1' yes ask
down
up none 0
a gpu use cuda --fallback >/dev/null 2>&1 || bad "gpu use --fallback, again"
down
up lost 40
said 'arith-1' yes ask
grep -q 'the CPU answers instead' "$t/log" || { cat "$t/log"; bad "falling back while answering is not logged"; }
down
# The fast mode: its answers say so.
up none 0
a gpu use cuda >/dev/null 2>&1 || bad "gpu use cuda, the last time"
a set compute.mode fast >/dev/null || bad "set compute.mode"
for w in bf16 q8; do
    a set compute.weights $w >/dev/null 2>&1 || bad "set compute.weights"
    down
    up none 0
    said '"arithmetic": *"fast-bf16"' yes ask
    said '"output_ids": *\[' yes ask
done
down
up no-device 0
said 'finds no device' no ask
down
up little-memory 0
said 'lower model.cache' no ask
down
up none 0
a gpu use cuda --fallback >/dev/null 2>&1 || bad "gpu use --fallback in the fast mode"
down
for f in 'no-device 0' 'little-memory 0' 'lost 30'; do
    up $f
    said '"arithmetic": *"arith-1"' yes ask
    down
done
exit $status
