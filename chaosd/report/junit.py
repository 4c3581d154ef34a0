"""A run for a CI server: junit.xml, a test case for each objective and one for the measurement.

What is broken is a failure. What is unknown is an error and not skipped: CI servers take a skipped
test for a success, and nobody knows whether this is one.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from chaosd import shown
from chaosd.analysis.slo import FAIL, OK, UNKNOWN
from chaosd.analysis.summary import Report
from chaosd.report import text, words
from chaosd.system.clock import SECOND_NS, utc

# XML 1.0 has no place for these, not even escaped.
_FORBIDDEN = re.compile("[\\uFFFE\\uFFFF]")


def render(report: Report) -> str:
    """One suite."""
    cases = [
        (
            "measurement",
            UNKNOWN if report.doubts else OK,
            "; ".join(words.doubts(report)),
            "",
        )
    ]
    for found in report.objectives:
        details = text.objective(found)
        cases.append((f"slo {text.asked(found)}", found.result, words.objective(found), details))
    suite = ET.Element("testsuite", name=_clean(f"chaosd {report.run}"))
    results = [result for _, result, *_ in cases]
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(results.count(FAIL)))
    suite.set("errors", str(results.count(UNKNOWN)))
    suite.set("skipped", "0")
    start, end = (report.manifest.get(key) for key in ("start_unix", "end_unix"))
    if start is not None:
        suite.set("timestamp", utc(round(start * SECOND_NS)).strftime("%Y-%m-%dT%H:%M:%S"))
        if end is not None:
            suite.set("time", f"{end - start:.3f}")
    for name, result, reason, details in cases:
        case = ET.SubElement(suite, "testcase", classname="chaosd", name=_clean(name))
        if result != OK:
            kind = "failure" if result == FAIL else "error"
            ET.SubElement(case, kind, message=_clean(reason), type=result).text = _clean(details)
        elif details:
            ET.SubElement(case, "system-out").text = _clean(details)
    ET.indent(suite)
    body = ET.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _clean(words: str) -> str:
    return _FORBIDDEN.sub("�", shown.text(words))
