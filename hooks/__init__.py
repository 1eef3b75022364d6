"""Each measurement of langheads once more as a bare TransformerLens hook, see README.md."""
