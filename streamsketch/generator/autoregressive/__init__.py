"""The generator of tables: an autoregressive softmax model, fitted to counts of cells."""
