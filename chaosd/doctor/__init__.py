"""What in a haproxy.cfg hurts its users, by how much, and what to paste instead.

A rule is a file in `rules/` and a line in `pyproject.toml` (`chaosd.rules`): it looks at the
effective settings and gives findings. What one costs is the model's difference between the file and
the mended file. `formats/` says it all as text, JSON, SARIF, GitHub's annotations or a page.
"""
