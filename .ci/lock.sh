#!/usr/bin/env bash
# lock.sh PYTHON: requirements.lock (everything), requirements-runtime.lock (what the container image installs) and
# requirements-bench.lock (what `make bench` needs beyond the first).
#
# Versions stay where they are unless pyproject.toml no longer allows them; UPGRADE=1 moves all of them up. The other
# locks are held to the versions of the first. No index address and no path of this machine goes in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$1
uv=build/uv
if [[ ! -x $uv/bin/uv ]]; then
  "$python" -m venv --clear "$uv"
  "$uv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14'
fi

# Settings of whoever runs this must not show in the result.
for name in "${!UV_@}"; do
  case $name in UV_CACHE_DIR | UV_DEFAULT_INDEX | UV_INDEX_URL | UV_NATIVE_TLS | UV_SYSTEM_CERTS) ;; *) unset "$name" ;; esac
done

compile() {
  "$uv/bin/uv" pip compile pyproject.toml --quiet --no-config --generate-hashes --universal --python-version 3.11 \
    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' "$@" >/dev/null
}

compile --all-extras ${UPGRADE:+--upgrade} --output-file requirements.lock
compile --extra openai --group build --constraints requirements.lock --upgrade --output-file requirements-runtime.lock
compile --group bench --constraints requirements.lock ${UPGRADE:+--upgrade} --output-file requirements-bench.lock

if grep -nE '://|^-|find-links|'"$PWD" requirements*.lock; then
  echo "lock.sh: the lines above have an address, an option or a path in them; none may be in a lock" >&2
  exit 1
fi
grep -c == requirements.lock requirements-runtime.lock requirements-bench.lock
