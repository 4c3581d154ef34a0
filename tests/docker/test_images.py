"""How images are made: by Dockerfiles, of packages, and from which mirror."""

from __future__ import annotations

import pytest

from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment
from chaosd.system.shipped import shipped

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def test_dockerfiles_build_where_their_bases_are(engine) -> None:
    """Stand-ins for a registry's images: the same names, our own layers."""
    proxy, app = "haproxy:0.0-stand-in", images._base_of(shipped("http-server/Dockerfile"))
    if images.missing(engine, [app]) == []:
        pytest.skip(f"{app} is there, and is not ours to replace")
    said: list[str] = []
    stands = {proxy: images.haproxy_tag(images.DEFAULT_HAPROXY), app: images.app_tag()}
    wanted = [
        images.Image("chaosd-haproxy:0.0-stand-in", "haproxy", "0.0-stand-in"),
        images.Image("chaosd-http-server:stand-in", "http-server", "stand-in"),
    ]
    endpoint = from_environment()
    builder = endpoint.client(60)
    try:
        for name, source in stands.items():
            repository, _, tag = name.partition(":")
            engine.tag(source, repository, tag)
        for image in wanted:
            assert images._from_registry(endpoint, builder, image, said.append) == ""
            config = engine.inspect_image(image.tag)["Config"]
            assert config["User"]
            assert config["Labels"]["chaosd.from"] == "registry"
        assert [line for line in said if line.startswith("chaosd-haproxy:0.0-stand-in: built")]
    finally:
        builder.close()
        for name in (*(image.tag for image in wanted), *stands):
            if not images.missing(engine, [name]):
                engine.remove_image(name)


def test_a_base_that_can_not_be_had_is_said_in_a_line(engine) -> None:
    endpoint = from_environment()
    builder = endpoint.client(30)
    try:
        image = images.Image("chaosd-haproxy:none", "haproxy", "0.0-nowhere")
        said = images._from_registry(endpoint, builder, image, lambda _: None)
    finally:
        builder.close()
    assert said
    assert "\n" not in said
