#!/bin/sh
# The node's /v1 API with the openai Python client, on the tiny model. LOAM_PYTHON names a Python that has the package.
python=${LOAM_PYTHON:-python3}
"$python" -c 'import openai' 2>/dev/null || { echo "# skipped: no openai package for $python (LOAM_PYTHON=…)"; exit 77; }
src=${srcdir:-.}
loam=${builddir:-.}/loam
dir=$(mktemp -d) || exit 2
"$loam" --data "$dir" node --set api.listen=127.0.0.1:0 2>"$dir/err" &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$dir"' EXIT
n=0
until "$loam" --data "$dir" model add "$src/contrib/models/tiny.gguf" 2>"$dir/add"; do
    n=$((n + 1))
    [ $n -lt 600 ] || { cat "$dir/add" "$dir/err"; exit 1; }
    sleep 0.1
done
url=$("$loam" --data "$dir" node status --json | sed -n 's/.*"api": *"\([^"]*\)".*/\1/p')
[ -n "$url" ] || { echo "the node does not say where its API is"; "$loam" --data "$dir" node status --json; exit 1; }
"$python" "$src/tests/openai_client.py" "$url"
