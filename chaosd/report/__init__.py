"""Report in; text, Markdown or JSON out."""
