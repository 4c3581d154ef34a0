"""A fault and a probe for chaosd, in a package of their own."""
