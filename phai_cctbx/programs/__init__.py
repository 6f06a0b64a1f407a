"""One program template per command, and the pipeline that composes the rooms below."""
