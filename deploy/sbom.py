#!/usr/bin/env python3
"""The bill of materials of croft's programs, as SPDX 2.3: the Debian packages whose libraries they load, and those that they were compiled from.
usage: sbom.py VERSION PROGRAM... > croft.spdx.json"""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
from urllib.parse import quote


def said(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout


def loaded(program):
    """Packages of the libraries that a program loads."""
    out = set()
    for path in re.findall(r"=> (/\S+)", said("ldd", program)):
        owner = said("dpkg", "-S", os.path.realpath(path)) or said("dpkg", "-S", path)
        if owner:
            out.add(owner.split(":")[0])
    return out


def package(name, how):
    version, source, home = (said("dpkg-query", "-W", "-f=${Version}\n${source:Package}\n${Homepage}", name).split("\n") + ["", "", ""])[:3]
    if not version:
        return None
    return {"SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name), "name": name, "versionInfo": version, "supplier": "Organization: Debian", "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False, "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION", "comment": how + (f", from source package {source}" if source else ""),
            "homepage": home or "NOASSERTION", "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": f"pkg:deb/debian/{quote(name, safe='.-_~')}@{quote(version, safe='.-_~:')}?distro=bookworm"}]}


def built_with():
    """As ./dev installs them."""
    with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "dev")) as f:
        return set(re.search(r'^build_packages="([^"]*)"', f.read(), re.M)[1].split())


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    version, programs = sys.argv[1], sys.argv[2:]
    runs = set().union(*(loaded(p) for p in programs))
    builds = built_with() - runs
    parts = [p for p in [package(n, "loaded when it runs") for n in sorted(runs)] + [package(n, "compiled in or used to build") for n in sorted(builds)] if p]
    own = {"SPDXID": "SPDXRef-croft", "name": "croft", "versionInfo": version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False, "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0",
           "copyrightText": "NOASSERTION", "checksums": []}
    digest = hashlib.sha256()
    for program in programs:
        with open(program, "rb") as f:
            digest.update(f.read())
    date = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.datetime.now().timestamp())), datetime.timezone.utc)
    print(json.dumps({"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"croft-{version}", "documentNamespace": f"https://spdx.org/spdxdocs/croft-{version}-{digest.hexdigest()[:16]}",
                      "creationInfo": {"created": date.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: croft-sbom"]}, "packages": [own, *parts],
                      "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-croft"},
                                        *({"spdxElementId": "SPDXRef-croft", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": p["SPDXID"]} for p in parts)]}, indent=1))


if __name__ == "__main__":
    main()
