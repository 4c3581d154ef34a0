"""A web server that says nothing of itself."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"hi\n")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512  # a SYN that finds no room comes again a second later


host, _, port = os.environ["CHAOSD_LISTEN"].rpartition(":")
Server((host, int(port)), Page).serve_forever()
