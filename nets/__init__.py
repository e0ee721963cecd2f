"""Architectures only: one `nn.Module` a file, no training, no files on disk."""
