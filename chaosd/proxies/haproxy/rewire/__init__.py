"""A copy of the user's files in which chaosd's own addresses stand where the user's stood."""
