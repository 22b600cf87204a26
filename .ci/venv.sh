#!/usr/bin/env bash
# venv.sh PYTHON DIR: a virtual environment in DIR with what requirements.lock names, and Jetray itself, editable.
#
# Run again after a failure or a changed lock, it goes on with the DIR it finds, unless that one is broken or of
# another Python. The stamp DIR/.jetray-installed is written last, so it stands for a whole installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$1
dir=$2
stamp=$dir/.jetray-installed
log=$dir/install.log

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_USER=0
unset PYTHONHOME PYTHONPATH

fail() {
  echo "jetray: $*" >&2
  exit 1
}

# What pip does now, by its last telling line.
progress() {
  sed -En 's/^ *(Collecting|Downloading|Building) ([^ -]*).*/\1 \2/p; s/^Installing collected.*/Unpacking/p' "$log" | tail -n 1
}

# Say what runs, and every few seconds that it still does; keep its output for the case that it fails.
step() {
  local what=$1 began=$SECONDS rc=0 next
  shift
  echo "jetray: $what"
  "$@" >>"$log" 2>&1 </dev/null &
  local job=$!
  trap 'kill "$job" 2>/dev/null || true' EXIT
  next=$((SECONDS + 15))
  while kill -0 "$job" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS >= next)); then
      echo "jetray:   $((SECONDS - began)) s, $(progress)"
      next=$((SECONDS + 15))
    fi
  done
  wait "$job" || rc=$?
  trap - EXIT
  if ((rc != 0)); then
    tail -n 20 "$log" >&2
    fail "$what: failed with exit status $rc; the whole output is in $log"
  fi
}

command -v "$python" >/dev/null || fail "there is no '$python' here; name another: make venv PYTHON=python3.12"
version=$("$python" -c 'import platform; print(platform.python_version())') ||
  fail "'$python' does not run; name another: make venv PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Jetray needs Python 3.11 or later, and '$python' is $version; name another: make venv PYTHON=python3.12"

rm -f "$stamp"
have=$("$dir/bin/python" -c 'import platform, pip; print(platform.python_version())' 2>/dev/null || true)
if [[ $have != "$version" ]]; then
  echo "jetray: making $dir with Python $version"
  "$python" -m venv --clear "$dir" || fail "could not make $dir (on Debian and Ubuntu: apt install python3-venv)"
fi
: >"$log"

began=$SECONDS
step "installing $(grep -c == requirements.lock) locked packages into $dir (about 200 MB the first time)" \
  "$dir/bin/python" -m pip install --progress-bar off --require-hashes -r requirements.lock
step "installing jetray, editable" \
  "$dir/bin/python" -m pip install --no-build-isolation --no-deps --editable .
echo "jetray: $dir is ready, after $((SECONDS - began)) s"
touch "$stamp"
