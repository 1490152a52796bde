#!/bin/sh
# The kernels for arm64 (gpu/cpu_neon.c, cpu_neon_dot.c) against the reference, bit for bit, on an emulated processor. Needs a
# cross compiler and qemu's user emulation (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user); on an arm64 machine
# tests/test_gpu itself does this.
set -eu
cc=${LOAM_ARM64_CC:-aarch64-linux-gnu-gcc} qemu=${LOAM_ARM64_RUN:-qemu-aarch64}
for p in "$cc" "$qemu"; do command -v "$p" >/dev/null || { echo "skipped: no $p"; exit 77; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
printf 'int main(void) { return 0; }\n' >"$t/try.c"
"$cc" -static "$t/try.c" -o "$t/try" -lm 2>"$t/err" || { echo "skipped: $cc has no C library"; exit 77; }
flags="-std=gnu11 -O2 -ffp-contract=off -fno-strict-aliasing -D_GNU_SOURCE -I$srcdir -I$srcdir/engine -I$srcdir/tests/plain_cmocka"
"$cc" $flags -w -Wl,-w -static "$srcdir"/tests/test_gpu.c "$srcdir"/gpu/*.c "$srcdir"/engine/base/status.c "$srcdir"/engine/base/mem.c \
  "$srcdir"/engine/base/bytes.c "$srcdir"/engine/base/keccak.c -o "$t/test_gpu" -lm -lpthread
LOAM_GPU_SMALL=1 LOAM_GPU_JSON="$t/gpu.json" "$qemu" -cpu max "$t/test_gpu" >"$t/out" 2>&1 || { tail -60 "$t/out"; exit 1; }
grep -q ' neon-dot ' "$t/out" || { tail -60 "$t/out"; echo "the processor's backends were not tried"; exit 1; }
grep -E ' neon|equal' "$t/out"
