"""Pages of the documentation that are made from the project itself, and the site of them all."""
