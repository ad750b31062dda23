# shellcheck shell=sh disable=SC2154  # root, base, about, ...: env.sh
# Builds $venv with $base and installs the checkout into it; sourced by env.sh.

# Debian and Ubuntu ship Python without its venv module. Then pip, which may not install
# anything there either, may still fetch virtualenv into a folder of its own.
make_venv() {
    { mkdir -p "$venv" && echo "$about in $root" >"$made"; } || stop "$venv cannot be written."
    "$base" -m venv "$venv" >/dev/null 2>&1 && "$python" -m pip --version >/dev/null 2>&1 &&
        return
    "$base" -m pip --version >/dev/null 2>&1 ||
        stop "'$base' has neither venv nor pip; install one of them (Debian: python3-venv)."
    PIP_ROOT_USER_ACTION=ignore "$base" -m pip install --quiet --disable-pip-version-check \
        --upgrade --target "$root/.venv-boot" virtualenv >&2 ||
        stop "virtualenv could not be installed (see above)."
    PYTHONPATH=$root/.venv-boot "$base" -m virtualenv --quiet "$venv" >&2 ||
        stop "virtualenv could not make $venv (see above)."
}

[ ! -e "$venv" ] || [ -e "$made" ] ||
    stop "$venv was not made by these scripts; move it away and try again."
echo "launch: setting up ${venv##*/} in $root, once ..." >&2
if [ "$(cat "$made" 2>/dev/null)" != "$about in $root" ] ||
    ! "$python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv" # of another Python, half made, or the checkout has moved
    make_venv
fi

if [ "$need" = test ]; then
    extras=${extras:+$extras,}test
fi
# --no-compile: Python compiles what it imports, which is a tenth of what is installed.
"$python" -m pip install --quiet --disable-pip-version-check --no-compile \
    --editable "$root${extras:+"[$extras]"}" >&2 ||
    stop "installing parallel_params failed (see above); the same command tries again."
: >"$venv/.has-run"
: >"$venv/.has-$need"
