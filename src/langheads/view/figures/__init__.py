"""Pictures that plotly draws, one module a kind of result, over builders that they share."""
