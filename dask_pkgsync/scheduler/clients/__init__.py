"""The clients of a cluster: whether they may register, which are connected, and what each of them claims."""
