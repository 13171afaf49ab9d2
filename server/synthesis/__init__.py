"""From measurements and a trained generator to synthetic rows: all of it post-processing."""
