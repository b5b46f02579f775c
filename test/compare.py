#!/usr/bin/env python3
"""compare.py A.json B.json: two results of `gamer bench --json` side by side."""
import json
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


docs = []
for name in sys.argv[1:3]:
    with open(name, encoding="utf-8") as f:
        doc = json.load(f)
    doc["late_percent"] = 100 * doc["late_frames"] / max(doc["frames"], 1)
    docs.append(doc)
print(f"{'':28} {docs[0].get('scheduler', 'without'):>14} {docs[1].get('scheduler', 'gamer'):>14}")
for what, path, unit, less in ROWS:
    a, b = (get(d, path) for d in docs)
    if a is None or b is None:
        continue
    better = "" if a == b else "better" if (b < a) == less else "worse"
    print(f"{what:28} {a:14.2f} {b:14.2f} {unit:3} {better}")
