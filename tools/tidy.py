"""The style tests of the tree. Each rule is one function that yields faults; `self_test` feeds every rule a bad sample.

Rules: only known entries at the top level; includes follow the arrows between rooms (the table below, the same as the
links in source/CMakeLists.txt); protobuf and gRPC stay in .cc files of the rooms that translate; `#pragma once`; length
of files; a README of at most 40 lines in every room; no tabs, trailing spaces, missing newline at the end, left-over
notes, or paths of somebody's machine; clang-format; the tests that test/README.md names exist.
The last line is "N passed, N failed", counting rules."""
import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile

TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "README.md", "CHANGELOG.md", "LICENSE",
             "proto", "source", "api", "test", "tools", "bazel"}

# room: the rooms that it may include directly; what those may include, it may too.
ARROWS = {
    "api": set(),
    "proto": set(),
    "base": {"api"},
    "event": {"base"},
    "stats": {"base"},
    "net": {"event", "stats"},
    "http": {"net"},
    "config": {"base", "stats", "proto"},
    "route": {"config"},
    "upstream": {"http", "config"},
    "proxy": {"route", "upstream"},
    "filters": {"route", "upstream"},
    "xds": {"event", "stats", "proto"},
    "admin": {"proxy"},
    "server": {"admin", "filters", "xds"},
    "control": {"admin", "filters", "xds"},
}
PROTOBUF_ROOMS = {"config", "filters", "xds", "server", "control"}
GRPC_ROOMS = {"xds", "control"}

HEADER_LINES, SOURCE_LINES, README_LINES, HARD_FACTOR = 300, 800, 40, 1.5

CODE = (".h", ".cc")
BINARY_DIRS = ("test/fuzz/corpus/", "test/data/")


def closure(room):
    seen, todo = set(), [room]
    while todo:
        for target in ARROWS.get(todo.pop(), ()):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


class Tree:
    """The files of the tree by path, read once; text is None for what is not UTF-8."""

    def __init__(self, root, paths):
        self.root = root
        self.texts = {}
        for path in sorted(paths):
            full = os.path.join(root, path)
            if not os.path.isfile(full):
                continue
            with open(full, "rb") as file:
                try:
                    self.texts[path] = file.read().decode()
                except UnicodeDecodeError:
                    self.texts[path] = None

    def code(self):
        return {path: text for path, text in self.texts.items() if path.endswith(CODE)}

    def prose(self):
        return {path: text for path, text in self.texts.items()
                if text is not None and not path.startswith(BINARY_DIRS)}


def room_of(path):
    parts = path.split("/")
    if parts[0] == "api" and len(parts) > 2:
        return "api"
    if parts[0] == "source" and len(parts) > 2 and parts[1] != "docs":
        return parts[1]
    return None


def top_level(tree):
    for path in tree.texts:
        top = path.split("/")[0]
        if top not in TOP_LEVEL and not top.startswith("."):
            yield f"{top}: not one of the entries that the top level may have"


def arrows(tree):
    for path, text in tree.code().items():
        room = room_of(path)
        if room is None:
            continue
        if room not in ARROWS:
            yield f"{path}: room '{room}' is not in the table of tools/tidy.py"
            continue
        allowed = closure(room) | {room}
        for number, line in enumerate(text.splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if not found:
                continue
            target = found.group(1)
            first = target.split("/")[0]
            if target.endswith((".pb.h", ".pb.validate.h")):
                first = "proto"
            elif first == "outrigger":
                first = "api"
            if first not in ARROWS:
                yield f'{path}:{number}: "{target}" does not start with a room'
            elif first not in allowed:
                yield f'{path}:{number}: {room} may not include "{target}": no arrow from {room} to {first}'
            elif room == "filters" and first == "filters":
                own, other = path.split("/")[2], target.split("/")[1]
                if own != other and "/" in target[len("filters/"):] and path.count("/") > 2:
                    yield f'{path}:{number}: filter {own} may not include filter {other}'


def links(tree):
    """What source/CMakeLists.txt links must be arrows of the table."""
    for name, rest in re.findall(r"outrigger_room\((\w+)([^)]*)\)", tree.texts.get("source/CMakeLists.txt") or ""):
        for target in re.findall(r"\boutrigger_(\w+)", rest):
            target = "proto" if target.startswith("proto") else target
            if target not in closure(name):
                yield f"source/CMakeLists.txt: {name} links {target}, but the table has no arrow from {name} to {target}"


def heavy_headers(tree):
    for path, text in tree.code().items():
        room = room_of(path)
        if room is None:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*[<"]([^">]+)[">]', line)
            if not found:
                continue
            target = found.group(1)
            grpc = target.startswith(("grpc/", "grpcpp/", "grpc++/")) or target.endswith(".grpc.pb.h")
            protobuf = target.startswith("google/protobuf/") or target.endswith(".pb.h")
            if not grpc and not protobuf:
                continue
            kind, rooms = ("gRPC", GRPC_ROOMS) if grpc else ("protobuf", PROTOBUF_ROOMS)
            if path.endswith(".h"):
                yield f"{path}:{number}: {kind} header in a header"
            elif room not in rooms:
                yield f"{path}:{number}: {kind} header outside {', '.join(sorted(rooms))}"


def pragma_once(tree):
    for path, text in tree.code().items():
        if path.endswith(".h") and "#pragma once" not in text:
            yield f"{path}: no #pragma once"


def lengths(tree):
    for path, text in tree.code().items():
        limit = HEADER_LINES if path.endswith(".h") and room_of(path) else SOURCE_LINES
        lines = text.count("\n")
        if lines > limit * HARD_FACTOR:
            yield f"{path}: {lines} lines, far over the guide of {limit}: split it"
        elif lines > limit:
            print(f"note: {path}: {lines} lines, over the guide of {limit}")


def readmes(tree):
    for room in sorted({room_of(path) for path in tree.code()} - {None, "api"}):
        path = f"source/{room}/README.md"
        text = tree.texts.get(path)
        if text is None:
            yield f"{path}: missing"
        elif text.count("\n") > README_LINES:
            yield f"{path}: {text.count(chr(10))} lines, more than {README_LINES}"


def whitespace(tree):
    for path, text in tree.prose().items():
        if text and not text.endswith("\n"):
            yield f"{path}: no newline at the end"
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line:
                yield f"{path}:{number}: tab"
            if line != line.rstrip():
                yield f"{path}:{number}: space at the end of the line"


NOTES = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:home|work|Users)/\w+/|/roo" + r"t/\w")


def notes(tree):
    for path, text in tree.prose().items():
        for number, line in enumerate(text.split("\n"), 1):
            if found := NOTES.search(line):
                yield f"{path}:{number}: {found.group(0)}: finish it or file an issue"
            if found := MACHINE_PATHS.search(line):
                yield f"{path}:{number}: path of a machine: {found.group(0)}"


def formatting(tree):
    paths = list(tree.code())
    for start in range(0, len(paths), 64):
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", *paths[start:start + 64]], cwd=tree.root,
                             capture_output=True, text=True, check=False)
        if run.returncode != 0:
            places = re.findall(r"^(\S+?):(\d+):\d+: error", run.stderr, re.M)
            for path in sorted({path for path, _ in places}):
                lines = [line for where, line in places if where == path]
                yield f"{path}: not formatted at line {', '.join(lines[:5])}{', …' if len(lines) > 5 else ''}; tools/tidy --fix does it"
            if not places:
                yield f"clang-format: {run.stderr.strip()}"


def scripts(tree):
    for path, text in tree.prose().items():
        if text.startswith("#!") and "bash" in text.split("\n")[0]:
            run = subprocess.run(["bash", "-n", path], cwd=tree.root, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                yield run.stderr.strip()
        elif path.endswith(".py") or (text.startswith("#!") and "python3" in text.split("\n")[0]):
            try:
                compile(text, path, "exec")
            except SyntaxError as error:
                yield f"{path}:{error.lineno}: {error.msg}"


def guarantees(tree):
    """Every test that test/README.md names is there."""
    names = {f"{suite}.{name}" for path, text in tree.code().items() if path.startswith("test/")
             for suite, name in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", text, re.M)}
    for number, line in enumerate((tree.texts.get("test/README.md") or "").splitlines(), 1):
        if not line.startswith("|"):
            continue
        for cited in re.findall(r"`(cases/[\w*]+|[A-Z]\w+\.[A-Z]\w+)`", line):
            found = fnmatch.filter(tree.texts, f"test/{cited}.case") if cited.startswith("cases/") else cited in names
            if not found:
                yield f"test/README.md:{number}: there is no test {cited}"


RULES = [top_level, arrows, links, heavy_headers, pragma_once, lengths, readmes, whitespace, notes, formatting, scripts,
         guarantees]

# rule: path and text of a file that must break it, and a part of what must be said.
BAD_SAMPLES = {
    top_level: [("stray.txt", "x\n", "stray.txt")],
    arrows: [("source/net/bad.cc", '#include "http/codec.h"\n', "no arrow from net to http"),
             ("source/route/bad.cc", '#include "proxy/stream.h"\n', "no arrow from route to proxy"),
             ("source/base/bad.cc", '#include "envoy/type/v3/range.pb.h"\n', "no arrow from base to proto"),
             ("source/filters/one/bad.cc", '#include "filters/two/two.h"\n', "filter one may not include filter two"),
             ("source/base/lost.cc", '#include "bytes.h"\n', "does not start with a room")],
    links: [("source/CMakeLists.txt", "outrigger_room(net outrigger_http)\n", "no arrow from net to http")],
    heavy_headers: [("source/xds/bad.h", "#include <grpcpp/grpcpp.h>\n", "gRPC header in a header"),
                    ("source/server/bad.cc", "#include <grpcpp/grpcpp.h>\n", "gRPC header outside"),
                    ("source/proxy/bad.cc", "#include <google/protobuf/any.pb.h>\n", "protobuf header outside")],
    pragma_once: [("source/base/bad.h", "int x;\n", "#pragma once")],
    lengths: [("source/base/long.h", "int x;\n" * 451, "split it")],
    readmes: [("source/base/x.cc", "int x;\n", "source/base/README.md: missing"),
              ("source/base/README.md", "line\n" * 41, "more than 40")],
    whitespace: [("source/base/x.cc", "int x;\t\n", "tab"), ("README.md", "text \n", "space at the end"),
                 ("tools/x", "x", "no newline")],
    notes: [("source/base/x.cc", "// TO" + "DO: all\n", "finish it"), ("tools/x", "cd /home" + "/me/x\n", "path of a machine")],
    formatting: [("source/base/x.cc", "int   x ;\n", "not formatted")],
    guarantees: [("test/README.md", "| a | `cases/gone` |\n", "no test cases/gone"),
                 ("test/README.md", "| a | `Gone.Test` |\n", "no test Gone.Test")],
    scripts: [("tools/x", "#!/usr/bin/env bash\nif true\n", "syntax error"), ("tools/x.py", "def\n", "invalid syntax")],
}


def self_test():
    for rule in RULES:
        for path, text, said in BAD_SAMPLES[rule]:
            with tempfile.TemporaryDirectory() as root:
                files = {path: text}
                if rule is readmes:
                    files.setdefault("source/base/x.cc", "int x;\n")
                for name, content in files.items():
                    os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
                    with open(os.path.join(root, name), "w") as file:
                        file.write(content)
                faults = list(rule(Tree(root, files)))
                if not any(said in fault for fault in faults):
                    yield f"rule {rule.__name__} does not see its bad sample {path!r}: {faults}"


def main():
    parser = argparse.ArgumentParser(description="style tests of the tree")
    parser.add_argument("--fix", action="store_true", help="format the sources first")
    arguments = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True,
                            text=True, check=True).stdout
    tree = Tree(root, [path for path in listed.split("\0") if path])
    if arguments.fix:
        subprocess.run(["clang-format", "-i", *tree.code()], cwd=root, check=True)
        tree = Tree(root, tree.texts)
    passed = failed = 0
    checks = [(rule.__name__, rule(tree)) for rule in RULES] + [("self_test", self_test())]
    for name, faults in checks:
        faults = list(faults)
        passed, failed = (passed, failed + 1) if faults else (passed + 1, failed)
        for fault in faults:
            print(f"{name}: {fault}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
