"""chaosd measures failover behind HAProxy: how long, why, and what users saw meanwhile."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("chaosd")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
