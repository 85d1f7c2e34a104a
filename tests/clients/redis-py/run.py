#!/usr/bin/env python3
"""Runs redis-py's own tests against a server and holds the outcome against a list of what is known to fail.

usage: run.py HOST:PORT --expected FILE [--protocol 2|3] [--tag TAG]... [--home DIR] [--suggest] [--update]

The suite is that of the source distribution of the package `redis`, which is fetched with pip into DIR (default
target/clients/redis-py below the repository) together with a virtual environment. Nothing of it is kept elsewhere.

FILE has sections: a line `= REASON`, then the names of tests that fail for it, one a line. A name with ` @TAG` behind
it counts only in a run with that tag; the protocol is a tag of its own, `resp2` or `resp3`. A line `passed N` says how
many must pass, so that tests that begin to be skipped are noticed. `#` begins a comment.

Prints a table, then what differs from FILE. Exit: 0 as expected, 1 an unlisted test failed or a listed one passed,
2 could not run. With --suggest, what failed and is not listed is printed as sections of FILE. With --update, FILE is
changed to what was found: names that pass go, those that failed and were not listed come below a reason that begins with
`?`, which is to be put into words: a list that has one of those is not as expected.
"""

import argparse
import collections
import fcntl
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

VERSION = "5.2.1"
PACKAGES = ["pytest==8.3.4", "pytest-timeout==2.3.1", "packaging"]
# What one server without cluster, TLS, modules, scripts and sentinels can be asked.
FILES = [
    "test_commands",
    "test_pubsub",
    "test_pipeline",
    "test_encoding",
    "test_connection",
    "test_connection_pool",
    "test_command_parser",
    "test_multiprocessing",
    "test_retry",
]
MARKS = "not onlycluster and not redismod and not ssl and not cp_integration"
# What connects to a fixed port of this machine, where anything or nothing may listen.
ELSEWHERE = [
    "tests/test_commands.py::TestRedisCommands::test_psync",
    "tests/test_connection.py::TestConnection::test_retry_connect_on_timeout_error",
    "tests/test_connection.py::test_create_single_connection_client_from_url",
]
SECONDS_MAX = 30  # of one test


def fail(text):
    print(f"run.py: {text}", file=sys.stderr)
    sys.exit(2)


def prepared(home):
    """The folder with the suite and the python to run it with; makes both once."""
    home.mkdir(parents=True, exist_ok=True)
    suite, python = home / f"redis-{VERSION}", home / "venv/bin/python"
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home / f"done-{VERSION}"
        if done.exists():
            return suite, python
        quiet = ["--quiet", "--disable-pip-version-check"]
        for command in [
            [sys.executable, "-m", "venv", home / "venv"],
            [python, "-m", "pip", "install", *quiet, *PACKAGES, "setuptools", "wheel"],
            [python, "-m", "pip", "install", *quiet, f"redis=={VERSION}"],
            [python, "-m", "pip", "download", *quiet, "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
            + [f"redis=={VERSION}", "--dest", home],
            ["tar", "-xzf", home / f"redis-{VERSION}.tar.gz", "-C", home],
        ]:
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if ran.returncode != 0:
                fail(f"{' '.join(map(str, command))}: {ran.stderr[-2000:]}")
        # The package under test is the installed one, which is the same.
        (suite / "redis").rename(suite / "redis-of-source")
        done.touch()
    return suite, python


def outcomes(report):
    """Name -> (passed, failed or skipped, message), from the report of pytest."""
    found = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        place = case.get("classname").removeprefix("tests.").replace(".", "::")
        outcome = ("passed", "")
        for kind, name in [("failure", "failed"), ("error", "failed"), ("skipped", "skipped")]:
            for part in case.findall(kind):
                if outcome[0] != "failed":
                    outcome = (name, part.get("message") or "")
        found[f"{place}::{case.get('name')}"] = outcome
    return found


def expectations(path, tags):
    """Name -> reason of what is to fail, and how many are to pass."""
    reasons, reason, passed = {}, None, 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if line.startswith("= "):
            reason = line[2:]
        elif match := re.fullmatch(r"passed (\d+)(?: @(\w+))?", line):
            if match[2] is None or match[2] in tags:
                passed = int(match[1])
        elif reason is None:
            fail(f"{path}:{number}: a name before the first reason")
        else:
            name, _, tag = line.partition(" @")
            if not tag or tag in tags:
                reasons[name] = reason
    return reasons, passed


def updated(path, tag, found, failed, passed):
    """Writes what was found in a run of this tag into the list."""
    kept, listed, others = [], set(), set()
    for line in path.read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith("= "):
            kept.append(line)
        elif match := re.fullmatch(r"passed \d+(?: @(\w+))?", text):
            if match[1] not in (None, tag):
                kept.append(line)
        else:
            name, _, of = text.partition(" @")
            if of not in ("", tag):
                others.add(name)
                kept.append(line)
            elif name in failed:
                listed.add(name)
                kept.append(line)
    for name in [name for name in failed if name in others and name not in listed]:
        # It fails in both.
        kept = [name if line.partition(" @")[0].strip() == name else line for line in kept]
        listed.add(name)
    for message, names in grouped({name: failed[name] for name in failed if name not in listed}):
        kept += ["", f"= ? {message}", *(f"{name} @{tag}" for name in names)]
    at = next((n for n, line in enumerate(kept) if line.startswith("= ")), len(kept))
    head = [line for line in kept[:at] if line] + [f"passed {passed} @{tag}"]
    sections = "\n".join(kept[at:]).split("\n= ")
    whole = [section.strip() for section in sections if len(section.strip().splitlines()) > 1]
    comments = [line for line in head if line.startswith("#")]
    counts = sorted(line for line in head if not line.startswith("#"))
    path.write_text("\n".join([*comments, "", *counts, ""]) + "\n= " + "\n\n= ".join(w.removeprefix("= ") for w in whole) + "\n")


def grouped(failures):
    """What failed, by the first line of what was said."""
    groups = collections.defaultdict(list)
    for name, message in failures.items():
        line = message.splitlines()[0] if message else "?"
        groups[re.sub(r", with args beginning with.*", "", line).replace("#", "")[:100]].append(name)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def table(found):
    counts = collections.defaultdict(collections.Counter)
    for name, (outcome, _) in found.items():
        for group in (name.split("::")[0], "all"):
            counts[group][outcome] += 1
    print(f"{'file':24} {'passed':>7} {'failed':>7} {'skipped':>8} {'share':>7}")
    for group in [*(group for group in counts if group != "all"), "all"]:
        count = counts[group]
        ran = count["passed"] + count["failed"]
        share = f"{100 * count['passed'] / ran:.1f} %" if ran else "-"
        print(f"{group:24} {count['passed']:7} {count['failed']:7} {count['skipped']:8} {share:>7}")
    return counts["all"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--expected", type=pathlib.Path, required=True)
    parser.add_argument("--protocol", choices=["2", "3"], default="2")
    parser.add_argument("--tag", action="append", default=[])
    root = pathlib.Path(__file__).resolve().parents[3]
    parser.add_argument("--home", type=pathlib.Path, default=root / "target/clients/redis-py")
    parser.add_argument("--suggest", action="store_true")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    suite, python = prepared(options.home.resolve())
    reasons, passed = expectations(options.expected, [*options.tag, f"resp{options.protocol}"])
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-m", MARKS]
        command += ["--timeout", str(SECONDS_MAX), "--junitxml", report, "--tb", "line"]
        command += ["--redis-url", f"redis://{options.server}/0", "--protocol", options.protocol]
        command += [f"--deselect={name}" for name in ELSEWHERE]
        command += [f"tests/{name}.py" for name in FILES]
        ran = subprocess.run(command, cwd=suite, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if not report.exists():
            fail(f"pytest ended with {ran.returncode}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        found = outcomes(report)
    total = table(found)
    failed = {name: message for name, (outcome, message) in found.items() if outcome == "failed"}
    unlisted = {name: message for name, message in failed.items() if name not in reasons}
    by_reason = collections.Counter(reasons[name] for name in failed if name in reasons)
    for reason, count in by_reason.most_common():
        print(f"{count:4} fail: {reason}")
    if options.suggest:
        for message, names in grouped(unlisted):
            print(f"\n= {message}", *names, sep="\n")
    if options.update:
        updated(options.expected, f"resp{options.protocol}", found, failed, total["passed"])
    wrong = [f"fails, and is not listed: {name}: {message[:160]!r}" for name, message in unlisted.items()]
    for name in reasons:
        outcome = found.get(name, ("unknown",))[0]
        if outcome != "failed":
            wrong.append(f"is listed as failing, and {'is ' if outcome == 'skipped' else ''}{outcome}: {name}")
    wrong += [f"has no reason in words yet: {reason}" for reason in by_reason if reason.startswith("?")]
    if total["passed"] < passed:
        wrong.append(f"{total['passed']} passed, expected at least {passed}: is something skipped now?")
    print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


main()
