"""Training of data parameters: how far each propagated label map can be trusted, learnt from the cohort itself."""
