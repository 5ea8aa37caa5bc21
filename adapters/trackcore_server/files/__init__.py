"""Messages in files: read, validated and imported."""
