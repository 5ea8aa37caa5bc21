"""What each process of ours needs: signals that stop it safely, and a log on standard error."""
