#!/usr/bin/env python3
"""Looks at the programs that ship: position independent, read-only relocations bound at the start, no executable stack, guarded stacks, checked copies.   usage: hardened.py BIN_DIR"""
import os
import re
import subprocess
import sys


def said(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wrong_with(program, static):
    header, segments, symbols = said("readelf", "-hW", program), said("readelf", "-lW", program), said("readelf", "-sW", program)
    dynamic = said("readelf", "-dW", program)
    facts = {
        "is position independent": "DYN" in re.search(r"Type:.*", header)[0],
        "has read-only relocations": "GNU_RELRO" in segments,
        "binds them at the start": static or "BIND_NOW" in dynamic or re.search(r"FLAGS.*\bNOW\b", dynamic) is not None,
        "is static" if static else "is dynamic": ("INTERP" not in segments) == static,
        "has no executable stack": re.search(r"GNU_STACK.*RWE", segments) is None and "GNU_STACK" in segments,
        "has no segment that is written and run": re.search(r"LOAD.*RWE", segments) is None,
        "guards its stacks": "__stack_chk_fail" in symbols,
        "checks copies": re.search(r"__\w+_chk\b", symbols) is not None,
        "needs no library from an odd place": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
    }
    return [what for what, good in facts.items() if not good]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bad = False
    for name, static in (("croft", False), ("croft-executor", True)):
        wrong = wrong_with(os.path.join(sys.argv[1], name), static)
        bad = bad or wrong
        print(f"{name}: {'hardened' if not wrong else 'WRONG, not: ' + '; '.join(wrong)}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
