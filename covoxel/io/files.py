"""The files of an image: one list that is checked, hashed and read."""
