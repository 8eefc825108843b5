"""The clients of a cluster: who is let in, who is connected, and what each of them asks for."""
