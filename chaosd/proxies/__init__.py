"""What is tested: one folder or file per proxy."""
