#!/usr/bin/env python3
"""End-to-end tests of the page, in a real browser (Chromium, headless).   usage: page.py BIN_DIR [TEST...]"""
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, own_namespace, run_suite, wait  # noqa: E402

APP = "/service/loud"
OWN = "document.title='owned'"
LINES = (f'<img src=x onerror="{OWN}">', f"<script>{OWN}</script>", f"'\"><svg onload={OWN}>", f"<a href=\"javascript:{OWN}\">click</a>", "&lt;b&gt; stays as it is written")
RULE = f"path_beg -i /<img/src=x/onerror={OWN}>"


def shown(port, path="/"):
    """The page as it stands in the browser some seconds later, by the browser's own clock."""
    profile = tempfile.mkdtemp(prefix="croft-page-", dir="/var/tmp")
    try:
        done = subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--virtual-time-budget=5000",
                               "--dump-dom", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, timeout=90)
        assert done.returncode == 0 and "<html" in done.stdout, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
        return done.stdout
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def element(dom, name):
    """What stands between an element's tags; it has none of its own kind inside."""
    found = re.search(rf'<(\w+)[^>]* id="{name}"[^>]*>(.*?)</\1>', dom, re.S)
    assert found, (name, dom)
    return found.group(2)


def test_what_the_page_shows(farm):
    app = farm.fibonacci(2)
    farm.deploy(app)
    dom = shown(8080)
    assert "2 of 2" in element(dom, "apps") and app["id"] in element(dom, "apps") and element(dom, "apps").count("healthy") == 2, dom
    assert "reachable" in element(dom, "hosts") and "1 apps" in element(dom, "farm"), dom
    assert "No rules." in element(dom, "rules"), dom


def test_words_of_others_are_shown_and_not_run(farm):
    """S16: log lines and rules are whoever's who writes them; the page shows them as they are."""
    script = "import sys,time\nfor line in sys.argv[1:]: print(line, flush=True)\ntime.sleep(3600)"
    farm.deploy({"id": APP, "args": ["/usr/bin/python3", "-c", script, *LINES], "instances": 1, "cpus": 0.1, "mem": 64})
    farm.call("POST", "/api/services", {"id": "/not/there", "acl": RULE}, port=8000)
    query = {"query": {"term": {"app": APP}}}
    wait("the lines are found", lambda: farm.call("POST", "/logstash-*/_search", query, port=9200)[1]["hits"]["total"] in (len(LINES), {"value": len(LINES), "relation": "eq"}), 20)
    for port in (8080, 5601):
        dom = shown(port)
        logs, rules = element(dom, "logs"), element(dom, "rules")
        for line in LINES:
            assert html.escape(line, quote=False) in logs, (port, line, logs)
        if farm.get("/api/services", port=8000).get("/not/there"):
            assert html.escape(RULE, quote=False) in rules, (port, rules)
        for bad in ("<img", "<svg", "<script", "<a "):
            assert bad not in logs and bad not in rules, (port, bad)
        assert "<title>croft</title>" in dom, (port, "a line ran as code")


def test_the_page_makes_no_markup_of_text(farm):
    """Neither its code nor its policy would let a text become more than that."""
    response, script = farm.call("GET", "/croft.js")
    assert response == 200 and "textContent" in script
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert word not in script, word
    for port in (8080, 5601):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy, policy


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:])
