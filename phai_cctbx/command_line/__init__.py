"""The commands, one thin dispatcher file each."""
