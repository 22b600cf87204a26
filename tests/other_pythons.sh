#!/usr/bin/env bash
# other_pythons.sh [PYTEST ARGUMENTS]: the unit tests on every newer Python of this machine.
#
# Each has a virtual environment of its own, .venv-3.12 and so on. What is not there is skipped, and said so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

versions=(3.12 3.13 3.14)

# True if $1 runs and is the Python $2; a pyenv shim of a version that is not selected runs and fails.
is_python() {
  [[ $("$1" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null) == "$2" ]]
}

find_python() {
  local version=$1 candidate root
  candidate=$(command -v "python$version" || true)
  if [[ -n $candidate ]] && is_python "$candidate" "$version"; then
    echo "$candidate"
    return
  fi
  root=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")}
  for candidate in "$root/versions/$version"*/bin/python; do
    if is_python "$candidate" "$version"; then
      echo "$candidate"
      return
    fi
  done
}

main=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
failed=()
for version in "${versions[@]}"; do
  if [[ $version == "$main" ]]; then
    echo "== Python $version: skipped, it is the one in .venv"
    continue
  fi
  python=$(find_python "$version")
  if [[ -z $python ]]; then
    echo "== Python $version: skipped, there is none on this machine that runs"
    continue
  fi
  echo "== Python $version"
  stamp=.venv-$version/.jetray-installed
  if [[ ! $stamp -nt requirements.lock || ! $stamp -nt pyproject.toml ]]; then
    bash .ci/venv.sh "$python" ".venv-$version" || { failed+=("$version"); continue; }
  fi
  # A cache of its own: the last failures of one Python are not those of another.
  ".venv-$version/bin/python" -m pytest -m "not ray and not server and not slow" -o cache_dir=".venv-$version/.pytest_cache" "$@" \
    </dev/null || failed+=("$version")
done

if ((${#failed[@]})); then
  echo "== failed on Python ${failed[*]}" >&2
  exit 1
fi
