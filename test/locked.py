#!/usr/bin/env python3
"""locked.py DIR NAME UID: a process NAME of that user whose address space is locked.

One of its threads reads a page of a file system that never answers, as any user can mount one, and as a
dead server is one by accident; another thread waits to change the address space. From then on whoever asks
the kernel for its environment or its mappings waits, too. Prints the process's number when it is locked,
and ends, with the process, with its stdin. DIR is an empty folder; the file system is mounted there, in a
mount namespace of its own.
"""
import ctypes
import os
import select
import signal
import struct
import sys
import threading

folder, name, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_long] * 5
PAGE = 4096
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT = 1, 2, 3, 14, 15, 26


def check(result):
    if result:
        sys.exit(os.strerror(ctypes.get_errno()))


def victim(start):
    """the process; it locks itself when it is told that the first thread waits"""
    file = os.open(f"{folder}/f", os.O_RDONLY)
    page = libc.mmap(None, PAGE, 1, 2, file, 0)         # PROT_READ, MAP_PRIVATE
    os.setresuid(uid, uid, uid)
    libc.prctl(4, 1, 0, 0, 0)                           # PR_SET_DUMPABLE: as any process of a user's
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)              # PR_SET_PDEATHSIG
    libc.prctl(15, name.encode(), 0, 0, 0)              # PR_SET_NAME
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    # that keeps the address space locked while it waits; a plain access would not
    threading.Thread(target=os.pread, args=(memory, 1, page)).start()
    os.read(start, 1)
    libc.mmap(None, PAGE, 1, 0x22, -1, 0)               # MAP_PRIVATE | MAP_ANONYMOUS
    os._exit(1)


def attr(ino, mode):
    return struct.pack("<6Q10I", ino, PAGE, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 0, 0)


def answer(opcode, node):
    """the answer to a request, or its error"""
    if opcode == INIT:
        return struct.pack("<4I2H2I9I", 7, 31, 0, 0, 0, 0, PAGE, *[0] * 10)
    if opcode == LOOKUP:
        return struct.pack("<4Q2I", 2, 0, 9999, 9999, 0, 0) + attr(2, 0o100444)
    if opcode == GETATTR:
        return struct.pack("<QII", 9999, 0, 0) + (attr(1, 0o40755) if node == 1 else attr(2, 0o100444))
    return bytes(16) if opcode == OPEN else -38         # ENOSYS


fuse = os.open("/dev/fuse", os.O_RDWR)
check(libc.unshare(0x20000) or libc.mount(b"", b"/", None, 0x44000, None))     # a mount namespace, private
check(libc.mount(b"locked", folder.encode(), b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse))
start, go = os.pipe()
pid = os.fork()
if not pid:
    os.close(fuse)      # the file system ends with its server
    victim(start)
reads = told = False
while not (ready := select.select([0, fuse], [], [], 0.01 if reads and not told else None)[0]) or 0 not in ready:
    if ready:
        _, opcode, unique, node = struct.unpack_from("<IIQQ", os.read(fuse, 1 << 18))
        if opcode == READ:          # which never has an answer
            reads = True
            os.write(go, b".")
        elif opcode != FORGET:
            data = answer(opcode, node)
            error, data = (data, b"") if isinstance(data, int) else (0, data)
            os.write(fuse, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
    with open(f"/proc/{pid}/stat", "rb") as f:
        if reads and not told and f.read().rpartition(b")")[2].split()[0] == b"D":     # it waits for good
            told = True
            print(pid, flush=True)
os.kill(pid, signal.SIGKILL)
os.close(fuse)
os.waitpid(pid, 0)
