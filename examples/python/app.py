"""Serves a greeting on port 8080, or prints it."""

import platform
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

GREETING = f"hello from python {platform.python_version()}"


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{GREETING}\n".encode())


if __name__ == "__main__":
    if sys.argv[1:] == ["print"]:
        print(GREETING)
    else:
        HTTPServer(("", 8080), Greeter).serve_forever()
