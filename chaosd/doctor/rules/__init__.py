"""The rules: one file each, one line in `pyproject.toml` each, one page in docs/rules/ each."""
