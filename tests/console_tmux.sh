#!/bin/sh
# The outsider's cross-check: the same console seen through tmux, another terminal than the tests' own.
# No sleeps for luck: each step polls for its text, a minute at most. Skips without tmux.
command -v tmux >/dev/null || { echo "# skipped: no tmux"; exit 77; }
bin=${builddir:-.}/tests/test_console
[ -x "$bin" ] || { echo "# skipped: test_console is not built (no libvterm)"; exit 77; }
dir=$(mktemp -d) || exit 99
t="tmux -L loam$$ -f /dev/null"
"$bin" --fake "$dir/s" &
fake=$!
trap '$t kill-server 2>/dev/null; kill $fake 2>/dev/null; rm -rf "$dir"' EXIT
n=0
until [ -S "$dir/s" ]; do n=$((n + 1)); [ $n -gt 600 ] && exit 99; sleep 0.1; done
unset TMUX
TZ=UTC LC_ALL=C.UTF-8 $t new-session -d -x 80 -y 24 "$bin --console $dir/s; echo status \$?; cat" || { echo "# skipped: tmux does not start"; exit 77; }
wait_for() {
  n=0
  until $t capture-pane -p | grep -qF -e "$1"; do
    n=$((n + 1))
    if [ $n -gt 600 ]; then echo "never came: $1"; $t capture-pane -p; exit 1; fi
    sleep 0.1
  done
  echo "ok $1"
}
wait_for 'step 120/400'
$t send-keys 2
wait_for '▶2 Train'
$t send-keys z
wait_for 'warmup  '
$t send-keys :
wait_for 'Tab completes'
$t send-keys tr Tab
wait_for 'train datanet [base]'
$t send-keys C-c
$t send-keys '?'
wait_for 'KEYS IN Train'
$t send-keys C-c
$t resize-window -x 200 -y 50 2>/dev/null && wait_for '5 Rewards'
$t send-keys 0
wait_for 'evil'
$t send-keys q
wait_for 'Detached. The node (pid 4242) goes on.'
wait_for 'status 0'
