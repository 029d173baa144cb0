"""Real servers, each in a cgroup of its own and with a log of its own: the truth that ours is held against."""

import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from collector.cgroups import find_tree
from collector.routes import Merges, RequestPath
from headroom.demo.host import Group, free_port, wait_for

_HERE = Path(__file__).parent
_PYTHON = [sys.executable, "-m"]
#: As nearly all of them log by default: "GET /path HTTP/1.1" 200
_LOGGED = re.compile(r'"(\S+) (\S+) HTTP/[\d.]+"\s+(\d+)')


@dataclass
class Server:
    group: Group
    port: int
    log: Path

    @property
    def cgroup(self):
        return find_tree().unified / self.group.parent / self.group.name

    def logged(self):
        """Requests by method, route and status, as its log has them."""
        lines = _LOGGED.findall(self.log.read_text())
        return Counter((method, route_of(target), int(status)) for method, target, status in lines)


def route_of(target):
    return Merges().template(RequestPath(target.partition("?")[0].encode()))


def start(begin, folder):
    """One of :data:`SERVERS`, or of :data:`HTTP2_SERVERS`."""
    folder.chmod(0o755)
    server = Server(Group(f"conformance{begin.__name__}"), free_port(), folder / "log")
    server.log.touch()
    server.log.chmod(0o666)
    begin(server, folder)
    wait_for(server.port)
    return server


def _run(server, command):
    """Whatever it prints is its log."""
    server.group.start(["/bin/sh", "-c", 'log=$1; shift; exec "$@" >> "$log" 2>&1', "sh", str(server.log), *command])


def _nginx(server, folder, protocol=""):
    scratch = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    page = folder / "html"
    _pages(page)
    (folder / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format common '"$request" $status'; access_log {server.log} common;
    client_body_temp_path {folder}/body; {scratch}
    server {{
        listen 127.0.0.1:{server.port}{protocol}; root {page}; default_type text/plain; client_max_body_size 10m;
        if ($request_method !~ "GET|HEAD") {{ return 201 made; }}
        location = /empty {{ return 204; }}
        location = /moved {{ return 302 /ok; }}
        location = /same {{ return 304; }}
        location = /broken {{ return 500; }}
        location /users/ {{ return 200 ok; }}
    }}
}}""")
    server.group.start([_which("nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])


def _apache(server, folder):
    modules = ("mpm_event", "authz_core", "alias", "rewrite", "mime")
    built = Path("/usr/lib/apache2/modules")
    loads = "\n".join(f"LoadModule {each}_module {built}/mod_{each}.so" for each in modules)
    _pages(folder / "html")
    (folder / "apache.conf").write_text(f"""
{loads}
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{server.port}
PidFile {folder}/pid
ErrorLog {folder}/error.log
TypesConfig /dev/null
LogFormat "\\"%r\\" %>s" common
CustomLog {server.log} common
DocumentRoot {folder}/html
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 30
User nobody
Group nogroup
<Directory {folder}/html>
    Require all granted
</Directory>
RewriteEngine On
RewriteCond %{{REQUEST_METHOD}} !^(GET|HEAD)$
RewriteRule ^ - [R=201,L]
RewriteRule ^/empty$ - [R=204,L]
RewriteRule ^/broken$ - [R=500,L]
RewriteRule ^/users/ /ok [PT]
Redirect 302 /moved http://127.0.0.1:{server.port}/ok
""")
    _run(server, [_which("apache2"), "-D", "FOREGROUND", "-f", str(folder / "apache.conf")])


def _gunicorn(server, folder):
    options = ["--worker-class", "gthread", "--threads", "8", "--keep-alive", "30", "--worker-tmp-dir", str(folder)]
    options += ["--access-logfile", str(server.log), "--access-logformat", '"%(r)s" %(s)s', "--chdir", str(_HERE)]
    server.group.start([*_PYTHON, "gunicorn", *options, "--bind", f"127.0.0.1:{server.port}", "application:wsgi"])


def _uvicorn(server, folder):
    options = ["--app-dir", str(_HERE), "--host", "127.0.0.1", "--port", str(server.port), "--timeout-keep-alive", "30"]
    _run(server, [*_PYTHON, "uvicorn", *options, "application:asgi"])


def _hypercorn(server, folder):
    options = ["--bind", f"127.0.0.1:{server.port}", "--access-logfile", str(server.log), "--keep-alive", "30"]
    options += ["--access-logformat", '"%(m)s %(U)s HTTP/1.1" %(s)s']
    server.group.start(["/usr/bin/env", f"PYTHONPATH={_HERE}", *_PYTHON, "hypercorn", *options, "application:asgi"])


def _by_hand(server, folder):
    _run(server, [sys.executable, "-u", str(_HERE / "application.py"), str(server.port)])


def _node(server, folder):
    _run(server, [_which("node"), str(_HERE / "application.js"), str(server.port)])


def _pages(folder):
    folder.mkdir()
    (folder / "ok").write_text("ok")
    (folder / "search").write_text("found")
    (folder / "same").write_text("asked for only if it has changed")
    (folder / "big").write_text("x" * 300_000)
    (folder / "pieces").write_text("piece of an answer\n" * 50)


def _which(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin")
    assert found, f"{name} is not installed: make test installs it"
    return found


def _nginx_http2(server, folder):
    _nginx(server, folder, " http2")


SERVERS = {
    "nginx": _nginx,
    "apache": _apache,
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "http.server": _by_hand,
    "node": _node,
}
HTTP2_SERVERS = {"nginx": _nginx_http2, "hypercorn": _hypercorn}
