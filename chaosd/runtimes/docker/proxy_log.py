"""What a proxy's container prints: kept in the cell's directory, and read for what it tells."""

from __future__ import annotations

from logging import makeLogRecord
from pathlib import PurePosixPath

from chaosd.plugins.proxy import Launches, ReadsLog, log_event
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.system.processes import OutputFile

ECHO_NS = 50_000_000  # a proxy may say the same on its standard output and its standard error


class ProxyLog:
    """The log of one cell's proxy."""

    def __init__(self, cell: CellSpec, recorder: Recorder) -> None:
        proxy = cell.proxy
        name = PurePosixPath(proxy.config_name).stem if isinstance(proxy, Launches) else "proxy"
        self._file = OutputFile(cell.directory / f"{name}.log")
        self._read = proxy.log_reader() if isinstance(proxy, ReadsLog) else None
        self._recorder = recorder
        self._said: dict[str, int] = {}
        self._closed = False

    def heard(self, line: str, at_ns: int, error_ns: int) -> None:
        """Take a line that was printed at this instant."""
        if self._closed:
            return
        self._file.emit(makeLogRecord({"msg": line}))
        said = self._read(line) if self._read is not None else None
        if said is None:
            return
        what, data = said
        key = f"{what} {data.get('server')} {data.get('old')} {data.get('new')}"
        echo = at_ns - self._said.get(key, at_ns - ECHO_NS) < ECHO_NS
        self._said[key] = at_ns
        if not echo:
            self._recorder.record(log_event(what, data), at_ns=at_ns, error_ns=error_ns)

    def close(self) -> None:
        self._closed = True
        self._file.close()
