#!/usr/bin/env python3
"""Results of `gamer-bench --shape --json` side by side.

compare.py DIR [--json FILE]
    all of `test.sh bench-shapes`: DIR/SEED/SHAPE@AS.SCHED.json (.failed with the reason where a cell has
    no figure): medians over the seeds
"""
import argparse
import fnmatch
import json
import operator
import os
import statistics


def load(name):
    with open(name, encoding="utf-8") as f:
        return json.load(f)


KERNEL, REALTIME = "eevdf", "fifo"
HOLDS = {"<=": operator.le, ">=": operator.ge}


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


# shape, group, figure by patterns; for which --as; the figure must be at least (at most) that many times
# EEVDF's or SCHED_FIFO's, or that much. A cell's first row decides.
SHAPE_GOALS = [
    ("uncapped",      "game",    "fps",  "name env", ">= 2 eevdf, >= 0.8 fifo"),
    ("uncapped",      "load",    "share", "*",       ">= 10"),
    ("game-*",        "game",    "late", "name env", "<= 1"),
    ("desktop*",      "game",    "late", "name env", "<= 0.2"),
    ("desktop*",      "game",    "xruns|dropped", "name env", "<= 0"),
    ("desktop-fork|desktop-pipe|desktop-io", "*", "rate", "*", ">= 0.95 eevdf"),   # a mixture is shared out anew
    ("forks|pipes",   "tasks",   "rate", "*",         ">= 0.95 eevdf"),
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
SHOWN = ("fps", "rate", "late", "xruns", "dropped", "wake_p50_us", "wake_p95_us", "wake_p99_us", "share")
DESKTOP_THREADS = "sim worker render submit input audio network compositor".split()  # of "game" the table has the worst


def matches(text, pattern):
    return any(fnmatch.fnmatchcase(text, p) for p in pattern.split("|"))


def desktop_thread(key):
    return key[0].startswith("desktop") and key[1] in DESKTOP_THREADS


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
                      (as_ == "*" or how in as_.split())), None) if how and not desktop_thread(key) else None
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
            if key[2] not in SHOWN or desktop_thread(key):
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
    args.add_argument("top")
    args.add_argument("--json")
    args = args.parse_args()
    b = Shapes(args.top)
    b.table()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(b.document(), f, indent=1)


main()
