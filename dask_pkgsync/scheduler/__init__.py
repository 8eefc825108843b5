"""The controller's side: who may come in, what the cluster is to have, and how its nodes get there."""
