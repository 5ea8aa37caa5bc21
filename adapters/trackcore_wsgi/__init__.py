"""HTTP in: a WSGI app that any server hosts and any Segment SDK can be pointed to.

    TrackingApp(collector)

`routes` says which path is which call, `credentials` and `bodies` take from a request what the core needs, `pixel`
and `settings` are the two answers that are not JSON about messages, `responses` holds the table of error answers,
`mounting` knows the prefix under which the app is reached, `app` puts them together.
"""

from trackcore_wsgi.app import TrackingApp

__all__ = ["TrackingApp"]
