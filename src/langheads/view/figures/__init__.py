"""Pictures drawn by plotly, one module a kind of result, and the builders that they share."""
