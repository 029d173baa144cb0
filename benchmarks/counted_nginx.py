"""An nginx that answers everything at once and says how many requests it has handled."""

from __future__ import annotations

import re
import shutil
import urllib.request
from pathlib import Path

from headroom.demo.host import Group, free_port, wait_for

_CONFIG = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; return 200; }}
    server {{ listen 127.0.0.1:{status}; location = /status {{ stub_status; }} }}
}}
"""


class CountedNginx:
    """One worker, in a cgroup."""

    def __init__(self, group: Group, folder: Path) -> None:
        self.port, self._status = free_port(), free_port()
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        assert nginx, "deploy/install-packages.sh nginx-light"
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=self.port, status=self._status))
        group.start([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
        wait_for(self._status)

    def handled(self) -> int:
        """Requests up to now, this one among them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status}/status") as answer:
            numbers = re.search(r"(\d+) (\d+) (\d+)", answer.read().decode())
        assert numbers is not None
        return int(numbers[3])
