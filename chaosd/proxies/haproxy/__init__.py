"""HAProxy: its config rendered, its log and Runtime API read, its algorithm predicted.

The plugin is loaded when it is asked for: `chaosd doctor` reads files and predicts, and starts in
half the time without what runs a proxy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaosd.proxies.haproxy.plugin import HAProxy

    __all__ = ["HAProxy"]
else:

    def __getattr__(name: str) -> type:
        if name != "HAProxy":
            raise AttributeError(name)
        from chaosd.proxies.haproxy.plugin import HAProxy

        return HAProxy
