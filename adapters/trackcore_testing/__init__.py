"""The test kit: a collector in memory behind a real HTTP server, and assertions about what a program sends to it.

`collecting()` is for unittest and scripts, the fixture `tracking` for pytest (`trackcore_pytest`), and the command
`trackcore test-server` for other languages.
"""

from trackcore_testing.arrivals import Stored, Watch
from trackcore_testing.faults import Fault, FaultKind
from trackcore_testing.requests import RecordedRequest
from trackcore_testing.server import TEST_SOURCES, TrackingServer, collecting
from trackcore_testing.settings import server_from
from trackcore_testing.texts import summary
from trackcore_testing.tracking import Tracking

__all__ = [
    "TEST_SOURCES",
    "Fault",
    "FaultKind",
    "RecordedRequest",
    "Stored",
    "Tracking",
    "TrackingServer",
    "Watch",
    "collecting",
    "server_from",
    "summary",
]
