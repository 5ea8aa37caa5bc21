"""The configuration: its settings, how a file becomes them, and where the file and the data are found."""
