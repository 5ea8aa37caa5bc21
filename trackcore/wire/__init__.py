"""Bytes to messages and back: a request taken apart, the rules of a message, the typed codec, the JSON Schema."""
