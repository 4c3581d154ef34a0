"""The YAML's shape, its defaults and its checks: a file in, a frozen Config out.

Every mistake is found in one pass and said as `file:line: path: what is wrong (what would be
right)`. A plugin's part is checked by the plugin's own `Config`, imported only when it is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from chaosd import plugins, shown
from chaosd.config import yamlfile
from chaosd.config.arms import ArmPart, arm_problems
from chaosd.config.complaints import complaints
from chaosd.config.slo import Slo
from chaosd.config.values import NOTHING_SET, DnsName, Listen, Name
from chaosd.config.yamlfile import Problem
from chaosd.errors import ConfigError
from chaosd.history.cycles import ONLY_ARM
from chaosd.history.values import Address
from chaosd.plugins.bases import FaultConfig, KeyPath, Part, ProbeConfig, ProxyConfig, RuntimeConfig
from chaosd.plugins.config_parts import AUTO, Plugin, at, concrete, plugin_config
from chaosd.system.files import open_regular
from chaosd.units import Duration, Percent, PositiveDuration, Rate

_IN_FLIGHT_MAX = 500_000  # probes of a stream; what is under way is kept in memory
_CYCLE_SAMPLES_MAX = 2_000_000  # some 400 MB; a cycle is kept in memory until it is over
_PRECISION_MAX = 0.5  # of the estimate, to either side
_LINE_MAX = 400  # characters of a problem: it is read by people

# --- the shape ----------------------------------------------------------------------------------


class App(Part):
    """The application behind the proxy: its instances are what moves."""

    image: str = Field(
        "http-server", min_length=1, description="what runs; the local runtime has `http-server`"
    )
    port: int = Field(8080, ge=1, le=65_535, description="where each instance listens")
    start_delay: Duration = Field(
        Duration(0), description="how long an instance takes from its start until it listens"
    )
    healthy_after: Duration = Field(
        Duration(0), description="how long an instance that listens answers 503 before it is well"
    )
    replicas: int = Field(1, ge=1, le=32, description="how many instances serve at once")
    identity: Literal["auto", "header", "address"] = Field(
        "auto",
        description="an answer's header X-Chaosd-Instance says which instance it is from "
        "(CHAOSD_IDENTITY in its environment), or the address that HAProxy had it from does; "
        "auto: the header of chaosd's own app, the address of any other",
    )
    command: tuple[str, ...] = Field((), description="instead of the image's own command")
    env: dict[str, str] = Field({}, description="environment variables of every instance")
    remember_ips: int = Field(
        16, ge=1, le=100, description="a new instance gets none of this many last addresses"
    )
    ready_timeout: PositiveDuration = Field(
        Duration.parse("30s"), description="an instance that does not listen by then has failed"
    )

    @field_validator("env")
    @classmethod
    def _variable_names(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise at((name,), "not a variable's name (letters, digits and _)")
        return env


class Dns(Part):
    """How the app's name is answered, where chaosd's own DNS answers it."""

    name: DnsName = Field("app.internal", description="the name that the proxy asks for")
    missing: Literal["nxdomain", "servfail", "refused", "empty", "drop", "stale"] = Field(
        "nxdomain",
        description="the answer while no instance is published; stale: an address is answered "
        "until its successor is there",
    )
    publish: Literal["start", "ready"] = Field(
        "start", description="a new address is answered once its instance is started, or listens"
    )
    ttl: Duration = Field(Duration.parse("10m"), description="in whole seconds")
    delay: Duration = Field(Duration(0), description="how long each answer is held back")
    nameservers: int = Field(
        1, ge=1, le=4, description="how many nameservers the proxy asks, all of chaosd's own"
    )
    cache: Literal["unbound", "dnsmasq"] | None = Field(
        None, description="a real cache between the proxy and chaosd's nameserver (runtime local)"
    )
    negative_ttl: Duration | None = Field(
        None,
        description="how long a cache may remember that there is no address, in whole seconds: an "
        "SOA record says so; not set: there is none",
    )

    @field_validator("ttl", "negative_ttl")
    @classmethod
    def _whole_seconds(cls, ttl: Duration | None) -> Duration | None:
        if ttl is not None and ttl % 1_000_000_000:
            raise ValueError("should be whole seconds (DNS knows no less)")
        return ttl

    @model_validator(mode="after")
    def _one_behind_a_cache(self) -> Self:
        if self.cache is not None and self.nameservers > 1:
            what = f"a proxy that asks a cache asks that alone, not {self.nameservers} nameservers"
            raise at(("nameservers",), f"{what} (leave one of the two out)")
        return self


def _in_flight(probe: Direct | ProbeConfig, where: KeyPath) -> None:
    count = round(probe.rate * probe.timeout.s)
    if count > _IN_FLIGHT_MAX:
        what = f"{probe.timeout} at {probe.rate} are {count:,} probes in flight"
        right = f"at most {_IN_FLIGHT_MAX:,}: a shorter timeout or a lower rate"
        raise at((*where, "timeout"), f"{what} ({right})")


class Direct(Part):
    """The control probe: it asks the app itself, past the proxy, while a cycle lasts."""

    rate: Rate = Field(Rate(100.0), description="probes per second")
    timeout: PositiveDuration = Field(
        Duration.parse("1s"), description="counted from the scheduled time"
    )

    @model_validator(mode="after")
    def _all_in_flight_fit(self) -> Self:
        _in_flight(self, ())
        return self


class Measure(Part):
    """What counts as recovered, stable, and slow."""

    stable_for: PositiveDuration = Field(
        Duration.parse("1s"), description="stable is this long without a bad answer"
    )
    recovery_limit: PositiveDuration = Field(
        Duration.parse("60s"), description="a cycle not recovered by then is censored"
    )
    slow_after: PositiveDuration = Field(
        Duration.parse("250ms"), description="a good answer slower than this is masked"
    )

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.stable_for >= self.recovery_limit:
            raise ValueError(
                f"`stable_for` ({self.stable_for}) should be less than `recovery_limit` "
                f"({self.recovery_limit})"
            )
        return self


class Metrics(Part):
    """The Prometheus endpoint."""

    listen: Listen = Field(
        Address("127.0.0.1", 9464),
        description="host:port; port 0 is any free one",
        json_schema_extra={"default": "127.0.0.1:9464"},
    )


class Runs(Part):
    """Where run directories go."""

    directory: Path = Field(
        Path("runs"), description="relative to where chaosd is started; made if it is missing"
    )
    keep_raw: PositiveDuration | None = Field(
        None,
        description="samples older than this become counts (an hour's files at a time), and of "
        "actions and readings so much and four hours is kept, up to twice; cycles stay, and "
        "without it all does",
    )


class Until(Part):
    """When a run ends by itself; with nothing set it goes on forever."""

    cycles: int | None = Field(None, ge=1, description="after this many cycles in each cell")
    time: PositiveDuration | None = Field(None, description="after this long")
    precision: Percent | None = Field(
        None,
        description="once the 95 % interval of the recovery's p95 is no wider than this to either "
        "side; it needs `cycles` or `time` too, for that may never be",
    )

    @model_validator(mode="after")
    def _ends_anyway(self) -> Self:
        if self.precision is None:
            return self
        if not 0 < self.precision <= _PRECISION_MAX:
            right = f"more than 0%, at most {Percent(_PRECISION_MAX)}"
            raise at(("precision",), f"not a useful precision ({right})")
        if self.cycles is None and self.time is None:
            what = "may never be reached (say `cycles` or `time` beside it, whichever comes first)"
            raise at(("precision",), what)
        return self


class Config(Part):
    """What one run of chaosd does."""

    name: Name = Field(description="a short name for the runs: a-z, 0-9 and -")
    runtime: Annotated[RuntimeConfig, Plugin("runtimes")] = Field(
        {"type": AUTO},
        validate_default=True,
        description="where the topology lives; `auto` takes the best that works here",
    )
    cells: int = Field(
        1, ge=1, le=200, description="how many identical topologies at once, side by side"
    )
    seed: int | None = Field(
        None, ge=0, description="repeats the schedule of an earlier run; not set: a fresh one"
    )
    app: App = App()
    dns: Dns = Dns()
    proxy: Annotated[ProxyConfig, Plugin("proxies")] = Field(
        {"type": "haproxy"},
        validate_default=True,
        description="what is tested",
    )
    faults: tuple[Annotated[FaultConfig, Plugin("faults")], ...] = Field(
        ({"type": "recreate", "every": "10s"},),
        validate_default=True,
        min_length=1,
        max_length=100,
        description="what is broken, and when",
    )
    probes: tuple[Annotated[ProbeConfig, Plugin("probes")], ...] = Field(
        ({"type": "http"},),
        validate_default=True,
        min_length=1,
        max_length=20,
        description="who asks through the proxy; the first one measures recovery",
    )
    direct: Direct | None = Field(
        Direct(), description="the control probe past the proxy; null switches it off"
    )
    measure: Measure = Measure()
    metrics: Metrics | None = Field(
        Metrics(), description="the Prometheus endpoint; null switches it off"
    )
    runs: Runs = Runs()
    slo: Annotated[Slo, NOTHING_SET] = Slo()
    until: Annotated[Until, NOTHING_SET] = Until()
    arms: tuple[ArmPart, ...] = Field(
        (),
        max_length=32,
        description="sets of settings to run beside each other: each has a `name` and values for "
        "config paths such as `proxy.resolvers.timeout_resolve`; not set: only this config",
    )
    _arm_configs: dict[str, Config] = PrivateAttr(default_factory=dict)

    @property
    def arm_configs(self) -> dict[str, Config]:
        """The config of each arm, by its name; a plain run has one."""
        return self._arm_configs or {ONLY_ARM: self}

    @field_validator("faults", "probes")
    @classmethod
    def _labels_differ(
        cls, parts: tuple[FaultConfig | ProbeConfig, ...]
    ) -> tuple[FaultConfig | ProbeConfig, ...]:
        seen: dict[str, int] = {}
        for index, part in enumerate(parts):
            if part.label == "direct" and isinstance(part, ProbeConfig):
                raise at((index,), "`direct` is the control probe's name (say another `name:`)")
            first = seen.setdefault(part.label, index)
            if first != index:
                raise at(
                    (index,), f"is called `{part.label}`, as [{first}] is (say another `name:`)"
                )
        return parts

    @field_validator("slo")
    @classmethod
    def _faults_are_there(cls, slo: Slo, info: ValidationInfo) -> Slo:
        labels = [fault.label for fault in info.data.get("faults", ())]
        for label in slo.faults if labels else ():
            if label not in labels:
                raise at(("faults", label), f"no fault has this label (there: {', '.join(labels)})")
        return slo

    @field_validator("probes")
    @classmethod
    def _first_identifies(cls, probes: tuple[ProbeConfig, ...]) -> tuple[ProbeConfig, ...]:
        if not plugins.find("probes", probes[0].type).identifies:
            what = "the first probe measures recovery and must tell who answered"
            raise at((0,), f"{what} (http and httpx can)")
        return probes

    @field_validator("probes")
    @classmethod
    def _all_in_flight_fit(cls, probes: tuple[ProbeConfig, ...]) -> tuple[ProbeConfig, ...]:
        for index, probe in enumerate(probes):
            _in_flight(probe, (index,))
        return probes

    @model_validator(mode="after")
    def _a_cycle_fits_in_memory(self) -> Self:
        rate, limit = self.probes[0].rate, self.measure.recovery_limit
        count = round(rate * limit.s)
        if count > _CYCLE_SAMPLES_MAX:
            what = f"{limit} at {rate} are {count:,} samples in one cycle"
            right = f"at most {_CYCLE_SAMPLES_MAX:,}: a shorter limit or a lower rate"
            raise at(("measure", "recovery_limit"), f"{what} ({right})")
        return self

    def direct_probe(self) -> ProbeConfig:
        """The control probe as an `http` probe's config; only where `direct` is not None."""
        model, direct = plugin_config("probes", "http"), self.direct or Direct()
        values = {"rate": direct.rate, "timeout": direct.timeout}
        probe = model.model_validate({"type": "http", "name": "direct", **values})
        assert isinstance(probe, ProbeConfig)  # noqa: S101 - plugin_config has looked
        return probe


# --- in and out ---------------------------------------------------------------------------------


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, with `path=value` overrides over what it says.

    Raises ConfigError with every problem there is. Relative paths in a plugin's part belong to the
    file's own directory: its validators find that as `info.context["base"]`.
    """
    shown.forget()
    return _whole(partial(document, path, overrides), path)


def of_text(text: str, called: Path, overrides: Sequence[str] = ()) -> Config:
    """The same for a text that is no file; relative paths belong to where `called` lies.

    Problems call it `called`.
    """

    def fresh() -> yamlfile.Document:
        read = yamlfile.read(text)
        for override in overrides:
            yamlfile.override(read, override, defaults())
        return read

    return _whole(fresh, called)


def of_data(data: dict[str, Any], called: Path) -> Config:
    """The same for plain data without arms, which are taken over."""
    return validated(yamlfile.Document(data), called)


def _whole(fresh: Callable[[], yamlfile.Document], path: Path) -> Config:
    read = fresh()
    secrets = shown.secrets_of(read.data)
    shown.know(value for where, value in secrets if shown.is_telling(where, value))
    config = validated(read, path)
    if config.arms:
        config._arm_configs.update(_arm_configs(config, fresh, path))  # noqa: SLF001
    return config


def validated(document: yamlfile.Document, path: Path) -> Config:
    """A document's config. Raises ConfigError with every problem that it has by then, too."""
    if "proxy" not in document.data and (proxy := _found_proxy(document.data.get("runtime"))):
        document.data["proxy"] = {"type": proxy}
    try:
        text, context = json.dumps(document.data), {"base": path.parent.absolute()}
        config = Config.model_validate_json(text, strict=True, context=context)
    except ValidationError as error:
        taken = {problem.path for problem in document.problems}
        for where, what in complaints(error, Config, document.data, concrete):
            if where not in taken:
                document.problems.append(Problem(document.place(where), where, what))
    if document.problems:
        raise ConfigError(*(line(path, problem) for problem in sorted(document.problems, key=_by)))
    return config


def _arm_configs(
    config: Config, fresh: Callable[[], yamlfile.Document], path: Path
) -> dict[str, Config]:
    """What each arm comes to. Raises ConfigError with every problem there is, at its own line."""
    found, problems = dict[str, Config](), list[str]()
    for index, arm in enumerate(config.arms):
        own = fresh()
        own.problems += arm_problems(config.arms, index, own)
        own.data.pop("arms")
        for target, value in arm.values.items():
            place = own.lines.get(("arms", index, target)) or own.lines.get(("arms", index), 1)
            yamlfile.assign(own, target, value, place, defaults())
        try:
            found[arm.name] = validated(own, path)
        except ConfigError as error:
            problems += [each for each in error.problems if each not in problems]
    if problems:
        raise ConfigError(*problems)
    return found


def _found_proxy(runtime: Any) -> str | None:
    """The proxy where a runtime makes none of its own and the config names none."""
    name = runtime.get("type") if isinstance(runtime, dict) else runtime
    point = plugins.available("runtimes").get(name) if isinstance(name, str) else None
    try:
        proxy: str | None = point.load().default_proxy if point is not None else None
    except Exception:  # noqa: BLE001 - validation says what is wrong with that plugin
        return None
    return proxy


def at_line(path: Path, overrides: Sequence[str], where: KeyPath, what: str) -> str:
    """Say a problem that shows only when the machine is known, at its line in the file."""
    return line(path, Problem(document(path, overrides).place(where), where, what))


def document(path: Path, overrides: Sequence[str] = ()) -> yamlfile.Document:
    """What a file says, with overrides. Raises ConfigError where that can't be told."""
    try:
        with open_regular(path) as file:
            read = yamlfile.read(yamlfile.decode(file.read(yamlfile.SIZE_MAX + 1) or b""))
    except yamlfile.Unreadable as error:
        raise ConfigError(line(path, error.problem)) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"{path}: can't be read ({reason})") from error
    if not isinstance(read.data, dict):
        what = "is empty" if read.data is None else "is not a mapping of keys to values"
        first = read.lines.get((), 1)
        raise ConfigError(f"{path}:{first}: the config {what} (it has at least `name: …`)")
    for override in overrides:
        yamlfile.override(read, override, defaults())
    return read


def defaults() -> dict[str, Any]:
    """Values that may be set in parts though a document leaves them out."""
    return {
        name: json.loads(json.dumps(field.default))  # lists for tuples, as a file has them
        for name, field in Config.model_fields.items()
        if isinstance(field.default, dict | tuple)
    }


def line(path: Path, problem: Problem) -> str:
    """A problem as people read it: where, and what."""
    place = f"{path}:{problem.place}" if isinstance(problem.place, int) else problem.place
    where = yamlfile.show(problem.path)
    said = shown.line(" ".join(f"{place}: {where + ': ' if where else ''}{problem.what}".split()))
    return said if len(said) <= _LINE_MAX else said[: _LINE_MAX - 1] + "…"


def _by(problem: Problem) -> tuple[bool, int]:
    """Problems are said in the order of the file's lines, then those of overrides."""
    place = problem.place
    return (False, place) if isinstance(place, int) else (True, 0)


def dump(config: Config, *, with_secrets: bool = False) -> str:
    """The effective config as YAML, everything spelled out: for people, without secrets.

    With them it loads to an equal Config.
    """
    tree = config.model_dump(mode="json")
    return yamlfile.write(tree if with_secrets else shown.mask_tree(tree))


def secrets_of(config: Config) -> list[tuple[str, str]]:
    """What `dump` does not show: paths and values."""
    return list(shown.secrets_of(config.model_dump(mode="json")))


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the config, with the parts of all installed plugins."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **Config.model_json_schema(), "title": "chaosd's config"}
