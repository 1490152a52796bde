#!/usr/bin/env python3
"""The loss curve of loam's training beside PEFT's: same initial adapter, same order of rows, same schedule, fp32, all linears.

    contrib/models/check_loss_curve.py LM_CHECK MODEL.gguf ROWS.jsonl... [--epochs 4] [--batch 2] [--losses PEFT.txt]

LM_CHECK: the program (make contrib/models/lm_check). PEFT's side is contrib/bench/peft_train.py, which needs torch, transformers, peft and
gguf and about a second a step; --losses takes what an earlier run of it with the same options wrote,
also one that --steps ended early (its --state goes on from there, and the schedule stays the whole run's). Says the largest difference of a
step's mean loss within 50 steps (at most 1e-3) and 200 (at most 1e-2); ends with status 1 where one is above, 2 where there are no 200."""
import argparse
import os
import subprocess
import sys
import tempfile

BOUNDS = ((50, 1e-3), (200, 1e-2))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("lm_check")
    ap.add_argument("model")
    ap.add_argument("rows", nargs="+")
    ap.add_argument("--rank", default="16")
    ap.add_argument("--alpha", default="32")
    ap.add_argument("--lr", default="1e-3")
    ap.add_argument("--schedule", default="linear", choices=["constant", "linear", "cosine"])
    ap.add_argument("--clip", default="1")
    ap.add_argument("--epochs", default="4")
    ap.add_argument("--batch", default="2")
    ap.add_argument("--losses", help="what peft_train.py wrote before")
    a = ap.parse_args()
    peft = a.losses
    if not peft:
        handle, peft = tempfile.mkstemp()
        os.close(handle)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "peft_train.py")
        subprocess.run([sys.executable, script, a.model, *a.rows, "--rank", a.rank, "--alpha", a.alpha, "--lr", a.lr, "--schedule", a.schedule,
                        "--clip", a.clip, "--epochs", a.epochs, "--batch", a.batch, "--seed", "2a", "--losses", peft], check=True)
    with open(peft, encoding="utf-8") as f:
        want = [float(x) for x in f if not x.startswith("#")]
    if not a.losses:
        os.unlink(peft)
    p = subprocess.run([a.lm_check, "losses", a.model, a.rank, a.alpha, a.lr, a.schedule, a.clip, a.epochs, a.batch, *a.rows],
                       check=True, capture_output=True, text=True)
    got = [float(x) for x in p.stdout.split()]
    if len(got) != len(want) and not (a.losses and len(want) < len(got)):
        print(f"loam took {len(got)} steps, PEFT {len(want)}: not the same options")
        return 2
    got = got[:len(want)]
    off = [abs(x - y) for x, y in zip(got, want)]
    print(f"{len(got)} steps; loss of loam {got[0]:.4f} to {got[-1]:.4f}, of PEFT {want[0]:.4f} to {want[-1]:.4f}")
    status = 0
    for steps, bound in BOUNDS:
        worst = max(off[:steps])
        ok = worst <= bound
        print(f"  {'ok    ' if ok else 'WRONG '}largest difference within {min(steps, len(off))} steps: {worst:.2e}, at step {off.index(worst) + 1} (bound {bound:.0e})")
        status |= not ok
    return status or (2 if len(off) < BOUNDS[-1][0] else 0)


if __name__ == "__main__":
    sys.exit(main())
