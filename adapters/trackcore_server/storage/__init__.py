"""The kinds of log that a configuration can name: opening, recovering and bounding them."""
