"""Mistakes in the options of `chaosd calibrate`."""

from __future__ import annotations

import pytest

from chaosd.cli import main


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--rates", "200,fast"], "--rates 200,fast: "),
        (["--outages", "1ms..5s"], "--outages 1ms..5s: should be between 10ms and 30s"),
        (["--outages", "5s..50ms"], "--outages 5s..50ms: should be between 10ms and 30s"),
        (["--n", "0"], "--n 0: should be from 1 to"),
        (["--target", "10.0.0.1:80"], "--target and --command go together"),
        (["--target", "8.8.8.8:80", "--command", "true"], "8.8.8.8 is a public address"),
        (["--target", "foo", "--command", "true"], "--target: not an address"),
        (
            ["--target", "127.0.0.1:80", "--command", "./no-such 5"],
            "--command: there is no program `./no-such` that can be run (such as --command '",
        ),
        (["--target", "127.0.0.1:80", "--command", "a 'b"], "--command a 'b: No closing quotation"),
        (["--seed", "-4"], "--seed: "),
        (["--rates", "500,500"], "--rates 500,500: one of them is named twice"),
    ],
)
def test_mistakes_are_said_in_a_line(tmp_path, monkeypatch, capsys, options, what) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert what in line
