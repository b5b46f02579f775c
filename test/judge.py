#!/usr/bin/env python3
"""judge.py FILE...: is each file one JSON document that makes sense?
judge.py --roles CHECK FILE...: is right what gamer took bench's threads for, and how soon did it know?

A parser that is not gamer's own. What holds for every document: objects without a
doubled key, finite numbers, percentiles that do not fall. What holds by file name:
`status*` has no allocations after attach and the low fps of its frames, `bench*` measured frames, `trace*` is a Chrome trace
whose tracks have names and whose slices nest; `*.jsonl` is a stream of events, a document a
line, each with the fields that its type has.
Prints nothing (or that, in a line) if all is well, else the first problem, with exit code 1.

Roles: of evidence by a hook (its source is the hook's name) everything must be right, and
within 1 ms of the first event (know_outside has too much load to tell). A check named for the
pattern must be right for 95 % of its threads within 100 wakeups. Of the roles that are told with a
confidence of 90 or more, at least 90 % are right. Threads outside the game have no role of a game
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


def judge_trace(path, doc):
    """what Perfetto needs of a Chrome trace, and what gamer promises of its own"""
    events = doc["traceEvents"]
    names = {(e["name"], e["pid"], e["tid"]) for e in events if e["ph"] == "M"}
    slices = {}
    for e in events:
        where = f"{e['ph']} {e['name']} of {e['pid']}/{e['tid']}"
        if e["ph"] not in "MXiC":
            fail(path, f"{where}: unknown phase")
        if e["ph"] == "M":
            continue
        if not e["ts"] >= 0:
            fail(path, f"{where} at {e['ts']}")
        if ("process_name", e["pid"], 0) not in names:
            fail(path, f"{where}: its process has no name")
        if e["ph"] in "Xi" and e["tid"] and ("thread_name", e["pid"], e["tid"]) not in names:
            fail(path, f"{where}: its track has no name")
        if e["ph"] == "C" and not all(isinstance(v, (int, float)) for v in e["args"].values()):
            fail(path, f"{where} counts {e['args']}")
        if e["ph"] == "X":
            slices.setdefault((e["pid"], e["tid"]), []).append((e["ts"], e["ts"] + e["dur"]))
            if not e["dur"] >= 0:
                fail(path, f"{where} takes {e['dur']}")
    for track, spans in slices.items():
        for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:]):
            if start < end - 0.0015:  # of both ends, rounded
                fail(path, f"slices of track {track} overlap at {start}")


def judge_low(path, frame):
    """1 % low as MangoHud's fps_metrics has it, where the document has the times of all frames"""
    times = sorted(frame["times_us"])
    for key, part in ("low1_fps", 100), ("low01_fps", 1000):
        us = times[-max(len(times) // part, 1)]
        if not 1e6 / (us + 1) - 0.06 <= frame[key] <= 1e6 / us + 0.06:
            fail(path, f"{key} {frame[key]}, but that frame of {len(times)} took {us} us")


def judge(path):
    try:
        with open(path, encoding="utf-8") as f:
            doc = json.load(f, object_pairs_hook=no_doubles, parse_constant=no_constant)
    except (ValueError, OSError) as e:
        fail(path, e)
    walk(path, "", doc)
    name = os.path.basename(path)
    if name.startswith("trace"):
        judge_trace(path, doc)
        return
    if not isinstance(doc, dict) or doc.get("v") != 1:
        fail(path, 'no "v":1')
    if name.startswith("status") and list(find(doc, "allocations_after_attach")) != [0]:
        fail(path, "allocations_after_attach is not 0")
    frame = doc.get("frame", {})
    if name.startswith("status") and 0 < len(frame.get("times_us", [])) < 240:
        judge_low(path, frame)
    if name.startswith("bench"):
        told = {f["figure"]: f["value"] for f in doc["figures"] if f["group"] == "game"}
        if not 0 < told["fps"] < 10000 or not 0 < told["frame_p50_ms"] <= told["frame_p99_ms"] <= told["frame_max_ms"]:
            fail(path, f"frames: {told}")


CPUS = range(512)
TIME = range(1, 1 << 63)
NS32 = range(1, 1 << 32)
ROLES = "none input audio gpu render compositor network physics worker cpu_bound background".split()
SOURCES = "none name learned doorbell pattern network audio input gpu wine".split()
CLASSES = "other game compositor audio wineserver".split()
# what each event has: what its fields may be; "?" before a name: it may lack it
EVENTS = {
    "input": {"cpu": CPUS, "kind": ["mouse", "keyboard", "gamepad", "touch"],
              "what": ["motion", "press", "release"]},
    "game": {"?cpu": CPUS, "?tid": TIME, "pid": TIME, "?role": ROLES,
             "what": ["name", "gpu", "input", "flip", "audio", "chosen", "gone"], "?comm": None},
    "frame_timing": {"cpu": CPUS, "?tid": TIME, "?pid": TIME, "role": ["gpu"], "source": ["cadence", "flip"],
                     "?interval_us": NS32, "?submit_to_present_us": NS32, "?compositor_us": NS32,
                     "dropped": range(1 << 32), "missed": [0, 1]},
    "gpu_submit": {"cpu": CPUS, "tid": TIME, "pid": TIME, "role": ROLES, "?gap_us": NS32, "driver": None,
                   "request": range(256), "primary": [0, 1]},
    "migration": {"cpu": CPUS, "tid": TIME, "pid": TIME, "?role": ROLES, "from": CPUS,
                  "reason": ["kernel", "idle", "preempt", "handoff", "queue", "steal", "pinned"],
                  "distance": ["core", "cache", "far"], "wait_us": range(1 << 32)},
    "classification": {"cpu": CPUS, "tid": TIME, "pid": TIME, "?role": ROLES, "old_role": ROLES,
                       "source": SOURCES, "confidence": range(101), "class": CLASSES},
    "deadline_miss": {"cpu": CPUS, "tid": TIME, "pid": TIME, "role": ROLES, "expected_ns": TIME,
                      "actual_ns": TIME, "amount_us": range(1 << 32)},
    "run": {"cpu": CPUS, "tid": TIME, "pid": TIME, "?role": ROLES, "?comm": None, "run_us": None},
    "lost": {"type": None, "count": TIME},
}


def judge_event(path, number, text):
    """one line of an event stream"""
    try:
        doc = json.loads(text, object_pairs_hook=no_doubles, parse_constant=no_constant)
    except ValueError as e:
        fail(path, f"line {number}: {e}: {text!r}")
    if doc.get("v") != 1 or doc.get("at_ns") not in TIME:
        fail(path, f"line {number}: no v or at_ns: {text!r}")
    if "command" in doc:
        return
    fields = EVENTS.get(doc.get("event"), {})
    allowed = {k.lstrip("?"): v for k, v in fields.items()} | {"v": [1], "event": EVENTS, "at_ns": TIME}
    missing = [k for k in fields if k[0] != "?" and k not in doc]
    wrong = [k for k, v in doc.items() if k not in allowed or allowed[k] is not None and v not in allowed[k]]
    if missing or wrong:
        fail(path, f"line {number}: lacks {missing}, strange {wrong}: {text!r}")
    if doc["event"] == "migration" and doc["from"] == doc["cpu"]:
        fail(path, f"line {number}: moved to where it was: {text!r}")
    if doc["event"] == "deadline_miss" and not \
            0 <= doc["actual_ns"] - doc["expected_ns"] - doc["amount_us"] * 1000 < 1000:
        fail(path, f"line {number}: the times do not fit: {text!r}")


def judge_stream(path):
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    if len(lines) < 2:
        fail(path, "no event")
    for number, text in enumerate(lines, 1):
        judge_event(path, number, text)


EXACT = {"submit": "gpu", "input": "input", "network": "network"}  # kind of thread: hook
HARMLESS = ("none", "cpu_bound", "background")


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
        if t["source"] in EXACT.values() and check != "know_outside" and t["us"] > 1000:
            fail(path, f"{who}, {t['us']:.0f} us after the first event")


def judge_roles(check, paths):
    threads = []
    docs = {p: json.load(open(p, encoding="utf-8")) for p in paths}
    for path, doc in docs.items():
        if "roles" not in doc:
            fail(path, "bench got no answer from gamer")
        for role, n in doc["roles"]["outside"].items():
            if n and role not in HARMLESS:
                fail(path, f"{n} thread(s) outside the game are {role}")
        if "pattern" not in check:
            roles_exact(check, path, doc)
        threads += doc["roles"]["threads"]
    def told(some):
        return ", ".join(f"{t['thread']} is {t['found']} by {t['source']} after {t['wakeups']} wakeups" for t in some)
    late = [t for t in threads if t["found"] != t["truth"] or t["wakeups"] > 100]
    sure = [t for t in threads if t["confidence"] >= 90]
    wrong = [t for t in sure if t["found"] != t["truth"]]
    if "pattern" in check and len(late) > 0.05 * len(threads):
        sys.exit(f"{len(late)} of {len(threads)} threads are not right within 100 wakeups: {told(late)}")
    if not sure or len(wrong) > len(sure) / 10:
        sys.exit(f"{len(wrong)} of {len(sure)} roles told with a confidence of 90 or more are wrong: {told(wrong)}")
    right = [t for t in threads if t["found"] == t["truth"]]
    print(f"{check}: {len(right)} of {len(threads)} threads right, after {max((t['wakeups'] for t in right), default=0)} wakeups at most")


if sys.argv[1:2] == ["--roles"]:
    judge_roles(sys.argv[2], sys.argv[3:])
else:
    for arg in sys.argv[1:]:
        judge_stream(arg) if arg.endswith(".jsonl") else judge(arg)
