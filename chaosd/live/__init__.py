"""What is shown while a run goes on: the console, the metrics page."""
