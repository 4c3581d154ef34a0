"""A YAML file's shape, and its problems with their lines."""
