"""Builds of HAProxy: apt's words understood, the right build chosen, half builds refused."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from chaosd.errors import ConfigError, MachineError
from chaosd.proxies.haproxy import HAProxy, builds
from chaosd.proxies.haproxy.builds import debian, install
from chaosd.proxies.haproxy.config import Config

SYSTEM = "/usr/sbin/haproxy"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builds, "of_the_system", lambda: None)
    place = tmp_path / "chaosd" / "haproxy"
    place.mkdir(parents=True)
    return place


def put(place: Path, version: str) -> Path:
    place.mkdir()
    program = place / "haproxy"
    program.write_text(f'#!/bin/sh\necho "HAProxy version {version} 2026/01/01"\n')
    program.chmod(0o755)
    description = {"version": version, "origin": "a test"}
    (place / builds.DESCRIPTION).write_text(json.dumps(description))
    return program


def config(**values: object) -> Config:
    return Config.model_validate({"type": "haproxy"} | values)


# --- choosing -------------------------------------------------------------------------------------


def test_a_version_is_taken_from_the_builds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(cache / "3.0", "3.0.11")
    put(cache / "3.2", "3.2.26")
    monkeypatch.setattr(builds, "of_the_system", lambda: SYSTEM)
    assert builds.binary("haproxy", "3.0") == str(program)
    assert builds.binary("haproxy", "3.0.11") == str(program)
    assert builds.binary("haproxy", None) == SYSTEM
    assert builds.binary("haproxy", "2.6") == SYSTEM  # it may be one, and says so if not
    assert builds.binary("/opt/haproxy", "3.0") == "/opt/haproxy"
    assert HAProxy(config(version="3.0")).version() == "3.0.11"


def test_without_a_system_s_haproxy_the_newest_build_is_taken(cache: Path) -> None:
    assert builds.binary("haproxy", None) == "haproxy"
    put(cache / "2.8", "2.8.25")
    newest = put(cache / "3.10", "3.10.1")
    put(cache / "3.4", "3.4.7")
    assert builds.binary("haproxy", None) == str(newest)
    assert [build.name for build in builds.installed()] == ["2.8", "3.4", "3.10"]


def test_an_exact_version_stands_beside_the_newest_of_its_line(cache: Path) -> None:
    older = put(cache / "2.8.21", "2.8.21")
    newer = put(cache / "2.8", "2.8.25")
    assert builds.binary("haproxy", "2.8.21") == str(older)
    assert builds.binary("haproxy", "2.8") == str(newer)
    assert builds.find("2.8.2") is None


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        (None, "(chaosd haproxy install, or set proxy.binary)"),
        ("3.0", "(chaosd haproxy install 3.0)"),
        ("2.4", "(set proxy.binary, or take `runtime: docker` with an image of it)"),
    ],
)
def test_what_is_not_there_is_said_with_its_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, remedy: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError) as caught:
        HAProxy(config(version=version)).version()
    assert str(caught.value) == f"haproxy: No such file or directory {remedy}"


def test_another_version_of_the_system_is_said_with_its_remedy(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = str(put(tmp_path / "system", "2.6.12"))
    monkeypatch.setattr(builds, "of_the_system", lambda: system)
    with pytest.raises(MachineError) as caught:
        HAProxy(config(version="3.0")).version()
    said = f"{system} is 2.6.12, not the 3.0 of proxy.version (chaosd haproxy install 3.0)"
    assert str(caught.value) == said


# --- half builds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["no program", "no description", "half a description", "empty"])
def test_half_a_build_is_none(cache: Path, half: str) -> None:
    program = put(cache / "3.0", "3.0.11")
    description = cache / "3.0" / builds.DESCRIPTION
    if half == "no program":
        program.unlink()
    elif half == "no description":
        description.unlink()
    elif half == "half a description":
        description.write_text(description.read_text()[:20])
    else:
        description.write_text("{}")
    assert builds.installed() == []
    assert builds.find("3.0") is None


def test_what_a_killed_install_left_is_no_build_and_goes_at_the_next(cache: Path) -> None:
    scratch = cache / f"{install.SCRATCH}abc"
    scratch.mkdir()
    put(scratch / "3.0", "3.0.11")
    put(cache / "3.2", "3.2.26")
    assert [build.name for build in builds.installed()] == ["3.2"]
    said: list[str] = []
    install.install(["3.2"], mirror=None, say=said.append)
    assert said == ["3.2: HAProxy 3.2.26 is installed"]
    assert not scratch.exists()


def test_the_scratch_of_an_install_that_lives_is_left_alone(cache: Path) -> None:
    with install._scratch(cache) as scratch:
        (scratch / "file").touch()
        install._remove_scratch_of_the_dead(cache)
        assert (scratch / "file").exists()
    assert not scratch.exists()


def test_half_a_build_in_the_way_is_replaced(cache: Path, tmp_path: Path) -> None:
    (cache / "3.0").mkdir()
    (cache / "3.0" / "rest").touch()
    stage = tmp_path / "stage"
    put(stage, "3.0.11")
    program = put(stage / "root", "3.0.11")
    assert program.name == "haproxy"
    build = install._finish(
        stage, cache / "3.0", ["root/haproxy"], [program], origin="a test", mirror=None
    )
    assert build.version == "3.0.11"
    assert not (cache / "3.0" / "rest").exists()


def test_what_came_must_be_what_was_asked_for(cache: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    program = put(stage / "root", "3.2.26")
    with pytest.raises(MachineError, match=re.escape("HAProxy 3.0: what came says HAProxy ver")):
        install._finish(
            stage, cache / "3.0", ["root/haproxy"], [program], origin="a test", mirror=None
        )
    assert not (cache / "3.0").exists()


def test_only_what_is_there_is_removed(cache: Path) -> None:
    put(cache / "3.0", "3.0.11")
    with pytest.raises(ConfigError, match=re.escape("3.2 is not installed (installed: 3.0)")):
        install.remove(["3.0", "3.2"], print)
    with pytest.raises(ConfigError):
        install.remove(["../haproxy"], print)
    install.remove(["3.0"], print)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["2.4", "3", "newest", "../3.0"])
def test_unknown_versions_are_refused(cache: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        install.install([name], mirror=None, say=print)
    known = "(known: 2.2, 2.6, 2.8, 3.0, 3.2, 3.4)"
    assert str(caught.value) == f"haproxy: unknown version {name} {known}"


def test_the_starter_becomes_the_program(tmp_path: Path) -> None:
    """Also where the directory's name has a blank; its own process number stays."""
    place = tmp_path / "a place"
    (place / "root").mkdir(parents=True)
    program = place / "root" / "it's"
    program.write_text('#!/bin/sh\necho $$ "$@"\n')
    program.chmod(0o755)
    script = place / "haproxy"
    script.write_text(install.starter(["root/it's", "--paths", "root/a:root/b"]))
    script.chmod(0o755)
    with subprocess.Popen([script, "-f", "a b"], stdout=subprocess.PIPE, text=True) as started:
        said, _ = started.communicate()
        assert said == f"{started.pid} --paths {place}/root/a:{place}/root/b -f a b\n"


# --- apt's words ----------------------------------------------------------------------------------


def target(**fields: str) -> str:
    plain = {"Release": "trixie", "Component": "main", "Repo-URI": "http://m.test/debian/"}
    return "".join(f"{name}: {value}\n" for name, value in (plain | fields).items())


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([{}], "http://m.test/debian"),
        ([], None),
        ([{"Release": "trixie-security", "Repo-URI": "http://m.test/debian-security/"}], None),
        ([{"Origin": "Ubuntu", "Repo-URI": "http://m.test/ubuntu/"}], None),
        ([{"Component": "nginx"}], None),
        # Another vendor's that calls its suite as Debian does, and whose it is is not known yet.
        ([{"Repo-URI": "http://vendor.test/", "Release": "stable"}, {}], "http://m.test/debian"),
        # A mirror by another path, once apt knows whose it is.
        (
            [
                {"Repo-URI": "http://m.test/debian"},
                {"Repo-URI": "http://x.test/", "Origin": "Debian"},
            ],
            "http://x.test",
        ),
    ],
)
def test_the_mirror_is_the_machine_s_own(
    targets: list[dict[str, str]], expected: str | None
) -> None:
    said = "\n".join(target(**fields) for fields in targets)
    assert debian.choose_mirror(said) == expected


def test_a_mirror_s_password_is_not_stored() -> None:
    assert debian.without_password("https://me:secret@m.test:80/d") == "https://m.test:80/d"
    assert debian.without_password("mirror+file:/etc/apt/m.list") == "mirror+file:/etc/apt/m.list"


def test_only_haproxy_and_libraries_are_fetched() -> None:
    digest = "0" * 64
    said = f"""Need to get 18.4 MB of archives.
'http://m.test/pool/z/zlib1g_1.2.deb' zlib1g_1%3a1.2.11-2+deb11u2_amd64.deb 91420 SHA256:{digest}
'http://m.test/pool/p/perl-base.deb' perl-base_5.32.1-4_amd64.deb 1628460 SHA256:{digest}
'http://m.test/pool/s/stdc.deb' libstdc++6_10.2.1-6_amd64.deb 492540 SHA256:{digest}
'http://m.test/pool/h/haproxy.deb' haproxy_2.2.9-2+deb11u6_amd64.deb 1900396 SHA256:{digest}
"""
    assert debian.packages(said) == [
        ("zlib1g", "1:1.2.11-2+deb11u2", 91420),
        ("libstdc++6", "10.2.1-6", 492540),
        ("haproxy", "2.2.9-2+deb11u6", 1900396),
    ]


def test_the_version_is_the_newest_of_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "   haproxy |    3.4.7-1 | http://m.test experimental/main amd64 Packages\n"
        "   haproxy |   3.2.26-1 | http://m.test sid/main amd64 Packages\n"
    )
    monkeypatch.setattr(debian.Apt, "_apt", lambda *_, **__: said)
    apt = debian.Apt(tmp_path / "apt", ("sid", "experimental"), "http://u:p@m.test")
    assert apt.version("3.4") == "3.4.7-1"
    assert apt.version("3.2.26") == "3.2.26-1"
    with pytest.raises(MachineError) as caught:
        apt.version("3.2.2")
    expected = (
        "HAProxy 3.2.2: Debian has none (its suites have 3.4.7-1, 3.2.26-1, at http://m.test)"
    )
    assert str(caught.value) == expected


def test_a_library_of_the_machine_s_is_noticed() -> None:
    listed = (
        "\tlinux-vdso.so.1 (0x00007ffc)\n"
        "\tlibssl.so.3 => /c/root/usr/lib/libssl.so.3 (0x00007f1)\n"
        "\tlibz.so.1 => /lib/libz.so.1 (0x00007f2)\n"
        "\tlibpcre2.so.0 => not found\n"
        "\t/lib64/ld-linux-x86-64.so.2 => /lib/ld-linux-x86-64.so.2 (0x00007f3)\n"
    )
    assert install.foreign(listed, Path("/c/root")) == ["libz.so.1", "libpcre2.so.0"]
