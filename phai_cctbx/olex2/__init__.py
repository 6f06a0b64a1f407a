"""The Olex2 plugin and its installer."""
