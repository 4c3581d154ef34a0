"""The house rules themselves: what is planted is found."""

from __future__ import annotations

import ast

import pytest
from test_tidy import PACKAGE, by_prose, circles, guesses, haproxys_own, sentences


@pytest.mark.parametrize(
    "line",
    [
        'if "server changed its IP" in line:',
        'pattern = r"Server (\\S+) is going DOWN for maintenance"',
        'pattern = "is UP, reason: Layer7 check passed"',
        'pattern = "administratively READY"',
        'if reason == "No IP for server":',
        "if admin_state & mask:",
        "if state & 0x20:",
        'ask(b"show resolvers")',
        'bind = f"ipv4@{address}"',
        'text = "default-server inter 1s"',
        'name = "haproxy.cfg"',
    ],
)
def test_a_word_of_haproxys_is_found(line) -> None:
    assert haproxys_own(f"x = 1\n{line}\n") == [2]


@pytest.mark.parametrize(
    "line",
    [
        'if cycle.reason.startswith("chaosd was stopped"):',
        'if "poor" in reason:',
        'if "stopped" not in cycle.reason:',
        'if manifest_reason == "done":',
        "re.match(pattern, cycle.reason)",
        "if not cycle.valid_reason:",
    ],
)
def test_a_reader_of_reasons_is_found(line) -> None:
    assert by_prose(f"x = 1\n{line}\n") == [2]


def test_words_are_found_where_values_belong() -> None:
    said = ast.parse(
        'def why(n):\n    """Say why it is so."""\n    return f"{n} cycles are late"\n'
    )
    assert sentences(said) == [3]
    raised = 'def f():\n    raise MachineError("this can not be read")\n'
    assert sentences(ast.parse(raised)) == []


def test_a_guess_is_found() -> None:
    plain = "getattr(self, name)\nfault.needs\n"
    assert guesses(ast.parse(plain)) == []
    for guess in ('getattr(fault, "needs", ())', 'hasattr(stage, "hold")', 'getattr(x, "old_ip")'):
        assert len(guesses(ast.parse(guess))) == 1


def test_a_circle_is_found() -> None:
    """Through a third room, and by an import inside of a function."""
    texts = {
        "one/a.py": "from chaosd.two import b\n",
        "two/b.py": "def f():\n    from chaosd.three.c import x\n",
        "three/c.py": "import chaosd.one.a\n",
        "four/d.py": "from chaosd.one import a\n",
    }
    planted = [(PACKAGE / name, ast.parse(text)) for name, text in texts.items()]
    found = circles(planted)
    assert [line.partition(":")[0] for line in found] == ["one/a.py", "two/b.py", "three/c.py"]
    assert circles(planted[:2]) == []


def test_a_circle_of_folders_in_one_room_is_found() -> None:
    """A folder and one in it may import each other."""
    texts = {
        "one/inner/a.py": "from chaosd.one.other import b\n",
        "one/other/b.py": "from chaosd.one.inner.a import x\n",
        "one/c.py": "from chaosd.one.inner import a\n",
        "one/inner/d.py": "from chaosd.one.c import x\n",
    }
    planted = [(PACKAGE / name, ast.parse(text)) for name, text in texts.items()]
    assert circles(planted) == circles(planted[2:], 2) == []
    found = [line.partition(":")[0] for line in circles(planted, 2)]
    assert found == ["one/inner/a.py", "one/other/b.py"]
