"""One module a stage: its tasks load artifacts, call the core and save artifacts; a case is a task."""
