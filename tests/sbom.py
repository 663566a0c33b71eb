#!/usr/bin/env python3
"""Makes the bill of materials as the package does, and holds it against the programs: SPDX 2.3, and in it, with a version each, every library that is loaded and everything that was compiled in.
usage: sbom.py BIN_DIR    where BIN_DIR is build/release/bin, what the compiler read is looked at as well"""
import json
import os
import re
import subprocess
import sys
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = ("croft", "croft-executor")
ID, WHEN, URI = r"SPDXRef-[A-Za-z0-9.-]+", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r"[a-z][a-z0-9+.-]*:[^\s#]+"
# What SPDX 2.3 demands of a document, a package and a relationship: the fields that must be there, and how those are written that may be.
DOCUMENT = {"spdxVersion": "SPDX-2\\.3", "dataLicense": "CC0-1\\.0", "SPDXID": "SPDXRef-DOCUMENT", "name": ".+", "documentNamespace": URI}
PACKAGE = {"SPDXID": ID, "name": ".+", "versionInfo": r"\S+", "downloadLocation": f"NONE|NOASSERTION|{URI}", "licenseConcluded": ".+", "licenseDeclared": ".+", "copyrightText": ".+"}
MAY = {"filesAnalyzed", "supplier", "comment", "homepage", "externalRefs", "checksums", "originator", "packageFileName", "summary", "description", "sourceInfo", "primaryPackagePurpose"}
HEADERS_ALONE = {"linux"}  # declarations, of which nothing gets into the programs


def said(*words, check=True):
    return subprocess.run(words, capture_output=True, text=True, check=check).stdout


def made(bin_dir, version, **env):
    """As cmake/packages.cmake has it made."""
    with open(TOP + "/cmake/packages.cmake") as f:
        assert "deploy/sbom.py ${CROFT_PACKAGE_VERSION} $<TARGET_FILE:croft> $<TARGET_FILE:croft-executor>" in f.read(), "the package is made another way by now"
    return subprocess.run([sys.executable, TOP + "/deploy/sbom.py", version, *(f"{bin_dir}/{p}" for p in PROGRAMS)], capture_output=True, text=True, check=True, env=dict(os.environ, **env)).stdout


def written_as(what, of, fields):
    return [f"{what}: {field} is {of.get(field)!r}" for field, form in fields.items() if not isinstance(of.get(field), str) or not re.fullmatch(form, of[field])]


def package_wrong(p):
    what = p.get("name", "a package")
    wrong = written_as(what, p, PACKAGE) + [f"{what}: {field} is no field of SPDX 2.3" for field in set(p) - set(PACKAGE) - MAY]
    if p.get("filesAnalyzed") is not False:
        wrong.append(f"{what}: without files filesAnalyzed must be false")
    if not re.fullmatch(f"NONE|NOASSERTION|{URI}", p.get("homepage", "NONE")) or not re.fullmatch(r"NOASSERTION|(Organization|Person): .+", p.get("supplier", "NOASSERTION")):
        wrong.append(f"{what}: homepage {p.get('homepage')!r}, supplier {p.get('supplier')!r}")
    for ref in p.get("externalRefs", []):
        if set(ref) != {"referenceCategory", "referenceType", "referenceLocator"} or ref["referenceCategory"] not in ("PACKAGE-MANAGER", "SECURITY", "OTHER"):
            wrong.append(f"{what}: {ref}")
        elif ref["referenceType"] == "purl" and urllib.parse.unquote(ref["referenceLocator"]).split("?")[0] != f"pkg:deb/debian/{p['name']}@{p['versionInfo']}":
            wrong.append(f"{what}: {ref['referenceLocator']} is another package")
    return wrong


def urls_wrong(bill):
    """Package URLs have letters, digits and .-_~: as they are, everything else percent-encoded; a "+" would be read as a space by some."""
    urls = [ref["referenceLocator"] for p in bill["packages"] for ref in p.get("externalRefs", []) if ref["referenceType"] == "purl"]
    bad = [url for url in urls if not re.fullmatch(r"pkg:deb/debian/[\w.~%-]+@[\w.~:%-]+\?distro=\w+", url)]
    return [f"FOUND: {len(bad)} of {len(urls)} package URLs are not encoded, such as {bad[0]}"] if bad else []


def document_wrong(d):
    """All that keeps it from being SPDX 2.3."""
    wrong = written_as("the document", d, DOCUMENT) + [f"the document: {field} is not expected" for field in set(d) - set(DOCUMENT) - {"creationInfo", "packages", "relationships"}]
    creation = d.get("creationInfo", {})
    if not re.fullmatch(WHEN, creation.get("created", "")) or not creation.get("creators") or not all(re.fullmatch("(Tool|Person|Organization): .+", c) for c in creation["creators"]):
        wrong.append(f"creationInfo: {creation}")
    for p in d["packages"]:
        wrong += package_wrong(p)
    names = [p["SPDXID"] for p in d["packages"]]
    wrong += [f"{name} is there twice" for name in set(names) if names.count(name) > 1]
    links = {(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in d["relationships"]}
    expected = {("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-croft")} | {("SPDXRef-croft", "DEPENDS_ON", name) for name in names if name != "SPDXRef-croft"}
    return wrong + [f"relationship {link}" for link in links ^ expected]


def owner(path):
    """(package, version, source) of a file of the host's."""
    for spelling in (path, os.path.realpath(path), "/usr" + path, path.removeprefix("/usr")):
        found = said("dpkg-query", "-S", spelling, check=False)
        if found:
            name = found.split(":")[0].split(",")[0]
            return name, *said("dpkg-query", "-W", "-f=${Version} ${source:Package}", name).split()
    return None


def libraries(program):
    """{name: path} of what the loader brings; every library that the program itself names is among them."""
    ldd = dict(re.findall(r"^\s*(\S+) => (/\S+)", said("ldd", program, check=False), re.M))
    needed = set(re.findall(r"NEEDED.*\[(.+)\]", said("readelf", "-dW", program)))
    assert needed - {n for n in needed if n.startswith("ld-linux")} <= set(ldd), (needed, ldd)
    return ldd


def loaded_wrong(bin_dir, packages):
    wrong = []
    for program in PROGRAMS:
        found = libraries(f"{bin_dir}/{program}")
        print(f"{program}: {len(found)} libraries")
        for name, path in found.items():
            whose = owner(path)
            if not whose:
                wrong.append(f"{program}: {name} ({path}) is of no package")
            elif packages.get(whose[0], {}).get("versionInfo") != whose[1]:
                wrong.append(f"{program}: {name} is of {whose[0]} {whose[1]}, and the bill has {packages.get(whose[0], {}).get('versionInfo')}")
    return wrong


def compiled_in_wrong(build, packages):
    """By the sources of packages: a header of libstdc++-12-dev is covered where libstdc++6 stands, which gcc-12 makes as well."""
    files = sorted(set(re.findall(r"^ +(/usr/\S+)$", said("ninja", "-C", build, "-t", "deps", check=False), re.M)))
    if not files:
        return [f"{build}: ninja knows of no headers"]
    owners = {line.split(":")[0] for line in said("dpkg-query", "-S", *files, check=False).splitlines() if not line.startswith("diversion")}
    static = {"libc6-dev"} if "INTERP" not in said("readelf", "-lW", f"{build}/bin/croft-executor") else set()
    covered = {said("dpkg-query", "-W", "-f=${source:Package}", name) for name in packages if name != "croft"} | HEADERS_ALONE
    print(f"{len(files)} headers of {len(owners)} packages")
    return [f"{name} was compiled in, and nothing of its source is in the bill" for name in sorted(owners | static) if said("dpkg-query", "-W", "-f=${source:Package}", name) not in covered]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bin_dir = os.path.abspath(sys.argv[1])
    text = made(bin_dir, "1.2.3", SOURCE_DATE_EPOCH="1700000000")
    bill = json.loads(text)
    packages = {p["name"]: p for p in bill["packages"]}
    wrong = document_wrong(bill) + urls_wrong(bill) + loaded_wrong(bin_dir, packages)
    if packages["croft"]["versionInfo"] != "1.2.3" or bill["creationInfo"]["created"] != "2023-11-14T22:13:20Z" or made(bin_dir, "1.2.3", SOURCE_DATE_EPOCH="1700000000") != text:
        wrong.append("the same programs, version and date do not make the same bill")
    if os.path.exists(os.path.dirname(bin_dir) + "/build.ninja"):
        wrong += compiled_in_wrong(os.path.dirname(bin_dir), packages)
    print("\n".join("WRONG: " + w for w in wrong) or f"{len(packages)} packages, each with a version: in order")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
