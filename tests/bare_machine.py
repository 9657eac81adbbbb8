"""A directory that stands for a bare machine, on which the commands of docs/running.md run as they stand there.

/srv, /etc and /var are in this directory. Programs that need root or the internet (apt-get, useradd, certbot, git,
pip, systemd) are replaced by small ones, which come first in PATH. Nothing is installed: Python and its packages are
those of the tests. nginx, and what it reads, is real.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".git", ".venv", ".env", "build", "files", "db.sqlite3*", "*_cache", ".hypothesis", "__pycache__")

REPLACED = ("apt-get", "certbot", "git", "install", "make", "nginx", "runuser", "systemctl", "useradd")

# Debian's /etc/nginx/nginx.conf, with what it needs to run without root and beside another nginx.
NGINX_CONF = """
{user}
worker_processes 2;
pid {root}/run/nginx.pid;
error_log {root}/var/log/nginx-error.log;
include {root}/etc/nginx/modules-enabled/*.conf;
events {{
    worker_connections 768;
}}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    ssl_prefer_server_ciphers on;
    access_log {root}/var/log/nginx-access.log;
    client_body_temp_path {root}/var/lib/nginx-body;
    proxy_temp_path {root}/var/lib/nginx-proxy;
    fastcgi_temp_path {root}/var/lib/nginx-fastcgi;
    uwsgi_temp_path {root}/var/lib/nginx-uwsgi;
    scgi_temp_path {root}/var/lib/nginx-scgi;
    gzip on;
    include {root}/etc/nginx/conf.d/*.conf;
    include {root}/etc/nginx/sites-enabled/*;
}}
"""


class Unit:
    """A unit file of systemd: its lines by name, with a list of values each."""

    def __init__(self, path: Path, instance: str = "") -> None:
        """`instance` is what stands after the @ in the unit's name."""
        self.lines: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            name, found, value = line.partition("=")
            if found and not line.startswith("#"):
                value = value.strip().replace("%i", instance).replace("%%", "%")
                self.lines.setdefault(name.strip(), []).append(value)

    def values(self, name: str) -> list[str]:
        """The words of all lines with this name."""
        return [word for line in self.lines.get(name, []) for word in shlex.split(line)]

    def commands(self, name: str) -> list[list[str]]:
        """The commands of all lines with this name, such as ExecStart."""
        return [[word.replace("$$", "$") for word in shlex.split(line)] for line in self.lines.get(name, [])]


class BareMachine:
    """A bare machine in the directory `root`. `ports` are those that stand for 80, 443, 8000 and 8001."""

    def __init__(self, root: Path, ports: dict[str, str]) -> None:
        self.root = root
        self.ports = ports

    def set_up(self) -> None:
        """Make the directories and the programs that a bare Debian has."""
        folders = "bin run srv var/lib var/cache var/log var/www/html etc/systemd/system"
        nginx = "etc/nginx/conf.d etc/nginx/modules-enabled etc/nginx/sites-enabled"
        for folder in [*folders.split(), *nginx.split()]:
            (self.root / folder).mkdir(parents=True)
        user = "user root;" if os.geteuid() == 0 else ""
        (self.root / "etc/nginx/nginx.conf").write_text(NGINX_CONF.format(root=self.root, user=user))
        (self.root / "ports").write_text(json.dumps(self.ports))
        for name in REPLACED:
            program = self.root / "bin" / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {self.root} {name} "$@"\n')
            program.chmod(0o755)

    def here(self, text: str) -> str:
        """The same commands or configuration with the paths and ports of this machine."""
        text = text.replace(str(self.root), "\0")
        text = re.sub(r"(?<![\w\0])/(etc|srv|var)/", "\0/\\1/", text).replace("\0", str(self.root))
        text = re.sub(r"\b(8000|8001)\b", lambda found: self.ports[found[0]], text)
        text = re.sub(r"listen (80|443)\b", lambda found: f"listen 127.0.0.1:{self.ports[found[1]]}", text)
        text = re.sub(r"listen \[::\].*", "", text)  # as the document says for machines without IPv6
        return text.replace("https://$host$", f"https://$host:{self.ports['443']}$")

    def environment(self) -> dict[str, str]:
        """The variables of a shell on this machine."""
        path = f"{self.root}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        return {"PATH": path, "LANG": "C.UTF-8", "CURL_CA_BUNDLE": str(self.root / "certificate.pem")}

    def run(self, script: str) -> str:
        """Run a script as an administrator would, and return what it prints. Its first failure ends it."""
        command = ["bash", "-euo", "pipefail", "-c", self.here(script)]
        # A file, because the processes that the script starts would keep a pipe open.
        with (self.root / "output").open("w+") as output:
            done = subprocess.run(
                command, cwd=self.root, env=self.environment(), stdout=output, stderr=subprocess.STDOUT, timeout=120
            )
            output.seek(0)
            text = output.read()
        logs = "".join(path.read_text() for path in sorted((self.root / "var/log").glob("chatsite*.log")))
        assert done.returncode == 0, f"{script}\n{text}\n{logs}"
        return text

    def process(self, unit: str) -> int | None:
        """The process of a unit, if it runs."""
        path = self.root / "run" / f"{unit}.pid"
        try:
            pid = int(path.read_text())
            os.kill(pid, 0)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return pid

    def shut_down(self) -> None:
        """End all processes."""
        for path in (self.root / "run").glob("*.pid"):
            if pid := self.process(path.stem):
                os.kill(pid, signal.SIGTERM if path.stem == "nginx" else signal.SIGKILL)

    # Programs that are replaced -------------------------------------------------------------------------------------

    def call(self, name: str, args: list[str]) -> int:
        """Do what the program `name` does on a real machine, and return its exit status."""
        program: Any = getattr(self, name.replace("-", "_"), None)
        return program(args) if program else 0  # apt-get and useradd do nothing

    def certbot(self, args: list[str]) -> int:
        """A certificate that is signed by itself. certbot needs the webroot and a domain."""
        domain = args[args.index("--domain") + 1]
        assert Path(args[args.index("--webroot-path") + 1]).is_dir()
        folder = self.root / "etc/letsencrypt/live" / domain
        folder.mkdir(parents=True)
        names = ["-subj", f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain}"]
        files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
        command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt"]
        subprocess.run([*command, "ec_paramgen_curve:P-256", *names, *files], check=True, stderr=subprocess.DEVNULL)
        shutil.copy(folder / "fullchain.pem", self.root / "certificate.pem")
        return 0

    def git(self, args: list[str]) -> int:
        """`git clone` and `git pull`: the working tree, so that a change is tested before it is committed."""
        target = Path(args[-1]) if args[0] == "clone" else Path.cwd()
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)
        return 0

    def make(self, args: list[str]) -> int:
        """`make .venv/run` downloads packages; the environment of the tests has them already."""
        assert args == [".venv/run"]
        python = Path(".venv/bin/python")
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return 0

    def install(self, args: list[str]) -> int:
        """`install` without another owner."""
        for option in ("--owner", "--group"):
            if option in args:
                del args[args.index(option) : args.index(option) + 2]
        return subprocess.run(["/usr/bin/install", *args], check=False).returncode

    def runuser(self, args: list[str]) -> int:
        """Run a command as the same user."""
        assert args[:3] == ["-u", "chatsite", "--"]
        os.umask(0o022)
        return subprocess.run(args[3:], check=False).returncode

    def nginx(self, args: list[str]) -> int:
        """nginx with the configuration of this machine."""
        for path in (self.root / "etc/nginx/conf.d").glob("*.conf"):
            path.write_text(self.here(path.read_text()))
        path = next(Path(folder) / "nginx" for folder in self.outside() if (Path(folder) / "nginx").exists())
        options = ["-e", str(self.root / "var/log/nginx-error.log"), "-c", str(self.root / "etc/nginx/nginx.conf")]
        return subprocess.run([path, *options, *args], check=False).returncode

    def outside(self) -> list[str]:
        """PATH without the replaced programs."""
        return [folder for folder in os.environ["PATH"].split(":") if not folder.startswith(str(self.root))]

    def systemctl(self, args: list[str]) -> int:
        """The verbs of systemctl that the documents use."""
        verb, *units = [arg for arg in args if arg != "--now"]
        now = "--now" in args
        for name in units:
            stops = verb in {"stop", "restart"} or (verb == "disable" and now)
            starts = verb in {"start", "restart"} or (verb == "enable" and now)
            if name == "nginx":
                status = self.nginx(["-s", "reload"] if self.process("nginx") else [])
            elif name.endswith(".timer"):
                Unit(self.unit_path(name.removesuffix(".timer")))
                status = Unit(self.root / "etc/systemd/system" / name).lines["OnCalendar"] == []
            else:
                status = (self.stop(name) if stops else 0) or (self.start(name) if starts else 0)
            if status:
                return status
        return 0

    def unit_path(self, name: str) -> Path:
        """The file of a service, by its name without .service."""
        template = re.sub("@.*", "@", name)
        return self.root / "etc/systemd/system" / f"{template}.service"

    def start(self, name: str) -> int:
        """Start a service; return when it is started, or has ended if it is of the type oneshot."""
        path = self.unit_path(name)
        path.write_text(self.here(path.read_text()))
        unit = Unit(path, name.partition("@")[2])
        for kind, where in (("StateDirectory", "var/lib"), ("CacheDirectory", "var/cache")):
            for folder in unit.values(kind):
                (self.root / where / folder).mkdir(mode=0o700, exist_ok=True)
        variables = dict(value.split("=", 1) for value in unit.values("Environment"))
        environment = {"PATH": ":".join(self.outside()), "LANG": "C.UTF-8", **variables}
        [folder], [mask] = unit.values("WorkingDirectory"), unit.values("UMask")
        for command in unit.commands("ExecStart"):
            with (self.root / "var/log" / f"{name}.log").open("a") as log:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    umask=int(mask, 8),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if unit.values("Type") == ["oneshot"] and process.wait():
                return process.returncode
            (self.root / "run" / f"{name}.pid").write_text(str(process.pid))
        for command in unit.commands("ExecStartPost"):
            after = subprocess.Popen(command, cwd=folder, env={**environment, "MAINPID": str(process.pid)})
            while after.poll() is None:
                process.poll()  # otherwise it would count as running after its end
                time.sleep(0.02)
            if after.returncode:
                return after.returncode
        return 0

    def stop(self, name: str) -> int:
        """SIGTERM, and SIGKILL after TimeoutStopSec."""
        pid = self.process(name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            [seconds] = Unit(self.unit_path(name)).values("TimeoutStopSec")
            deadline = time.monotonic() + float(seconds)
            while self.process(name):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
        return 0


if __name__ == "__main__":
    here = Path(sys.argv[1])
    sys.exit(BareMachine(here, json.loads((here / "ports").read_text())).call(sys.argv[2], sys.argv[3:]))
