"""The kinds of destination, a module each: its settings, and its sender."""
