"""Where the topology lives: one file per runtime."""

# In which order `runtime: auto` tries them: what is closest to what people run comes first.
AUTO = ("docker", "local")
