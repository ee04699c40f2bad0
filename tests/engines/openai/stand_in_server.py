# SPDX-License-Identifier: Apache-2.0
"""A cheap server with the habits of a dear one: slow to be ready, with workers of its own, deaf to SIGTERM.

Run as a program: `stand_in_server.py PORT [--slow SECONDS] [--deaf] [--fail TEXT] [--workers N]`.
Its workers are deaf grandchildren of the supervisor: one in the group, others in sessions of their own.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import subprocess
import sys
import time

SLEEPER = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"pid": os.getpid(), "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--fail", metavar="TEXT")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    sys.stdout.write("this goes to standard output\n")
    sys.stdout.flush()
    sys.stderr.write("this goes to standard error \x1b[31mred\x1b[0m\n")
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for n in range(options.workers):
        subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=n > 0)
    time.sleep(options.slow)
    if options.fail:
        sys.exit(options.fail)
    http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
