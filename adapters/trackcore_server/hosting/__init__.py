"""Serving the app with gunicorn: the application, its workers, the delivery process, and checks of file permissions."""
