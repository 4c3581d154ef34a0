"""`--haproxy FILE`: a config is made of it, filled in from the file, and the file is only read."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
from rewiring import FILE, PARTS, WIRING

from chaosd import plan
from chaosd.cli import main, own_files, parser
from chaosd.config import shape
from chaosd.errors import ConfigError
from chaosd.units import Duration

WRITES = []  # of the files opened for writing, while `watching` has a directory
watching: list[str] = []


def _hear(event: str, arguments: tuple) -> None:
    if event == "open" and watching and str(arguments[0]).startswith(watching[0]):
        path, mode, flags = arguments
        if flags & 0x3 or (mode and set(mode) & set("wax+")):  # O_WRONLY, O_RDWR
            WRITES.append(path)


sys.addaudithook(_hear)


@pytest.fixture
def file(tmp_path):
    """A user's file, in a directory where nothing may be opened for writing."""
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "haproxy.cfg").write_text(FILE.format(**dict.fromkeys(PARTS, "")))
    watching[:] = [str(directory)]
    WRITES.clear()
    yield directory / "haproxy.cfg"
    watching.clear()
    assert not WRITES


def loaded(*options: str):
    arguments = parser().parse_args(["check", *options])
    assert own_files.problem(arguments) is None
    return shape.of_text(own_files.text(arguments), arguments.haproxy[0])


def fitted(*options: str):
    return plan.build(loaded(*options), lambda _, what: what).config


def test_a_file_alone_is_a_whole_config(file):
    config = fitted("--haproxy", str(file))
    assert config.name == "haproxy"
    assert config.until.cycles == 20
    assert (config.dns.name, config.app.replicas) == ("app.example", 1)
    (probe,) = config.probes
    assert (probe.type, probe.host, probe.path, probe.proxy_protocol) == (
        *("http", "app.example", "/"),
        False,
    )
    (fault,) = config.faults
    assert (fault.type, str(fault.every.min)) == ("recreate", "6s")


def test_what_the_file_makes_necessary_is_filled_in(file):
    text = file.read_text().replace("bind *:80", "bind *:443 ssl crt x accept-proxy")
    text = text.replace("server s app.example:80", "server-template s 5 App.example:80 check")
    text = text.replace(
        "nameserver dns 10.0.0.53:53", "nameserver dns 10.0.0.53:53\n hold obsolete 90s"
    )
    watching.clear()
    file.write_text(text)
    config = fitted("--haproxy", str(file), "--host", "shop.example")
    (probe,) = config.probes
    assert (probe.type, probe.scheme, probe.host, probe.verify) == (
        *("httpx", "https", "shop.example"),
        False,
    )
    assert (config.dns.name, config.app.replicas) == ("app.example", 3)
    (fault,) = config.faults
    assert fault.every.min > Duration.parse("59s")
    assert config.measure.recovery_limit > Duration.parse("119s")


def test_what_a_config_says_stays(file, tmp_path):
    text = (
        "name: x\nruntime: local\nproxy: {type: haproxy, config: [etc/haproxy.cfg], backend: b}\n"
        "app: {replicas: 2}\nprobes: [{type: http, path: /x}]\n"
        "faults: [{type: recreate, every: 5s}]\nmeasure: {recovery_limit: 9s}\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    config = plan.build(shape.load(tmp_path / "c.yaml"), lambda _, what: what).config
    assert config.dns.name == "app.example"
    assert (config.app.replicas, config.probes[0].path) == (2, "/x")
    assert config.faults[0].every == Duration.parse("5s")
    assert config.measure.recovery_limit == Duration.parse("9s")


def test_what_the_runtime_is_told(file):
    text = file.read_text().replace("init-addr none", "init-addr none check port 99")
    watching.clear()
    file.write_text(text + "    server t other.example:80 resolvers r\n    server u 10.0.0.1:80\n")
    planned = plan.build(loaded("--haproxy", str(file)), lambda _, what: what)
    spec = planned.spec(planned.cells[0], file.parent)
    assert spec.beside == ("other.example",)
    assert spec.app.env == {"CHAOSD_PATHS": "any", "CHAOSD_ALSO": "8081"}
    assert (spec.knock.host, spec.knock.identified) == ("app.example", True)


def test_a_list_to_choose_from_in_a_line(file):
    watching.clear()
    file.write_text(file.read_text() + "backend two\n server s x.example:1 resolvers r\n")
    with pytest.raises(ConfigError) as error:
        fitted("--haproxy", str(file))
    (line,) = error.value.problems
    assert line == (
        f"{file}: 2 backends can move (say which one: --backend NAME, or proxy.backend; "
        "there are: b, two)"
    )


def test_passwords_are_not_shown(file, tmp_path, capsys):
    watching.clear()
    text = file.read_text().replace("default_backend b", "stats auth admin:hunter2\n    bind :81\n"
                                    "    default_backend b")  # fmt: skip
    text += "    tcp-check send AUTH\\ hunter3\\r\\n\n    tcp-check expect rstring ^(a|b)\n"
    file.write_text(
        text + "    option tcp-check\nuserlist u\n    user x insecure-password hunter4\n"
    )
    planned = plan.build(loaded("--haproxy", str(file)), lambda _, what: what)
    proxy = planned.arms[0].proxy
    launch = proxy.launch(replace(WIRING, directory=tmp_path))
    said = [*proxy.difference(), launch.files["haproxy.diff"].decode()]
    assert "tcp-check send" in "\n".join(said)
    assert "hunter" not in "\n".join(said)
    assert {value for _, value in proxy.secrets()} >= {"hunter2", "hunter4"}


def test_all_backends_in_turn(file, tmp_path, capsys):
    watching.clear()
    file.write_text(file.read_text() + "backend two\n server s x.example:1 resolvers r\n")
    arguments = parser().parse_args(["check", "--haproxy", str(file), "--backend", "all"])
    assert [each.backend for each in own_files.each(arguments)] == ["b", "two"]
    (tmp_path / "none.cfg").write_text("backend x\n server s 10.0.0.1:80\n")
    assert main(["check", "--haproxy", str(tmp_path / "none.cfg"), "--backend", "all"]) == 2
    assert "nothing in it can move by DNS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ([], "name a CONFIG, or your own files by --haproxy FILE"),
        (["my.cfg"], "my.cfg: a CONFIG is YAML (your own HAProxy file: --haproxy my.cfg)"),
        (["c.yaml", "--haproxy", "x"], "a CONFIG and --haproxy don't go together"),
        (
            ["c.yaml", "--backend", "b"],
            "--backend, --env, --host, --path, --proxy-version and --runtime go",
        ),
    ],
)
def test_options_that_do_not_go_together(options, what, capsys):
    assert main(["check", *options]) == 2
    assert capsys.readouterr().err.startswith(f"chaosd: {what}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"{{ for }}\n",
            "haproxy.cfg:1: a template: `{{ for }}` (give the file that is made of it)",
        ),
        (b"\0", "haproxy.cfg: can't be read: not text"),
        (b"frontend f\n bind :1\n", "haproxy.cfg: no backend has a server with a name"),
        (b"backend b\n server s 'x", "haproxy.cfg:2: unmatched quote '"),
        (b"frob x\n", "haproxy.cfg:1: `frob` stands in no section"),
    ],
)
def test_what_can_not_be_rewired_is_said_in_a_line(file, content, what, capsys):
    watching.clear()
    file.write_bytes(content)
    assert main(["check", "--haproxy", str(file)]) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"chaosd: {file.parent}/{what}")


def test_settings_of_the_yaml_are_set_in_the_copy(file, tmp_path):
    lines = "nameserver d 1.1.1.1:53\n    hold nx 9s\n    hold nx 8s"
    text = file.read_text().replace("nameserver dns 10.0.0.53:53", lines)
    watching.clear()
    file.write_text(text)
    options = [
        *("resolvers.timeout_resolve=500ms", "resolvers.hold.nx=3s", "server.inter=700ms"),
        *("server.check=true", "timeouts.connect=250ms", "timeouts.client=9s", "retries=1"),
        *("redispatch=1", "nbthread=2"),
    ]
    overrides = [f"proxy.{option}" for option in options]
    arguments = parser().parse_args(["check", "--haproxy", str(file)])
    config = shape.of_text(own_files.text(arguments), file, overrides)
    planned = plan.build(config, lambda _, what: what)
    copy = planned.arms[0].proxy.launch(replace(WIRING, directory=tmp_path)).files["haproxy.cfg"]
    lines = [line.strip() for line in copy.decode().splitlines()]
    for line in ("timeout resolve 500ms", "hold nx 3s", "timeout connect 250ms", "retries 1",
                 "option redispatch 1", "nbthread 2", "timeout client 9s"):  # fmt: skip
        assert lines.count(line) == 1
    assert lines.count("# hold nx 9s") == 1
    (server,) = [line for line in lines if line.startswith("server s")]
    assert server.endswith("check inter 700ms")
    settings = planned.arms[0].proxy.settings()
    assert re.fullmatch("text [0-9a-f]{12}", settings["config"])  # of the file, not of the copy
    assert settings["resolvers"]["timeout_resolve"] == "500ms"
    assert settings["resolvers"]["hold"]["nx"] == "3s"
    assert settings["server"]["inter"] == "700ms"
    assert (settings["retries"], settings["redispatch"]) == (1, 1)
    # The config of the run says the same again.
    (tmp_path / "again.yaml").write_text(shape.dump(planned.config))
    again = plan.build(shape.load(tmp_path / "again.yaml"), lambda _, what: what)
    assert again.arms[0].proxy.settings() == settings
    assert again.config == planned.config


def test_what_chaosd_adds_has_the_settings_of_the_yaml(tmp_path):
    file = tmp_path / "part.cfg"
    file.write_text("backend b\n    server s app.example:80 resolvers elsewhere\n")
    arguments = parser().parse_args(["check", "--haproxy", str(file)])
    options = ("resolvers.timeout_resolve=500ms", "timeouts.client=9s", "nbthread=2")
    config = shape.of_text(
        own_files.text(arguments), file, [f"proxy.{option}" for option in options]
    )
    planned = plan.build(config, lambda _, what: what)
    copy = planned.arms[0].proxy.launch(replace(WIRING, directory=tmp_path)).files["haproxy.cfg"]
    lines = [line.strip() for line in copy.decode().splitlines()]
    assert {"timeout resolve 500ms", "timeout client 9s", "nbthread 2"} <= {*lines}
