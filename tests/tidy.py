#!/usr/bin/env python3
"""Checks what no compiler does: the arrows between modules, READMEs, file lengths."""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS = {
    "base": "", "model": "base", "secure": "base", "net": "base secure", "gate": "base secure net", "coordination": "base secure net", "cluster": "base model net coordination", "catalog": "base model net",
    "orchestrator": "base model secure cluster catalog net coordination", "executor": "", "agent": "base model net", "balancer": "base model secure net catalog",
    "discovery": "base model net catalog", "logs": "base secure net", "console": "base net", "cli": "base model secure net",
    "sim": "base model coordination cluster catalog orchestrator agent",
}
wrong = []
files = subprocess.run(["git", "ls-files", "src"], cwd=TOP, capture_output=True, text=True, check=True).stdout.split()
for path in files:
    parts = path.split("/")
    if not path.endswith((".cpp", ".hpp")) or len(parts) < 3:
        continue
    module, allowed = parts[1], set(ROWS[parts[1]].split()) | {parts[1]}
    with open(os.path.join(TOP, path)) as f:
        lines = f.read().split("\n")
    if "/tests/" not in path:
        for number, line in enumerate(lines, 1):
            m = re.match(r'#include "(\w+)/', line)
            if m and m.group(1) in ROWS and m.group(1) not in allowed:
                wrong.append(f"{path}:{number}: {module} must not use {m.group(1)}")
    if len(lines) > 701:
        wrong.append(f"{path}: {len(lines)} lines; split it along an idea")
for module in ROWS:
    folder = os.path.join(TOP, "src", module)
    has_code = any(p.startswith(f"src/{module}/") and p.endswith(".cpp") for p in files)
    if has_code and not os.path.exists(os.path.join(folder, "README.md")):
        wrong.append(f"src/{module}: has no README.md")
print("\n".join(wrong) if wrong else f"{len(files)} files, {len(ROWS)} modules: in order")
sys.exit(1 if wrong else 0)
