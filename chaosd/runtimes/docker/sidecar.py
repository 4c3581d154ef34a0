"""chaosd's DNS as a container of the cell, which forwards to the engine's and says what it sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import chaosd
from chaosd.dns.forwarder import CONTROL_PORT, port_of
from chaosd.dns.rules import Rule, RuleBook
from chaosd.dns.server import Query
from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.runtime import CellSpec, OwnProcess, ProcessRole
from chaosd.runtimes.dns_answers import DnsAnswers
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.members import FILES, Blueprint, Member, Members

# The program and what it imports, without the rest of us.
PARTS = (
    *("__init__", "errors"),
    *(
        f"dns/{name}"
        for name in ("__init__", "forwarder", "rules", "server", "sockets", "spoiling")
    ),
    *("history/__init__", "history/values", "system/__init__", "system/clock"),
    "system/stamps",
)
# Hands the forwarder its rules, from within its container.
TELL = "import socket, sys; socket.socket(type=2).sendto(sys.argv[1].encode(), ('127.0.0.1', {}))"
START_LIMIT_S = 20.0
RULES_LIMIT_S = 10.0
EMBEDDED_DNS = "127.0.0.11"
MEMORY_MB, PIDS = 128, 32


class Sidecar:
    """The nameserver that the proxy asks instead of the engine's own."""

    def __init__(
        self, cell: CellSpec, engine: Engine, members: Members, answers: DnsAnswers
    ) -> None:
        self.queries = 0
        self._cell = cell
        self._engine = engine
        self._members = members
        self._answers = answers
        self._member: Member | None = None
        self._rules = RuleBook()
        self._telling = asyncio.Lock()  # it says of one set of rules at a time that it has them
        self._ruled: asyncio.Future[str] | None = None  # what it says of the rules it was given
        self._listens: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, ip: str, *, proxy: str, upstream: tuple[str, ...]) -> list[Address]:
        """Make it, for the proxy at this IP, and wait until it listens: where its nameservers are.

        Raises MachineError.
        """
        dns = self._cell.dns
        where = ("0.0.0.0", EMBEDDED_DNS, proxy, str(self._cell.app.port))  # noqa: S104 - of its own network
        program = ["python3", "-S", "-B", "-m", "chaosd.dns.forwarder"]
        member = await self._members.create(
            Blueprint(
                name=f"chaosd-{self._cell.run_id}-{self._cell.name}-dns",
                image=images.app_tag(),
                ip=ip,
                entrypoint=program,
                command=[*where, dns.missing, *map(str, (dns.ttl_s, dns.delay_s, dns.nameservers))],
                environment={"PYTHONPATH": FILES},
                files=await asyncio.to_thread(_program),
                memory_mb=MEMORY_MB,
                pids=PIDS,
                dns=upstream,
                sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            ),
            self._on_line,
        )
        self._member = member
        await self._members.start(member)
        await self._until_it_listens(member)
        self._members.seen(member, int((await self._members.state(member)).get("Pid", 0)))
        return [Address(ip, port_of(number)) for number in range(dns.nameservers)]

    def processes(self) -> list[OwnProcess]:
        """Its process, if it is one of this machine."""
        pid = 0 if self._member is None else self._member.pid
        return [OwnProcess(ProcessRole.DNS, "", pid)] if pid else []

    async def answer_by(self, rules: Sequence[Rule], owner: str) -> None:
        """Set this owner's rules, and wait until they are in force. Raises MachineError."""
        self._rules.set(owner, rules)
        async with self._telling:
            await self._tell_rules()

    async def _tell_rules(self) -> None:
        assert self._member is not None  # noqa: S101 - started
        member = self._member.id
        self._ruled = asyncio.get_running_loop().create_future()
        command = ["python3", "-I", "-S", "-c", TELL.format(CONTROL_PORT), self._rules.encode()]

        def tell(api: Any) -> None:
            api.exec_start(api.exec_create(member, command)["Id"], detach=True)

        await self._engine.do(tell)
        try:
            async with asyncio.timeout(RULES_LIMIT_S):
                refused = await self._ruled
        except TimeoutError:
            raise MachineError("chaosd's DNS does not take its rules") from None
        if refused:
            raise MachineError(f"chaosd's DNS refuses its rules: {refused}")

    async def _until_it_listens(self, member: Member) -> None:
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self._listens
        except TimeoutError:
            what = "chaosd's DNS does not listen"
            raise MachineError(f"{what}: {member.last_line or 'it says nothing'}") from None

    def _on_line(self, line: str, at_ns: int, error_ns: int) -> None:
        try:
            said = json.loads(line)
        except ValueError:  # a traceback, which is what it says last
            return
        if "listening" in said:
            if not self._listens.done():
                self._listens.set_result(None)
            return
        if "rules" in said or "refused" in said:
            if self._ruled is not None and not self._ruled.done():
                self._ruled.set_result(said.get("refused", ""))
            return
        if "strangers" in said:
            self._answers.strangers(said["strangers"], said["from"])
            return
        self.queries += 1
        # Its own stamp is the best one, if it is of our clock.
        own = self._engine.is_here and said["at_ns"] <= at_ns
        self._answers.record(Query(**said | {"at_ns": said["at_ns"] if own else at_ns}))


def _program() -> dict[str, bytes]:
    """The files that it is made of."""
    ours: dict[str, Traversable] = {
        f"chaosd/{part}.py": files(chaosd) / f"{part}.py" for part in PARTS
    }
    actions = files(chaosd) / "dns/actions"
    ours |= {
        f"chaosd/dns/actions/{entry.name}": entry
        for entry in actions.iterdir()
        if entry.name.endswith(".py")
    }
    return {name: file.read_bytes() for name, file in (ours | _dnspython()).items()}


def _dnspython() -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    folders = [("dns", files("dns"))]
    while folders:
        path, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{path}/{entry.name}", entry))
            elif entry.name.endswith(".py"):
                found[f"{path}/{entry.name}"] = entry
    return found
