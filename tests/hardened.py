#!/usr/bin/env python3
"""Looks at the programs that ship, and at how each of their objects was compiled: position independent, read-only relocations bound at the start, no executable stack, guarded stacks, checked copies, nothing left unset.
usage: hardened.py BIN_DIR, as in build/release/bin"""
import json
import os
import re
import shlex
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The last word of each kind counts; what comes later and says less undoes it.
WANTED = {"-fstack-protector": "-fstack-protector-strong", "-fstack-clash-protection": "-fstack-clash-protection", "-fcf-protection": "-fcf-protection", "-ftrivial-auto-var-init": "-ftrivial-auto-var-init=zero",
          "_FORTIFY_SOURCE": "-D_FORTIFY_SOURCE=3", "-O": "-O[123s]", "-f[pP][iI][cCeE]": "-f(PIC|PIE|pic|pie)"}  # without an optimizer nothing is fortified


def said(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wrong_with(program, static):
    header, segments, symbols = said("readelf", "-hW", program), said("readelf", "-lW", program), said("readelf", "-sW", program)
    dynamic = said("readelf", "-dW", program)
    imported = set(re.findall(r" UND (__\w+)(?:@| )", symbols))
    there = set(re.findall(r"\b_?(__\w+_chk)\b", symbols))
    facts = {
        "is position independent": "DYN" in re.search(r"Type:.*", header)[0],
        "has read-only relocations": "GNU_RELRO" in segments,
        "binds them at the start": static or "BIND_NOW" in dynamic or re.search(r"FLAGS.*\bNOW\b", dynamic) is not None,
        "is static" if static else "is dynamic": ("INTERP" not in segments) == static,
        "has no executable stack": re.search(r"GNU_STACK.*RWE", segments) is None and "GNU_STACK" in segments,
        "has no segment that is written and run": re.search(r"LOAD.*RWE", segments) is None,
        "guards its stacks": "__stack_chk_fail" in (symbols if static else imported),
        "checks copies of several kinds": len(there) >= 4 and (static or len({name for name in imported if name.endswith("_chk")}) >= 5),
        "needs no library from an odd place": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
    }
    return [what for what, good in facts.items() if not good]


def lacks(words):
    """What of WANTED a compiler's command line does not end up with."""
    out = []
    for kind, wanted in WANTED.items():
        last = [w for w in words if re.match("-[DU]_FORTIFY_SOURCE" if kind == "_FORTIFY_SOURCE" else kind, w) or (kind[:2] == "-f" and w.startswith("-fno-" + kind[2:]))][-1:]
        if not last or not re.fullmatch(wanted, last[0]):
            out.append(wanted)
    return out


def sources_of(entry):
    """A unity file stands for the sources that it includes."""
    if "/Unity/" not in entry["file"]:
        return {entry["file"]}
    with open(entry["file"]) as f:
        return set(re.findall(r'^#include "(.+)"', f.read(), re.M))


def wrong_with_objects(build):
    """Every C and C++ object of the build, and that every source of src/ but those of tests, benchmarks and fuzzers, is in one."""
    with open(build + "/compile_commands.json") as f:
        entries = [e for e in json.load(f) if e["file"].startswith((build + "/src/", os.path.realpath(TOP) + "/src/"))]
    wrong, seen = [], set()
    for entry in entries:
        missing = lacks(shlex.split(entry["command"]))
        seen |= {os.path.realpath(s) for s in sources_of(entry)}
        if missing:
            wrong.append(f"{os.path.relpath(entry['file'], build)}: without {' '.join(missing)}")
    ours = {os.path.realpath(os.path.join(TOP, path)) for path in said("git", "-C", TOP, "ls-files", "src").split() if path.endswith((".cpp", ".c")) and not re.search("/(tests|bench|fuzz|integration)/", path)}
    wrong += [f"{os.path.relpath(path, TOP)}: is compiled into nothing here" for path in sorted(ours - seen)]
    print(f"{len(entries)} objects of {len(seen)} sources")
    return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bad = False
    for name, static in (("croft", False), ("croft-executor", True)):
        wrong = wrong_with(os.path.join(sys.argv[1], name), static)
        bad = bad or wrong
        print(f"{name}: {'hardened' if not wrong else 'WRONG, not: ' + '; '.join(wrong)}")
    wrong = wrong_with_objects(os.path.dirname(os.path.abspath(sys.argv[1])))
    print("\n".join("WRONG: " + w for w in wrong) or "each was compiled with all that hardens it")
    sys.exit(1 if bad or wrong else 0)


if __name__ == "__main__":
    main()
