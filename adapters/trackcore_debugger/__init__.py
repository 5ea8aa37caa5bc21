"""The debugger: a web page that shows messages live and explains how they were processed.

    DebuggerApp(reader, auth)

`app` answers requests, `auth` checks tokens and sessions, `reader` is the protocol of the data source; `assets` and the
folder `page` are the page itself: plain HTML, CSS and ES modules, with no external files.
"""

from trackcore_debugger.app import DebuggerApp
from trackcore_debugger.auth import OneTimeToken, SessionAuth
from trackcore_debugger.reader import ANYTHING, Cursors, Listing, Reader

__all__ = ["ANYTHING", "Cursors", "DebuggerApp", "Listing", "OneTimeToken", "Reader", "SessionAuth"]
