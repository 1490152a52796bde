#!/bin/sh
# loam-cuda.so as nvcc linked it, with NVIDIA's own runtime inside, where there is no driver, an old one, one without a device and one
# that fails: each is told by `gpu list`, and everything else goes on. The drivers are false ones (tests/cuda_emu/libcuda.c).
[ -e "$builddir/loam-cuda.so" ] && [ -x "$builddir/loam" ] || { echo "skipped: loam-cuda.so is not built"; exit 77; }
t=$(mktemp -d) || exit 2
${CC:-cc} -shared -fPIC -o "$t/libcuda.so.1" "$srcdir/tests/cuda_emu/libcuda.c" || exit 2
status=0
a() { "$builddir/loam" --data "$t/data" --no-start "$@"; }
trap 'a stop >/dev/null 2>&1; rm -rf "$t"' EXIT
mkdir -m 700 "$t/data"
sees() { # what `gpu list` says, the driver's version, its answer to cuInit
    LOAM_CUDA_MODULE="$builddir/loam-cuda.so" LD_LIBRARY_PATH="$t" FAKE_CUDA_VERSION=$2 FAKE_CUDA_INIT=$3 \
        "$builddir/loam" --data "$t/data" node --set api.listen= >"$t/log" 2>&1 </dev/null &
    i=0
    until a node status >/dev/null 2>&1; do
        i=$((i + 1))
        [ $i -lt 600 ] || { cat "$t/log"; echo "no node"; exit 1; }
        sleep 0.1
    done
    a gpu list >"$t/out" 2>&1 || { cat "$t/out"; echo "FAILED: gpu list"; status=1; }
    grep -q "no device .*$1" "$t/out" || { cat "$t/out"; echo "FAILED: \"$1\" is not said"; status=1; }
    a gpu use cuda >"$t/out" 2>&1 && { echo "FAILED: a device that is not there was taken"; status=1; }
    grep -q "$1" "$t/out" || { cat "$t/out"; echo "FAILED: \"$1\" is not said by gpu use"; status=1; }
    a gpu use cpu >/dev/null 2>&1 || { echo "FAILED: gpu use cpu"; status=1; }
    a stop >/dev/null 2>&1
    wait
}
sees 'driver supports CUDA 11.4' 11040 0
sees 'finds no device' 99000 100
sees 'initialization error' 99000 3
rm "$t/libcuda.so.1"
if ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then echo "this machine has a driver: its absence is not tried"; else sees 'no NVIDIA driver' 13000 0; fi
exit $status
