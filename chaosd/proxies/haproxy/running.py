"""An HAProxy that runs already, with the user's own files as they are: nothing is rewired."""

from __future__ import annotations

from pathlib import Path

from chaosd.errors import ConfigError
from chaosd.plugins.proxy import ProxyHost, Running
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server
from chaosd.proxies.haproxy.cfg.host import Host
from chaosd.proxies.haproxy.cfg.settings import backend_of
from chaosd.proxies.haproxy.config import OF_THE_FILE, Config
from chaosd.proxies.haproxy.model.backend import Backend, Unknown
from chaosd.proxies.haproxy.rewire.choose import candidates
from chaosd.proxies.haproxy.rewired import Facts, RewiredFiles


class MetFiles(RewiredFiles):
    """Files that run as they are."""

    def effective(self) -> tuple[Effective, tuple[Server, ...]]:
        files = self.files()
        return files.effective, files.choice.moved

    def backend(self, host: Host) -> Backend | Unknown | None:
        return None if self.problems() else backend_of(*self.effective(), host)

    def _copied_backend(self) -> Proxy:
        return self.files().choice.backend


class MetHAProxy(HAProxy):
    """An HAProxy that others have started, of whose files copies are at hand."""

    def __init__(self, config: Config, running: Running, host: ProxyHost | None) -> None:
        """Raises ConfigError if the YAML says what the files say, and if there are none."""
        if said := sorted(config.model_fields_set.intersection(OF_THE_FILE)):
            what = f"proxy.{said[0]}: the proxy runs already, by its own file"
            raise ConfigError(f"{what} (leave it out)")
        files = config.files or [running.fetch(each) for each in files_of(running)]
        if not files:
            what = f"proxy: no -f in the command of {running.name}, so its file is not known"
            raise ConfigError(f"{what} (set proxy.config to your copy of it)")
        super().__init__(config.model_copy(update={"config": tuple(files)}))
        self._host, self.running = host, running
        self._path = None
        self._met = self._rewired = MetFiles(self.config, self._facts)
        if config.backend is None and (name := self._chosen()) is not None:
            self.config = self.config.model_copy(update={"backend": name})
            self._met = self._rewired = MetFiles(self.config, self._facts)

    def _facts(self) -> Facts:
        return super()._facts()._replace(environment=self.running.environment)

    def _chosen(self) -> str | None:
        """The only backend with a server of one of the app's names; None if it is not clear."""
        names = {name.lower() for name in self.running.app_names}
        found = [
            backend.name
            for backend in candidates(self._met.files().effective)
            if any(target(s.address.text).host.lower() in names for s in backend.servers)
        ]
        return found[0] if len(found) == 1 else None

    @property
    def api_there(self) -> str | None:
        statements = self._met.files().effective.document.statements("global")
        for words in (line.texts for _, line in statements if line.says("stats", "socket")):
            found = target(words[2]) if len(words) > 2 else None  # noqa: PLR2004
            if found is not None and found.host.startswith("/"):
                return found.host
            if found is not None and found.port.isdecimal():
                return f"{found.host}:{found.port}"
        return None


def files_of(running: Running) -> list[str]:
    """The files and directories that the command names."""
    words, directory, found = list(running.argv), running.directory or "/", list[str]()
    while words:
        word = words.pop(0)
        if word == "-C" and words:
            directory = words.pop(0)
        elif word == "-f" and words:
            found.append(words.pop(0))
        elif word == "--":
            found += words
            break
    return [str(Path(directory) / each) for each in found]
