"""Runs the shell blocks of a Markdown page in one bash, in order, and compares what they print with the text blocks below them."""
import os
import re
import subprocess
import tempfile


class Block:
    def __init__(self, line, command):
        self.line, self.command, self.expected = line, command, None


def blocks_of(path, form):
    """The page's blocks for `form`. `<!-- only: FORM FORM -->` before a block keeps it for those forms; a text block belongs to every block of commands since the last one."""
    blocks, waiting, only, lines = [], [], None, open(path).read().split("\n")
    at = 0
    while at < len(lines):
        mark = re.fullmatch(r"<!-- only: ([\w ]+) -->", lines[at].strip())
        fence = re.fullmatch(r"```(\w*)", lines[at])
        if mark:
            only = mark.group(1).split()
        elif fence:
            begin = at + 1
            at = lines.index("```", begin)
            body = "\n".join(lines[begin:at])
            mine = only is None or form in only
            if fence.group(1) == "sh" and mine:
                blocks.append(Block(begin, body))
                waiting.append(blocks[-1])
            elif fence.group(1) == "text" and mine:
                assert waiting, f"{path}:{begin}: belongs to no commands"
                waiting[-1].expected = body
                waiting = []
            only = None
        elif lines[at].strip():
            only = None
        at += 1
    return blocks


def matches(expected, printed):
    """`…` stands for anything in a line, a line of … alone for any number of lines; runs of spaces count as one."""
    def pattern(line):
        words = re.sub(r"\s+", " ", line.strip())
        return re.compile(re.escape(words).replace("…", ".*").replace(r"\ ", " +") + r" *")

    wanted = [None if line.strip() == "…" else pattern(line) for line in expected.split("\n")]
    lines = printed.removesuffix("\n").split("\n") if printed else []
    # Line by line, where each of the places that the expected ones can have come to is known: one expression for all of it may take for ever to fail.
    places = {0}
    for line in lines:
        places = closed(places, wanted)
        places = {at if wanted[at] is None else at + 1 for at in places if at < len(wanted) and (wanted[at] is None or wanted[at].fullmatch(line))}
    return len(wanted) in closed(places, wanted)


def closed(places, wanted):
    """With those that are reached by passing over lines of … alone."""
    out = set(places)
    for at in places:
        while at < len(wanted) and wanted[at] is None:
            at += 1
            out.add(at)
    return out


def walk(path, form, folder, env):
    """Runs the page. Raises AssertionError with file and line at the first block that fails or prints something else. The number of blocks."""
    blocks = blocks_of(path, form)
    assert blocks, f"{path}: has no blocks of commands"
    with tempfile.TemporaryDirectory() as scratch:
        errors = scratch + "/stderr"
        script = "set -euo pipefail\nexec 2>>" + errors + "\n"
        for number, block in enumerate(blocks):
            script += f"{block.command}\nprintf '\\n@@ %d\\n' {number}\n"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder, env=env, timeout=600)
        said = open(errors).read() if os.path.exists(errors) else ""
    rest = done.stdout
    for number, block in enumerate(blocks):
        printed, mark, rest = rest.partition(f"\n@@ {number}\n")
        assert mark, f"{path}:{block.line}: the commands failed with {done.returncode}\n{printed}\n{(done.stderr + said)[-2000:]}"
        if block.expected is not None:
            assert matches(block.expected, printed), f"{path}:{block.line}: printed\n{printed}\nand not\n{block.expected}\n{said[-1000:]}"
    return len(blocks)
