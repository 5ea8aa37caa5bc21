"""The kinds of destination, one module each: its settings and its sender."""
