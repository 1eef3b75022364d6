"""The embedded model `demo`: its corpus grammar, its weights and the list of its planted heads."""
