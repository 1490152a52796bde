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
"$cxx" -std=c++17 $flags -U_FORTIFY_SOURCE -w -I"$srcdir/tests/cuda_emu" -x c++ -c "$srcdir/gpu/cuda_ref.cu" -o "$t/cuda.o"
"$cxx" -shared -o "$t/loam-cuda.so" "$t"/*.o
LOAM_CUDA_MODULE="$t/loam-cuda.so" LOAM_GPU_CUDA=cuda LOAM_GPU_JSON="$t/gpu.json" "$builddir/tests/test_gpu" >"$t/out" 2>&1 || { tail -60 "$t/out"; exit 1; }
grep -E 'cuda|equal' "$t/out"
