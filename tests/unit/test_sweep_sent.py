"""The user's own files on a worker that has none of them: what goes, and where it lies."""

from __future__ import annotations

import json
import shutil
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.sweep import rounds
from chaosd.sweep.machines import bring, sent

CFG = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 503 {where}/errors/503.http
resolvers r
    nameserver one 127.0.0.11:53
frontend f
    bind :8080
    http-request set-header X-Tier %[req.hdr(host),map(tiers.map,"$TIER")]
    http-request deny if {{ src -f {where}/../lists/denied }}
    default_backend app
backend app
    server a "$APP":8080 check resolvers r resolve-prefer ipv4
"""
WIRING = Wiring(
    listen=Address("127.0.0.1", 8080),
    dns=Address("127.0.0.2", 53),
    app_name="app",
    app_port=8080,
    replicas=1,
    log=None,
    api=Path("/run/api"),
    directory=Path("/run"),
    scratch=Path("/run"),
)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A place with a base that has a haproxy.cfg of its own; all of it is gone on a worker."""
    where = tmp_path / "here" / "etc"
    (where / "errors").mkdir(parents=True)
    (tmp_path / "here" / "lists").mkdir()
    (where / "haproxy.cfg").write_text(CFG.format(where=where))
    (where / "errors/503.http").write_text("HTTP/1.0 503 Gone\r\n\r\nours\n")
    (where / "tiers.map").write_text("a b\n")
    (where / "not-named").write_text("private")
    (tmp_path / "here/lists/denied").write_text("192.0.2.0/24\n")
    (where / "env").write_text("APP=shop.internal\n")
    monkeypatch.setenv("TIER", "gold plated")
    return where


def data() -> dict:
    return {
        "name": "t",
        "runtime": "local",
        "proxy": {"type": "haproxy", "config": "haproxy.cfg", "env": "env"},
        "arms": [{"name": "baseline"}, {"name": "b", "proxy.retries": 1}],
    }


def copies(built) -> dict[str, dict[str, bytes]]:
    return {arm.name: dict(arm.proxy.launch(WIRING).files) for arm in built.arms}


def test_a_worker_without_the_files_makes_the_same_copies(here, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sent, "_KEPT", {})
    sender, base = sent.Sender(), here / "base.yaml"
    built = rounds.planned(data(), base)
    was = copies(built)
    files, said = sender.parcels(built)
    assert str(here / "not-named") not in files
    blobs = sender.blobs("worker", files)
    assert len(blobs) == len(files) == 5
    assert sender.blobs("worker", files) == {}  # each content goes once
    assert len(sender.blobs("another", files)) == 5
    shutil.rmtree(tmp_path / "here")
    monkeypatch.delenv("TIER")
    root = tmp_path / "there"
    sent.keep(blobs)
    sent.lay(files, root)
    assert {path.stat().st_mode & 0o077 for path in root.rglob("*") if path.is_file()} == {0}
    assert root.stat().st_mode & 0o077 == 0
    task = json.loads(json.dumps(sent.found_below(data(), said, root)))
    now = copies(rounds.planned(task, base))
    assert now.keys() == was.keys() == {"baseline", "b"}
    for arm, made in now.items():
        text = made["haproxy.cfg"].decode()
        assert f"{root}{here}/errors/503.http" in text
        assert f"{root}{tmp_path}/here/lists/denied" in text
        alike = text.replace(str(root), "").replace(f"{here}/../", f"{tmp_path}/here/")
        before = was[arm]["haproxy.cfg"].decode().replace(f"{here}/../", f"{tmp_path}/here/")
        assert alike.replace(f"{here}/tiers.map", "tiers.map") == before
    variables = rounds.planned(task, base).arms[0].proxy.launch(WIRING).env
    assert (variables["TIER"], variables["APP"]) == ("gold plated", "shop.internal")


def test_of_a_file_with_our_variables_goes_what_lies_beside_it(here, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sent, "_KEPT", {})
    example = (Path(__file__).parents[2] / "haproxy/haproxy.cfg").read_bytes()
    (here / "haproxy.cfg").write_bytes(example)
    made = data()
    del made["proxy"]["env"], made["arms"][1]
    sender = sent.Sender()
    files, said = sender.parcels(rounds.planned(made, here / "base.yaml"))
    assert {str(here / "errors/503.http"), str(here / "tiers.map")} < files.keys()
    sent.keep(sender.blobs("worker", files))
    shutil.rmtree(tmp_path / "here")
    sent.lay(files, tmp_path / "there")
    task = sent.found_below(made, said, tmp_path / "there")
    found = copies(rounds.planned(task, here / "base.yaml"))
    assert found["baseline"]["haproxy.cfg"] == example


def test_what_comes_back_calls_the_files_as_they_are_called_here(tmp_path) -> None:
    made, root = tmp_path / "round", tmp_path / "sent"
    made.mkdir()
    (made / "run.json").write_text(json.dumps({"config": f"{root}/etc/haproxy.cfg"}))
    (made / "samples.parquet").write_bytes(f"{root}/etc".encode())
    packed = bring.pack(made, root)
    assert json.loads(zlib.decompress(packed["run.json"])) == {"config": "/etc/haproxy.cfg"}
    assert zlib.decompress(packed["samples.parquet"]) == f"{root}/etc".encode()


@pytest.mark.parametrize("path", ["etc/x", "/etc/../../x", "/a//b", "/a/./b", "/" + "x" * 1000])
def test_a_strange_path_is_refused(tmp_path, monkeypatch, path) -> None:
    monkeypatch.setattr(sent, "_KEPT", {"1": b"x"})
    with pytest.raises(MachineError, match="strange path"):
        sent.lay({path: "1"}, tmp_path / "root")
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


def test_what_is_not_what_it_is_called_or_too_much_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sent, "_KEPT", {})
    monkeypatch.setattr(sent, "BYTES_MAX", 1000)
    both = [b"a" * 600, b"b" * 600]
    with pytest.raises(MachineError, match="damaged"):
        sent.keep({"1": zlib.compress(b"x")})
    with pytest.raises(MachineError, match="of files were sent"):
        sent.keep({sha256(each).hexdigest(): zlib.compress(each) for each in both})
    with pytest.raises(MachineError, match="/x was not sent"):
        sent.lay({"/x": "0"}, tmp_path / "root")


def test_a_file_of_many_mb_is_not_sent(here) -> None:
    (here / "tiers.map").write_bytes(b"a b\n" * (5 << 20))
    built = rounds.planned(data(), here / "base.yaml")
    with pytest.raises(MachineError, match=r"tiers.map: too much to be sent .* 16 MB"):
        sent.Sender().parcels(built)


def test_absolute_paths_below_a_root_are_sent_from_there(here, tmp_path, monkeypatch) -> None:
    """What lies at the same paths of this machine is another file, and stays here."""
    monkeypatch.setattr(sent, "_KEPT", {})
    copy, root = tmp_path / "copy", tmp_path / "there"
    shutil.copytree(here.parent / "lists", copy / "lists")
    shutil.copytree(here / "errors", copy / "errors")
    text = CFG.format(where=here)
    text = text.replace(f"{here}/../lists", "/lists").replace(f"{here}/errors", "/errors")
    (here / "haproxy.cfg").write_text(text)
    made = data()
    made["proxy"]["root"] = "../../copy"
    built = rounds.planned(made, here / "base.yaml")
    was = copies(built)["baseline"]["haproxy.cfg"].decode()
    assert f"{copy}/errors/503.http" in was
    assert f"{here}/tiers.map" in was  # a relative path is no absolute one
    sender = sent.Sender()
    files, said = sender.parcels(built)
    assert {str(copy / "errors/503.http"), str(copy / "lists/denied")} < files.keys()
    sent.keep(sender.blobs("worker", files))
    sent.lay(files, root)
    task = sent.found_below(made, said, root)
    now = copies(rounds.planned(task, here / "base.yaml"))["baseline"]["haproxy.cfg"].decode()
    assert f"{root}{copy}/errors/503.http" in now
    assert now.replace(str(root), "") == was


def test_a_worker_forgets_the_files_of_earlier_sweeps_first(monkeypatch) -> None:
    """It refused every file once 64 MB had come, for as long as it lived."""
    monkeypatch.setattr(sent, "_KEPT", {})
    monkeypatch.setattr(sent, "BYTES_MAX", 1000)
    contents = [letter * 400 for letter in (b"a", b"b", b"a", b"c")]
    for content in contents:
        sent.keep({sha256(content).hexdigest(): zlib.compress(content)})
    assert [kept[:1] for kept in sent._KEPT.values()] == [b"a", b"c"]
