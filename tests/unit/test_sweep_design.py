"""A sweep's design: what varies, what is refused, and which arms come of it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import yaml

from chaosd.cli import sweep
from chaosd.config import shape
from chaosd.errors import ConfigError
from chaosd.sweep import arms, axes, design, foresight
from chaosd.sweep.axes import Log, Range, SameAs

RESOLVE, RETRY = "proxy.resolvers.timeout_resolve", "proxy.resolvers.timeout_retry"
BASE = {"name": "b", "runtime": "sim", "proxy": {"type": "haproxy"}}


def loaded(tmp_path: Path, base=BASE, **keys) -> design.Loaded:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    path = tmp_path / "design.yaml"
    path.write_text(yaml.safe_dump({"name": "d", "base": "base.yaml", **keys}, sort_keys=False))
    found = design.load(path)
    found.stand_on(shape.document(tmp_path / "base.yaml"), tmp_path / "base.yaml")
    return found


def arms_of(found: design.Loaded, seed=1) -> list[arms.Arm]:
    maker = arms.Maker(found, arms.Base(found), arms.Programs(found, needed=False))
    wanted = arms.combinations(found, maker.base, seed)
    return arms.distinct([maker.baseline(), *map(maker.arm, wanted)])


def problems(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        design.load(path).stand_on(shape.document(tmp_path / "base.yaml"), tmp_path / "base.yaml")
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.problems]


# --- values ---


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (Range(range=("200ms", "1s"), n=3), ["200ms", "600ms", "1s"]),
        (Range(range=("200ms", "1s"), step="300ms"), ["200ms", "500ms", "800ms"]),
        (Range(range=(1, 5), step=2), [1, 3, 5]),
        (Range(range=(1, 2.5), n=4), [1.0, 1.5, 2.0, 2.5]),
        (Range(range=(1, 3), n=5), [1, 2, 3]),  # whole numbers stay whole, and each comes once
        (Log(log=("200ms", "3s"), n=5), ["200ms", "394ms", "775ms", "1.52s", "3s"]),
        (Log(log=(1, 1000), n=4), [1, 10, 100, 1000]),
        ((False, 1, True), [False, 1, True]),
    ],
)
def test_values_of_an_axis(axis, values) -> None:
    assert list(axes.values_of(axis)) == values


def test_a_latin_hypercube_has_each_part_of_each_axis_once() -> None:
    free = {"a": Range(range=(0.0, 1.0), n=2), "b": Log(log=("1ms", "10s"), n=2), "c": (1, 2, 3, 4)}
    tied = {**free, "d": SameAs(same_as="b")}
    found = list(axes.latin(tied, 20, Random("x")))
    assert sorted(int(each["a"] * 20) for each in found) == list(range(20))
    assert Counter(each["c"] for each in found) == dict.fromkeys((1, 2, 3, 4), 5)
    assert all(each["d"] == each["b"] for each in found)
    assert found == list(axes.latin(tied, 20, Random("x")))
    assert found != list(axes.latin(tied, 20, Random("y")))


def test_neighbours_differ_by_one_step_of_one_axis() -> None:
    found = {"a": (1, 2, 3), "b": SameAs(same_as="a"), "c": (False, True)}
    here = {"a": 1, "b": 1, "c": False}
    assert axes.neighbours(found, here, {"a": 2, "b": 2, "c": False})
    assert axes.neighbours(found, here, {"a": 1, "b": 1, "c": True})
    assert not axes.neighbours(found, here, {"a": 3, "b": 3, "c": False})
    assert not axes.neighbours(found, here, {"a": 2, "b": 2, "c": True})
    assert not axes.neighbours(found, here, here)


# --- what is wrong with a file ---


def test_every_mistake_is_said_at_its_line(tmp_path) -> None:
    text = """\
name: d
base: base.yaml
vary:
  proxy.resolvers.timeout_resolve: {log: [200ms, 3], n: 3}
  proxy.redispatch: no
minimize: [recovery_p95, faild]
until: {cycles: 0}
"""
    said = problems(tmp_path, text)
    assert [line.split(":")[:2] for line in said] == [["d.yaml", n] for n in "4567"]
    assert "both ends should be of one kind" in said[0]
    assert "should be a list" in said[1]
    assert "did you mean `failed`?" in said[2]


def test_values_that_the_base_refuses_are_said_at_their_line(tmp_path) -> None:
    text = """\
name: d
base: base.yaml
vary:
  proxy.resolvers.timeout_resolve: [200ms, 3]
  proxy.resolvers.timeout_rery: {same_as: proxy.resolvers.timeout_resolve}
  proxy.redispatch: [sometimes]
  probes.0.rate: [10/s]
  proxy.retries: {same_as: proxy.redispatsch}
faults: [recreat]
"""
    said = problems(tmp_path, text)
    lines = {int(line.split(":")[1]): line for line in said}
    assert sorted(lines) == [4, 5, 6, 7, 8, 9]
    assert "a duration needs a unit" in lines[4]
    assert "unknown key `timeout_rery`" in lines[5]
    assert "is shared by all arms" in lines[7]
    assert "has no values of its own in `vary`" in lines[8]
    assert "there is no fault `recreat`" in lines[9]


def of_command(path: Path, *options: str) -> design.Loaded:
    """The design as the command reads it, with all the files that it names."""
    parser = argparse.ArgumentParser()
    sweep.add_options(parser)
    return sweep._loaded(parser.parse_args([str(path), *options]))


def test_mistakes_of_the_file_its_paths_and_its_values_are_said_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    text = """\
name: D!
base: base.yaml
env: no.env
vary:
  proxy.resolvers.timeout_resolve: {log: [200ms, 3], n: 3}
  proxy.resolvers.timeout_rery: {same_as: proxy.resolvers.timeout_resolve}
  proxy.redispatch: [sometimes]
  proxy.retries: 3
minimise: [failed]
baseline: ./old.cfg
faults: [recreat]
"""
    Path("d.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        of_command(Path("d.yaml"))
    lines = {int(line.split(":")[1]): line for line in caught.value.problems}
    assert [*lines] == [1, 3, 5, 7, 8, 9, 10, 11]
    assert "env: there is no no.env" in lines[3]
    assert "did you mean `minimize`?" in lines[9]
    assert "baseline: there is no old.cfg" in lines[10]
    Path("d.yaml").write_text(text.replace("base: base.yaml", "haproxy: base.yaml"))
    with pytest.raises(ConfigError) as caught:
        of_command(Path("d.yaml"))
    assert "d.yaml:2: haproxy: base.yaml is a config of chaosd's (say base: base.yaml)" in [
        *caught.value.problems
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"vary": {}}, "should have 1 entr"),
        ({"vary": {RETRY: []}}, "an empty list"),
        ({"vary": {RETRY: ["1s", "1s"]}}, "a value is given twice"),
        ({"vary": {RETRY: ["1s"]}, "how": "lhs"}, "`how: lhs` and `samples` go together"),
        ({"vary": {RETRY: {"range": ["2s", "1s"], "n": 3}}}, "the first value should be less"),
        ({"vary": {RETRY: {"range": ["1s", "2s"]}}}, "say `n` or `step`"),
        ({"vary": {RETRY: {"log": ["0s", "2s"], "n": 3}}}, "begins above 0"),
    ],
)
def test_what_can_not_be_varied_so(tmp_path, keys, said) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **keys)
    assert said in str(caught.value)


def test_too_many_combinations_are_refused(tmp_path) -> None:
    axis = {"range": ["1ms", "1s"], "n": 60}
    vary = dict.fromkeys((RESOLVE, RETRY, "proxy.server.inter"), axis)
    with pytest.raises(ConfigError, match="216,000 combinations"):
        arms_of(loaded(tmp_path, vary=vary))


# --- arms ---


def test_arms_are_a_product_with_tied_values_and_the_baseline(tmp_path) -> None:
    vary = {RESOLVE: ["200ms", "1s"], RETRY: {"same_as": RESOLVE}, "proxy.redispatch": [False, 1]}
    found = arms_of(loaded(tmp_path, vary=vary))
    # HAProxy's defaults are 1s and no redispatch: that combination is the baseline itself.
    assert [arm.sweep.name for arm in found] == [
        *("baseline", "200ms-noredispatch", "200ms-1", "1s-1")
    ]
    assert [arm.sweep.baseline for arm in found] == [True, False, False, False]
    assert found[0].sweep.values == {RESOLVE: "1s", RETRY: "1s", "proxy.redispatch": False}
    assert found[0].said == {}
    assert found[2].said == {RESOLVE: "200ms", RETRY: "200ms", "proxy.redispatch": 1}
    assert found[3].said == {"proxy.redispatch": 1}


def test_one_at_a_time_and_a_baseline_of_ones_own(tmp_path) -> None:
    vary = {RESOLVE: ["200ms", "1s"], "proxy.retries": [3, 0]}
    found = arms_of(loaded(tmp_path, vary=vary, how="one_at_a_time", baseline={RESOLVE: "2s"}))
    assert [dict(arm.said) for arm in found] == [
        {RESOLVE: "2s"},
        {},
        {RESOLVE: "200ms"},
        {"proxy.retries": 0},
    ]


def test_the_baseline_may_be_an_arm_by_its_name(tmp_path) -> None:
    vary = {RESOLVE: ["0.2s", "1s"], "proxy.redispatch": [False, 1]}
    for how in ({}, {"how": "one_at_a_time"}):
        found = arms_of(loaded(tmp_path, vary=vary, baseline="200ms-noredispatch", **how))
        assert found[0].sweep.baseline
        assert found[0].said == {RESOLVE: "0.2s"}
    assert "200ms-noredispatch" not in [arm.sweep.name for arm in found]
    with pytest.raises(ConfigError, match=r"no arm is called .*did you mean 200ms-1"):
        loaded(tmp_path, vary=vary, baseline="200ms-2")


def test_the_baseline_may_be_another_config(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    proxy = {"type": "haproxy", "redispatch": 1, "resolvers": {"timeout_resolve": "2s"}}
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    Path("old.yaml").write_text(yaml.safe_dump(BASE | {"name": "old", "proxy": proxy}))
    keys = {"vary": {RESOLVE: ["2s"], "proxy.redispatch": [False, 1]}, "baseline": "old.yaml"}
    text = yaml.safe_dump({"name": "d", "base": "base.yaml", **keys}, sort_keys=False)
    Path("d.yaml").write_text(text)
    found = arms_of(of_command(Path("d.yaml")))
    assert found[0].sweep.values == {RESOLVE: "2s", "proxy.redispatch": 1}
    # It is the arm that has the same settings, which is not measured twice.
    assert [arm.sweep.name for arm in found] == ["baseline", "2s-noredispatch"]
    Path("old.yaml").write_text(yaml.safe_dump(BASE | {"runtime": "local", "proxy": proxy}))
    with pytest.raises(ConfigError, match=r"d.yaml:\d+: baseline: old.yaml: its `runtime`"):
        of_command(Path("d.yaml"))


CFG = """\
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
resolvers {0}
    nameserver a 10.0.0.2:53
    timeout resolve {1}
frontend web
    bind *:80
    default_backend shop
backend shop
    server one shop.internal:5000 check resolvers {0}
"""


@pytest.mark.parametrize("base", [{"haproxy": "new.cfg"}, {"base": "base.yaml"}])
def test_the_baseline_may_be_a_file_of_ones_own(tmp_path, monkeypatch, base) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump(BASE | {"runtime": "local"}))
    Path("new.cfg").write_text(CFG.format("dns", "1s"))
    Path("old.cfg").write_text(CFG.format("mine", "3s"))
    keys = {"vary": {RESOLVE: ["1s", "200ms"]}, "baseline": "./old.cfg"}
    Path("d.yaml").write_text(yaml.safe_dump({"name": "d", **base, **keys}, sort_keys=False))
    found = of_command(Path("d.yaml"))
    every = arms_of(found)
    assert [arm.sweep.values[RESOLVE] for arm in every] == ["3s", "1s", "200ms"]
    assert foresight.pasted(found, every[0]) == ("resolvers mine", "    timeout resolve 3s")


def test_another_value_of_a_variable_is_another_arm(tmp_path, monkeypatch) -> None:
    """Else what was measured with the one would count for the other."""
    monkeypatch.chdir(tmp_path)
    Path("own.cfg").write_text(CFG.format("dns", '"${EVERY}"'))
    design = {"name": "d", "haproxy": "own.cfg", "vary": {"proxy.retries": [1]}}
    Path("d.yaml").write_text(yaml.safe_dump(design))
    keys = []
    for every in ("1s", "2s", "1s"):
        monkeypatch.setenv("EVERY", every)
        keys.append([arm.key for arm in arms_of(of_command(Path("d.yaml")))])
    assert keys[0] == keys[2]
    assert not {*keys[0]} & {*keys[1]}


def test_keys_go_by_what_is_measured(tmp_path) -> None:
    """The same settings have the same key, however they are written and whatever else varies."""

    def keys(base=BASE, **more) -> dict[str, str]:
        found = arms_of(loaded(tmp_path, base, vary={RESOLVE: ["200ms"]} | more))
        return {arm.sweep.name: arm.key for arm in found}

    known = keys()
    assert keys(BASE | {"name": "other", "until": {"cycles": 3}, "cells": 2}) == known
    assert keys(**{RESOLVE: ["0.2s"]})["200ms"] == known["200ms"]
    grown = keys(**{"proxy.retries": [3, 1]})
    assert grown["200ms-3"] == known["200ms"]
    assert grown["baseline"] == known["baseline"]
    assert grown["200ms-1"] not in known.values()
    other = keys(BASE | {"probes": [{"type": "http", "rate": "50/s"}]})
    assert not {*other.values()} & {*known.values()}
    # true (on the last retry) is not 1 (on each), though Python finds them equal.
    base = BASE | {"proxy": {"type": "haproxy", "redispatch": True}}
    assert len(keys(base, **{"proxy.redispatch": [1, True], RESOLVE: ["1s"]})) == 2


def test_faults_come_by_name_by_preset_and_from_the_base(tmp_path) -> None:
    base = BASE | {"faults": [{"type": "recreate", "name": "lost", "old_ip": "blackhole"}]}
    base["faults"][0]["every"] = "9s"
    faults = ["lost", "recreate", "coredns-restart", {"type": "noop", "every": "4s"}]
    found = loaded(tmp_path, base, vary={RESOLVE: ["1s"]}, faults=faults)
    labels = [fault.label for fault in arms.Base(found).config.faults]
    assert labels == ["lost", "recreate", "coredns-restart", "noop"]
    assert found.paced == (False, False, False, True)
    # `recreate` is a plain one, for the base has none of this name.
    assert found.base["faults"][0]["old_ip"] == "blackhole"
    assert "old_ip" not in found.base["faults"][1]


@pytest.mark.parametrize(
    ("version", "is_"),
    [("2.6.12", "2.6"), ("2.6", "2.6"), ("3.4.7", "3.4.7"), ("2.60.1", "2.60.1"), (None, None)],
)
def test_a_version_is_of_the_line_that_is_tried(version, is_) -> None:
    assert arms._line_of(version, ["2.6", "3.4", "3.4.7"]) == is_


def test_the_example_is_right() -> None:
    path = Path(__file__).parents[2] / "configs/lab.yaml"
    found = design.load(path)
    base = path.parent / str(found.design.base)
    found.stand_on(shape.document(base), base)
    assert len(arms_of(found)) == 17


def test_the_example_for_any_file_needs_no_more_than_a_base() -> None:
    configs = Path(__file__).parents[2] / "configs"
    found = design.load(configs / "settings.yaml")
    found.stand_on(shape.document(configs / "local.yaml"), configs / "local.yaml")
    assert len(arms_of(found)) == 9


def test_each_file_and_backend_has_a_directory_of_its_own(tmp_path) -> None:
    def called(*words: str) -> str:
        parser = argparse.ArgumentParser()
        sweep.add_options(parser)
        return sweep._called("settings", parser.parse_args(["settings.yaml", *words]))

    one, two = str(tmp_path / "one" / "haproxy.cfg"), str(tmp_path / "two" / "haproxy.cfg")
    assert called() == called("--cycles", "3") == "settings"
    assert called("--haproxy", one).startswith("settings-haproxy-")
    assert called("--haproxy", one) == called("--haproxy", one, "--cycles", "3")
    names = [called("--haproxy", one), called("--haproxy", two)]
    names += [called("--haproxy", one, two), called("--haproxy", one, "--backend", "b")]
    assert len(set(names)) == 4
