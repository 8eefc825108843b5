"""The person's side: what is called with a client in hand, and what that client answers."""
