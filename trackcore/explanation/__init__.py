"""Why a message came out as it did: what each code means, and reports about single messages."""
