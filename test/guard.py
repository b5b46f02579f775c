#!/usr/bin/env python3
"""guard.py [--limit SECONDS] CMD...: runs CMD; nothing that CMD started, and no temporary file, outlives it.

The guard is a subreaper: a process below it whose parent ends becomes its child, whatever session
or process group that process is in. CMD's exit code is the guard's. Where CMD succeeds (or skips,
200) and still leaves a process running, that process is named and the exit code is 1; where it
takes longer than the limit, 124. SIGINT, SIGTERM and SIGHUP end CMD and all that is below it.
TMPDIR is a folder of CMD's own.
"""
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE = 10  # seconds for what was told to end, but not waited for
POLITE = 3  # seconds between SIGTERM and SIGKILL
RESTORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def below():
    """the processes below this one that are no zombies"""
    children, alive = {}, set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                state, parent = f.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(int(parent), []).append(int(pid))
        if state not in b"ZX":
            alive.add(int(pid))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return [pid for pid in found[1:] if pid in alive]


def reap():
    """takes leave of children that have ended; is one left?"""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    except ChildProcessError:
        return False


def within(seconds):
    """did all of them end within that time?"""
    end = time.monotonic() + seconds
    while reap():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def end_all():
    for number, seconds in (signal.SIGTERM, POLITE), *((signal.SIGKILL, 0.2),) * 100:
        for pid in below():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        if within(seconds):
            return


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()[:100]
    except OSError:
        return "?"


class Stopped(Exception):
    pass


def stop(number, _frame):
    raise Stopped(number)


def run(limit, command):
    child = os.fork()
    if not child:
        for number in RESTORED:
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 256)  # a lock of who called, for one
        os.execvp(command[0], command)
    signal.alarm(limit)
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    code = code if code >= 0 else 128 - code
    if code in (0, 200) and not within(GRACE):
        left = [f"{pid} ({command_of(pid)})" for pid in below()]
        if left:
            print(f"leaves running: {', '.join(left)}", file=sys.stderr)
            code = 1
    return code


def main(args):
    limit = int(args.pop(1)) if args[:1] == ["--limit"] else 0
    args = args[1:] if limit else args
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="gamer-test.")
    os.chmod(os.environ["TMPDIR"], 0o755)  # tests look into it as other users, too
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    try:
        code = run(limit, args)
    except Stopped as stopped:
        code = 128 + stopped.args[0]
        if stopped.args[0] == signal.SIGALRM:
            code = 124
            print(f"took longer than {limit} s", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_all()
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    sys.exit(code)


main(sys.argv[1:])
