"""chaosd measures failover behind HAProxy: how long, why, and what users saw meanwhile."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """The version, found out once it is asked for: this comes before anybody minds a Ctrl-C."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("chaosd")
        except PackageNotFoundError:  # a checkout that was never installed
            return "0+unknown"
