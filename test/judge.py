#!/usr/bin/env python3
"""judge.py FILE...: is each file one JSON document that makes sense?

A parser that is not gamer's own. What holds for every document: objects without a
doubled key, finite numbers, percentiles that do not fall. What holds by file name:
`status*` has no allocations after attach, `bench*` measured frames.
Prints nothing if all is well, else the first problem, with exit code 1.
"""
import json
import math
import os
import re
import sys


def fail(path, what):
    sys.exit(f"{os.path.basename(path)}: {what}")


def no_doubles(pairs):
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"doubled key in {keys}")
    return dict(pairs)


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def percentile(key):
    """p50 -> 0.50, p99_us -> 0.99, p999 and p99.9 -> 0.999, max -> 1; others None"""
    if key == "max" or key.startswith("max_"):
        return 1.0
    m = re.match(r"p(\d\d)[._]?(\d?)(_|$)", key)
    return float(f"0.{m.group(1)}{m.group(2)}") if m else None


def walk(path, where, node):
    if isinstance(node, dict):
        ranked = sorted((percentile(k), node[k]) for k in node
                        if percentile(k) is not None and isinstance(node[k], (int, float)))
        for (_, low), (rank, high) in zip(ranked, ranked[1:]):
            if low > high:
                fail(path, f"{where}: percentile {rank} falls from {low} to {high}")
        for key, value in node.items():
            walk(path, f"{where}.{key}", value)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            walk(path, f"{where}[{i}]", value)
    elif isinstance(node, float) and not math.isfinite(node):
        fail(path, f"{where} is {node}")


def find(node, key):
    """every value under that key, wherever it is"""
    if isinstance(node, dict):
        for k, v in node.items():
            if k == key:
                yield v
            yield from find(v, key)
    elif isinstance(node, list):
        for v in node:
            yield from find(v, key)


def judge(path):
    try:
        with open(path, encoding="utf-8") as f:
            doc = json.load(f, object_pairs_hook=no_doubles, parse_constant=no_constant)
    except (ValueError, OSError) as e:
        fail(path, e)
    walk(path, "", doc)
    name = os.path.basename(path)
    if doc.get("v") != 1:
        fail(path, 'no "v":1')
    if name.startswith("status") and list(find(doc, "allocations_after_attach")) != [0]:
        fail(path, "allocations_after_attach is not 0")
    if name.startswith("bench"):
        frames, fps = doc.get("frames", 0), doc.get("fps", 0)
        if not frames > 0 or not 0 < fps < 10000:
            fail(path, f"frames {frames}, fps {fps}")
        if not doc.get("frame_time_ms", {}).get("p50", 0) > 0:
            fail(path, "no frame time")


for arg in sys.argv[1:]:
    judge(arg)
