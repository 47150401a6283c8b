"""Prints "N passed, N failed" for a run of ctest: count_tests.py RESULTS

RESULTS holds ctest.xml (ctest's JUnit file) and one NAME_test.xml for each GoogleTest binary that came to its end.
A GoogleTest binary counts by its cases; one that failed outside its cases (crash, leak, time-out) and every other ctest
test count as one. A skipped case counts as failed: a suite that needs a missing program must not look green."""
import glob
import os
import sys
import xml.etree.ElementTree as ElementTree


def count_gtest(path):
    """(passed, failed) of one GoogleTest XML file."""
    passed = failed = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None:
            failed += 1
        elif case.get("status") == "run" and case.get("result") != "skipped":
            passed += 1
        elif case.get("result") == "skipped":
            failed += 1
            print(f"skipped: {case.get('classname')}.{case.get('name')}")
    return passed, failed


def count(results):
    passed = failed = 0
    for test in ElementTree.parse(os.path.join(results, "ctest.xml")).getroot().iter("testcase"):
        cases = None
        for path in glob.glob(os.path.join(results, f"{test.get('name')}_test.xml")):
            cases = count_gtest(path)
        good = test.get("status") == "run" and test.find("failure") is None
        if cases is None or sum(cases) == 0:
            cases = (1, 0) if good else (0, 1)
        elif not good and cases[1] == 0:
            cases = (cases[0], 1)
        passed += cases[0]
        failed += cases[1]
    return passed, failed


if __name__ == "__main__":
    total = count(sys.argv[1])
    print(f"{total[0]} passed, {total[1]} failed")
    sys.exit(0 if total[0] > 0 and total[1] == 0 else 1)
