"""What is written down: events and samples, their stored form, and the run directory."""
