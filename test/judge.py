#!/usr/bin/env python3
"""judge.py FILE...: is each file one JSON document that makes sense?
judge.py --roles CHECK FILE...: what gamer took bench's threads for, as tables, and is it right?

A parser that is not gamer's own. What holds for every document: objects without a
doubled key, finite numbers, percentiles that do not fall. What holds by file name:
`status*` has no allocations after attach, `bench*` measured frames.
Prints nothing (or the tables) if all is well, else the first problem, with exit code 1.

Roles: of evidence by a hook (its source is the hook's name) everything must be right, and
within 1 ms of the first event (know_outside has too much load to tell), unless gamer came
later than that (`.late.` in the file's name). A check named for the pattern must be right
for 95 % of its threads within 100 wakeups. Threads outside the game have no role of a game
in any of them.
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


EXACT = {"submit": "gpu", "input": "input", "network": "network"}  # kind of thread: hook
HARMLESS = ("none", "cpu_bound", "background")


def roles_table(path, roles):
    """confusion matrix: a row per kind of thread, a column per role"""
    columns = list(roles["outside"])
    print(f"{os.path.basename(path).removesuffix('.json'):22}"
          + "".join(f"{c[:4]:>5}" for c in columns) + "  right  source      after us wakeups")
    for kind in dict.fromkeys(t["thread"] for t in roles["threads"]):
        ours = [t for t in roles["threads"] if t["thread"] == kind]
        found = [t["found"] for t in ours]
        right = sum(t["found"] == t["truth"] for t in ours)
        print(f"  {kind:20}" + "".join(f"{found.count(c) or '.':>5}" for c in columns)
              + f"{right:>4}/{len(ours):<3} {'/'.join(sorted({t['source'] or '-' for t in ours})):10}"
              + f"{max(t['us'] or 0 for t in ours):>10.0f}{max(t['wakeups'] for t in ours):>8}")
    print(f"  {'outside':20}" + "".join(f"{n or '.':>5}" for n in roles["outside"].values()))


def roles_exact(check, path, doc):
    """hooks: whoever has a device must be known by its hook, at once (or by its name before)
    and nobody else; how late is not judged where other work may come between event and hook"""
    real = {"submit": doc["config"]["gpu"] != "timer", "input": doc["config"]["input"] == "uinput",
            "network": doc["config"]["network"] == "udp"}
    for t in doc["roles"]["threads"]:
        who = f"{t['thread']} is {t['found']} by {t['source'] or 'nothing'}"
        if real.get(t["thread"]) and (t["found"], t["source"]) != (t["truth"], EXACT[t["thread"]]):
            fail(path, who)
        if t["source"] in EXACT.values() and t["found"] != t["truth"]:
            fail(path, who)
        if t["source"] in EXACT.values() and check != "know_outside" and ".late." not in path \
                and t["us"] > 1000:
            fail(path, f"{who}, {t['us']:.0f} us after the first event")


def judge_roles(check, paths):
    good = total = 0
    docs = {p: json.load(open(p, encoding="utf-8")) for p in paths}
    for path, doc in docs.items():
        if "roles" not in doc:
            fail(path, "bench got no answer from gamer")
        roles_table(path, doc["roles"])
    for path, doc in docs.items():
        for role, n in doc["roles"]["outside"].items():
            if n and role not in HARMLESS:
                fail(path, f"{n} thread(s) outside the game are {role}")
        if "pattern" not in check:
            roles_exact(check, path, doc)
        for t in doc["roles"]["threads"]:
            total += 1
            good += t["found"] == t["truth"] and t["wakeups"] <= 100
    if "pattern" in check and good < 0.95 * total:
        sys.exit(f"{good} of {total} threads are right within 100 wakeups")


if sys.argv[1:2] == ["--roles"]:
    judge_roles(sys.argv[2], sys.argv[3:])
else:
    for arg in sys.argv[1:]:
        judge(arg)
