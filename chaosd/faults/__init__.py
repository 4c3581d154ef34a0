"""What we break: one small file per fault; noop.py is the template."""
