"""The images of the topology: their names, and how they are made, with a registry or without one.

With a registry they are built by the Dockerfiles of haproxy/, nginx/ and http-server/. Without one,
the same names are made of Debian's packages: mmdebstrap unpacks what is needed, and nothing else,
into an archive that the engine imports. See docs/decisions/0005-docker.md.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import Endpoint, MissingError, translated
from chaosd.runtimes.docker.presence import EngineHangsError, watched
from chaosd.system import commands
from chaosd.system.shipped import shipped

HAPROXY_VERSIONS = ("2.2", "2.6", "3.0", "3.2")
DEFAULT_HAPROXY = "3.0"
NGINX_VERSION = "1.30"
APP_FILES = ("server.py", "serving.py", "stand_in.py")  # of http-server/
Source = Literal["auto", "registry", "debian"]
Say = Callable[[str], None]
Ask = Callable[[Callable[[], Any]], Any]  # calls the API, and gives up an engine that hangs

LABEL = "chaosd.image"  # what it is; only images with it are ever removed
SUITES = {"2.2": "bullseye", "2.6": "bookworm", "3.0": "trixie", "3.2": "sid"}
# The suite that has the package of a proxy's name in this version.
PROXY_SUITES = {"haproxy": SUITES, "nginx": {NGINX_VERSION: "sid"}}
# How a proxy says its version; nginx says it on its standard error.
VERSION_ARGUMENTS = {"haproxy": ["haproxy", "-vv"], "nginx": ["nginx", "-v"]}
PYTHON_SUITE, PYTHON_PACKAGES = "bookworm", "python3-minimal,libpython3.11-stdlib"
PULL_LIMIT_S = 20  # of a registry's silence
BUILD_LIMIT_S = 300  # of one image
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
# What a root file system needs that is in no package that was unpacked.
USERS = "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
FOLDERS = ("proc", "sys", "dev", "tmp")
LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "var/cache/", "dev/")


class Image(NamedTuple):
    """An image to be made."""

    tag: str
    kind: str  # "haproxy", "nginx" or "http-server": the folder of its Dockerfile
    version: str  # of the proxy, or of the app's files


def haproxy_tag(version: str) -> str:
    return f"chaosd-haproxy:{version}"


def app_tag() -> str:
    """It changes with its files, so that an old image is never taken for a new one."""
    return f"chaosd-http-server:{_app_version()}"


def _app_version() -> str:
    found = b"".join(file.read_bytes() for file in _app_files().values())
    return hashlib.sha256(found).hexdigest()[:12]


def _app_files() -> dict[str, Path]:
    """The app's files by their places in its image."""
    return {f"app/{name}": shipped(f"http-server/{name}") for name in APP_FILES}


def wanted(versions: Sequence[str], *, nginx: bool = False) -> list[Image]:
    """The app, HAProxy in these versions, and nginx if it is asked for."""
    proxies = [Image(haproxy_tag(version), "haproxy", version) for version in versions]
    if nginx:
        proxies.append(Image(f"chaosd-nginx:{NGINX_VERSION}", "nginx", NGINX_VERSION))
    return [Image(app_tag(), "http-server", _app_version()), *proxies]


def missing(api: Any, tags: Sequence[str]) -> list[str]:
    """Those that the engine does not have."""
    found = []
    for tag in tags:
        try:
            translated(partial(api.inspect_image, tag))
        except MissingError:
            found.append(tag)
    return found


# --- making them ----------------------------------------------------------------------------------


def build(
    endpoint: Endpoint, images: Sequence[Image], *, source: Source, mirror: str | None, say: Say
) -> None:
    """Make these images, where they are missing.

    `auto` asks the registry first and then Debian's packages. Raises MachineError.
    """
    ask = partial(watched, endpoint)
    api = ask(lambda: endpoint.client(BUILD_LIMIT_S))
    offline = ""
    for image in images:
        if not ask(partial(missing, api, [image.tag])):
            say(f"{image.tag}: is there")
            continue
        if source != "debian" and not offline:
            offline = _from_registry(endpoint, api, image, say)
            if not offline:
                continue
            if source == "registry":
                raise MachineError(f"{image.tag}: {offline}")
            say(f"no registry ({offline}): from Debian's packages instead")
        _from_debian(ask, api, image, mirror, say)
    _remove_superseded(ask, api, say)


def _from_registry(endpoint: Endpoint, api: Any, image: Image, say: Say) -> str:
    """Build it by its Dockerfile; what is wrong if its base can't be had, "" if all went well."""
    folder = shipped(f"{image.kind}/Dockerfile").parent
    argument = {} if image.kind == "http-server" else {image.kind.upper(): image.version}
    base = _base_of(folder / "Dockerfile", argument)
    say(f"{image.tag}: pulling {base}")
    try:
        if watched(endpoint, partial(missing, api, [base])):
            for step in watched(endpoint, partial(_pull, endpoint, base)):
                if "error" in step:
                    return str(step["error"])[:160]
        said = watched(
            endpoint,
            lambda: list(
                api.build(path=str(folder), tag=image.tag, buildargs=argument, rm=True, decode=True)
            ),
        )
    except EngineHangsError:
        raise
    except MachineError as error:
        return str(error)[:160]
    for step in said:
        if "error" in step:
            raise MachineError(f"{image.tag}: {step['error'].strip()[:200]}")
    say(f"{image.tag}: built from {base}")
    return ""


def _pull(endpoint: Endpoint, base: str) -> list[dict[str, Any]]:
    """What the engine says while it fetches an image, in a thread."""
    name, _, tag = base.partition(":")
    with endpoint.client(PULL_LIMIT_S) as api:
        return list(api.pull(name, tag=tag, stream=True, decode=True))


def _base_of(dockerfile: Path, arguments: Mapping[str, str] = MappingProxyType({})) -> str:
    text = dockerfile.read_text(encoding="utf-8")
    default = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE)) | dict(arguments)
    found = re.search(r"^FROM (\S+)$", text, re.MULTILINE)
    base = found[1] if found else ""
    return re.sub(r"\$\{(\w+)\}", lambda match: default.get(match[1], ""), base)


def _from_debian(ask: Ask, api: Any, image: Image, mirror: str | None, say: Say) -> None:
    """Unpack the packages and import them as an image."""
    suite, packages, extra = PYTHON_SUITE, PYTHON_PACKAGES, _app_files()
    changes = ["USER 65534:65534", "EXPOSE 8080", 'CMD ["python3", "-I", "-S", "/app/server.py"]']
    if image.kind in PROXY_SUITES:
        suite, packages, extra = PROXY_SUITES[image.kind][image.version], image.kind, {}
        changes = ["USER 65534:65534", f'ENTRYPOINT ["{image.kind}"]']
    labels = f"LABEL {LABEL}={image.kind} chaosd.from=debian"
    say(f"{image.tag}: unpacking {packages} of Debian {suite}")
    with tempfile.TemporaryDirectory(prefix="chaosd-image-") as scratch:
        raw, packed = Path(scratch) / "raw.tar", Path(scratch) / "image.tar"
        unpack(suite, packages, mirror or debian_mirror(), raw)
        with tarfile.open(packed, "w") as archive:
            _copy(raw, archive, extra)
        name, _, tag = image.tag.partition(":")
        ask(
            lambda: api.import_image(
                src=str(packed), repository=name, tag=tag, changes=[*changes, labels]
            )
        )
    say(f"{image.tag}: made of Debian {suite}'s packages")


def unpack(
    suite: str, packages: str, mirror: str, archive: Path, limit_s: float = BUILD_LIMIT_S
) -> None:
    """Unpack packages of a suite, and what they need, as an archive or into a directory.

    Nothing of them is run. Raises MachineError.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise MachineError(
            "no registry answers and mmdebstrap is not here to make the images of Debian's "
            "packages (install it, e.g. `sudo apt install mmdebstrap`)"
        )
    options = ["--variant=extract", "--skip=check/empty", f"--include={packages}"]
    # Old suites' and sid's index files are past their date on mirrors that stand still.
    options.append('--aptopt=Acquire::Check-Valid-Until "false"')
    if suite != "bullseye" and MERGED_USR.is_dir():
        options.append(f"--hook-dir={MERGED_USR}")
    try:
        done = commands.ended(
            [program, "--quiet", *options, suite, str(archive), mirror], limit_s=limit_s
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"mmdebstrap {suite}: not done after {limit_s:g} s ({mirror})") from None
    if done.returncode:
        said = commands.error_line(done.stderr)
        raise MachineError(f"mmdebstrap {suite} {mirror}: {said[:200]}")


def _copy(raw: Path, archive: tarfile.TarFile, extra: dict[str, Path]) -> None:
    """Copy the file system without what nobody reads, and add what no package has."""
    ours = {"etc/passwd", *FOLDERS}
    with tarfile.open(raw) as source:
        for member in source:
            name = member.name.removeprefix("./").rstrip("/")
            if name in ours or name.startswith(LEFT_OUT) or member.isdev():
                continue
            data = source.extractfile(member) if member.isreg() else None
            archive.addfile(member, data)
    for name, path in extra.items():
        _add(archive, name, path.read_bytes(), 0o644)
    _add(archive, "etc/passwd", USERS.encode(), 0o644)
    for folder in FOLDERS:
        made = tarfile.TarInfo(folder)
        made.type, made.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(made)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _remove_superseded(ask: Ask, api: Any, say: Say) -> None:
    """Remove images of an older app that nothing runs any more."""
    for image in ask(partial(api.images, filters={"label": f"{LABEL}=http-server"})):
        for tag in image.get("RepoTags") or []:
            if tag.startswith("chaosd-http-server:") and tag != app_tag():
                try:
                    ask(partial(api.remove_image, tag))
                except MachineError:
                    continue
                say(f"{tag}: removed, there is a newer app")


def remove(endpoint: Endpoint, say: Say) -> None:
    """Remove every image that `build` has made, and no other."""
    ask = partial(watched, endpoint)
    api = ask(endpoint.client)
    for image in ask(partial(api.images, filters={"label": LABEL})):
        for tag in image.get("RepoTags") or [image["Id"]]:
            ask(partial(api.remove_image, tag))
            say(f"removed {tag}")


def describe(endpoint: Endpoint, images: Sequence[Image]) -> Iterator[str]:
    """A line for each image: its name, its size, and the build of the proxy that is in it."""
    from chaosd.runtimes.docker.proxy import run_once

    api = watched(endpoint, endpoint.client)
    for image in images:
        size = watched(endpoint, partial(api.inspect_image, image.tag))["Size"] / 1e6
        build = ""
        if image.kind in VERSION_ARGUMENTS:
            done = run_once(endpoint, image.tag, VERSION_ARGUMENTS[image.kind], {}, {})
            build = f"  {(done.stdout or done.stderr).splitlines()[0]}"
        yield f"{image.tag:34} {size:5.0f} MB{build}"


def debian_mirror(root: Path = Path("/etc/apt")) -> str:
    """The mirror that this machine's apt takes Debian itself from. Raises MachineError.

    Mirrors of updates and security are others, and so are those of other vendors.
    """
    lists = root / "sources.list.d"
    for file in sorted(lists.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.+)$", stanza, re.MULTILINE))
            uri, components = fields.get("URIs", "").split(), fields.get("Components", "")
            if uri and "main" in components.split() and _is_debian(uri[0]):
                return str(uri[0])
    for file in [root / "sources.list", *sorted(lists.glob("*.list"))]:
        if not file.is_file():
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            found = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+\S+\s+(?:.*\s)?main\b", line)
            if found and _is_debian(found[1]):
                return str(found[1])
    raise MachineError(
        f"{root}: apt is set up with no Debian mirror (say one: chaosd images --mirror URL)"
    )


def _is_debian(uri: str) -> bool:
    return re.search(r"/debian/?$", uri) is not None and os.sep in uri
