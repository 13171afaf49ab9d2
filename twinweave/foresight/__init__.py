"""Before a run: what its budget will buy, from its configuration and public sizes alone."""
