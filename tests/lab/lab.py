"""Hosts on this machine for tests of `ray up`, each in namespaces with its own sshd, network card and home.

`command` starts the first process of a lab in its own namespaces, without a network route to the outside. All that
it starts, including the hosts, ends with it, and it ends with the process that started it, even if that is killed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NEEDS = {  # command: Debian package that contains it
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "ip": "iproute2",
    "unshare": "util-linux",
    "flock": "util-linux",
    "pgrep": "procps",
}
# pid, ipc, uts: `ray stop` kills by name and must not find other processes; each host has its own name.
NAMESPACES = ["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]


def missing() -> str:
    """Return why this machine cannot run a lab, and the remedy; "" if it can."""
    if os.geteuid() != 0:
        return "a lab of several hosts needs root"
    packages = {package for command, package in NEEDS.items() if not shutil.which(command)}
    if packages:
        return f"a lab of several hosts needs: apt-get install {' '.join(sorted(packages))}"
    allowed = subprocess.run(
        ["unshare", *NAMESPACES, "ip", "link", "add", "br0", "type", "bridge"], capture_output=True
    )
    return "" if allowed.returncode == 0 else f"this machine does not allow network namespaces: {allowed.stderr!r}"


def command(script: Path, folder: Path) -> list[str]:
    """Return the command that runs a script as the first process of a lab."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, sys.executable, str(script), str(folder)]


class Host:
    """Host of a lab. Its `folder` holds /tmp as tmp, its home as home, and the output of its first process as log."""

    def __init__(self, lab: "Lab", number: int):
        self.address, self.folder = lab.addresses[number], lab.folder / f"host{number}"
        for part in ("tmp", "home"):
            (self.folder / part).mkdir(parents=True)
        environment = {"LAB": str(lab.folder), "ADDRESSES": " ".join(lab.addresses), "KEEP": " ".join(kept(lab.folder))}
        self.process = subprocess.Popen(
            ["unshare", *NAMESPACES, str(Path(__file__).parent / "host.sh"), str(self.folder), f"{self.address}/16"],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("w"),
            stderr=subprocess.STDOUT,
        )
        inside = until(lambda: Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())
        card = f"host{number}"
        run("ip", "link", "add", card, "type", "veth", "peer", "name", "eth0", "netns", inside[0])
        run("ip", "link", "set", card, "master", "br0", "up")
        (self.folder / "wired").touch()

    def pull_the_plug(self) -> None:
        """Kill the host at once."""
        self.process.kill()
        self.process.wait()


class Lab:
    """Network of hosts at consecutive addresses, and the user's machine, which is this process."""

    def __init__(self, folder: Path, first: str, count: int):
        network, number = first.rsplit(".", 1)
        self.folder, self.gateway = folder, ".".join([*first.split(".")[:2], "255", "254"])
        self.addresses = [f"{network}.{int(number) + n}" for n in range(count)]
        run("mount", "--make-rprivate", "/")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "address", "add", f"{self.gateway}/16", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(mode=0o700, parents=True)
        (folder / "tmp").mkdir()
        # otherwise `ray` would use files of earlier commands in /tmp
        os.environ |= {"HOME": str(self.home), "TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": str(folder / "tmp")}
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.hosts = [Host(self, n) for n in range(count)]

    def image(self, environment: dict[str, str]) -> None:
        """Write the hosts' files: Debian's own ~/.bashrc, and links to this machine's Python environment."""
        lines = [f"export {key}={value}" for key, value in environment.items()]
        for host in self.hosts:
            made = host.folder / "home" / "platform" / "env"
            made.mkdir(parents=True)
            for part in ("bin", "lib", "pyvenv.cfg"):
                (made / part).symlink_to(Path(sys.prefix) / part)
            shutil.copy(ROOT / "requirements.txt", made)
            skeleton = Path("/etc/skel/.bashrc")
            text = skeleton.read_text() if skeleton.exists() else ""
            (host.folder / "home" / ".bashrc").write_text(text + "\n".join(lines) + "\n")

    def let_in(self, key: Path) -> None:
        """Make the hosts accept this private key."""
        (self.folder / "authorized_keys").write_text(run("ssh-keygen", "-y", "-f", str(key)))

    def wait_for_hosts(self) -> None:
        until(lambda: all(reached(host.address, 22) for host in self.hosts))


def kept(folder: Path) -> list[str]:
    """Return the folders below /tmp that must stay visible on hosts, which have their own /tmp."""
    wanted = {str(path.resolve()) for path in (folder, ROOT, Path(sys.prefix), Path(sys.base_prefix))}
    return sorted(path for path in wanted if path.startswith("/tmp/"))


def reached(address: str, port: int) -> bool:
    """Return whether a server accepts connections at an address."""
    with socket.socket() as tried:
        return tried.connect_ex((address, port)) == 0


def run(*words: str, seconds: float = 60) -> str:
    """Run a command and return its output; an error names the command and all that it printed."""
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            code: object = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = f"not done after {seconds:g} s"
        printed = [(file.seek(0), file.read())[1] for file in (output, errors)]
    assert code == 0, f"{' '.join(words)}: {code}\n" + "\n".join(printed)
    return printed[0]


def until(function, seconds: float = 30):
    """Wait until a function returns a true value, and return that value."""
    end = time.monotonic() + seconds
    while not (value := function()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.1)
    return value
