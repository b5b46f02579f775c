#!/usr/bin/env python3
"""fake.py DIR: answers in place of a running gamer what a gamer would never say.

Listens at DIR/gamer.sock. Every request line is answered with what DIR/answer holds at that
time, and then noted in DIR/requests; where DIR/hold exists the connection then stays open until the
client closes it.

fake.py --records [N]: prints such an answer: a greeting, and N times the events of test/events.jsonl as
records, as the ABI section of gamer.bpf.c has them.
"""
import os
import socket
import struct
import sys
import threading


def records(n):
    def record(at_ns, cpu, kind, tid=0, pid=0, role=0, rest=b""):
        return struct.pack("<QIIHBB", at_ns, tid, pid, cpu, kind, role).ljust(20, b"\0").__add__(rest).ljust(48, b"\0")
    told = b"".join((
        record(5000100000, 0, 1, pid=100, rest=struct.pack("<I16s", 1 << 30, 'a "game" \u00e9\x1b'.encode())),
        record(5000200000, 1, 5, 101, 100, 3, struct.pack("<4B", 0, 8, 100, 1)),
        record(5001000001, 0, 0, rest=bytes((0, 0))),
        record(5002000000, 1, 3, 101, 100, 3, struct.pack("<IBB", 16666700, 0, 1)),
        record(5003000000, 3, 4, 101, 100, 3, struct.pack("<IHB", 12500, 1, 5)),
        record(5016666700, 2, 2, 101, 100, 0, struct.pack("<6I", 16666700, 3000000, 100000, 0, 0, 2)),
        record(5033333400, 2, 2, 101, 100, 0, struct.pack("<6I", 16666700, 3000000, 100000, 1, 1, 2)),
        record(5034000000, 1, 6, 101, 100, 3, struct.pack("<IQQ", 1000000, 5033000000, 5034000000)),
        record(5034500000, 2, 6, 102, 100, 3, struct.pack("<IQQ", 1000000, 5033500000, 5034500000)),
        record(5034550000, 1, 7, 101, 100, 3, struct.pack("<IQ16s", 0, 5034000000, b"RenderThread")),
        record(5034580000, 1, 7, 102, 100, 0, struct.pack("<IQ16s", 0, 5034540000, b"cc1")),
        record(5034600000, 0xffff, 8, rest=struct.pack("<IQ", 0, 7)),
    ))
    return b'{"v":1,"command":"events","at_ns":5000000000,"record_bytes":48}\n' + told * n


if sys.argv[1] == "--records":
    sys.stdout.buffer.write(records(int(sys.argv[2]) if sys.argv[2:] else 1))
    sys.exit()


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
