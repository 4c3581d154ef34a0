"""Answers of HAProxy's Runtime API, from a stand-in that speaks them over a UNIX socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chaosd.proxies.haproxy import api

HEAD_2_2 = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
    "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord"
)
ROW_2_2 = "3 app 1 app 127.64.9.1 2 0 1 1 5 6 3 4 6 0 0 0 app.chaosd 8080 -"
# 2.4 and later have more columns at the end; a server in maintenance has no address.
HEAD_2_6 = HEAD_2_2 + " srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
ROW_2_6 = "3 b 1 app - 0 32 1 1 5 1 0 0 14 0 0 0 app.chaosd 8080 - 0 0 - - 0"

RESOLVERS = """\
Resolvers section chaosd
 nameserver dns:
  sent:        33
  snd_error:   0
  valid:       20
  update:      2
  cname:       0
  cname_error: 0
  any_err:     0
  nx:          8
  timeout:     0
  refused:     0
  other:       1
  invalid:     0
  too_big:     0
  truncated:   0
  outdated:    1
Resolvers section default
 nameserver dns:
  sent:        0
  valid:       0

"""


def answered(text: str, tmp_path: Path) -> dict[str, Any]:
    """Let a stand-in answer this to whatever it is asked, and read it."""
    asked: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(text.encode())
        writer.close()

    result = asyncio.run(_with_server(speak, tmp_path / "api"))
    assert asked == [b"show servers state;show resolvers\n"]
    return result


async def _with_server(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], path: Path
) -> dict[str, Any]:
    server = await asyncio.start_unix_server(speak, path)
    async with server:
        return await api.read(str(path))


@pytest.mark.parametrize(
    ("head", "row", "server"),
    [
        (
            HEAD_2_2,
            ROW_2_2,
            {
                "backend": "app",
                "server": "app",
                "addr": "127.64.9.1",
                "op_state": 2,
                "admin_state": 0,
                "check_health": 4,
                "check_state": 6,
            },
        ),
        (
            HEAD_2_6,
            ROW_2_6,
            {
                "backend": "b",
                "server": "app",
                "addr": None,
                "op_state": 0,
                "admin_state": 32,
                "check_health": 0,
                "check_state": 14,
            },
        ),
    ],
    ids=["2.2", "2.6"],
)
def test_servers_are_read_by_the_header(
    head: str, row: str, server: dict[str, Any], tmp_path: Path
) -> None:
    said = answered(f"1\n{head}\n{row}\n\n{RESOLVERS}", tmp_path)
    assert said["servers"] == [server]


def test_counters_and_the_timeouts_that_haproxy_does_not_count(tmp_path: Path) -> None:
    said = answered(f"1\n{HEAD_2_6}\n{ROW_2_6}\n\n{RESOLVERS}", tmp_path)
    counters = said["resolvers"]["dns"]
    assert (counters["sent"], counters["valid"], counters["nx"]) == (33, 20, 8)
    assert counters["timeout"] == 0
    assert counters["timeout_derived"] == 33 - 20 - 8 - 1 - 1
    # The section that HAProxy makes itself, of the host's own nameservers, is not what is tested.
    assert list(said["resolvers"]) == ["dns"]


def test_an_answer_that_is_not_haproxys_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not an answer of HAProxy: 'Permission denied"):
        answered("Permission denied\n", tmp_path)


def test_nobody_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(api.read(str(tmp_path / "nothing")))


def test_silence_and_endless_answers_are_oserrors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_ANSWER_S_MAX", 0.2)
    monkeypatch.setattr(api, "_ANSWER_BYTES_MAX", 1000)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    with pytest.raises(TimeoutError):
        asyncio.run(_with_server(silent, tmp_path / "silent"))
    with pytest.raises(OSError, match="longer than 1000 bytes"):
        answered("x" * 5000, tmp_path)
