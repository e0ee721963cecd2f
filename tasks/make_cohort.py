"""Make the synthetic cohort of the demo."""
