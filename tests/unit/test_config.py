from __future__ import annotations

import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, Literal

import budget
import pytest
import yaml
from config_texts import VALID, Fail, Load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chaosd import plugins
from chaosd.config import shape, yamlfile
from chaosd.config.shape import Config
from chaosd.errors import ConfigError
from chaosd.history.values import Address
from chaosd.plugins.bases import Between, FaultConfig, ProbeConfig
from chaosd.units import Duration, Rate

ROOT = Path(__file__).parent.parent.parent
DESIGNS = {"lab", "settings"}  # of sweeps: tests/unit/test_sweep_design.py reads them
EXAMPLES = sorted(p for p in (ROOT / "configs").glob("*.yaml") if p.stem not in DESIGNS)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str | bytes, *overrides: str) -> Config:
        path = tmp_path / "x.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return shape.load(path, overrides)

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Fail:
    def problems(text: str | bytes, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]

    return problems


# --- what a config says ---------------------------------------------------------------------------


def test_a_name_is_enough(load: Load) -> None:
    loaded = load("name: x\n")
    assert loaded.runtime.type == "auto"
    assert (loaded.cells, loaded.seed) == (1, None)
    assert loaded.proxy.type == "haproxy"
    assert [(fault.type, fault.every) for fault in loaded.faults] == [("recreate", 10**10)]
    assert [(probe.type, probe.rate) for probe in loaded.probes] == [("http", 100.0)]
    assert loaded.direct is not None
    assert loaded.metrics is not None
    assert loaded.metrics.listen == Address("127.0.0.1", 9464)
    assert (loaded.until.cycles, loaded.until.time) == (None, None)


def test_every_part_is_the_plugins_own(load: Load) -> None:
    loaded = load(VALID)
    assert type(loaded.proxy) is plugins.find("proxies", "haproxy").Config
    assert type(loaded.faults[1]) is plugins.find("faults", "noop").Config
    assert type(loaded.probes[1]) is plugins.find("probes", "httpx").Config
    assert loaded.faults[0].every == Between(min=Duration.parse("4s"), max=Duration.parse("9s"))
    assert [fault.label for fault in loaded.faults] == ["recreate", "noop"]
    assert [probe.label for probe in loaded.probes] == ["http", "slow"]
    assert loaded.app.env == {"GREETING": "on"}
    assert loaded.metrics is not None
    assert loaded.metrics.listen == Address("::1", 0)


def test_it_is_frozen(load: Load) -> None:
    loaded = load("name: x\n")
    with pytest.raises(ValidationError):
        loaded.cells = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        loaded.app.port = 2  # type: ignore[misc]


def test_a_bare_runtime_is_short_for_its_type(load: Load) -> None:
    assert load("name: x\nruntime: local\n") == load("name: x\nruntime: {type: local}\n")
    assert load("name: x\nruntime: auto\n") == load("name: x\n")


def test_null_switches_off_what_can_be_off(load: Load) -> None:
    loaded = load("name: x\nmetrics: null\ndirect: ~\nuntil:\n")
    assert (loaded.metrics, loaded.direct) == (None, None)
    assert loaded.until == load("name: x\n").until


def test_scalars_are_those_of_yaml_1_2(load: Load) -> None:
    env = "{A: on, B: yes, C: 1:30, D: 2024-01-01, E: n, F: 0b1, G: 1_000, H: .inf, I: =}"
    loaded = load(f"name: on\nruns: {{directory: no}}\napp: {{env: {env}, port: 0x50}}\n")
    assert loaded.name == "on"
    assert str(loaded.runs.directory) == "no"
    assert loaded.app.port == 80
    assert list(loaded.app.env.values()) == [
        *("on", "yes", "1:30", "2024-01-01", "n", "0b1", "1_000", ".inf", "="),
    ]


def test_the_direct_probe_is_an_http_probe(load: Load) -> None:
    probe = load("name: x\ndirect: {rate: 5/s, timeout: 300ms}\n").direct_probe()
    assert isinstance(probe, plugins.find("probes", "http").Config)
    assert isinstance(probe, ProbeConfig)
    assert (probe.label, probe.rate, probe.timeout.s) == ("direct", 5.0, 0.3)


def test_a_config_can_be_made_in_python() -> None:
    recreate = plugins.find("faults", "recreate").Config(type="recreate", every="3s")
    made = Config(name="x", faults=(recreate,), proxy={"type": "haproxy"})  # type: ignore[arg-type]
    assert made.faults == (recreate,)
    assert made.probes[0].type == "http"


def test_relative_paths_of_plugins_belong_to_the_files_directory(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "my.cfg").touch()
    loaded: Any = load("name: x\nproxy: {type: haproxy, config: ./my.cfg}\n")
    assert loaded.proxy.config == tmp_path / "my.cfg"


# --- and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["name: x\n", VALID, "name: x\nmetrics: null\ndirect: null\n"])
def test_a_dump_loads_to_the_same(load: Load, text: str) -> None:
    loaded = load(text)
    dumped = shape.dump(loaded, with_secrets=True)
    assert load(dumped) == loaded
    assert shape.dump(load(dumped), with_secrets=True) == dumped
    assert list(yaml.safe_load(dumped)) == list(Config.model_fields)


def test_a_dump_with_an_own_proxy_file_loads_to_the_same(load: Load) -> None:
    loaded = load("name: x\nproxy: {type: haproxy, config: ./my.cfg}\n")
    assert load(shape.dump(loaded)) == loaded


def test_a_dump_spells_everything_out(load: Load) -> None:
    dumped = yaml.safe_load(shape.dump(load("name: x\n")))
    assert dumped["faults"][0] | {"every": "10s", "old_ip": "refuse"} == dumped["faults"][0]
    assert dumped["metrics"] == {"listen": "127.0.0.1:9464"}
    assert dumped["measure"]["slow_after"] == "250ms"


@settings(
    derandomize=True,
    max_examples=budget.of(10, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]))), st.text("019.eE+-xo_:"))
def test_any_text_comes_back_from_a_dump(load: Load, command: list[str], number: str) -> None:
    made = Config(name="x", app={"command": command, "env": {"N": number}})  # type: ignore[arg-type]
    assert load(shape.dump(made, with_secrets=True)) == made


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_and_come_back(path: Path, load: Load) -> None:
    loaded = shape.load(path)
    assert load(shape.dump(loaded)) == loaded
    assert loaded.name == path.stem


def test_there_are_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert names >= {"demo", "local", "sim", "control", "many-cells"}


# --- overrides ------------------------------------------------------------------------------------


def test_overrides_set_values(load: Load) -> None:
    loaded: Any = load(
        VALID,
        "faults[0].every=3s",
        "faults.1.cron=0 * * * *",
        "proxy.resolvers.timeout_resolve=200ms",
        "app.env.GREETING='off'",
        "until.time=10m",
        "metrics=null",
        "probes=[{type: http, rate: 5/s}]",
        "seed=7",
    )
    assert loaded.faults[0].every == Duration.parse("3s")
    assert loaded.faults[0].old_ip == "imposter"
    assert loaded.faults[1].cron == "0 * * * *"
    assert loaded.proxy.resolvers.timeout_resolve == Duration.parse("200ms")
    assert loaded.app.env == {"GREETING": "off"}
    assert (loaded.until.cycles, loaded.until.time) == (50, Duration.parse("10m"))
    assert loaded.metrics is None
    assert [probe.rate for probe in loaded.probes] == [Rate.parse("5/s")]
    assert loaded.seed == 7


def test_overrides_reach_into_what_the_file_leaves_out(load: Load) -> None:
    loaded: Any = load(
        "name: x\nuntil:\n",
        *("faults[0].old_ip=tarpit", "proxy.server.fall=5", "until.cycles=3"),
        *("measure.stable_for=2s", "app.env.A=b"),
    )
    assert (loaded.faults[0].type, loaded.faults[0].old_ip) == ("recreate", "tarpit")
    assert (loaded.proxy.type, loaded.proxy.server.fall) == ("haproxy", 5)
    assert loaded.until.cycles == 3
    assert loaded.measure.stable_for == Duration.parse("2s")
    assert loaded.app.env == {"A": "b"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cells", "should be a path, `=` and a value (such as faults[0].every=3s)"),
        ("cells=", "should be a path, `=` and a value (such as faults[0].every=3s)"),
        ("=3", "should be a path, `=` and a value (such as faults[0].every=3s)"),
        ("faults[].every=3s", "should be a path, `=` and a value (such as faults[0].every=3s)"),
        ("a" + ".a" * 60 + "=1", "should be a path, `=` and a value (such as faults[0].every=3s)"),
        ("faults[7].every=3s", "faults is a list without [7] (the last is [1])"),
        ("faults.last.every=3s", "faults is a list without [last] (the last is [1])"),
        ("name.first=3s", "name has no parts (set it as a whole)"),
        ("cells=[1", "not YAML: a `[` that is never closed, or a missing comma"),
        ("cells=!!int 3", "cells: tags are not supported (remove `!!int`)"),
        ("cells=many", "cells: should be a whole number"),
        ("faults[0].evry=3s", "faults[0].evry: unknown key `evry` (did you mean `every`?)"),
        ("app={port: 1, prt: 2}", "app.prt: unknown key `prt` (did you mean `port`?)"),
        ("until={cycle: 2}", "until.cycle: unknown key `cycle` (did you mean `cycles`?)"),
        ("cels=2", "cels: unknown key `cels` (did you mean `cells`?)"),
    ],
)
def test_wrong_overrides_are_said(problems: Fail, override: str, message: str) -> None:
    assert problems(VALID, override) == [f"--set {override}: {message}"]


def test_an_override_that_may_be_a_secret_is_not_shown(problems: Fail) -> None:
    assert problems(VALID, "app.env.X.y=1") == [
        "--set app.env.X.y=(not shown): app.env.X: should be text"
    ]


def test_an_override_mends_the_file_and_problems_of_both_are_said_in_order(problems: Fail) -> None:
    text = "name: X\ncells: 0\nruntime: nowhere\n"
    assert problems(text, "cells=3", "seed=-1") == [
        "x.yaml:1: name: should be 1 to 40 of a-z, 0-9 and -",
        "x.yaml:3: runtime.type: unknown name `nowhere` (known: auto, "
        + ", ".join(plugins.available("runtimes"))
        + ")",
        "--set seed=-1: seed: should be at least 0",
    ]


# --- files that can't be read ---------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "nothing.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "its path can't be one"),
    ]:
        with pytest.raises(ConfigError) as caught:
            shape.load(path)
        assert caught.value.problems == (f"{path}: can't be read ({reason})",)


def test_a_file_that_is_too_big(problems: Fail) -> None:
    assert problems("name: x\n" + "#" * yamlfile.SIZE_MAX) == [
        "x.yaml:1: more than 1 MiB (a config has a few KiB)"
    ]


def test_too_many_values(problems: Fail) -> None:
    text = "name: x\napp:\n  command:\n" + "  - a\n" * 10_000
    assert problems(text) == ["x.yaml:9998: more than 10000 values (a config has a few hundred)"]


def test_too_many_faults(problems: Fail) -> None:
    text = "name: x\nfaults:\n" + "".join(
        f"- {{type: noop, name: n{n}, every: 1s}}\n" for n in range(101)
    )
    assert problems(text) == ["x.yaml:2: faults: should have 100 entries at most"]


def test_numbers_that_nobody_means(problems: Fail) -> None:
    for number in ("9" * 5000, "0x" + "f" * 5000, "1e999", "1e" + "9" * 5000):
        assert problems(f"name: x\ncells: {number}\n") == [
            "x.yaml:2: cells: should be a whole number"
        ]


def test_arguments_that_are_not_utf_8(problems: Fail) -> None:
    assert problems("name: x\n", "cells=\udcff") == [
        "--set cells=\\udcff: a character that YAML doesn't allow (U+DCFF)"
    ]


def test_a_problem_is_one_line_of_bounded_length(problems: Fail) -> None:
    (problem,) = problems("name: x\n" + f'"{"k" * 300}\\n{"k" * 300}": 1\n')
    assert "\n" not in problem
    assert len(problem) <= 400


def test_byte_order_mark_and_windows_line_ends(load: Load, problems: Fail) -> None:
    assert load(b"\xef\xbb\xbfname: x\r\ncells: 2\r\n").cells == 2
    assert problems(b"\xef\xbb\xbfname: x\r\ncells: 0\r\n") == [
        "x.yaml:2: cells: should be at least 1"
    ]


# --- plugins that are not ours --------------------------------------------------------------------


class Strange:
    """A probe that can't tell who answered, with a union of models in its config."""

    identifies = False

    class Config(ProbeConfig):
        type: Literal["strange"] = "strange"
        shape: Between | int = 1
        many: tuple[Between, ...] = ()


class NotAFault:
    class Config(ProbeConfig):
        type: str = "not-a-fault"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    added = {
        "chaosd.probes": {"strange": f"{__name__}:Strange"},
        "chaosd.faults": {
            "broken": "chaosd_no_such_package.fault:Fault",
            "odd": f"{__name__}:NotAFault",
            "gone": f"{__name__}:Gone",
        },
    }

    installed = plugins.entry_points

    def with_others(group: str) -> EntryPoints:
        more = [EntryPoint(name, value, group) for name, value in added.get(group, {}).items()]
        return EntryPoints([*installed(group), *more])

    monkeypatch.setattr(plugins, "entry_points", with_others)


@pytest.mark.usefixtures("others")
def test_a_plugin_that_cannot_be_loaded_is_one_line(problems: Fail) -> None:
    text = "name: x\nfaults:\n- {type: broken}\n- {type: odd}\n- {type: gone}\n"
    assert problems(text) == [
        f"x.yaml:{line}: faults[{line - 3}].type: plugin faults/{name} can't be loaded: {reason}"
        for line, name, reason in [
            (3, "broken", "ModuleNotFoundError: No module named 'chaosd_no_such_package'"),
            (4, "odd", "TypeError: its Config is no FaultConfig"),
            (5, "gone", f"AttributeError: module {__name__!r} has no attribute 'Gone'"),
        ]
    ]
    assert "broken" in json.dumps(shape.schema())


@pytest.mark.usefixtures("others")
def test_the_first_probe_must_tell_who_answered(load: Load, problems: Fail) -> None:
    what = "the first probe measures recovery and must tell who answered (http and httpx can)"
    text = "name: x\nprobes:\n- type: strange\n- type: http\n"
    assert problems(text) == [f"x.yaml:3: probes[0]: {what}"]
    assert load("name: x\nprobes:\n- type: http\n- type: strange\n").probes[1].type == "strange"


@pytest.mark.usefixtures("others")
def test_the_names_of_a_unions_members_are_not_in_paths(problems: Fail) -> None:
    text = "name: x\nprobes:\n- type: http\n- type: strange\n"
    assert problems(text + "  shape: {min: 1s, max: 2}\n") == [
        "x.yaml:5: probes[1].shape.max: a duration needs a unit (such as 2s or 2ms)",
        "x.yaml:5: probes[1].shape: should be a whole number",
    ]
    what = "should be a mapping (keys: min, max) or should be a whole number"
    assert problems(text + "  shape: round\n") == [f"x.yaml:5: probes[1].shape: {what}"]
    assert problems(text + "  many:\n  - {min: 1s, max: 2s}\n  - {min: 3s, mx: 4s}\n") == [
        "x.yaml:7: probes[1].many[1].max: is missing",
        "x.yaml:7: probes[1].many[1].mx: unknown key `mx` (did you mean `max`?)",
    ]


@pytest.mark.usefixtures("others")
def test_the_schema_has_other_peoples_plugins() -> None:
    branches = shape.schema()["properties"]["probes"]["items"]["oneOf"]
    assert {branch["properties"]["type"]["const"] for branch in branches} >= {"strange", "http"}


# --- the cadence of a fault -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"every": "5s"},
        {"every": "5s", "jitter": "5s"},
        {"every": {"min": "0s", "max": "9s"}},
        {"every": {"min": "9s", "max": "9s"}},
        {"cron": "*/5 * * * *"},
        {"cron": "0 3 1,15 jan-jun mon"},
        {"cron": "0 0 29 2 *"},
    ],
)
def test_cadences_that_are_right(values: dict[str, Any]) -> None:
    assert FaultConfig.model_validate({"type": "x"} | values)


def test_an_idle_rate_is_a_part_of_the_rate() -> None:
    def probe(**values: str) -> ProbeConfig:
        return ProbeConfig.model_validate({"type": "x"} | values)

    assert probe(rate="50/s").idle_every == 1
    assert probe(rate="50/s", idle_rate="5/s").idle_every == 10
    assert probe(rate="50/s", idle_rate="6/m").idle_every == 500
    assert probe(rate="50/s", idle_rate="25/s").idle_every == 2
    with pytest.raises(ValidationError, match=r"more than half of `rate` \(at most 25/s\)"):
        probe(rate="50/s", idle_rate="26/s")


def test_a_secret_is_masked_for_people_and_given_to_the_prober(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "name: x\nprobes: [{type: httpx, auth: {username: me, password: hunter2}}]\n"
        "faults: [{type: noop, every: 5s}]\n"
    )
    loaded = shape.load(file)
    assert "hunter2" not in shape.dump(loaded)
    assert "(not shown)" in shape.dump(loaded)
    assert "hunter2" in loaded.probes[0].model_dump_json()


@pytest.mark.parametrize(("said", "meant"), [("2.6", "2.6"), ("3.0", "3.0"), ("'3.2'", "3.2")])
def test_a_version_of_haproxy_needs_no_quotes(tmp_path, said, meant) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: x\nruntime: sim\nfaults: [{type: noop, every: 5s}]\n")
    assert shape.load(file, [f"proxy.version={said}"]).proxy.version == meant
