#!/usr/bin/env python3
"""client.py CHECK GAMER: who asks a running gamer, is asked by none, or reads nothing.

A gamer that observes this machine and clients that misbehave; or clients of gamer's own, and a
server that does. One function per check; each ends with the first thing that does not hold.
"""
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

GAMER = sys.argv[2]
PLACES = 8
NOBODY = 65534


def expect(holds, why):
    if not holds:
        sys.exit(f"{why}")


def wait_for(what, why, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        expect(time.monotonic() < end, why() if callable(why) else why)
        time.sleep(0.02)


def env(folder):
    return dict(os.environ, RUNTIME_DIRECTORY=folder)


def get(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def gamer(folder, *args, **more):
    """a command that ends; exit code, what it printed, what it said"""
    p = subprocess.run([GAMER, *args], env=env(folder), capture_output=True, text=True, timeout=60, **more)
    return p.returncode, p.stdout, p.stderr


class Observer:
    """`gamer run --observe` in a folder, until the end of the block"""

    def __init__(self, folder, *args, **more):
        more = {"stderr": open(f"{folder}/log", "w"), **more}
        os.chmod(folder, 0o755)
        self.folder = folder
        self.p = subprocess.Popen([GAMER, "run", "--observe", "--db=", *args], env=env(folder), **more)

    def __enter__(self):
        try:
            wait_for(lambda: self.p.poll() is not None or "observing" in get(f"{self.folder}/status"), "does not begin", 120)
        except SystemExit:
            self.p.kill()
            raise
        if self.p.poll() is not None:
            print(f"gamer cannot observe here: {get(f'{self.folder}/log').strip()}")
            sys.exit(200)
        return self

    def __exit__(self, *_):
        self.p.terminate()
        try:
            expect(self.p.wait(30) in (0, -signal.SIGSEGV), f"gamer exits {self.p.returncode}: {get(f'{self.folder}/log')}")
        except subprocess.TimeoutExpired:
            self.p.kill()
            sys.exit("gamer does not end when it is asked to")

    def cpu_s(self):
        with open(f"/proc/{self.p.pid}/stat", encoding="ascii") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def fds(self):
        return len(os.listdir(f"/proc/{self.p.pid}/fd"))


def ask(folder, *requests):
    s = socket.socket(socket.AF_UNIX)
    s.connect(f"{folder}/gamer.sock")   # it waits where the backlog is full
    s.settimeout(20)
    for r in requests:
        s.sendall(r if isinstance(r, bytes) else b'{"v":1,"cmd":"%s"}\n' % r.encode())
    return s


def lines(s, n):
    """the next n answers; fewer where the other side hangs up before"""
    data = b""
    while data.count(b"\n") < n:
        try:
            more = s.recv(1 << 16)
        except TimeoutError:
            sys.exit(f"{data.count(10)} of {n} answers, and no more come")
        except ConnectionResetError:
            more = b""
        if not more:
            break
        data += more
    return [json.loads(line) for line in data.decode().splitlines()]


def answers(folder, why):
    code, out, said = gamer(folder, "status", "--json")
    expect(code == 0 and json.loads(out)["command"] == "status", f"{why}: status exits {code}: {said}")
    return json.loads(out)


def as_user(uid, fn):
    """fn in a process of that user and group 12345, which stays until stdin of it is closed"""
    ready, told = os.pipe()
    hold, held = os.pipe()
    if not os.fork():
        os.close(held)
        os.setgroups([])
        os.setresgid(12345, 12345, 12345)
        os.setresuid(uid, uid, uid)
        try:
            kept = fn()
            os.write(told, b"1")
        except BaseException as e:
            os.write(told, str(e)[:200].encode() or b"?")
            os._exit(1)
        os.read(hold, 1)
        os._exit(len(kept or "") * 0)
    os.close(told)
    said = os.read(ready, 200)
    expect(said == b"1", f"as user {uid}: {said.decode()}")
    return held


def host_clients_places(d):
    """eight idle connections, a user with eight listeners: whoever else asks finds a place, or is told that there is none"""
    with Observer(d, "--socket-group", "12345"):
        idle = [ask(d) for _ in range(3 * PLACES)]
        answers(d, f"{len(idle)} idle connections")
        idle += [ask(d, "status") for _ in range(PLACES)]
        for s in idle[-PLACES:]:
            lines(s, 1)
        answers(d, "connections whose request was answered")
        half = [ask(d, b'{"v":1') for _ in range(PLACES)]
        answers(d, "half requests")
        events = [ask(d, "events") for _ in range(PLACES)]
        for s in events:
            expect(lines(s, 1)[0].get("command") == "events", "a listener gets no place")
        for cmd in ["status"], ["status", "--json"], ["top", "--once"], ["events", "--seconds", "1"]:
            code, out, said = gamer(d, *cmd)
            expect(code == 69 and not out and said.count("\n") == 1, f"{cmd} beside {PLACES} listeners exits {code}: {out}{said}")
            expect(f"gamer runs, but all its {PLACES} places for clients are taken" in said, f"{cmd} says {said}")
        expect("error" in lines(ask(d), 1)[0], "who asks nothing is told nothing")
        for s in events[:2]:
            s.close()
        wait_for(lambda: gamer(d, "status")[0] == 0, "no place after two have gone")
        expect(answers(d, "")["stats"]["clients"] == PLACES - 1, "a listener has lost its place")
        for s in idle + half + events:
            s.close()

        def all_places():
            kept = [ask(d, "events") for _ in range(PLACES)]
            return [s for s in kept if lines(s, 1)[0]["command"] == "events"]
        held = as_user(NOBODY, all_places)
        answers(d, "a user's listeners have all places")
        other = as_user(1000, lambda: answers(d, "another user's listeners have all places") and [])
        mine = [ask(d, "events") for _ in range(PLACES)]
        for s in mine:
            expect(lines(s, 1)[0].get("command") == "events", "a user's listener keeps root's out")
        as_user(1000, lambda: expect(gamer(d, "status")[0] == 69, "a user's request takes the place of root's listener"))
        for fd in held, other:
            os.close(fd)


def host_clients_top(d):
    """a top whose place another one took between two of its requests finds a new one"""
    with Observer(d):
        ours, its = os.openpty()
        os.set_blocking(ours, False)
        p = subprocess.Popen([GAMER, "top"], env=dict(env(d), TERM="xterm", COLUMNS="80"), stdin=its, stdout=its, stderr=its)
        os.close(its)

        def drawn():
            try:
                return len(os.read(ours, 1 << 20)) > 200
            except BlockingIOError:
                return False
            except OSError:
                sys.exit(f"top ends with {p.wait()}")
        for _ in range(3):
            for _ in range(2):
                wait_for(drawn, "top draws nothing")
            for s in [ask(d) for _ in range(2 * PLACES)]:
                s.close()
        p.terminate()
        expect(p.wait(30) == 0, f"top ends with {p.returncode}")
        os.close(ours)


def host_clients_requests(d):
    """requests in one packet, in pieces, a thousand at once, too long, rubbish: each line has its answer, others theirs meanwhile"""
    with Observer(d) as g:
        s = ask(d, b'{"cmd":"status"}\n{"cmd":"nonsense"}\n')
        first, second = lines(s, 2)
        expect(first["command"] == "status" and second["error"] == "unknown command", f"two in one packet: {second}")
        s = ask(d)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for byte in b'{"cmd":"status"}\n{"cmd":"status"}\n{"cmd"':
            s.sendall(bytes([byte]))
            time.sleep(0.005)
        expect(len(lines(s, 2)) == 2, "requests in pieces")
        s.sendall(b':"status"}\n')
        expect(lines(s, 1)[0]["command"] == "status", "the second half of a request")
        s.shutdown(socket.SHUT_WR)
        expect(lines(s, 1) == [], "an end is not an answer")

        s = ask(d)
        feeder = threading.Thread(target=lambda: (s.sendall(b'{"cmd":"status"}\n' * 1000), s.shutdown(socket.SHUT_WR)))
        feeder.start()
        began = time.monotonic()
        for _ in range(10):
            answers(d, "beside a thousand requests")
        took = time.monotonic() - began
        got = lines(s, 1001)
        feeder.join()
        expect(len(got) == 1000 and all(x["command"] == "status" for x in got), f"a thousand requests: {len(got)} answers")
        print(f"beside a thousand requests ten others took {took * 1e3:.0f} ms")

        deaf = [ask(d, b'{"cmd":"status"}\n' * 1000) for _ in range(PLACES - 1)]
        began, used = time.monotonic(), g.cpu_s()
        answers(d, "clients that ask and do not read")
        time.sleep(1)
        used = (g.cpu_s() - used) / (time.monotonic() - began)
        expect(used < 0.5, f"for clients that do not read it takes {used:.2f} of a CPU")
        for s in deaf:
            s.close()

        for junk in b"x" * 256, b"\0" * 5000, bytes(range(256)).replace(b"\n", b"") * 20:
            s = ask(d, junk)
            got = lines(s, 2)
            expect(len(got) == 1 and got[0]["error"] == "a request is too long", f"{junk[:9]}: {got}")
        for junk in b"x" * 255, b"\0" * 200, b"", b"\xff" * 9, b'{"cmd":"stat\0us"}', b'"types":', b'{"events', b"[" * 200:
            s = ask(d, junk + b"\n")
            got = lines(s, 1)
            expect(got == [{"v": 1, "error": "unknown command"}], f"{junk[:9]}: {got}")
            s.sendall(b'{"cmd":"status"}\n')
            expect(lines(s, 1)[0]["command"] == "status", f"no answer after {junk[:9]}")
        s = ask(d, "events", b'{"cmd":"events","types":"nonsense"}\n')
        got = lines(s, 2)
        expect(got[0]["command"] == "events" and got[1]["error"] == "unknown event type", f"{got}")
        answers(d, "after rubbish")


def host_clients_descriptors(d):
    """without a descriptor for who connects gamer takes no CPU, and serves it once there is one"""
    with Observer(d) as g:
        answers(d, "at the start")
        resource.prlimit(g.p.pid, resource.RLIMIT_NOFILE, (g.fds(), 4096))
        waiting = [ask(d, "status") for _ in range(3)]
        used = g.cpu_s()
        time.sleep(1)
        used = g.cpu_s() - used
        expect(used < 0.3, f"{used:.2f} s of CPU in a second, for three clients that it cannot take")
        resource.prlimit(g.p.pid, resource.RLIMIT_NOFILE, (g.fds() + 1, 4096))
        os.kill(g.p.pid, signal.SIGHUP)     # a turn
        for s in waiting:
            expect(lines(s, 1)[0]["command"] == "status", "no answer once there is a descriptor")
            s.close()


def host_run_messages(d):
    """SIGUSR1 and messages wait for no reader; what it misses is counted and said"""
    pipes = [os.pipe() for _ in range(2)]
    for r, w in pipes:
        os.set_blocking(r, False)
        fcntl.fcntl(w, 1031, 8192)  # F_SETPIPE_SZ
    err = pipes[1][0]
    with Observer(d, stdout=pipes[0][1], stderr=pipes[1][1]) as g:
        os.read(err, 8192)
        for _ in range(100):
            os.kill(g.p.pid, signal.SIGUSR1)
            answers(d, "SIGUSR1, and nobody reads what it prints")
        expect(b"cut" in os.read(err, 8192), "a status that has no room is not said to be cut")
        os.kill(g.p.pid, signal.SIGUSR1)
        answers(d, "SIGUSR1")
        expect(b"messages before this one had no reader" in os.read(err, 8192), "that messages are missing is not said")
    for fd in pipes[0] + pipes[1]:
        os.close(fd)
    out = f"{d}/out"
    with open(out, "w") as f, Observer(d, stdout=f) as g:
        os.kill(g.p.pid, signal.SIGUSR1)
        wait_for(lambda: "thread " in get(out), "SIGUSR1 prints no status")
        expect("SIGUSR1" not in get(f"{d}/log"), "a whole status is said to be cut")


def host_run_exits(d):
    """every way out of run is in last_exit, with no socket left and a status file that says stopped"""
    def left(code, what, why):
        text = get(f"{d}/last_exit")
        expect(text.startswith(f"exit={code} ") and what in text and text.count("\n") == 1, f"{why}: last_exit is {text!r}")
        os.unlink(f"{d}/last_exit")

    def gone(why):
        expect(not os.path.exists(f"{d}/gamer.sock"), f"{why}: the socket is left")
        expect(get(f"{d}/status") == "gamer: stopped\n", f"{why}: the status file says {get(f'{d}/status')}")

    with Observer(d) as g:
        code = gamer(d, "run", "--observe")[0]
        expect(code == 75, f"a second one exits {code}")
        left(75, "another gamer is running", "a second one")
        answers(d, "a second one has come")
        g.p.send_signal(signal.SIGSEGV)
        expect(g.p.wait(30) == -signal.SIGSEGV, f"SIGSEGV: exits {g.p.returncode}")
        left(128 + signal.SIGSEGV, "Segmentation fault", "SIGSEGV")
        gone("SIGSEGV")
    for sig in signal.SIGTERM, signal.SIGINT:
        with Observer(d) as g:
            g.p.send_signal(sig)
            g.p.wait(30)
        left(0, "asked to stop", sig)
        gone(sig)
    code, _, said = gamer(d, "run", "--observe", "--socket-group", "no such group")
    expect(code == 64, f"exits {code}: {said}")
    left(64, "there is no group", "a group that does not exist")
    gone("a group that does not exist")
    expect(gamer(d, "run", "--restarts", "x")[0] == 64, "a wrong option")
    left(64, "is not a number", "a wrong option")
    code, _, said = gamer(d, "run", "--observe", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)))
    expect(code == 77, f"12 descriptors: exits {code}: {said}")
    left(code, said.removeprefix("gamer: ").splitlines()[-1].removeprefix("gamer: "), "12 descriptors")
    if not os.path.exists("/sys/kernel/sched_ext"):
        expect(gamer(d, "run", "--backend", "scx")[0] == 69, "a kernel without sched_ext")
        left(69, "sched_ext", "a kernel without sched_ext")
    os.chown(d, NOBODY, NOBODY)
    code, _, said = gamer(d, "run", "--observe", user=NOBODY, group=NOBODY, extra_groups=[])
    expect(code == 77 and said.count("\n") == 1 and "CAP_" in said, f"without rights: exits {code}: {said}")
    left(77, "not permitted", "without rights")
    os.chown(d, 0, 0)
    code, _, said = gamer(d, "run", "--observe", user=NOBODY, group=NOBODY, extra_groups=[])
    expect(code == 77 and said.count("\n") == 1, f"in another's folder: exits {code}: {said}")
    p = subprocess.Popen([GAMER, "run", "--observe"], env=env(f"{d}/new/"), stderr=subprocess.DEVNULL)
    p.terminate()
    expect(p.wait(30) in (0, -signal.SIGTERM), f"asked to stop at once it exits {p.returncode}")


def host_run_folders(d):
    """of several folders in RUNTIME_DIRECTORY the first is used"""
    for name in "a", "b":
        os.mkdir(f"{d}/{name}")
    with Observer(d):
        pass
    both = f"{d}/a:{d}/b"
    p = subprocess.Popen([GAMER, "run", "--observe", "--db="], env=env(both), stderr=subprocess.DEVNULL)
    wait_for(lambda: p.poll() is not None or gamer(both, "status")[0] == 0, "its clients look elsewhere")
    p.terminate()
    expect(p.wait(30) == 0, f"exits {p.returncode}")
    expect(sorted(os.listdir(f"{d}/a")) == ["last_exit", "lock", "status"], f"in the first folder are {os.listdir(f'{d}/a')}")
    expect(os.listdir(f"{d}/b") == [], f"in the second folder are {os.listdir(f'{d}/b')}")


def serve(folder, behave, accepts=True):
    """a server in place of gamer; behave(connection) answers"""
    os.mkdir(folder)
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{folder}/gamer.sock")
    s.listen(PLACES if accepts else 0)

    def client(c):
        try:
            behave(c)
        except OSError:
            pass            # the client has gone

    def loop():
        while accepts:
            threading.Thread(target=client, args=[s.accept()[0]], daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
    return s


def host_clients_deadline(d):
    """an answer that drips, never ends or never comes, and a socket that takes nobody, end each client with 69 in 10 s"""
    def drip(c):
        while True:
            c.send(b"x")
            time.sleep(0.05)

    def endless(c):
        while True:
            c.send(b"x" * 65536)

    def silent(c):
        c.recv(1)
        time.sleep(100)
    servers = [serve(f"{d}/{fn.__name__}", fn) for fn in (drip, endless, silent)]
    servers.append(serve(f"{d}/busy", None, False))
    for s in servers[-1:]:
        full = socket.socket(socket.AF_UNIX)
        full.connect(s.getsockname())
    running = []
    commands = ["status"], ["status", "--json"], ["status", "--metrics"], ["top", "--once"], ["events"], ["events", "--trace", f"{d}/trace"]
    for name in "drip", "endless", "silent", "busy":
        for cmd in commands:
            p = subprocess.Popen([GAMER, *cmd], env=env(f"{d}/{name}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.append((name, cmd, p))
    end = time.monotonic() + 40
    for name, cmd, p in running:
        try:
            out, said = p.communicate(timeout=max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            for _, _, p in running:
                p.kill()
            sys.exit(f"{cmd[0]} does not end, and its server is {name}")
        expect(p.returncode == 69 and not out and said.count("\n") == 1, f"{name}: {cmd} exits {p.returncode}: {out[:99]}{said}")
        why = "an answer has no end" if name == "endless" else "gamer does not answer"
        expect(why in said, f"{name}: {cmd} says {said}")


if os.geteuid():
    print("needs root")
    sys.exit(200)
with tempfile.TemporaryDirectory() as folder:
    globals()[sys.argv[1]](folder)
