"""The one room that knows which kind of log there is: opening, recovering and bounding it, and what is read of it."""
