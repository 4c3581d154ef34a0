"""A YAML file's shape, its problems with their lines, and the units of its values."""
