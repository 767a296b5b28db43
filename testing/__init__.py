"""What tests, examples and benchmarks share: brokers, faults, streams, toys. Not installed."""
