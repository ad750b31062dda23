# shellcheck shell=sh
# Builds $venv with $base and installs the checkout into it; sourced by env.sh.
# shellcheck disable=SC2154  # root, venv, base, about, extras, stamp and python: env.sh

# Debian and Ubuntu ship Python without its venv module. Then pip, which may not install
# anything there either, may still fetch virtualenv into a folder of its own.
make_venv() {
    mkdir -p "$venv" && : >"$stamp"
    "$base" -m venv "$venv" >/dev/null 2>&1 && "$python" -m pip --version >/dev/null 2>&1 &&
        return
    "$base" -m pip --version >/dev/null 2>&1 ||
        stop "'$base' has neither venv nor pip; install one (Debian: python3-venv) and try again."
    boot=$root/.venv-boot
    "$base" -m pip install --quiet --disable-pip-version-check --upgrade \
        --target "$boot" virtualenv >&2 || stop "virtualenv could not be installed (see above)."
    rm -rf "$venv"
    PYTHONPATH=$boot "$base" -m virtualenv --quiet "$venv" >&2 ||
        stop "virtualenv could not make $venv (see above)."
    : >"$stamp"
}

echo "launch: setting up $venv, once ..." >&2
if [ -e "$venv" ] && [ ! -e "$stamp" ]; then
    stop "$venv was not made by these scripts; move it away and try again."
fi
if [ "$(cat "$stamp" 2>/dev/null)" != "$about in $root" ]; then
    rm -rf "$venv" # ours, but half made, of another Python, or the checkout has moved
    make_venv
fi
"$python" -m pip install --quiet --disable-pip-version-check --editable "${root}[$extras]" >&2 ||
    stop "installing parallel_params failed (see above); the same command tries again."
echo "$about in $root" >"$stamp"
