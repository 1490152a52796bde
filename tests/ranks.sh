#!/bin/sh
# Training by several processes over MPI, on the tiny model: one, two and three ranks end with the adapter hash of `train` alone, also
# after a rank was killed; what is said then names the state that was kept; bad input is named.
top=$(cd "${srcdir:-.}" && pwd)
cd "${builddir:-.}" || exit 2
[ -x ./loam-rank ] || { echo "skipped: loam-rank is not built (no MPI)"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: no mpirun"; exit 77; }
[ -z "${LOAM_SANITIZED:-}" ] || { echo "skipped: a sanitizer in every rank, under mpirun, is too slow for the moments at which one is killed"; exit 77; }
loam=$PWD/loam rank=$PWD/loam-rank
dir=$(mktemp -d) || exit 2
data=$dir/data
seed=0x00000000000000000000000000000000000000000000000000000000000000ab
rows=$top/contrib/demo/alice.jsonl
status=0
# one machine, whatever its cores; containers have no other user
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
# MPI itself frees nothing at its end; a sanitizer's leak check is for the other suites
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
bad() { echo "FAILED: $*"; status=1; }
a() { "$loam" --data "$data" "$@"; }
trap 'a --no-start stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
mkdir -m 700 "$data"
"$loam" --data "$data" node --set api.listen= >"$dir/log" 2>&1 </dev/null &
i=0
until a --no-start node status >/dev/null 2>&1; do
    i=$((i + 1))
    [ $i -lt 600 ] || { cat "$dir/log"; echo "no node"; exit 1; }
    sleep 0.1
done
hash_of() { a adapter info "$1" --json | sed -n 's/.*"adapter_hash": *"0x\([0-9a-f]*\)".*/\1/p' | head -n 1; }
a model add "$top/contrib/models/tiny.gguf" >/dev/null || bad "model add"

a train alone --files "$rows" --epochs 6 --rank 4 --seed $seed >"$dir/out" 2>&1 || { cat "$dir/out"; bad "train"; }
want=$(hash_of alone)
[ -n "$want" ] || bad "no hash"
for n in 2 3; do
    a train with$n --files "$rows" --epochs 6 --rank 4 --seed $seed --ranks $n >"$dir/out" 2>&1 || { cat "$dir/out"; bad "train --ranks $n"; }
    [ "$(hash_of with$n)" = "$want" ] || bad "$n ranks: $(hash_of with$n), alone: $want"
done

# By hand: the folder that train --ranks left, without its state; one rank, and one of three killed on the way.
run=$dir/run
mkdir "$run" && cp "$data/runs/with2/ranks" "$run/"
mpirun -n 1 "$rank" "$run" >"$dir/out" 2>&1 || { cat "$dir/out"; bad "one rank"; }
grep -q "adapter $want" "$dir/out" || { cat "$dir/out"; bad "one rank gives another hash"; }
# The last rank is killed as soon as there is a state; a run that was done before that is begun again. So is one whose rank 0 said why it
# ends while mpirun, on a machine that others slow down, no longer passed anything on.
hit=no told=no
for try in 1 2 3 4 5 6 7 8; do
    rm -rf "$run"
    mkdir "$run" && cp "$data/runs/with2/ranks" "$run/"
    ( exec mpirun -n 3 "$rank" --threads 1 --save 0.000001 "$run" >"$dir/out" 2>&1 ) &
    mpi=$!
    i=0
    until [ -s "$run/state" ] || [ $i -gt 2000 ]; do
        i=$((i + 1))
        sleep 0.02
    done
    victim=$(ps -o pid= --ppid $mpi | tail -n 1)
    [ -n "$victim" ] && kill -9 $victim 2>/dev/null
    if wait $mpi; then continue; fi
    hit=yes
    if grep -q "ended by mpirun at step\|another rank may be lost" "$dir/out"; then told=yes; break; fi
done
[ $hit = yes ] || bad "no rank could be killed in time, or a run whose rank was killed ends well"
[ $told = yes ] || { cat "$dir/out"; bad "a killed rank is not told"; }
[ -s "$run/state" ] || bad "no state was kept"
mpirun -n 2 "$rank" --threads 1 "$run" >"$dir/out" 2>&1 || { cat "$dir/out"; bad "going on after a killed rank"; }
grep -q '^step 1 ' "$dir/out" && bad "it began again"
grep -q "adapter $want" "$dir/out" || { cat "$dir/out"; bad "after a killed rank: another hash"; }

# Bad input.
mpirun -n 2 "$rank" "$dir/nowhere" >"$dir/out" 2>&1 && bad "a folder that is not there"
grep -q "nowhere" "$dir/out" || { cat "$dir/out"; bad "the folder is not named"; }
mpirun -n 2 "$rank" --base "$dir/none.gguf" "$run" >"$dir/out" 2>&1 && bad "a base that is not there"
grep -q "none.gguf" "$dir/out" || { cat "$dir/out"; bad "the base is not named"; }
printf x | dd of="$run/ranks" bs=1 seek=100 conv=notrunc 2>/dev/null
mpirun -n 2 "$rank" "$run" >"$dir/out" 2>&1 && bad "a damaged file was taken"
grep -q "damaged" "$dir/out" || { cat "$dir/out"; bad "damage is not named"; }
exit $status
