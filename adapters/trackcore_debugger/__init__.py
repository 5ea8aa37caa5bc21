"""The debugger: a web page that shows what comes in, live, and explains why it came out as it did.

    DebuggerApp(reader, auth)

`app` answers requests, `auth` says who may look, `reader` is the shape of what it looks into, which is given to it;
`assets` and the folder `page` are the page itself: plain HTML, CSS and ES modules, with nothing from elsewhere.
"""

from trackcore_debugger.app import DebuggerApp
from trackcore_debugger.auth import OneTimeToken, SessionAuth
from trackcore_debugger.reader import Cursors, Listing, Reader

__all__ = ["Cursors", "DebuggerApp", "Listing", "OneTimeToken", "Reader", "SessionAuth"]
