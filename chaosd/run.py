"""One run from its directory to its report: sinks opened, signals minded, the ending said."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

from chaosd import __version__, config, report
from chaosd.clock import utc
from chaosd.engine import Engine
from chaosd.errors import ChaosdError, Exit, MachineError
from chaosd.plan import Plan
from chaosd.sinks import Sink
from chaosd.sinks.console import Console
from chaosd.sinks.prometheus import PrometheusSink
from chaosd.sinks.store import RunStore


class Run:
    """What `chaosd run` does, once the plan is known to be possible."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.directory = _new_directory(plan)
        self.console = Console(sys.stdout)
