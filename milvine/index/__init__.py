"""Vectors to nearest rows: which indexes there are, their parameters, and faiss behind them."""
