"""Somebody else's backend: no line of chaosd in it, no identity, and an outage when it is told.

backend.py TRUTH     serves; prints its port and its admin port; writes its outages to TRUTH
backend.py away PORT SECONDS    has the one with this admin port go away, returns when it is back
"""

import json
import socket
import sys
import threading
import time

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"


def listen(port=0):
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", port))
    door.listen(512)
    return door


def serve(door):
    while True:
        try:
            asked, _ = door.accept()
        except OSError:
            return
        with asked:
            try:
                asked.recv(4096)
                asked.sendall(ANSWER)
            except OSError:
                pass


def main(truth):
    door, admin = listen(), listen()
    port = door.getsockname()[1]
    server = threading.Thread(target=serve, args=(door,), daemon=True)
    server.start()
    print(port, admin.getsockname()[1], flush=True)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    while True:
        told, _ = admin.accept()
        with told:
            seconds = float(told.recv(100))
            door.shutdown(socket.SHUT_RDWR)
            away = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            server.join()
            door.close()
            time.sleep(seconds)
            door = listen(port)
            back = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            server = threading.Thread(target=serve, args=(door,), daemon=True)
            server.start()
            with open(truth, "a") as file:
                file.write(json.dumps({"away": away, "back": back}) + "\n")


def end_with_stdin():
    sys.stdin.read()
    import os

    os._exit(0)


def away(port, seconds):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as asked:
        asked.sendall(seconds.encode())
        asked.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "away":
        away(*sys.argv[2:])
    else:
        main(sys.argv[1])
