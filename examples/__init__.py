"""Small programs to read and run: `python -m examples.files`, `.kafka`, `.shapes`, `.demo`."""
