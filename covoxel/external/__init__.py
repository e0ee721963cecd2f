"""Programs of others, each behind a package of its own that alone knows their folders and names."""
