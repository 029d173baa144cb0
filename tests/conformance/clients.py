"""Real clients, each with what it asks: a case is a name and a call with the server's port and a folder."""

import http.client
import shutil
import socket
import subprocess
import time


def run(*command, stdin=None):
    """A client that must succeed."""
    program = shutil.which(command[0])
    assert program, f"{command[0]} is not installed: make test installs it"
    done = subprocess.run([program, *command[1:]], input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()[-500:]


def curl(*arguments, paths=("/ok",), stdin=None):
    def ask(port, folder):
        targets = [word for path in paths for word in ("-o", "/dev/null", f"http://127.0.0.1:{port}{path}")]
        run("curl", "-sS", *arguments, *targets, stdin=stdin)

    return ask


def uploading(kilobytes, *arguments):
    def ask(port, folder):
        (folder / "upload").write_bytes(b"GET /fake HTTP/1.1\r\n\r\n" * (kilobytes * 1024 // 22))
        curl("--data-binary", f"@{folder / 'upload'}", *arguments, paths=("/things",))(port, folder)

    return ask


def ab(*arguments, path="/ok"):
    return lambda port, _: run("ab", "-q", *arguments, f"http://127.0.0.1:{port}{path}")


def ab_posting(port, folder):
    (folder / "body").write_text("a=1&b=2")
    run("ab", "-q", "-n", "100", "-c", "4", "-k", "-p", str(folder / "body"), f"http://127.0.0.1:{port}/things")


def h2load(*arguments, path="/ok"):
    return lambda port, _: run("h2load", *arguments, f"http://127.0.0.1:{port}{path}")


def nghttp(*arguments, paths, body=b""):
    """All on one connection, at once."""

    def ask(port, folder):
        (folder / "body").write_bytes(body)
        posted = ["-d", str(folder / "body")] if body else []
        run("nghttp", "-n", "--no-dep", *posted, *arguments, *(f"http://127.0.0.1:{port}{path}" for path in paths))

    return ask


def mixed_by_python(port, folder):
    """One connection, a little of everything."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for method, path, body in [
        ("GET", "/ok", None),
        ("POST", "/things", b"x" * 3000),
        ("GET", "/users/17", None),
        ("PUT", "/things/9", b"y"),
        ("GET", "/missing", None),
        ("DELETE", "/things/9", None),
        ("GET", "/pieces", None),
        ("PATCH", "/things/10", b"z" * 70_000),
        ("GET", "/ok?after=all", None),
    ]:
        connection.request(method, path, body=body)
        connection.getresponse().read()
    connection.close()


def byte_by_byte(port, folder):
    with socket.create_connection(("127.0.0.1", port)) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /users/42?slow=yes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            end.sendall(bytes([byte]))
            time.sleep(0.001)
        while end.recv(65536):
            pass


def pipelined(port, folder):
    """Eight at once; the last one asks for the end, so that all have been answered when it comes."""
    with socket.create_connection(("127.0.0.1", port)) as end:
        many = b"".join(b"GET /users/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(7))
        end.sendall(many + b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while end.recv(65536):
            pass


def many_connections(port, folder):
    for number in range(30):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/users/{number}", headers={"Connection": "close"})
        connection.getresponse().read()
        connection.close()


CASES = {
    "curl": curl(),
    "curl, one connection": curl(paths=("/ok",) * 10),
    "curl, at once": curl("--parallel", paths=("/ok", "/users/3", "/big", "/missing") * 5),
    "curl, identifiers": curl(paths=tuple(f"/users/{number}" for number in range(20))),
    "curl, query string": curl(paths=("/search?q=secret&page=2", "/search?q=%2Fok")),
    "curl HEAD": curl("--head", paths=("/ok", "/big", "/missing")),
    "curl HTTP/1.0": curl("--http1.0", paths=("/ok", "/big")),
    "curl Connection: close": curl("-H", "Connection: close", paths=("/ok", "/ok")),
    "curl, large": curl(paths=("/big", "/ok", "/big")),
    "curl, in pieces": curl(paths=("/pieces", "/ok", "/pieces")),
    "curl 204": curl(paths=("/empty", "/ok", "/empty")),
    "curl 302": curl(paths=("/moved", "/ok")),
    "curl 302, followed": curl("-L", paths=("/moved",)),
    "curl 304": curl("-H", "If-None-Match: *", paths=("/same", "/missing")),
    "curl 404": curl(paths=("/missing", "/ok", "/missing")),
    "curl 500": curl(paths=("/broken", "/ok")),
    "curl POST": curl("-d", "a=1&b=2", paths=("/things", "/things/7")),
    "curl POST, Expect: 100-continue": uploading(1500, "-H", "Expect: 100-continue"),
    "curl POST, 64 KB of requests": uploading(64, "-H", "Expect:"),
    "curl POST, chunked": curl(
        "-T", "-", "-X", "POST", "-H", "Expect:", paths=("/things",), stdin=b"GET /fake HTTP/1.1\r\n\r\n" * 5000
    ),
    "curl PUT": curl("-X", "PUT", "-d", "x", paths=("/things/1", "/things/2")),
    "curl DELETE": curl("-X", "DELETE", paths=("/things/1",)),
    "curl PATCH": curl("-X", "PATCH", "-d", "x", paths=("/things/1",)),
    "curl, long cookie": curl("-H", "Cookie: " + "c" * 5000, paths=("/ok", "/ok")),
    "ab": ab("-n", "200", "-c", "4"),
    "ab, keep-alive": ab("-n", "500", "-c", "4", "-k", path="/users/5"),
    "ab POST": ab_posting,
    "h2load": h2load("--h1", "-n", "500", "-c", "4"),
    "h2load, large": h2load("--h1", "-n", "40", "-c", "4", path="/big"),
    "python, mixed": mixed_by_python,
    "python, many connections": many_connections,
    "byte by byte": byte_by_byte,
    "pipelined": pipelined,
}

#: By nghttp: this curl cannot use a connection of HTTP/2 in clear text twice.
HTTP2_CASES = {
    "curl": curl("--http2-prior-knowledge"),
    "curl, long cookie": curl("--http2-prior-knowledge", "-H", "Cookie: " + "c" * 5000),
    "nghttp, one connection": nghttp(paths=("/ok",) * 10),
    "nghttp, identifiers": nghttp(paths=tuple(f"/users/{number}" for number in range(20))),
    "nghttp, query string": nghttp(paths=("/search?q=secret&page=2", "/search?q=%2Fok")),
    "nghttp HEAD": nghttp("-H", ":method: HEAD", paths=("/ok", "/big", "/missing")),
    "nghttp, large": nghttp(paths=("/big", "/ok", "/big")),
    "nghttp, in pieces": nghttp(paths=("/pieces", "/ok", "/pieces")),
    "nghttp 204, 302, 404, 500": nghttp(paths=("/empty", "/moved", "/ok", "/missing", "/broken", "/empty")),
    "nghttp 304": nghttp("-H", "if-none-match: *", paths=("/same", "/missing")),
    "nghttp DELETE": nghttp("-H", ":method: DELETE", paths=("/things/1", "/things/2")),
    "nghttp PATCH": nghttp("-H", ":method: PATCH", paths=("/things/1",)),
    "nghttp POST": nghttp(paths=("/things", "/things/7"), body=b"a=1"),
    "nghttp POST, 64 KB of requests": nghttp(paths=("/things",), body=b"GET /fake HTTP/1.1\r\n\r\n" * 3000),
    "h2load": h2load("-n", "500", "-c", "4"),
    "h2load, 20 at once": h2load("-n", "500", "-c", "2", "-m", "20", path="/users/8"),
    "h2load, large": h2load("-n", "40", "-c", "4", "-m", "4", path="/big"),
}
