#!/usr/bin/env python3
"""Results of `gamer bench --json` side by side.

compare.py A.json B.json        two of them
compare.py --bench DIR [--json FILE] [--svg FILE]
                                all of `test.sh bench`: DIR/SEED/CELL.SCHED.json (.failed with
                                the reason where a cell has no figure): medians over the seeds
"""
import argparse
import glob
import json
import math
import os
import statistics
import sys

#     what                          where in the JSON          unit   is less better?
ROWS = [
    ("frames per second",           ("fps",),                   "",   False),
    ("1 % low",                     ("fps_low1",),              "",   False),
    ("frame time p50",              ("frame_time_ms", "p50"),   "ms", True),
    ("frame time p99",              ("frame_time_ms", "p99"),   "ms", True),
    ("frame time p99.9",            ("frame_time_ms", "p999"),  "ms", True),
    ("longest frame",               ("frame_time_ms", "max"),   "ms", True),
    ("frames woken > 500 us late",  ("jitter_percent",),        "%",  True),
    ("late frames",                 ("late_percent",),          "%",  True),
    ("input to screen p99",         ("input_present_ms", "p99"), "ms", True),
    ("audio dropouts",              ("audio_xruns",),           "",   True),
    ("work done by the load",       ("load", "hogs", "ops_per_s"), "/s", False),
]


def get(doc, path):
    for key in path:
        doc = doc.get(key) if isinstance(doc, dict) else None
    return doc


def load(name):
    with open(name, encoding="utf-8") as f:
        doc = json.load(f)
    if "late_frames" in doc:
        doc["late_percent"] = 100 * doc["late_frames"] / max(doc["frames"], 1)
    return doc


def two(names):
    docs = [load(n) for n in names]
    a, b = (d.get("scheduler", "?") for d in docs)
    print(f"{'':28} {a:>14} {b:>14}")
    for what, path, unit, less in ROWS:
        x, y = (get(d, path) for d in docs)
        if x is None or y is None:
            continue
        better = "" if x == y else "better" if (y < x) == less else "worse"
        print(f"{what:28} {x:14.2f} {y:14.2f} {unit:3} {better}".rstrip())


# ---- all of `test.sh bench` ----------------------------------------------------------------

KERNEL, OURS, FLOOR = "eevdf", "gamer", "floor"
CRITICAL = ("sim", "worker", "render", "submit", "compositor", "input", "audio", "network")
RANKS = ("p50", "p99", "p999", "max")


def worst(rank):
    """of the critical roles: the largest of their percentiles"""
    return lambda doc, _: max((get(doc, ("wakeup_us", role, rank)) or 0 for role in CRITICAL),
                              default=None) if "wakeup_us" in doc else None


def throughput(doc, base):
    """of all kinds of load, in % of what the kernel's own scheduler gave them: geometric mean"""
    rates = [(kind["ops_per_s"], get(base, ("load", name, "ops_per_s")) or 0)
             for name, kind in (doc.get("load") or {}).items()] if base else []
    if not rates or any(b <= 0 for _, b in rates):
        return None
    return 100 * math.prod(a / b for a, b in rates) ** (1 / len(rates))


def at(*path):
    return lambda doc, _: get(doc, path)


# key: title, unit, is less better?, from a cell's document and that of the kernel's scheduler
METRICS = {
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
    "time_s":     ("time", "s", True, at("time_s")),
    "rate":       ("requests", "/s", False, at("requests_per_s")),
    "p50_us":     ("latency p50", "us", True, at("p50_us")),
    "p99_us":     ("latency p99", "us", True, at("p99_us")),
    "p999_us":    ("latency p99.9", "us", True, at("p999_us")),
    "switches":   ("context switches", "/s", True, at("switches_per_s")),
    "wakeups":    ("wakeups", "/s", True, at("wakeups_per_s")),
    "timers":     ("timer interrupts", "/s", True, at("timers_per_s")),
    "ipis":       ("interrupts between CPUs", "/s", True, at("ipis_per_s")),
    "runs":       ("BPF program runs", "/s", True, at("bpf_runs_per_s")),
    "cost_ns":    ("BPF time per switch", "ns", True, at("bpf_ns_per_switch")),
    "cost_runs":  ("BPF runs per switch", "", True, at("bpf_runs_per_switch")),
}
GAME = list(METRICS)[:10]
SIDES = {   # cell: its metrics
    "messaging": ("time_s",), "pipe": ("time_s",), "fork": ("time_s",), "compile": ("time_s",),
    "schbench": ("p50_us", "p99_us", "p999_us", "rate"),
    "idle": ("switches", "wakeups", "timers", "ipis", "runs"),
    "cost": ("cost_ns", "cost_runs"),
}
LOADED = ("hogs", "fork", "pipe", "io", "mixed")

# metric, cells, what it must be compared with `factor` x a reference + `plus`:
# another column, or the best of the peers
GOALS = [
    ("jitter",     LOADED, "<=", 0, None, 0.2),
    ("jitter",     LOADED, "<=", 1, "best peer", 0),
    ("wake_p99",   LOADED, "<=", 1.5, FLOOR, 0),
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
    ("time_s",     ("side-messaging", "side-pipe", "side-fork", "side-compile"), "<=", 1.05, KERNEL, 0),
    ("wakeups",    ("side-idle",), "<=", 1, KERNEL, 5),
    ("cost_ns",    ("side-cost",), "<", 1, "best peer", 0),
]
HOLDS = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}


class Bench:
    """cells[cell][sched][metric] = values over the seeds; failed[cell][sched] = reasons"""

    def __init__(self, top):
        self.top, self.cells, self.roles, self.failed, self.runs = top, {}, {}, {}, 0
        self.versions = {}
        for path in sorted(glob.glob(os.path.join(top, "[0-9]*", "**", "versions"), recursive=True)):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    label, version = line.rstrip("\n").split("\t")
                    self.versions.setdefault(label, version)
        # A second round of a boot lies in a folder of its own: one more run.
        self.seeds = sorted(d for d in os.listdir(top) if d.isdigit())
        for seed in self.seeds:
            for folder in (os.path.join(top, seed), os.path.join(top, seed, "again")):
                if os.path.isdir(folder):
                    self.add(folder)

    def add(self, folder):
        self.runs += 1
        docs = {}
        for name in sorted(os.listdir(folder)):
            cell, _, rest = name.partition(".")
            sched, _, kind = rest.rpartition(".")
            path = os.path.join(folder, name)
            if kind == "failed":
                with open(path, encoding="utf-8", errors="replace") as f:
                    why = f.read().strip()
                self.failed.setdefault(cell, {}).setdefault(sched, []).append(why)
            elif kind == "json" and sched:
                docs[cell, sched] = load(path)
                longest = path.removesuffix("json") + "wait"
                if os.path.exists(longest):
                    docs[cell, sched]["longest"] = load(longest)
        for (cell, sched), doc in docs.items():
            figures = self.cells.setdefault(cell, {}).setdefault(sched, {})
            for key, (_, _, _, of) in METRICS.items():
                value = of(doc, docs.get((cell, KERNEL)))
                if value is not None:
                    figures.setdefault(key, []).append(value)
            for role in doc.get("wakeup_us", {}):
                for rank in RANKS:
                    value = get(doc, ("wakeup_us", role, rank))
                    if value is not None:
                        self.roles.setdefault((cell, sched), {}).setdefault(role, {}) \
                            .setdefault(rank, []).append(value)

    def scheds(self):
        """columns: the kernel's own, gamer and its variants, then the peers"""
        found = {s for by in (*self.cells.values(), *self.failed.values()) for s in by} - {FLOOR}
        order = list(self.versions)
        return sorted(found, key=lambda s: (order.index(s) if s in order else len(order), s))

    def ours(self):
        """the first column of a gamer: the one that is judged"""
        return next((s for s in self.scheds() if self.is_ours(s)), None)

    def is_ours(self, sched):
        return self.versions.get(sched, sched).startswith(OURS)

    def value(self, cell, sched, key):
        """the median; None where there is none, or where the scheduler failed in some seed"""
        if self.failed.get(cell, {}).get(sched):
            return None
        values = self.cells.get(cell, {}).get(sched, {}).get(key)
        return statistics.median(values) if values else None

    def best_peer(self, cell, key):
        less = METRICS[key][2]
        peers = [(v, s) for s in self.scheds() if s != KERNEL and not self.is_ours(s)
                 and (v := self.value(cell, s, key)) is not None]
        return (min if less else max)(peers, key=lambda p: p[0], default=(None, None))


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
    return short(a / b, 4) if a is not None and b else "-" if a is None or a or b is None else "="


def cell_text(b, cell, sched, key):
    bad = b.failed.get(cell, {}).get(sched)
    if bad:
        return f"failed {len(bad)}/{b.runs}"
    v = b.value(cell, sched, key)
    if sched == KERNEL or v is None:
        return f"{short(v):>5}     "
    return f"{short(v):>5} {ratio(v, b.value(cell, KERNEL, key)):>4}"


def table(b, title, rows):
    """rows: label, cell, metric"""
    rows = [r for r in rows if any(r[1] in x for x in (b.cells, b.failed))]
    columns = [s for s in b.scheds()
               if any(s in x.get(c, {}) for _, c, _ in rows for x in (b.cells, b.failed))]
    if not rows or not columns:
        return
    floor = any(b.value(c, FLOOR, k) is not None for _, c, k in rows)
    width = max(len(r[0]) for r in rows) + 1
    print(f"\n{title}")
    print(f"{'':{width}}" + "".join(f" {s[:10]:>10}" for s in columns)
          + (f" {'floor':>5}" if floor else "") + f" {'gamer/best peer':>9}")
    for label, cell, key in rows:
        best, who = b.best_peer(cell, key)
        last = f" {ratio(b.value(cell, b.ours(), key), best):>5} {who}" if who else ""
        print((f"{label:{width}}" + "".join(f" {cell_text(b, cell, s, key):>10}" for s in columns)
               + (f" {short(b.value(cell, FLOOR, key)):>5}" if floor else "") + last).rstrip())


def tables(b):
    games = [c for c in b.cells | b.failed if not c.startswith("side-")]
    games.sort(key=lambda c: ("none", *LOADED).index(c) if c in LOADED else -1)
    print(f"medians over {b.runs} runs; behind each figure its ratio to {KERNEL}'s")
    for label, version in b.versions.items():
        print(f"  {label:12} {version}")
    for key in GAME:
        title, unit, less, _ = METRICS[key]
        table(b, f"{title}{', ' + unit if unit else ''} ({'less' if less else 'more'} is better)",
              [(cell, cell, key) for cell in games])
    sides = [(f"{side} {METRICS[key][0]}, {METRICS[key][1]}".removesuffix(", "), "side-" + side, key)
             for side, keys in SIDES.items() for key in keys]
    table(b, "without a game", sides)
    if b.failed:
        print("\nfailed")
    for cell, by in b.failed.items():
        for sched, whys in by.items():
            print(f"  {cell} under {sched}: {whys[0]}")


def goal(b, metric, cells, op, factor, ref, plus):
    """the cell that is worst: (how far from the bound, cell, value, bound); None: not measured"""
    found = []
    for cell in cells:
        v = b.value(cell, b.ours(), metric)
        r = 0 if ref is None else b.best_peer(cell, metric)[0] if ref == "best peer" \
            else b.value(cell, ref, metric)
        if b.failed.get(cell, {}).get(b.ours()):
            found.append((math.inf, cell, None, None, False))
        elif v is not None and r is not None:
            bound = factor * r + plus
            off = (v / bound if op[0] == "<" else bound / v if v else math.inf) if bound \
                else math.inf if v else 0
            found.append((off, cell, v, bound, HOLDS[op](v, bound)))
    return max(found, key=lambda f: (not f[4], f[0]), default=None)


def goals(b):
    out = []
    for metric, cells, op, factor, ref, plus in GOALS:
        title, unit, _, _ = METRICS[metric]
        bound = " + ".join(p for p in ((f"{factor:g} x {ref}" if factor != 1 else str(ref)) if ref else "",
                                       f"{plus:g} {unit}".strip() if plus or not ref else "") if p)
        got = goal(b, metric, cells, op, factor, ref, plus)
        out.append({"metric": metric, "title": title, "goal": f"{op} {bound}",
                    **({"cell": got[1], "value": got[2], "bound": got[3], "met": got[4]} if got else {})})
    return out


def print_goals(b):
    print(f"\ngoals, each by the load in which {b.ours()} is farthest from it")
    for g in goals(b):
        verdict = {True: "met", False: "MISSED", None: "not measured"}[g.get("met")]
        what = f"{short(g['value'], 7):>8} of {short(g['bound'], 7):>8}  {g['cell'].removeprefix('side-'):10}" \
            if g.get("value") is not None else f"{'':32}"
        print(f"  {g['title']:38} {g['goal']:22} {what} {verdict}")


def document(b):
    def of(cell, sched):
        if b.failed.get(cell, {}).get(sched):
            return {"failed": b.failed[cell][sched]}
        doc = {key: {"median": statistics.median(v), "values": v}
               for key, v in b.cells.get(cell, {}).get(sched, {}).items()}
        roles = {role: {rank: statistics.median(v) for rank, v in ranks.items()}
                 for role, ranks in b.roles.get((cell, sched), {}).items()}
        return doc | ({"roles": roles} if roles else {})
    return {"v": 1, "what": "bench matrix", "runs": b.runs, "seeds": b.seeds, "schedulers": b.versions,
            "units": {key: m[1] for key, m in METRICS.items()},
            "cells": {cell: {s: of(cell, s) for s in (*b.scheds(), FLOOR)
                             if any(s in x.get(cell, {}) for x in (b.cells, b.failed))}
                      for cell in b.cells | b.failed},
            "goals": goals(b)}


def main():
    if sys.argv[1:2] != ["--bench"]:
        two(sys.argv[1:3])
        return
    args = argparse.ArgumentParser()
    args.add_argument("--bench")
    args.add_argument("--json")
    args.add_argument("--svg")
    args = args.parse_args()
    b = Bench(args.bench)
    if not b.cells and not b.failed:
        sys.exit(f"compare.py: no results in {args.bench}")
    tables(b)
    print_goals(b)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(document(b), f, indent=1)


main()
