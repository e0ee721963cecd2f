"""The methods of the sweep whose one network registers and segments: their training, and what they say."""
