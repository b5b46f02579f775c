#!/usr/bin/env python3
"""db.py CHECK GAMER: the process database's files, by another hand than gamer's.

Reads and writes the three versions of the file by the layout below and holds `gamer db` to
it. One function per check; each ends with the first thing that does not hold.
"""
import codecs
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ENTRY = {1: "<16sB7xQII", 2: "<16sB7xQQQQII", 3: "<16sIB3xQQQQIIIII4xQ"}
TIERS = ["batch", "interactive", "lat_critical"]
NOW = int(time.time()) - 60     # when programs were seen, if nothing else is said
DAYS = 30               # without being started, and a program is forgotten
MOST = 512              # programs
GAMER = sys.argv[2]


def golden(version):
    with open(f"{HERE}/process.v{version}.hex", encoding="ascii") as f:
        return bytes.fromhex("".join(line.split("#")[0] for line in f))


def encode(version, entries, saved=NOW, count=None):
    head = struct.pack("<4sII", b"PDDB", version, len(entries) if count is None else count)
    body = b"".join(struct.pack(ENTRY[version], *e) for e in entries)
    if version == 3:
        saved = struct.pack("<Q", saved)
        return head + struct.pack("<I", zlib.crc32(head + saved + body)) + saved + body
    return head + body


# gamer shows each byte that is no UTF-8 as U+FFFD
codecs.register_error("each", lambda e: ("\ufffd" * (e.end - e.start), e.end))


def decode(data):
    version, count = struct.unpack_from("<II", data, 4)
    at = 24 if version == 3 else 12
    size = struct.calcsize(ENTRY[version])
    return [struct.unpack_from(ENTRY[version], data, at + i * size) for i in range(count)]


def shown(version, e):
    """what `list --json` says of an entry; seen_s None: just now"""
    if version == 3:
        comm, exe, role, burst, dev, wakes, switches, n, *votes, role_votes, seen = e
        seen = seen if 0 < seen < time.time() else None     # by a clock that was ahead
    else:
        comm, tier, burst, *rest, n, total = e
        dev, wakes, switches = rest or (0, 0, 0)
        votes = [total if i == tier else 0 for i in range(3)]
        exe, role, role_votes, seen = 0, 0, 0, None
    best = max(range(3), key=lambda i: (votes[i], i == 1))
    sure = 0
    if n >= 3 and sum(votes):
        sure = max(votes) / sum(votes) * (0.5 + 0.5 * (1 - min(dev / burst if burst else 1, 1)))
    d = {"comm": comm.split(b"\0")[0].decode(errors="each"), "exe": exe, "tier": TIERS[best],
         "confidence": round(sure, 3), "observations": n, "votes": dict(zip(TIERS, votes)), "burst_ns": burst,
         "dev_ns": dev, "wakeups_hz": wakes, "switches_hz": switches, "role_votes": role_votes, "seen_s": seen}
    return d, role


def some(n, version=3):
    """n different programs"""
    if version == 3:
        return [(b"p%06d" % i, i, i % 11, 1000 * i, i, i, 2 * i, i + 3, i + 1, 1, 0, 1, NOW - i) for i in range(n)]
    return [(b"p%06d" % i, i % 3, 1000 * i, 10, i, 2 * i, i + 3, i + 1) for i in range(n)]


def expect(ok, what):
    if not ok:
        sys.exit(what)


def db(*args, db=None, data=None, env=None, user=None, program=None):
    """exit code, stdout, stderr of `gamer db ARGS`"""
    args = [program or GAMER, "db", *args] + (["--db", db] if db else [])
    p = subprocess.run(args, input=data, capture_output=True, env=env, user=user, check=False)
    expect(p.stderr.count(b"\n") <= 1, f"{args}: says more than one line: {p.stderr}")
    expect(p.returncode in (0, 64, 66, 74, 75, 77, 78), f"{args}: exit {p.returncode}: {p.stderr}")
    expect(p.returncode == 0 or b"gamer: " in p.stderr, f"{args}: exit {p.returncode} without a word")
    return p.returncode, p.stdout, p.stderr.decode("latin-1")


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, 0o644)
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


def bad(path, why):
    rc, _, err = db("check", db=path)
    expect(rc == 78, f"{why}: exit {rc}, not 78: {err}")
    return err


def listed(path):
    rc, out, err = db("list", "--json", db=path)
    expect(rc == 0, f"list: exit {rc}: {err}")
    return json.loads(out)["programs"]


def same(path, data):
    """gamer reads of it what is in it"""
    version = data[4]
    got = {(g["comm"], g["exe"]): g for g in listed(path)}
    want = [shown(version, e) for e in decode(data)]
    expect(len(got) == len(want), f"lists {len(got)} programs, not {len(want)}")
    for w, role in want:
        g = got[(w["comm"], w["exe"])]
        expect((g.pop("role") != "none") == bool(role), f"{w['comm']}: role of number {role}")
        if w["seen_s"] is None:
            w.pop("seen_s")
            expect(abs(g.pop("seen_s") - time.time()) < 60, "a program that is just known was not seen just now")
        expect(abs(g.pop("confidence") - w.pop("confidence")) < 0.0011, f"{w['comm']}: confidence")
        expect(g == w, f"{g}, not {w}")


def host_db_golden(d):
    """the process database: golden files are read to the letter, V2 goes out as it came, V3 to the byte"""
    for version in (1, 2):
        path = put(f"{d}/v{version}", golden(version))
        expect(golden(version) == encode(version, decode(golden(version))), "golden file and layout differ")
        same(path, golden(version))
        rc, out, _ = db("check", db=path)
        expect(rc == 0 and f"version {version}, {3 if version == 2 else 2} programs".encode() in out, f"check: {out}")
    for way in ((), (f"{d}/out",)):     # to standard output, to a file
        rc, out, err = db("export", *way, "--v2", db=f"{d}/v2")
        expect(rc == 0, f"export: {err}")
        expect((get(way[0]) if way else out) == golden(2), "V2 does not go out as it came in")
    rc, _, err = db("import", f"{d}/v2", db=f"{d}/new")
    expect(rc == 0 and get(f"{d}/new")[4] == 3, f"import: {err}")
    expect(db("export", "--v2", db=f"{d}/new")[1] == golden(2), "V2 is not the same after V3")
    # V1 knows no deviation: the program is as sure as its votes
    want = encode(2, [(c, t, b, 0, 0, 0, n, v) for c, t, b, n, v in decode(golden(1))])
    expect(db("export", "--v2", db=f"{d}/v1")[1] == want, "V1 does not go out as V2")
    entries = some(MOST)
    path = put(f"{d}/v3", encode(3, entries))
    same(path, encode(3, entries))
    expect(db("export", db=path)[1] == encode(3, entries), "V3 does not come back to the byte")
    rc, _, err = db("import", db=f"{d}/piped", data=encode(3, entries))
    expect(rc == 0 and decode(get(f"{d}/piped")) == decode(encode(3, entries)), f"imported from a pipe it is another: {err}")
    saved = struct.unpack_from("<Q", get(f"{d}/piped"), 16)[0]
    expect(abs(saved - time.time()) < 60 and get(f"{d}/piped") == encode(3, decode(get(f"{d}/piped")), saved), "not as it is written by the layout")
    # unsure ones stay out of V2, and of two paths the more observed goes
    mixed = [(b"twice", 1, 0, 10, 0, 0, 0, 3, 3, 0, 0, 0, NOW), (b"twice", 2, 0, 20, 0, 0, 0, 4, 4, 0, 0, 0, NOW),
             (b"unsure", 1, 0, 10, 0, 0, 0, 9, 5, 4, 0, 0, NOW)]
    put(path, encode(3, mixed))
    expect(decode(db("export", "--v2", db=path)[1]) == [(b"twice".ljust(16, b"\0"), 0, 20, 0, 0, 0, 4, 4)], "V2 of what is unsure")


def host_db_truncated(d):
    """a process database of every version is refused at every length but its own"""
    for data in (golden(1), golden(2), encode(3, some(2))):
        for n in range(len(data)):
            bad(put(f"{d}/x", data[:n]), f"version {data[4]}, {n} of {len(data)} bytes")
        bad(put(f"{d}/x", data + b"\0"), f"version {data[4]}, one byte more")
        rc, _, err = db("check", db=put(f"{d}/x", data))
        expect(rc == 0, f"the whole file: {err}")


def host_db_flipped(d):
    """every single bit that flips in a V3 file is noticed; V1 and V2 are read as what is there"""
    for data in (golden(1), golden(2)[:4 + 8 + 64 * 2].replace(b"\3", b"\2", 1), encode(3, some(2))):
        read = 0
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            put(f"{d}/x", flipped)
            if data[4] == 3:
                bad(f"{d}/x", f"bit {bit} flipped")
            elif db("check", db=f"{d}/x")[0] == 0:
                read += 1
                if bit % 7 == 0:
                    same(f"{d}/x", bytes(flipped))
        expect(data[4] == 3 or read > len(data), f"version {data[4]}: only {read} flips are readable")


def host_db_hostile(d):
    """databases with counts, names, numbers, owners that cannot be exit 78 and are left alone"""
    x = f"{d}/x"
    one = some(1)[0]
    for count in (513, 0xffffffff, 0x80000000):
        for version in (1, 2, 3):
            bad(put(x, encode(version, [], count=count)), f"{count} programs in version {version}")
    bad(put(x, encode(3, some(513))), "513 real programs")
    for version in (0, 4, 0x02000000, 0xffffffff):
        bad(put(x, struct.pack("<4sII", b"PDDB", version, 0)), f"version {version}")
    for what, entry in (("no name", (b"",)), ("a name without an end", (b"x" * 16,)), ("a name after its end", (b"a\0b",)),
                        ("a role that there is not", (*one[:2], 11)), ("more votes for a role than there are", (*one[:11], 9))):
        bad(put(x, encode(3, [entry + one[len(entry):]])), what)
    bad(put(x, encode(2, [(b"a", 3, 1, 1, 1, 1, 1, 1)])), "a tier that there is not")
    for version in (2, 3):
        err = bad(put(x, encode(version, some(2, version) + some(1, version))), "a program twice")
        expect("p000000 twice" in err, f"does not say which: {err}")
    bad(put(x, b"PDDB" * 100000), "400 KB")
    # the largest numbers there are: read, and nobody counts beyond them
    most = 2**64 - 1
    put(x, encode(3, [(b"most", 2**32 - 1, 10, most, most, most, most) + (2**32 - 1,) * 5 + (most,)]))
    same(x, get(x))
    put(x, encode(2, [(b"most", 2, most, most, most, most, 2**32 - 1, 2**32 - 1)]))
    same(x, get(x))
    expect(db("import", x, db=f"{d}/most")[0] == 0 and listed(f"{d}/most")[0]["burst_ns"] == most, "most are not kept")
    put(x, encode(3, [(b"\x1b[2J\xffx\n",) + one[1:]]))
    expect(b"\x1b" not in db("list", db=x)[1] and b"\xff" not in db("list", db=x)[1], "a name steers the terminal")
    expect(listed(x)[0]["comm"] == "\x1b[2J\ufffdx\n", f"JSON has another name: {listed(x)}")
    put(x, encode(3, [("Pok\u00e9mon".encode(), *one[1:])]))
    expect(listed(x)[0]["comm"] == "Pok\u00e9mon" and "Pok\u00e9mon         0" in db("list", db=x)[1].decode(), "UTF-8 does not stay UTF-8, or in its column")
    for what, make in (("a symlink", lambda: os.symlink(put(f"{d}/to", golden(2)), x)), ("a dangling one", lambda: os.symlink("/none", x)),
                       ("a folder", lambda: os.mkdir(x)), ("a pipe", lambda: os.mkfifo(x)),
                       ("a file that all may write", lambda: os.chmod(put(x, golden(2)), 0o666)),
                       ("a file of somebody else", lambda: os.chown(put(x, golden(2)), 1000, 1000))):
        subprocess.run(["rm", "-rf", x], check=True)
        if "else" in what and os.geteuid():
            print("not root: no file of somebody else")
            continue
        make()
        was = os.lstat(x)
        for action in ("check", "list", "import"):
            rc, _, err = db(action, db=x, data=golden(1))
            expect(rc == 78, f"{what}: {action} exits {rc}: {err}")
        expect(os.lstat(x).st_ino == was.st_ino and os.lstat(x).st_mtime_ns == was.st_mtime_ns, f"{what} was touched")
    expect(sorted(os.listdir(d)) == ["most", "to", "x"], f"left behind: {os.listdir(d)}")


def host_db_places(d):
    """the process database is where --db, systemd, or the user's cache say; in use it is not written"""
    env = {"STATE_DIRECTORY": f"{d}/state:{d}/other", "XDG_CACHE_HOME": f"{d}/xdg", "HOME": d}
    def stored():
        return sorted(os.path.relpath(os.path.join(p, f), d) for p, _, fs in os.walk(d) for f in fs)
    for made in ("state", "xdg", ".cache"):
        os.mkdir(f"{d}/{made}")
    expect(db("import", data=golden(2), env=env)[0] == 0 and stored() == ["state/process.db"], f"in {stored()}")
    expect(len(json.loads(db("list", "--json", env=env)[1])["programs"]) == 3, "not found again")
    expect(db("import", data=golden(1), db=f"{d}/x", env=env)[0] == 0 and "x" in stored(), "--db does not come first")
    expect(db("clear", env=env)[0] == 0 and stored() == ["x"], f"not cleared: {stored()}")
    expect(db("clear", env=env)[0] == 0, "nothing to clear is an error")
    if os.geteuid() == 0 and not os.path.exists("/var/lib/gamer"):
        # an ordinary user cannot write to /var/lib/gamer, nor to that state directory
        os.chmod(d, 0o755)
        os.chown(f"{d}/xdg", 1000, 1000)
        os.chown(f"{d}/.cache", 1000, 1000)
        # where it was built may be closed to others
        with tempfile.TemporaryDirectory() as near:
            os.chmod(near, 0o755)
            program = shutil.copy(GAMER, near)
            for step in ("xdg", ".cache"):
                rc, _, err = db("import", data=golden(2), env=env, user=1000, program=program)
                expect(rc == 0, f"a user's import: exit {rc}: {err}")
                expect(f"{step}/gamer/process.db" in stored(), f"in {stored()}")
                env.pop("XDG_CACHE_HOME", 0)
    import fcntl
    lock = os.open(d, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for action in ("import", "clear"):
        rc, _, err = db(action, db=f"{d}/x", data=golden(2))
        expect(rc == 75, f"{action} of a database in use: exit {rc}: {err}")
    expect(db("list", db=f"{d}/x")[0] == 0, "list of a database in use")
    os.close(lock)


def check_full(d):
    """a full or read-only file system: exit 74 or 77, the old file stays whole, nothing is left behind"""
    def mount(*args):
        subprocess.run(["mount", *args], check=True)
    mount("-t", "tmpfs", "-o", "size=64k", "none", d)
    try:
        put(f"{d}/x", golden(2))
        with open(f"{d}/filler", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        for room in (0, 8192, 16384):
            os.truncate(f"{d}/filler", os.path.getsize(f"{d}/filler") - room)
            rc, _, err = db("import", db=f"{d}/x", data=encode(3, some(MOST)))
            expect(rc == 74 and "No space" in err, f"{room} bytes free: exit {rc}: {err}")
            expect(get(f"{d}/x") == golden(2) and sorted(os.listdir(d)) == ["filler", "x"], f"full: {os.listdir(d)}")
        os.unlink(f"{d}/filler")
        mount("-o", "remount,ro", d)
        rc, _, err = db("import", db=f"{d}/x", data=golden(1))
        expect(rc == 77 and get(f"{d}/x") == golden(2), f"read-only: exit {rc}: {err}")
        expect(len(listed(f"{d}/x")) == 3, "read-only: cannot be read")
    finally:
        subprocess.run(["umount", d], check=True)


def host_db_days(d):
    """programs that nobody started for 30 days are forgotten, just under it not, nor by a clock set back"""
    day = 86400
    ages = {b"today": 0, b"just": DAYS * day - 600, b"over": DAYS * day + 600, b"long": 900 * day, b"ahead": -400 * day}
    entries = [(name, 1, 0, 10, 0, 0, 0, 3, 3, 0, 0, 0, int(time.time()) - age) for name, age in ages.items()]
    left = ["ahead", "just", "today"]
    path = put(f"{d}/x", encode(3, entries))
    got = {p["comm"]: p["seen_s"] for p in listed(path)}
    expect(sorted(got) == left, f"of {ages} are left {sorted(got)}")
    expect(abs(got["ahead"] - time.time()) < 60, "by a clock that was ahead it is seen later than now")
    expect(abs(got["just"] - time.time() + ages[b"just"]) < 60, "what was read was seen at another time")
    expect(b"3 programs" in db("check", db=path)[1], "check counts others")
    expect(get(path) == encode(3, entries), "reading writes")
    expect(db("import", path, db=f"{d}/new")[0] == 0, "import")
    expect([e[0].strip(b"\0").decode() for e in decode(get(f"{d}/new"))] == left, "imported they are others")
    put(f"{d}/one", encode(3, some(1)))
    expect(db("import", f"{d}/one", db=path)[0] == 0, "import into it")
    expect(len(decode(get(path))) == 4, "what it had forgotten is written again")


def host_db_evicted(d):
    """a 513th program takes the place of the least needed: by last seen, observations, name"""
    full = some(MOST)
    new = put(f"{d}/new", encode(3, [(b"new", *full[0][1:])]))
    def least(*entries):
        path = put(f"{d}/x", encode(3, full[len(entries):] + list(entries)))
        expect(db("import", new, db=path)[0] == 0, "import")
        names = {e[0].strip(b"\0") for e in decode(get(path))}
        expect(len(names) == MOST and b"new" in names, f"{len(names)} programs")
        gone = {e[0] for e in full[len(entries):] + list(entries)} - names
        expect(gone == {entries[0][0]}, f"{gone} went, not {entries[0][0]}")
    def entry(name, observations, seen):
        return (name, 1, 0, 10, 0, 0, 0, observations, 3, 0, 0, 0, seen)
    least(entry(b"z", 900, NOW - 9001), entry(b"a", 3, NOW - 9000), entry(b"b", 1, NOW - 9000))
    least(entry(b"z", 3, NOW - 9000), entry(b"a", 900, NOW - 9000), entry(b"b", 4, NOW - 9000))
    least(entry(b"a", 3, NOW - 9000), entry(b"z", 3, NOW - 9000), entry(b"b", 3, NOW - 9000))


def host_db_killed(d):
    """of 1000 imports killed at any moment each leaves the old database or the new one"""
    x, early, late, left = f"{d}/x", 0, 0, 0
    put(f"{d}/new", encode(2, some(MOST, 2)))
    # of any path, as the new ones are: import keeps what it does not replace
    old = encode(3, [(name, 0, *rest) for name, _, *rest in some(3)])
    want = sorted(e[0] for e in decode(encode(2, some(MOST, 2))))
    start = time.monotonic()
    put(x, old)
    db("import", f"{d}/new", db=x)
    takes = time.monotonic() - start
    for i in range(1000):
        put(x, old)
        p = subprocess.Popen([GAMER, "db", "import", f"{d}/new", "--db", x], stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, takes * 1.2))
        p.send_signal(signal.SIGKILL)
        if p.wait() == 0 or get(x) != old:
            expect(db("check", db=x)[0] == 0, f"round {i}: {db('check', db=x)[2]}")
            expect(sorted(e[0] for e in decode(get(x))) == want, f"round {i}: neither the old nor the new")
            late += 1
        else:
            early += 1
        left += os.path.exists(f"{d}/.x.gamer-0")
    print(f"{early} times the old one, {late} times the new one, {left} times a temporary file was left")
    expect(early > 20 and late > 20, "the kills did not hit the write")
    expect(db("import", f"{d}/new", db=x)[0] == 0 and sorted(os.listdir(d)) == ["new", "x"], f"left behind: {os.listdir(d)}")


with tempfile.TemporaryDirectory() as folder:
    globals()[sys.argv[1]](folder)
