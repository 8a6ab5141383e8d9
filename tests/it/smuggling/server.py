"""Python's own HTTP server, on as many ports as it is told, saying what requests it sees.

Prints its ports, then a JSON line for each request; ends when its input does and all its connections have ended.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

printing = threading.Lock()


def say(**what):
    with printing:
        print(json.dumps(what), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def parse_request(self):
        fine = super().parse_request()
        if not fine:
            self.saw("!", self.requestline, b"", False)
        return fine

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def saw(self, method, target, body, whole):
        say(lane=self.server.lane, method=method, target=target, body=body.decode("latin-1"), whole=whole)

    def chunks(self):
        body = b""
        while True:
            line = self.rfile.readline()
            if not line.endswith(b"\r\n"):
                return body, False
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            chunk = self.rfile.read(size)
            body += chunk
            if len(chunk) < size or self.rfile.read(2) != b"\r\n":
                return body, False
        while True:
            line = self.rfile.readline()
            if line == b"\r\n":
                return body, True
            if not line:
                return body, False

    def serve(self):
        coding = self.headers.get("Transfer-Encoding", "")
        length = int(self.headers.get("Content-Length", 0))
        try:
            if "chunked" in coding.lower():
                body, whole = self.chunks()
            else:
                body = self.rfile.read(length)
                whole = len(body) == length
        except OSError:
            body, whole = b"", False
        self.saw(self.command, self.path, body, whole)
        if not whole:
            self.close_connection = True
            return
        answer = f"{self.command} {self.path}".encode("latin-1")
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


servers = []
for lane in range(int(sys.argv[1])):
    server = Server(("127.0.0.1", 0), Handler)
    server.lane = lane
    servers.append(server)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
say(ports=[server.server_port for server in servers])
sys.stdin.read()
for server in servers:
    server.shutdown()
    server.server_close()
