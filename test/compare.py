#!/usr/bin/env python3
"""Results of `gamer bench --json` side by side.

compare.py A.json B.json        two of them
compare.py --medians DIR        DIR/SEED/LOAD.SCHED.json: medians over the seeds, a table per load
"""
import glob
import json
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


CRITICAL = ("sim", "worker", "render", "submit", "compositor", "input", "audio", "network")


def load(name):
    with open(name, encoding="utf-8") as f:
        doc = json.load(f)
    doc["late_percent"] = 100 * doc["late_frames"] / max(doc["frames"], 1)
    return doc


def table(a, b, names, rows):
    """a, b: row -> figure or None"""
    print(f"{'':28} {names[0]:>14} {names[1]:>14}")
    for what, unit, less in rows:
        x, y = a[what], b[what]
        if x is None or y is None:
            continue
        better = "" if x == y else "better" if (y < x) == less else "worse"
        print(f"{what:28} {x:14.2f} {y:14.2f} {unit:3} {better}".rstrip())


def two(names):
    docs = [load(n) for n in names]
    figures = [{what: get(d, path) for what, path, _, _ in ROWS} for d in docs]
    table(*figures, [d.get("scheduler", "?") for d in docs],
          [(what, unit, less) for what, _, unit, less in ROWS])


def medians(top):
    runs = {}           # load -> sched -> [doc]
    for name in sorted(glob.glob(os.path.join(top, "*", "*.json"))):
        kind, sched = os.path.basename(name).split(".")[:2]
        runs.setdefault(kind, {}).setdefault(sched, []).append(load(name))
    rows = [(what, path, unit, less) for what, path, unit, less in ROWS if path[0] != "load"]
    for role in CRITICAL:
        for rank in ("p99", "p999", "max"):
            rows.append((f"{role} wakeup {rank}", ("wakeup_us", role, rank), "us", True))
    for kind, by in runs.items():
        extra = [(f"{k} done", ("load", k, "ops_per_s"), "/s", False)
                 for k in next(iter(by.values()))[0]["load"]]
        out = {}
        for sched, docs in by.items():
            out[sched] = {}
            for what, path, _, _ in rows + extra:
                values = [v for v in (get(d, path) for d in docs) if v is not None]
                out[sched][what] = statistics.median(values) if values else None
        print(f"\nload {kind}, medians of {len(docs)} seeds")
        table(*(out[s] for s in sorted(out)), sorted(out),
              [(what, unit, less) for what, _, unit, less in rows + extra])


if sys.argv[1] == "--medians":
    medians(sys.argv[2])
else:
    two(sys.argv[1:3])
