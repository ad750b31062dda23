"""Run an MPI world on two hosts made of network namespaces on this machine.

    python launch/two_hosts.py 2 -- python -m pytest ...    4 ranks, 2 on each host
    python launch/two_hosts.py 1 --mbit 1000 -- python script.py

The hosts h1 and h2 have names, networks and shared memory of their own and are joined
by a cable: ranks of one share windows, ranks of both talk TCP, as on a real cluster.
Needs Linux, root, iproute2 and util-linux; where one is missing, or the kernel refuses,
it says so in one line and ends with 77. Takes the mpiexec beside this Python, of either
MPI. The namespaces belong to processes that end with this one: nothing to clean up.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from parallel_params.comm.launch_env import (
    find_mpiexec,
    local_world_environment,
    mpiexec_family,
)

CANNOT = 77
ADDRESSES = {"h1": "10.77.0.1", "h2": "10.77.0.2"}
# Network, mounts, name, and the shared memory of System V.
_SPACES = ("-n", "-m", "-u", "-i")
_TOOLS = ("ip", "tc", "unshare", "nsenter", "mount")

# Its namespaces live as long as it does, and it as long as its input is open. UCX reads
# its interfaces off /sys, which has to be that of the new network.
_HOST = """
mount --bind "$1" /etc/hosts && mount -t tmpfs tmpfs /dev/shm && hostname "$0" &&
    mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec cat
"""
# Both MPIs call it as they would call ssh: options, host, words of a command.
_AGENT = """#!/bin/sh
while :; do case $1 in -*) shift ;; *) break ;; esac; done
case $1 in {cases} esac
shift
exec nsenter -t "$pid" -n -m -u -i sh -c "$*"
"""


# The kernel may take a second to say that a cable is up; UCX passes over it till then.
_WAIT_FOR_CABLE = """
for try in $(seq 100); do
    ip link show eth0 | grep -q "state UP" && exit
    sleep 0.05
done
echo "eth0 does not come up" >&2; exit 1
"""


class CannotError(Exception):
    """Hosts cannot be made here, and why."""


class Host:
    """One host: a process that holds its namespaces.

    Args:
        name: its hostname.
        hosts: the file that becomes its /etc/hosts.

    Raises:
        CannotError: the kernel refuses.
    """

    def __init__(self, name: str, hosts: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            ["unshare", *_SPACES, "sh", "-c", _HOST, name, str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            _, problem = self._process.communicate()
            raise CannotError(f"no namespaces: {problem.strip()}")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def run(self, *command: str) -> None:
        """Run a command on the host.

        Raises:
            CannotError: it failed.
        """
        done = subprocess.run(
            self.command(command), capture_output=True, text=True, check=False
        )
        if done.returncode:
            problem = f"{' '.join(command)}: {done.stderr.strip()}"
            raise CannotError(problem)

    def command(self, command: Sequence[str]) -> list[str]:
        """Return what runs a command on the host."""
        here = ["sh", "-c", 'cd "$0" && exec "$@"', str(Path.cwd())]
        return ["nsenter", "-t", str(self.pid), *_SPACES, *here, *command]

    def close(self) -> None:
        """End the process, and with it the host when nobody else is on it."""
        self._process.communicate()


def connect(first: Host, second: Host, *, mbit: float | None) -> None:
    """Put a cable between two hosts, `eth0` on each.

    Args:
        first: one end.
        second: the other.
        mbit: its speed in Mbit/s each way; as fast as the machine if None.

    Raises:
        CannotError: the kernel refuses.
    """
    peer = ("peer", "name", "eth0", "netns", str(second.pid))
    first.run("ip", "link", "add", "eth0", "type", "veth", *peer)
    for host in (first, second):
        address = f"{ADDRESSES[host.name]}/24"
        host.run("ip", "addr", "add", address, "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        if mbit is not None:
            shape = ("rate", f"{mbit}mbit", "burst", "256k", "latency", "400ms")
            host.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *shape)
    for host in (first, second):
        host.run("sh", "-c", _WAIT_FOR_CABLE)


def check_tools() -> None:
    """Check what can be known without trying.

    Raises:
        CannotError: this is not Linux, not root, or a program is missing.
    """
    if not sys.platform.startswith("linux"):
        raise CannotError("network namespaces are Linux's")
    if os.geteuid() != 0:
        raise CannotError("network namespaces need root")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise CannotError(f"not installed: {', '.join(missing)}")


def world_command(
    per_host: int, agent: Path, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the launcher with its options, and the environment for it.

    Raises:
        CannotError: there is no launcher of a known MPI.
    """
    mpiexec = find_mpiexec(sys.executable, environ)
    if mpiexec is None:
        raise CannotError("no mpiexec; pip install 'parallel-params[mpich]'")
    family = mpiexec_family(mpiexec)
    variables = local_world_environment(
        family,
        num_ranks=2 * per_host,
        num_cores=len(os.sched_getaffinity(0)),
        is_root=True,
        environ=environ,
    )
    options = [str(mpiexec), "-n", str(2 * per_host)]
    if family == "mpich":
        options += ["-hosts", ",".join(ADDRESSES), "-ppn", str(per_host)]
        options += ["-launcher", "ssh", "-launcher-exec", str(agent)]
        return [*options, "-iface", "eth0"], variables
    if family != "openmpi":
        raise CannotError(f"{mpiexec} is neither MPICH's nor Open MPI's")
    # What is meant for one machine; every host has the slots that it is asked for.
    for name in [name for name in variables if "btl" in name or "rmaps" in name]:
        del variables[name]
    variables |= {
        "OMPI_MCA_btl_tcp_if_include": "eth0",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PRTE_MCA_plm_ssh_agent": str(agent),
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
    }
    options += ["--host", ",".join(f"{name}:{per_host}" for name in ADDRESSES)]
    options += ["--prefix", str(mpiexec.parent.parent)]
    known = {**environ, **variables}
    for name in ("PATH", "PYTHONPATH", *variables):
        if name in known and not name.startswith(("OMPI_", "PRTE_")):
            options += ["-x", name]
    return options, variables


def run(per_host: int, command: Sequence[str], *, mbit: float | None) -> int:
    """Run a command as a world of two hosts; return the launcher's exit code.

    Raises:
        CannotError: hosts cannot be made here.
    """
    check_tools()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
        hosts = []
        for name in ADDRESSES:
            hosts.append(Host(name, folder / "hosts"))
            stack.callback(hosts[-1].close)
        connect(*hosts, mbit=mbit)
        agent = folder / "agent"
        cases = " ".join(
            f"{host.name}|{ADDRESSES[host.name]}) pid={host.pid} ;;" for host in hosts
        )
        agent.write_text(_AGENT.format(cases=cases))
        agent.chmod(0o755)
        launcher, variables = world_command(per_host, agent, os.environ)
        process = subprocess.Popen(
            hosts[0].command([*launcher, *command]),
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
        )
        try:
            return process.wait()
        finally:
            # Told to leave, a launcher takes its ranks along; killed, it does not.
            process.terminate()
            process.wait()


def main() -> int:
    """Read the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("per_host", type=int, help="ranks on each host")
    parser.add_argument("--mbit", type=float, help="speed of the cable, Mbit/s")
    parser.add_argument("command", nargs="+", help="what every rank runs, behind --")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(arguments.per_host, arguments.command, mbit=arguments.mbit)
    except CannotError as problem:
        print(f"two_hosts: {problem}", file=sys.stderr)
        return CANNOT


if __name__ == "__main__":
    sys.exit(main())
