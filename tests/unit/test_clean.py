"""`chaosd clean` says what it has not looked at."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from chaosd import plugins
from chaosd.cli import main
from chaosd.runtimes.docker.endpoint import Endpoint


@pytest.fixture
def clean(monkeypatch, capsys):
    monkeypatch.setattr(Endpoint, "unreachable", lambda _: "it does not answer")
    docker = {"docker": plugins.available("runtimes")["docker"]}
    monkeypatch.setattr(plugins, "available", lambda _: docker)

    def clean() -> tuple[int, list[str], list[str]]:
        code = main(["clean"])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return clean


def test_runtimes_of_one_engine_are_named_together(clean, monkeypatch) -> None:
    both = {each.name: each for each in entry_points(group="chaosd.runtimes")}
    both = {name: both[name] for name in ("compose", "docker")}
    monkeypatch.setattr(plugins, "available", lambda _: both)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    assert clean()[2] == ["chaosd: compose, docker: not looked at: it does not answer"]


def test_an_engine_that_is_named_and_does_not_answer_is_a_failure(clean, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    assert clean() == (
        3,
        ["nothing was left behind elsewhere"],
        ["chaosd: docker: not looked at: it does not answer"],
    )


@pytest.mark.parametrize("there", [True, False])
def test_without_a_socket_there_is_no_engine_and_nothing_is_missed(
    clean, monkeypatch, tmp_path, there
) -> None:
    socket = tmp_path / "socket"
    if there:
        socket.touch()
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(Endpoint, "expected", lambda _: socket.exists())
    code, out, err = clean()
    line = "docker: not looked at: it does not answer"
    assert (code, err) == ((3, [f"chaosd: {line}"]) if there else (0, []))
    assert (line in out) != there
    assert out[-1] == "nothing was left behind elsewhere"
