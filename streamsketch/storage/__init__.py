"""Files, numbered objects behind any URL, and time."""
