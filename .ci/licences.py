"""Holds every crate's licence against the list in deny.toml, and refuses the crates banned there.

`cargo deny check` does the same and more; this needs nothing but cargo and Python.
"""
import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    rules = tomllib.load(file)
allowed = set(rules["licenses"]["allow"])
banned = {ban["crate"]: ban["reason"] for ban in rules["bans"]["deny"]}


def satisfied(expression: str) -> bool:
    """Whether an SPDX expression can be met with the allowed licences alone."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    terms = []
    for word in words:
        if word in ("(", ")"):
            terms.append(word)
        elif word in ("OR", "AND"):
            terms.append(word.lower())
        elif word == "WITH":
            terms.append("with")
        elif terms and terms[-1] == "with":
            terms.pop()
            terms[-1] = f"{terms[-1]} WITH {word}"
        else:
            terms.append(word)
    meant = [term if term in ("(", ")", "or", "and") else str(term in allowed) for term in terms]
    return bool(eval(" ".join(meant), {"__builtins__": {}}))


metadata = json.loads(subprocess.check_output(
    ["cargo", "metadata", "--format-version", "1", "--locked",
     "--filter-platform", "x86_64-unknown-linux-gnu"]))
used = {node["id"] for node in metadata["resolve"]["nodes"]}
problems = []
for package in metadata["packages"]:
    if package["id"] not in used or package["source"] is None:
        continue
    name, licence = package["name"], package["license"]
    if name in banned:
        problems.append(f"{name}: {banned[name]}")
    if not licence or not satisfied(licence):
        problems.append(f"{name}: licence {licence} is not in deny.toml")
    if not package["source"].startswith("registry+"):
        problems.append(f"{name}: comes from {package['source']}, not from the registry")
print(f"{len(used)} crates, {len(problems)} problems")
for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(1 if problems else 0)
