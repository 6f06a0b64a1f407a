"""Phasing and structure solution at low resolution, as a module of cctbx.

Boost.Python of cctbx must be loaded before torch (otherwise the first call
segfaults), so this module imports it first. Where cctbx is not installed,
only the rooms ``network`` and ``training`` work.
"""
