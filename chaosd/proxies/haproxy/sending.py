"""The user's files for a machine that has none of them: all that they name goes along."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.plugins.proxy import Parcel
from chaosd.proxies.haproxy.beside import beside
from chaosd.proxies.haproxy.cfg.env_file import read_environment
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX as OWN_BYTES_MAX
from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.rewire.carried import BYTES_MAX, FILES_MAX
from chaosd.proxies.haproxy.rewire.own_files import OwnFiles, Wish
from chaosd.proxies.haproxy.rewired import TRY
from chaosd.system.files import MB, read_bytes

_VARIABLES = ".chaosd-variables"  # beside the first file


def by_variables(path: Path) -> Parcel:
    """Of a file that is run as it is: what lies beside it goes along."""
    place = Path(os.path.normpath(path.absolute()))
    found = {str(place.parent / name): data for name, data in beside([path]).items()}
    try:
        found[str(place)] = read_bytes(path, OWN_BYTES_MAX)
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror}") from None
    return Parcel(files=found, said={"config": str(place)})


def rewired(config: Config, version: str | None, features: frozenset[str] | None) -> Parcel:
    """Of files that are copied: they, what they name, and the variables in them."""
    wish = config.backend, config.host, config.path, config.root, config.allow_programs
    return _rewired(config.files, config.env, wish, version, features)


@lru_cache(maxsize=64)  # arms have the same files, and they go as they were when they first went
def _rewired(
    paths: tuple[Path, ...],
    env: Path | None,
    wish: tuple[str | None, str | None, str | None, Path | None, bool],
    version: str | None,
    features: frozenset[str] | None,
) -> Parcel:
    backend, host, path, root, programs = wish
    extra = {} if env is None else read_environment(env)
    named = OwnFiles(paths, Wish(), version, environment={}, extra={}, features=features).unset
    variables = {name: os.environ[name] for name in named if name in os.environ} | extra
    own = OwnFiles(
        paths,
        Wish(backend=backend, host=host, path=path, root=root, programs=programs),
        version,
        environment={},
        extra=variables,
        features=features,
        is_elsewhere=True,
    )
    carried = own.rewired(TRY).carried
    if carried.too_much is not None:
        what = f"at most {FILES_MAX} files and {BYTES_MAX // MB} MB"
        raise MachineError(f"{carried.too_much}: too much to be sent to other machines ({what})")
    said = [os.path.normpath(path.absolute()) for path in paths]
    first = Path(said[0])
    base = first if paths[0].is_dir() else first.parent
    found = {source.path: source.text.encode() for source in own.sources} | carried.by_path()
    files = {place: data for path, data in found.items() for place in _places(path, base, own.base)}
    there = {"config": said, "root": "/" if root is None else str(root.resolve())}
    if not variables:
        return Parcel(files=files, said=there)
    env_file = str(base / _VARIABLES)
    files[env_file] = _lines(variables)
    return Parcel(files=files, said={**there, "env": env_file})


def _places(path: Path, base: Path, resolved: Path) -> Iterator[str]:
    """Where it is looked for: by its own path, and by a relative one from where the first lies."""
    whole = os.path.normpath(path)
    yield whole
    if base != resolved and Path(whole).is_relative_to(resolved):
        yield str(base / Path(whole).relative_to(resolved))


def _lines(variables: Mapping[str, str]) -> bytes:
    """A value with a line break can't be said in such a file, and is none of HAProxy's words."""
    lines = (f'{name}="{value}"\n' for name, value in variables.items() if "\n" not in value)
    return "".join(lines).encode("utf-8", "surrogateescape")
