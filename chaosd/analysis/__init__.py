"""Pure: events and samples in, cycles and the report out."""
