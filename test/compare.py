#!/usr/bin/env python3
"""Results of `gamer-bench --json` side by side: medians over the seeds.

compare.py --bench DIR
    all of `test.sh bench`: DIR/SEED/CELL.SCHED.json (.failed with the reason where a cell has no figure)
compare.py --shapes DIR [--json FILE]
    all of `test.sh bench-shapes`, so too
"""
import argparse
import fnmatch
import json
import math
import operator
import os
import statistics
import sys


def get(doc, path):
    for key in path:
        doc = doc.get(key) if isinstance(doc, dict) else None
    return doc


def load(name):
    with open(name, encoding="utf-8") as f:
        return json.load(f)


KERNEL, OURS, REALTIME = "eevdf", "gamer", "fifo"
# What wakeups cost in the lab where a CPU is left idle for them: the game alone, under EEVDF
FLOOR = ("none", KERNEL)
CRITICAL = ("sim", "worker", "render", "submit", "compositor", "input", "audio", "network")
LOADED = ("hogs", "fork", "pipe", "io", "mixed")


def at(*path):
    return lambda doc, _: get(doc, path)


def request(name):
    """a figure of the shape `requests`, which has no game"""
    return lambda doc, _: next((f["value"] for f in doc.get("figures", ())
                                if (f["group"], f["figure"]) == ("workers", name)), None)


def worst(rank):
    """the largest of the critical roles' percentiles"""
    return lambda doc, _: max((v for role in CRITICAL if (v := get(doc, ("wakeup_us", role, rank)))
                               is not None), default=None)


def throughput(doc, base):
    """of all kinds of load, in % of what the kernel's own scheduler gave them: geometric mean"""
    rates = [(kind["ops_per_s"], get(base, ("load", name, "ops_per_s")) or 0)
             for name, kind in (doc.get("load") or {}).items()] if base else []
    if not rates or any(b <= 0 for _, b in rates):
        return None
    return 100 * math.prod(a / b for a, b in rates) ** (1 / len(rates))


# key: title, unit, is less better?, from a cell's document and that of the kernel's scheduler
GAME = {
    "jitter":     ("frames with a wakeup > 500 us late", "%", True, at("jitter_percent")),
    "wake_p99":   ("wakeup p99, worst critical role", "us", True, worst("p99")),
    "wake_p999":  ("wakeup p99.9, worst critical role", "us", True, worst("p999")),
    "wake_max":   ("wakeup maximum, worst critical role", "us", True, worst("max")),
    "fps_low1":   ("1 % low", "fps", False, at("fps_low1")),
    "frame_p99":  ("frame time p99", "ms", True, at("frame_time_ms", "p99")),
    "input_p99":  ("input to present p99", "ms", True, at("input_present_ms", "p99")),
    "xruns":      ("audio xruns at 64 frames", "", True, at("audio_xruns")),
    "throughput": ("work done by the load", "% of EEVDF", False, throughput),
    "wait_ms":    ("longest wait of any runnable task", "ms", True, at("longest", "wait_ms")),
}
SIDE = {
    "time_s":     ("time", "s", True, at("time_s")),
    "rate":       ("requests", "/s", False, request("rate")),
    "p50_us":     ("latency p50", "us", True, request("wake_p50_us")),
    "p99_us":     ("latency p99", "us", True, request("wake_p99_us")),
    "p999_us":    ("latency p99.9", "us", True, request("wake_p999_us")),
    "switches":   ("context switches", "/s", True, at("switches_per_s")),
    "wakeups":    ("wakeups on the idle machine", "/s", True, at("wakeups_per_s")),
    "timers":     ("timer interrupts", "/s", True, at("timers_per_s")),
    "ipis":       ("interrupts between CPUs", "/s", True, at("ipis_per_s")),
    "runs":       ("BPF program runs", "/s", True, at("bpf_runs_per_s")),
    "cost_ns":    ("BPF time per context switch", "ns", True, at("bpf_ns_per_switch")),
    "cost_runs":  ("BPF runs per context switch", "", True, at("bpf_runs_per_switch")),
}
METRICS = GAME | SIDE
TABLES_SIDE = {    # title: rows of label, cell, metric
    "without a game: time, s (less is better)": [("compile", "side-compile", "time_s")],
    "request latency, us, and requests per second":
        [("p50", "side-schbench", "p50_us"), ("p99", "side-schbench", "p99_us"),
         ("p99.9", "side-schbench", "p999_us"), ("requests/s", "side-schbench", "rate")],
    "idle machine, per second (less is better)":
        [("switches", "side-idle", "switches"), ("wakeups", "side-idle", "wakeups"),
         ("timers", "side-idle", "timers"), ("IPIs", "side-idle", "ipis"),
         ("BPF runs", "side-idle", "runs")],
    "BPF programs per context switch, next to busy tasks (less is better)":
        [("ns", "side-cost", "cost_ns"), ("runs", "side-cost", "cost_runs")],
}

# metric, cells, and what it must be compared with: factor x a reference + plus
GOALS = [
    ("jitter",     LOADED, "<=", 0, None, 0.2),
    ("jitter",     LOADED, "<=", 1, "best peer", 0),
    ("wake_p99",   LOADED, "<=", 1.5, "floor", 0),
    ("wake_p99",   LOADED, "<=", 1, "best peer", 0),
    ("wake_p999",  LOADED, "<=", 0.25, KERNEL, 0),
    ("wake_p999",  LOADED, "<=", 1, "best peer", 0),
    ("wake_max",   LOADED, "<=", 0.25, KERNEL, 0),
    ("wake_max",   LOADED, "<=", 1, "best peer", 0),
    ("fps_low1",   LOADED, ">", 1, "best peer", 0),
    ("frame_p99",  LOADED, "<", 1, "best peer", 0),
    ("input_p99",  LOADED, "<=", 0.7, KERNEL, 0),
    ("input_p99",  LOADED, "<", 1, "best peer", 0),
    ("xruns",      LOADED, "<=", 0, None, 0),
    ("throughput", LOADED, ">=", 0, None, 95),
    ("wait_ms",    LOADED, "<=", 0, None, 100),
    ("time_s",     ("side-compile",), "<=", 1.05, KERNEL, 0),
    ("wakeups",    ("side-idle",), "<=", 1, KERNEL, 5),
    ("cost_ns",    ("side-cost",), "<", 1, "best peer", 0),
]
HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Bench:
    """cells[cell][sched][metric] = values over the runs; failed[cell][sched] = reasons"""

    def __init__(self, top):
        self.cells, self.failed, self.versions = {}, {}, {}
        self.seeds = sorted((d for d in os.listdir(top) if d.isdigit()), key=int)
        for seed in self.seeds:
            self.add(os.path.join(top, seed))

    def add(self, folder):
        docs = {}
        for name in sorted(os.listdir(folder)):
            cell, _, rest = name.partition(".")
            sched, _, kind = rest.rpartition(".")
            path = os.path.join(folder, name)
            if kind == "failed":
                with open(path, encoding="utf-8", errors="replace") as f:
                    self.failed.setdefault(cell, {}).setdefault(sched, []).append(f.read().strip())
            elif kind == "json" and sched:
                docs[cell, sched] = load(path)
                longest = path.removesuffix("json") + "wait"
                if os.path.exists(longest):
                    docs[cell, sched]["longest"] = load(longest)
            elif name == "versions":
                with open(path, encoding="utf-8") as f:
                    self.versions = dict(line.rstrip("\n").split("\t") for line in f) | self.versions
        for (cell, sched), doc in docs.items():
            figures = self.cells.setdefault(cell, {}).setdefault(sched, {})
            for key, (_, _, _, of) in METRICS.items():
                value = of(doc, docs.get((cell, KERNEL)))
                if value is not None:
                    figures.setdefault(key, []).append(value)

    def what(self):
        return f"medians of {len(self.seeds)} runs" if len(self.seeds) > 1 else "one run"

    def games(self):
        order = (FLOOR[0], *LOADED)
        return sorted((c for c in self.cells | self.failed if not c.startswith("side-")),
                      key=lambda c: order.index(c) if c in order else len(order))

    def scheds(self):
        """in the order in which they ran"""
        found = {s: 0 for by in (*self.cells.values(), *self.failed.values()) for s in by}
        return [s for s in self.versions if s in found] + [s for s in found if s not in self.versions]

    def is_ours(self, sched):
        return self.versions.get(sched, sched).startswith(OURS)

    def ours(self):
        """the first gamer: the one that is judged"""
        return next((s for s in self.scheds() if self.is_ours(s)), None)

    def peers(self):
        return [s for s in self.scheds() if s not in (KERNEL, REALTIME) and not self.is_ours(s)]

    def ran(self, cell, sched):
        return sched in self.cells.get(cell, {}) or sched in self.failed.get(cell, {})

    def value(self, cell, sched, key):
        """the median; None where there is none, or where the scheduler failed in some run"""
        if self.failed.get(cell, {}).get(sched):
            return None
        values = self.cells.get(cell, {}).get(sched, {}).get(key)
        return statistics.median(values) if values else None

    def best_peer(self, cell, key):
        found = [(v, s) for s in self.peers() if (v := self.value(cell, s, key)) is not None]
        return (min if METRICS[key][2] else max)(found, key=lambda p: p[0], default=(None, None))

    def reference(self, cell, ref, key):
        if ref == "best peer":
            return self.best_peer(cell, key)[0]
        return self.value(*FLOOR, key) if ref == "floor" else self.value(cell, ref, key)


# ---- text ----------------------------------------------------------------------------------

def short(v, width=5):
    """a figure in so many columns"""
    if v is None:
        return "-"
    for digits in (2, 1, 0):
        text = f"{v:.{digits}f}"
        if len(text) <= width:
            return text
    return f"{v / 1000:.0f}k" if v < 1e6 else f"{v / 1e6:.0f}M"


def ratio(a, b):
    if a is None or b is None or (b == 0 and a != 0):
        return "-"
    return short(a / b if b else 1, 4)


def cell_text(b, cell, sched, key):
    bad = b.failed.get(cell, {}).get(sched)
    if bad:
        return "failed" if sched == KERNEL else f"failed {len(bad)}/{len(b.seeds)}"
    v = b.value(cell, sched, key)
    return short(v) if sched == KERNEL else f"{short(v):>5} {ratio(v, b.value(cell, KERNEL, key)):>4}"


def table(b, title, rows):
    """rows: label, cell, metric; those without a figure are left out"""
    rows = [r for r in rows if any(b.cells.get(r[1], {}).get(s, {}).get(r[2]) for s in b.scheds())]
    columns = [s for s in b.scheds() if any(b.ran(cell, s) for _, cell, _ in rows)]
    if not rows:
        return
    width = {s: 6 if s == KERNEL else 11 for s in columns}
    last = b.ours() and b.peers()
    print(f"\n{title}\n{'':13}" + "".join(f"{s[:width[s] - 1]:>{width[s]}}" for s in columns)
          + (" /best peer" if last else ""))
    for label, cell, key in rows:
        line = f"{label:13}" + "".join(f"{cell_text(b, cell, s, key):>{width[s]}}" for s in columns)
        best, who = b.best_peer(cell, key)
        if last and who:
            line += f" {ratio(b.value(cell, b.ours(), key), best):>4} {who[:7]}"
        print(line.rstrip())


def tables(b):
    print(f"{b.what()}, behind each the ratio to {KERNEL}'s; "
          f"the last column: {b.ours()}'s to the best peer's")
    for label, version in b.versions.items():
        print(f"  {label:16} {version}")
    for key, (title, unit, less, _) in GAME.items():
        table(b, f"{title}{', ' + unit if unit else ''} ({'less' if less else 'more'} is better)",
              [(cell, cell, key) for cell in b.games()])
    for title, rows in TABLES_SIDE.items():
        table(b, title, rows)
    if b.failed:
        print("\nfailed")
    for cell, by in b.failed.items():
        for sched, whys in by.items():
            print(f"  {cell} under {sched}: {whys[0]}")


# ---- goals ---------------------------------------------------------------------------------

def goal(b, metric, cells, op, factor, ref, plus):
    """of the cell in which it is farthest from its goal: cell, value, bound, met"""
    found = []
    for cell in cells:
        v, r = b.value(cell, b.ours(), metric), b.reference(cell, ref, metric) if ref else 0
        if b.failed.get(cell, {}).get(b.ours()):
            found.append((math.inf, cell, None, None, False))
        elif v is not None and r is not None:
            bound = factor * r + plus
            high, low = (v, bound) if op[0] == "<" else (bound, v)
            off = high / low if low else math.inf if high else 1
            found.append((off, cell, v, bound, HOLDS[op](v, bound)))
    return max(found, key=lambda f: (not f[4], f[0]), default=None)


def goals(b):
    out = []
    for metric, cells, op, factor, ref, plus in GOALS:
        title, unit, _, _ = METRICS[metric]
        terms = [ref if factor == 1 else f"{factor:g} x {ref}"] if ref else []
        terms += [f"{plus:g} {unit}".strip()] if plus or not ref else []
        got = goal(b, metric, cells, op, factor, ref, plus)
        out.append({"metric": metric, "title": title, "goal": f"{op} {' + '.join(terms)}"}
                   | (dict(zip(("cell", "value", "bound", "met"), got[1:])) if got else {}))
    return out


def print_goals(b):
    print(f"\ngoals: {b.ours()} where it is farthest from each (floor: the game alone under {KERNEL})")
    for g in goals(b):
        verdict = {True: "met", False: "MISSED", None: "not measured"}[g.get("met")]
        got = f"{short(g['value'], 7):>8} of {short(g['bound'], 7):>8}  {g['cell'].removeprefix('side-'):10}" \
            if "value" in g else ""
        print(f"  {g['title']:36} {g['goal']:20} {got:32} {verdict}")


# ---- shapes --------------------------------------------------------------------------------

# shape, group, figure by patterns; for which --as; the figure must be at least (at most) that many times
# EEVDF's or SCHED_FIFO's, or that much. A cell's first row decides.
SHAPE_GOALS = [
    ("uncapped",      "game",    "fps",  "name env", ">= 2 eevdf, >= 0.8 fifo"),
    ("uncapped",      "load",    "share", "*",       ">= 10"),
    ("game-*",        "game",    "late", "name env", "<= 1"),
    ("desktop",       "game",    "late", "name env", "<= 0.2"),
    ("desktop",       "game",    "xruns|dropped", "name env", "<= 0"),
    ("*",             "game|second|frames", "fps",  "name env", ">= 0.9 fifo"),
    ("*",             "game|second|frames", "fps",  "stranger", ">= 1 eevdf"),
    ("*",             "game|second|frames", "late", "*", "<= 1 eevdf"),
    ("*",             "game|second|frames", "wake_p99_us", "*", "<= 1.2 eevdf"),
    ("requests",      "workers", "wake_p50_us", "*", "<= 1.05 eevdf"),
    ("*",             "task|reader|workers|audio|waker|interactive|browser", "wake_p50_us|wake_p95_us|wake_p99_us", "*",
     "<= 1.2 eevdf"),
    ("crowd50|timers8*", "others", "share", "*", ">= 0.9 eevdf"),
    ("idle4|idlenap", "idle",    "share", "*", "<= 5"),
    ("nice*|cgroups|nested|quota|pinned|idle4|idlenap|batch", "*", "share", "*", ">= 0.75 eevdf, <= 1.25 eevdf"),
    ("*",             "load",    "share", "name env", ">= 10"),
]
SHOWN = ("fps", "rate", "late", "wake_p50_us", "wake_p95_us", "wake_p99_us", "share")


def matches(text, pattern):
    return any(fnmatch.fnmatchcase(text, p) for p in pattern.split("|"))


class Shapes:
    """values[shape, group, figure][column] = one per seed; a column is a scheduler and how it knows the game"""

    def __init__(self, top):
        self.values, self.failed, self.columns, self.shapes = {}, {}, [], []
        self.seeds = sorted((d for d in os.listdir(top) if d.isdigit()), key=int)
        with open(os.path.join(top, "scheds"), encoding="utf-8") as f:
            self.scheds = [line.split("\t")[0] for line in f]
        for seed in self.seeds:
            for name in sorted(os.listdir(os.path.join(top, seed))):
                cell, _, rest = name.partition(".")
                sched, _, kind = rest.rpartition(".")
                shape, _, how = cell.partition("@")
                if not how or kind not in ("json", "failed"):
                    continue
                column = sched if sched in (KERNEL, REALTIME) else f"{sched} {how}"
                if column not in self.columns:
                    self.columns.append(column)
                if kind == "failed":
                    self.failed[shape, column] = open(os.path.join(top, seed, name), encoding="utf-8").read().strip()
                    continue
                for f in load(os.path.join(top, seed, name))["figures"]:
                    key = f["shape"], f["group"], f["figure"]
                    self.values.setdefault(key, {}).setdefault(column, []).append(f["value"])
        self.columns.sort(key=lambda c: (self.scheds.index(c.split()[0]), c))

    def value(self, key, column):
        values = self.values.get(key, {}).get(column)
        return statistics.median(values) if values else None

    def missed(self, key, column):
        """the goals that the cell misses; None: there is none for it"""
        how, v = column.partition(" ")[2], self.value(key, column)
        goals = next((g for shape, group, figure, as_, g in SHAPE_GOALS if matches(key[0], shape) and
                      matches(key[1], group) and matches(key[2], figure) and
                      (as_ == "*" or how in as_.split())), None) if how else None
        if goals is None or v is None:
            return None
        missed = []
        for goal_ in goals.split(", "):
            op, factor, *ref = goal_.split()
            base = self.value(key, ref[0]) if ref else 1
            if base is None:
                continue
            # what lies beside it by less than the lab's grain is no miss
            grain = 0.02 * abs(base * float(factor)) + {"late": 1, "fps": 0.5, "share": 0.2}.get(key[2], 5)
            bound = float(factor) * base + (grain if op == "<=" else -grain) * bool(ref)
            if not HOLDS[op](v, bound):
                missed.append(goal_)
        return missed

    def table(self):
        print(f"seeds {', '.join(self.seeds)}: medians; behind each the ratio to {KERNEL}'s; ! misses a goal (compare.py)\n")
        print(f"{'':38}" + "".join(f"{c:>20}" for c in self.columns))
        last, misses, judged = None, 0, 0
        for key in self.values:
            if key[2] not in SHOWN:
                continue
            line = f"{key[0] if key[0] != last else '':16}{key[1]:10} {key[2]:11}"
            last = key[0]
            for c in self.columns:
                v, missed = self.value(key, c), self.missed(key, c)
                judged += missed is not None
                misses += bool(missed)
                r = "" if c == KERNEL or v is None else ratio(v, self.value(key, KERNEL))
                line += f"{short(v, 7):>12} {r:>5} {'!' if missed else ' '}"
            print(line.rstrip())
        for (shape, column), why in self.failed.items():
            print(f"failed: {shape} under {column}: {why}")
        print(f"\n{misses} of {judged} figures with a goal miss it")

    def document(self):
        return {"v": 1, "what": "bench shapes", "seeds": self.seeds, "failed": [[*k, v] for k, v in self.failed.items()],
                "figures": [{"shape": k[0], "group": k[1], "figure": k[2], "column": c, "values": v,
                             "median": self.value(k, c), "missed": self.missed(k, c)}
                            for k, by in self.values.items() for c, v in by.items()]}


def main():
    args = argparse.ArgumentParser()
    what = args.add_mutually_exclusive_group(required=True)
    what.add_argument("--bench")
    what.add_argument("--shapes")
    args.add_argument("--json")
    args = args.parse_args()
    if args.shapes:
        b = Shapes(args.shapes)
        b.table()
        if args.json:
            with open(args.json, "w", encoding="utf-8") as f:
                json.dump(b.document(), f, indent=1)
        return
    b = Bench(args.bench)
    if not b.cells and not b.failed:
        sys.exit(f"compare.py: no results in {args.bench}")
    tables(b)
    print_goals(b)


main()
