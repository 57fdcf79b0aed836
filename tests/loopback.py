"""An HTTP server on this machine, as the tests of downloads need it."""

import contextlib
import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files; honours Range unless told not to; breaks off or stalls after server.cut bytes."""

    def do_GET(self):
        wanted, server = self.headers.get("Range"), self.server
        server.asked.append(wanted)
        body = server.files.get(self.path.lstrip("/"))
        if body is None:
            return self.send_error(404)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[first : first + server.cut] if server.cut else body[first:])
        if server.stalls:
            self.wfile.flush()
            server.released.wait(300)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    """The server: files is what it has, asked the Range of every request."""
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.released = {}, [], threading.Event()
    running.ranges, running.cut, running.stalls = True, 0, False
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        running.released.set()
        running.shutdown()
        thread.join()
        running.server_close()


def offered(server, name, body):
    """Put `body` on the server; its address."""
    server.files[name] = body
    return f"http://127.0.0.1:{server.server_port}/{name}"
