#!/bin/sh
# A batch recorded, validated, settled and claimed on a development chain whose blocks are replaced meanwhile, up to 64 deep (anvil_reorg):
# every payment comes out right once. The first five steps are those of tests/thread.sh. Skips with a line where anvil is missing.
srcdir=$(cd "${srcdir:-.}" && pwd)
export srcdir LOAM_REORG=1
LOAM_EPOCHS=${LOAM_EPOCHS:-2} exec sh "$srcdir/tests/thread.sh"
