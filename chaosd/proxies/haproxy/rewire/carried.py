"""The user's files that HAProxy needs where it runs, if that is not this machine: in a container.

They are read here, and laid beside the copies. Which ones is seen from the lines that name them.
"""

from __future__ import annotations

from pathlib import Path

from chaosd.system.files import MB, UnfitFileError, read_bytes

FILES_MAX, BYTES_MAX = 500, 16 * MB


class CarriedFiles:
    """Files and directories by where they will lie, relative to the copies."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._names: dict[Path, str] = {}
        self.too_much: Path | None = None  # what would have been beyond the bounds

    def carry(self, path: Path) -> str:
        """Read it, and say where it will lie. A directory's own files go, not those below.

        Raises OSError, also if that would be too much, or nothing.
        """
        if path in self._names:
            return self._names[path]
        name = f"yours/{len(self._names)}-{path.name}"
        is_directory = path.is_dir()
        found = (
            sorted(each for each in path.iterdir() if each.is_file()) if is_directory else [path]
        )
        left = BYTES_MAX - sum(map(len, self.files.values()))
        read: dict[str, bytes] = {}
        if not found:
            raise UnfitFileError("nothing in it", path)
        for file in found:
            if len(self.files) + len(found) > FILES_MAX or file.stat().st_size > left:
                self.too_much = path
                raise UnfitFileError("too much", path)
            data = read_bytes(file, left)
            left -= len(data)
            read[f"{name}/{file.name}" if is_directory else name] = data
        self.files |= read
        self._names[path] = name
        return name

    def by_path(self) -> dict[Path, bytes]:
        """The files by where they lie on this machine."""
        places = {name: path for path, name in self._names.items()}
        found = {}
        for name, data in self.files.items():
            place = places.get(name)
            if place is None:
                directory, _, last = name.rpartition("/")
                place = places[directory] / last
            found[place] = data
        return found
