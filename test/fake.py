#!/usr/bin/env python3
"""fake.py DIR: answers in place of a running gamer what a gamer would never say.

Listens at DIR/gamer.sock. Every request line is answered with what DIR/answer holds at that
time, and then noted in DIR/requests; where DIR/hold exists the connection then stays open until the
client closes it.
"""
import os
import socket
import sys
import threading


def serve(folder, client):
    with client, client.makefile("rb") as requests:
        try:
            for request in requests:
                with open(f"{folder}/answer", "rb") as f:
                    client.sendall(f.read())
                with open(f"{folder}/requests", "ab") as f:
                    f.write(request)
                if not os.path.exists(f"{folder}/hold"):
                    return
        except OSError:
            pass  # the client has gone


server = socket.socket(socket.AF_UNIX)
server.bind(f"{sys.argv[1]}/gamer.sock")
server.listen(8)
while True:
    threading.Thread(target=serve, args=(sys.argv[1], server.accept()[0]), daemon=True).start()
