"""What can't go together is said before anything is touched, at its place in the file."""

from __future__ import annotations

import pytest

from chaosd.cli import main


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def check(text: str, *options: str) -> tuple[int, list[str]]:
        (tmp_path / "c.yaml").write_text(text)
        code = main(["check", "-q", "c.yaml", *options])
        return code, capsys.readouterr().err.splitlines()

    return check


FAULT = "faults: [{type: noop, every: 5s}]\n"


def test_an_image_that_the_local_runtime_can_not_run(check) -> None:
    code, said = check(f"name: x\nruntime: local\n{FAULT}app:\n  image: nginx\n")
    assert code == 2
    (line,) = said
    assert line == (
        "chaosd: c.yaml:5: app.image: the local runtime can't run the image `nginx` "
        "(leave it at http-server, or set app.command to a program of this machine)"
    )


def test_an_old_ip_that_the_local_runtime_can_not_make(check) -> None:
    faults = "faults:\n  - type: recreate\n    every: 5s\n    old_ip: vacant\n"
    code, said = check(f"name: x\nruntime: local\n{faults}")
    assert code == 2
    (line,) = said
    assert line == (
        "chaosd: c.yaml:6: faults[0].old_ip: the local runtime can't make an old IP `vacant` "
        "(it can: refuse, imposter, blackhole, tarpit)"
    )


def test_cells_can_not_share_a_door(check) -> None:
    proxy = "proxy:\n  type: haproxy\n  listen: 127.0.0.1:8080\n"
    code, said = check(f"name: x\nruntime: local\ncells: 3\n{FAULT}{proxy}")
    assert code == 2
    (line,) = said
    assert line == (
        "chaosd: c.yaml:7: proxy.listen: each of the 3 cells needs a listening address of its own "
        "(leave it out, or have one cell)"
    )


def test_a_program_that_is_not_there_is_said_at_its_line(check, tmp_path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/serve").touch(mode=0o755)
    proxy = "proxy: {type: haproxy, binary: /nowhere/haproxy}\n"  # it is asked only afterwards
    text = f"name: x\nruntime: local\n{FAULT}{proxy}app:\n  port: 8080\n  command: [%s, --fast]\n"
    for name in ("nonexistent-prog", "./serve", "serve"):
        code, said = check(text % name)
        assert code == 2
        (line,) = said
        assert line == (
            f"chaosd: c.yaml:7: app.command: there is no program `{name}` that can be run "
            "(a list: [name, argument])"
        )
    own_path = f"  env: {{PATH: {tmp_path}/own}}\n"
    for there in (text % "./own/serve", text % "serve" + own_path):
        code, said = check(there)
        assert code == 3, said  # no HAProxy, but no complaint of the program


def test_a_start_delay_is_not_for_a_command_of_your_own(check) -> None:
    app = "app:\n  command: [./serve]\n  start_delay: 2s\n"
    code, said = check(f"name: x\nruntime: local\n{FAULT}{app}")
    assert code == 2
    (line,) = said
    assert line == (
        "chaosd: c.yaml:6: app.start_delay: your own command has its own start; "
        "start_delay is for http-server (leave one of the two out)"
    )


@pytest.mark.parametrize(
    ("part", "where", "what"),
    [
        (
            "app: {image: nginx}",
            "app.image",
            "the simulated app is always http-server, not `nginx`",
        ),
        (
            "app: {command: [x]}",
            "app.command",
            "the simulated app is no program and runs no command",
        ),
        (
            "app: {env: {A: b}}",
            "app.env",
            "the simulated app is no program and has no environment",
        ),
        (
            "proxy: {type: haproxy, listen: '127.0.0.1:8080'}",
            "proxy.listen",
            "the simulated proxy has no entry that others could find",
        ),
    ],
)
def test_what_can_not_be_simulated_is_not_ignored(check, part, where, what) -> None:
    code, said = check(f"name: x\nruntime: sim\n{FAULT}{part}\n")
    assert code == 2
    assert said == [f"chaosd: c.yaml:4: {where}: {what} (leave it out, or take another runtime)"]


@pytest.mark.parametrize(
    ("proxy", "where", "what"),
    [
        ("{type: nginx}", "proxy.type", "this proxy can't be simulated (use the local runtime)"),
        (
            "{type: haproxy, config: own.cfg}",
            "proxy.config",
            (
                "your own file can't be simulated "
                "(set resolvers, server, … in the YAML, or use the local runtime)"
            ),
        ),
    ],
)
def test_check_says_which_proxies_can_not_be_simulated(check, tmp_path, proxy, where, what) -> None:
    """It was said by `run` alone, without a line."""
    own = "defaults\n  mode http\nbackend b\n  server s app.internal:80 check\n"
    (tmp_path / "own.cfg").write_text(own)
    code, said = check(f"name: x\nruntime: sim\n{FAULT}proxy: {proxy}\n")
    assert (code, said) == (2, [f"chaosd: c.yaml:4: {where}: {what}"])


def test_the_place_of_an_override_is_the_override(check) -> None:
    faults = "faults: [{type: recreate, every: 5s}]\n"
    code, said = check(f"name: x\nruntime: local\n{faults}", "--set", "faults.0.old_ip=vacant")
    assert code == 2
    assert said[0].startswith("chaosd: --set faults.0.old_ip=vacant: faults[0].old_ip: ")


def test_no_haproxy_is_the_machines_fault_and_says_what_to_do(check) -> None:
    proxy = "proxy: {type: haproxy, binary: /nowhere/haproxy}\n"
    code, said = check(f"name: x\nruntime: local\n{FAULT}{proxy}")
    assert code == 3
    (line,) = said
    assert "/nowhere/haproxy" in line
    assert "install HAProxy" in line


def test_a_bug_of_ours_is_one_line_too(check, monkeypatch) -> None:
    from chaosd.config import yamlfile

    monkeypatch.setattr(yamlfile, "decode", None)
    code, said = check("name: x\n")
    assert code == 70
    (line,) = said
    assert "TypeError" in line
    assert "bug in chaosd" in line


def test_a_bug_of_a_plugin_is_not_called_ours(check, monkeypatch) -> None:
    from chaosd.config import yamlfile

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(yamlfile, "decode", broken)
    code, said = check("name: x\n")
    assert code == 70
    (line,) = said
    assert "ZeroDivisionError: oh at test_plan.py" in line
    assert "bug in a plugin or a library" in line
