"""A group's graph as a picture: what is shown, where it stands. Reads only."""
