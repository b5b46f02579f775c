#!/usr/bin/env python3
"""native.py GAMER BENCH ROUNDS SECONDS SHAPE,...: the fair back end on this machine.

Each round measures each shape under the kernel's own scheduler, with `gamer run --backend fair`, and with
the game under SCHED_FIFO, one after the other, so that what else the machine does is shared out. Prints
medians, ranges, and the ratio to the kernel's own; and how long the machine itself stood still: time
stolen by its host, and gaps of more than 5 ms in a SCHED_FIFO thread on each CPU.
"""
import json, os, signal, statistics, subprocess, sys, tempfile, time

gamer, bench, rounds, seconds, shapes = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5].split(",")
DESKTOP = "--workers 1 --audio-frames 64 --frame-work-us 3000 --no-drm --no-uinput --load hogs --load-threads".split()
DESKTOP_TOLD = ["game late", "game dropped", "game xruns", "game fps", "game fps_low1", "audio wake_p99_us", "input wake_p99_us", "hogs rate"]
SCHEDS = ["eevdf", "fair", "fifo"]


def watch(cpu, pipe):
    """A process that sleeps a millisecond at a time on a CPU, and tells how long it was kept."""
    os.sched_setaffinity(0, [cpu])
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    gaps, longest, last, ends = 0, 0.0, time.monotonic(), []
    signal.signal(signal.SIGTERM, lambda *_: ends.append(1))
    while not ends:
        time.sleep(0.001)
        now = time.monotonic()
        if now - last > 0.006:
            gaps, longest = gaps + 1, max(longest, now - last)
        last = now
    os.write(pipe, json.dumps([gaps, longest * 1000]).encode() + b"\n")
    os._exit(0)


def stolen():
    return int(open("/proc/stat").readline().split()[8]) * 10  # ms


class Still:
    def __enter__(self):
        self.read, write = os.pipe()
        self.steal, self.pids = stolen(), []
        for cpu in os.sched_getaffinity(0):
            self.pids.append(os.fork())
            if not self.pids[-1]:
                watch(cpu, write)
        os.close(write)
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        told = [json.loads(line) for line in os.fdopen(self.read)]
        for pid in self.pids:
            os.waitpid(pid, 0)
        self.steal = stolen() - self.steal
        self.gaps, self.longest = sum(t[0] for t in told), max(t[1] for t in told)


def figures(shape, said):
    """{name: (value, what is better)}"""
    told = {f["group"] + " " + f["figure"]: (f["value"], f["better"]) for f in said["figures"]}
    if shape == "desktop":
        return {name: told[name] for name in DESKTOP_TOLD if name in told}
    return {name: told[name] for name in told if name.split()[1] not in ("wake_p50_us", "wake_p95_us", "wake_max_us")}


def stats(env):
    return json.loads(subprocess.run([gamer, "status", "--json"], env=env, capture_output=True, text=True).stdout)["stats"]


def measure(shape, sched, iters):
    cmd = [bench, "--json", "--seconds", seconds, "--iters-per-ms", str(iters)]
    cmd += DESKTOP + [str(2 * len(os.sched_getaffinity(0)))] if shape == "desktop" else ["--shape", shape]
    cmd += ["--realtime"] if sched == "fifo" else []
    cpu = None
    with tempfile.TemporaryDirectory() as run:
        if sched == "fair":
            env = dict(os.environ, RUNTIME_DIRECTORY=run)
            log = open(run + "/log", "w+")
            g = subprocess.Popen([gamer, "run", "--backend", "fair", "--db="], stderr=log, env=env)
            while subprocess.run([gamer, "status"], env=env, capture_output=True).returncode:
                if g.poll() is not None:
                    sys.exit("gamer cannot advise here: " + open(run + "/log").read())
                time.sleep(0.05)
            began, used = time.monotonic(), stats(env)["cpu_us"]
        said = subprocess.run(cmd, capture_output=True, text=True)
        if sched == "fair":
            cpu = (stats(env)["cpu_us"] - used) / (time.monotonic() - began) / 1e4
            g.send_signal(signal.SIGINT)
            g.wait()
    if said.returncode:
        sys.exit(f"{' '.join(cmd)}: {said.stderr}")
    return figures(shape, json.loads(said.stdout)), cpu


def main():
    iters = json.loads(subprocess.run([bench, "--json", "--seconds", "1", "--no-drm", "--no-uinput"],
                                      capture_output=True, text=True).stdout)["config"]["iters_per_ms"]
    told, own = {}, []
    with Still() as still:
        for n in range(rounds):
            for shape in shapes:
                for sched in SCHEDS:
                    got, cpu = measure(shape, sched, iters)
                    own += [cpu] if cpu is not None else []
                    for name, (value, better) in got.items():
                        told.setdefault((shape, name, better), {}).setdefault(sched, []).append(value)
                    print(f"\rround {n + 1} of {rounds}: {shape} under {sched}    ", end="", file=sys.stderr)
        print(file=sys.stderr)
    print(f"{os.uname().release}, {len(os.sched_getaffinity(0))} CPUs, {rounds} rounds of {seconds} s each, "
          f"--iters-per-ms {iters}; median (least to most), x: to eevdf")
    print(f"{'shape':12} {'figure':22} {'':4}" + "".join(f"{s:>34}" for s in SCHEDS))
    for (shape, name, better), by in told.items():
        cells, base = "", statistics.median(by["eevdf"]) if "eevdf" in by else 0
        for sched in SCHEDS:
            if sched not in by:
                cells += f"{'-':>34}"
                continue
            v = by[sched]
            ratio = f"x{statistics.median(v) / base:.2f}" if base and sched != "eevdf" else ""
            cells += f"{f'{statistics.median(v):.4g} ({min(v):.4g} to {max(v):.4g}) {ratio:>6}':>34}"
        print(f"{shape:12} {name:22} {better:4}{cells}")
    print(f"gamer's own CPU time: {statistics.median(own):.2f} % of a CPU ({min(own):.2f} to {max(own):.2f})")
    print(f"meanwhile the machine stood still: {still.steal} ms stolen, {still.gaps} gaps over 5 ms, the longest {still.longest:.0f} ms")


main()
